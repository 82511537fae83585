"""The many: each reader against ``EXAMPLES`` spoilt samples, numbered, so that a failure says which it was.

``make fuzz EXAMPLES=100000 SEED=7`` gives each of the quick readers so many, the slow ones a part of it, and
prints how many inputs there were. What a reader declares is an answer; any other exception, and a reader that
takes seconds for kilobytes, is not.
"""

import os
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from connectors import forms, http_push, mqtt
from connectors.mapping import Entry, entry_report
from connectors.open311 import documents, submission
from connectors.open311.model import Refused as Refused311
from connectors.refusal import Refused
from deploy.people import read_people
from schemas.channels import load_channel, read_channel
from schemas.codec import DecodeError
from schemas.errors import QuanyuError
from schemas.keys import Keys
from schemas.queries import QUERIES_DIR, read_query
from schemas.settings import Settings, load_settings
from schemas.sources import load_sources
from schemas.topics import raw_topic
from schemas.webhooks import read_webhooks
from streams.batch import Batch
from tests.fuzz import test_fuzz as samples
from tests.fuzz.inputs import spoilt

#: Of each reader in `make test`.
FEW = 200
EXAMPLES = int(os.environ.get("EXAMPLES", "0")) or FEW
SEED = int(os.environ.get("SEED", "1"))
#: A reader that takes longer for a few kilobytes hangs.
HANG_S = 10.0
NOW = samples.NOW


def raw_of(found: list[Entry], channel: str) -> None:
    """What was read must fit into raw reports that can be written and read."""
    samples._numbered(found)
    codec = samples.codec()
    for entry in found[:20]:
        raw = entry_report(load_channel(channel), entry, received_at=NOW, connector="fuzz")
        assert codec.decode(codec.encode("RawReport", raw))[0] == "RawReport"


def decode(data: bytes, _: int) -> None:
    codec = samples.codec()
    records, errors = codec.decode_batch("RawReport", [data])
    assert (records[0] is None) == (0 in errors)
    codec.decode(data)


def intake(data: bytes, number: int) -> None:
    if number % 10_000 == 0:
        samples.intake.cache_clear()  # it gives up a topic of which nearly all is garbage, as it should
    topic, step = raw_topic("hotline12345"), samples.intake()
    batch = Batch(topic, 0, [b"k"], [data], [7], [NOW], [None])
    decision = step.decide(step.restore(topic, 0, {}), batch, NOW)
    assert sum(o.topic == "report.outcomes" for o in decision.outputs) == 1


def push(data: bytes, number: int) -> None:
    spec = load_channel(samples.PUSHING[number % len(samples.PUSHING)])
    found, payloads = http_push._read(spec, data)
    raws = http_push._raw_reports(spec, found, payloads)
    assert len(raws) == len(found) > 0


def form(data: bytes, number: int) -> None:
    kinds = samples.FORM_TYPES
    spec = load_channel("online_window")
    read = forms.read_form(spec, data, kinds[number % len(kinds)])
    http_push._raw_reports(spec, [read.native], [None])


def open311_document(data: bytes, _: int) -> None:
    raw_of(documents.parse(data, "x"), "open311")


def open311_post(data: bytes, number: int) -> None:
    kind = ("application/json", "application/x-www-form-urlencoded")[number % 2]
    submission.problems(submission.read(data, kind), [], "Asia/Shanghai")


def message(data: bytes, number: int) -> None:
    found = mqtt.entries(None if number % 50 == 0 else "city/iot/1/alarm", data)
    assert found
    raw_of(found, "iot")


def address(data: bytes, _: int) -> None:
    mqtt.read_address("iot", data.decode("utf-8", "replace"))


def file(suffix: str, channel: str) -> Callable[[bytes, int], None]:
    """A file of this kind."""

    def read(data: bytes, _: int) -> None:
        raw_of(samples._read(suffix, data) or [], channel)

    return read


