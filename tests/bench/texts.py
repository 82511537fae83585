"""How many short texts one core classifies and tags, in batches: by a model of all classes, and by words."""

import numpy as np

from connectors.mapping import to_raw_report
from connectors.simulator import Simulation, load_numbers
from schemas.channels import load_channel
from schemas.city import UNCLASSIFIED, load_city
from schemas.settings import Settings
from schemas.texts import clean
from streams.intake.classify import KeywordClassifier, joined
from streams.intake.features import SLOTS, features
from streams.intake.tags import Tagger
from streams.intake.text_model import TextModel
from tests.bench.rig import cpu_seconds

SEED = 4101
NOW_MS = 1_790_000_000_000
#: What the transport cuts at most.
BATCH = 4_000


def run(texts: int = 40_000) -> dict[str, float]:
    """Texts/s of each, and how long the texts are on average, in characters."""
    city = load_city(Settings().city)
    day = load_numbers().scenario("day")
    simulated = Simulation(city, day, seed=SEED, rate=500.0, start_ms=NOW_MS).reports()
    said: list[tuple[str, str]] = []
    while len(said) < texts:
        report = next(simulated)
        raw = to_raw_report(
            load_channel(report.channel), report.native, received_at=NOW_MS, connector="bench"
        )
        title, text = clean(raw["title"]), clean(raw["text"])
        if title or text:
            said.append((title, text))
    whole = [joined(title, text) for title, text in said]
    model = _model(whole[:BATCH], tuple(code for code in city.classes if code != UNCLASSIFIED))
    words, tagger = KeywordClassifier(city.classes), Tagger(city.tags)

    def trained() -> None:
        for start in range(0, texts, BATCH):
            model.probabilities(whole[start : start + BATCH])

    def by_words() -> None:
        for title, text in said:
            words.by_words(title, text)

    def tag() -> None:
        for title, text in said:
            tagger.tags(title, text)

    return {
        "model_texts_per_s": round(texts / cpu_seconds(trained)),
        "words_texts_per_s": round(texts / cpu_seconds(by_words)),
        "tagged_texts_per_s": round(texts / cpu_seconds(tag)),
        "labels": len(model.labels),
        "characters": round(sum(map(len, whole)) / texts, 1),
    }


def _model(texts: list[str], labels: tuple[str, ...]) -> TextModel:
    """One that knows every piece of the texts; what its weights say does not change its speed."""
    slots = np.unique(features(texts).indices)
    column = np.full(SLOTS, -1, dtype=np.int32)
    column[slots] = np.arange(len(slots), dtype=np.int32)
    chance = np.random.default_rng(SEED)
    weights = chance.normal(size=(len(slots) + 1, len(labels))).astype(np.float32)
    scale = np.array([3.0, *([0.0] * len(labels))], dtype=np.float32)
    return TextModel(labels, column, np.ones(len(slots), dtype=np.float32), weights, scale, {})


if __name__ == "__main__":
    print(run())
