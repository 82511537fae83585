"""What a report is besides its class: intent, urgency and sensitive subjects, by the words of tags.yaml.

Departments alone mislead where a matter is to be weighed across the city: the association of the field
(中国信息协会) sets tags beside the class. Tags decide nothing here; they are for who reads, sorts and counts.
"""

from typing import NamedTuple

from schemas.city import TagRules
from streams.intake.classify import Words


class Tags(NamedTuple):
    """``intent``: a name of the rules, empty for devices; ``sensitive``: names of the subjects, in order."""

    intent: str = ""
    urgent: bool = False
    sensitive: tuple[str, ...] = ()


class Tagger:
    """Tags of one report; pure and deterministic."""

    def __init__(self, rules: TagRules) -> None:
        self._intents = tuple(rules.intents)
        self._default = rules.default_intent
        self._subjects = tuple(rules.sensitive)
        named = {"intent:" + name: words for name, words in rules.intents.items()}
        named |= {"sensitive:" + name: words for name, words in rules.sensitive.items()}
        self._words = Words(named | {"urgent": rules.urgent})

    def tags(self, title: str, text: str) -> Tags:
        """From cleaned texts. A title that names its intent has it; else the intent with most words.

        Of equals it is the first of the rules.
        """
        scores = self._words.scores(title, text)
        said = [name for name in self._intents if name in title] or self._intents
        intent = max(said, key=lambda name: scores.get("intent:" + name, 0.0), default="")
        if "intent:" + intent not in scores:
            intent = self._default
        return Tags(
            intent,
            "urgent" in scores,
            tuple(name for name in self._subjects if "sensitive:" + name in scores),
        )