def home_file(name: str, read: Callable[[Path], object]) -> Callable[[bytes, int], None]:
    """A file of the home."""
    path = samples.HERE / f"quanyu-fuzz-{os.getpid()}" / name

    def spoil(data: bytes, _: int) -> None:
        path.parent.mkdir(exist_ok=True)
        path.write_bytes(data)
        try:
            read(path)
        finally:
            path.unlink()

    return spoil


@dataclass(frozen=True)
class Reader:
    """What reads, what it can read, and its part of EXAMPLES."""

    read: Callable[[bytes, int], None]
    right: Sequence[bytes]
    share: float = 1.0


READERS = {
    "codec": Reader(decode, samples.FRAMES),
    "intake": Reader(intake, samples.FRAMES, 0.3),
    "http push": Reader(push, samples.BODIES),
    "form": Reader(form, samples.FORMS),
    "open311 document": Reader(open311_document, samples.REQUESTS),
    "open311 post": Reader(open311_post, samples.POSTS),
    "mqtt message": Reader(message, samples.ALARMS),
    "mqtt address": Reader(address, [b"mqtt://user:pass@host:1883?client_id=a", b"mqtts://host"]),
    "csv": Reader(file(".csv", "hotline12345"), samples.TABLES),
    "json lines": Reader(file(".jsonl", "hotline12345"), samples.LINES),
    "geojson": Reader(file(".geojson", "uav"), samples.SHAPES),
    "xlsx": Reader(file(".xlsx", "mailbox"), [samples.SHEET], 0.05),
    "channel spec": Reader(home_file("a_test.yaml", read_channel), samples.SPECS, 0.02),
    "sources": Reader(
        home_file("sources.json", lambda p: load_sources(Settings(home=p.parent))),
        samples.SOURCES,
        0.2,
    ),
    "people": Reader(home_file("people.json", read_people), samples.PEOPLE),
    "webhooks": Reader(home_file("webhooks.json", read_webhooks), samples.HOOKS),
    "keys": Reader(home_file("keys.json", lambda p: Keys(p).accepts("a", "b")), samples.SOURCES),
    "query": Reader(
        home_file("a_test.sql", read_query),
        [path.read_bytes() for path in sorted(QUERIES_DIR.glob("*.sql"))],
        0.1,
    ),
    "settings": Reader(
        home_file("quanyu.toml", lambda p: load_settings(home=p.parent)), samples.SETTINGS, 0.05
    ),
}
#: Every failure that a generated input ever found, by its reader.
FOUND = (
    ("mqtt address", b"mqtts://host?cafile=/nonexisten%00"),
    ("query", b"-- a\x80"),
    ("channel spec", b"title: 2026-02-30\n"),
    ("channel spec", b"title: " + b"1" * 5000),
    ("channel spec", b"title: " + b"[" * 3000),
)
#: What a reader may raise; what it says is for a person.
DECLARED = (QuanyuError, Refused, Refused311, DecodeError)


@pytest.mark.timeout(7200)
@pytest.mark.parametrize("name", READERS)
def test_what_is_spoilt_is_read_or_refused_and_nothing_hangs(
    name: str, record_property: Callable[[str, object], None]
) -> None:
    reader = READERS[name]
    count = max(20, int(EXAMPLES * reader.share))
    refused = 0
    for number in range(count):
        seed = SEED * 10**9 + number
        data = spoilt(random.Random(seed).choice(reader.right), seed)
        started = time.monotonic()
        try:
            reader.read(data, number)
        except DECLARED as why:
            refused += 1
            if not str(why):
                pytest.fail(f"seed {seed}: refused without a word")
        except Exception as error:
            pytest.fail(f"seed {seed}: {type(error).__name__}: {error}\n{data!r}")
        assert time.monotonic() - started < HANG_S, f"seed {seed} hangs: {data[:500]!r}"
    record_property("inputs", count)
    print(f"{name}: {count} inputs, {refused} refused")


@pytest.mark.parametrize(("name", "data"), FOUND)
def test_what_was_found_once_is_refused_with_a_reason(name: str, data: bytes) -> None:
    with pytest.raises(DECLARED, match=r"\w"):
        READERS[name].read(data, 1)
