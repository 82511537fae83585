"""What became of an action that somebody asked for: done, or refused and why (操作结果)."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from schemas.codec import Codec
from streams.batch import Output

OUTCOMES = "action.outcomes"
#: Of the action itself.
_SAME = ("action_id", "action", "actor", "role", "at")


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why an action was not done: a code, and in words what to do."""

    reason: str
    detail: str


class Outcomes:
    """Writes the outcomes of one kind of actions: order, event or review."""

    def __init__(self, codec: Codec, kind: str) -> None:
        self._kind = kind
        self._encode = codec.encoder("ActionOutcome")

    def output(
        self,
        action: Mapping[str, Any],
        target: str,
        other: str,
        refusal: Refusal | None,
        now_ms: int,
    ) -> Output:
        """The outcome of an action on ``target``; applied when nothing refused it."""
        outcome = {name: action[name] for name in _SAME} | {
            "kind": self._kind,
            "target": target,
            "other": other,
            "outcome": "refused" if refusal else "applied",
            "reason": refusal.reason if refusal else "",
            "detail": refusal.detail if refusal else "",
            "decided_at": now_ms,
        }
        return Output(OUTCOMES, action["action_id"].encode(), self._encode(outcome))
