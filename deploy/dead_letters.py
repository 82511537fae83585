"""Dead letters: what a part could not process, kept byte for byte with the place it came from.

The headers carry the names that Kafka Connect gives them, so that any tool can read them. A letter is open
until a person replays or drops it. Both leave a *word* behind it in the same topic (who, when, what, which
letters), and a line in ``action.outcomes``, kind ``dlq``, hence in a table.

Replaying is one Kafka transaction: the records, byte for byte, in the partition where they lay, and the word.
So a letter is replayed once, whoever is killed; and what is replayed meets the identities that it had: a report
that was taken since is a duplicate. A record that is refused again is a new letter, which knows how often.
"""

import re
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import groupby

from confluent_kafka import KafkaException, Message, Producer

from deploy.positions import Extent, Positions
from schemas.codec import default_codec
from schemas.dead_letter import (
    ACTION,
    ACTOR,
    AT,
    ATTEMPT,
    FIRST,
    LETTERS,
    PREFIX,
    WHY,
    offsets_of,
    ranges,
)
from schemas.errors import QuanyuError
from schemas.kafka import DEAD_LETTER_BYTES, producer_config
from schemas.settings import Settings
from schemas.topics import TopicSpec, dlq_topic, load_topics, raw_topic
from streams.asked import OUTCOMES
from streams.intake.privacy import mask

#: `connector.name` of what the sink put aside.
SINK = "quanyu-sink"
#: Bytes of a value that `quanyu dlq show` prints.
PREVIEW_BYTES = 256
#: Letters, and bytes, of one transaction: an open one holds back every reader of its partitions.
CHUNK, CHUNK_BYTES = 500, 16 * 1024 * 1024
CALL_S = 30.0
#: Verb → what a letter is after it.
VERBS = {"replay": "replayed", "drop": "dropped"}


@dataclass(frozen=True, slots=True)
class Origin:
    """Where a dead letter's record lay, and why it was put aside."""

    topic: str
    partition: int
    offset: int
    reason: str
    by_sink: bool


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """One dead letter as a person looks at it; ``preview`` shows the first bytes of its value, masked.

    ``state`` is open, replayed or dropped; ``actor`` and ``handled_ms`` say by whom and when. ``attempt``: how
    often the record had been replayed when it was put aside.
    """

    topic: str
    partition: int
    offset: int
    timestamp_ms: int
    headers: dict[str, str]
    size: int
    preview: str
    attempt: int = 0
    state: str = "open"
    actor: str = ""
    handled_ms: int = 0

    @property
    def place(self) -> tuple[str, int, int]:
        """Where it lies itself."""
        return self.topic, self.partition, self.offset

    @property
    def reason(self) -> str:
        """Its code."""
        return self.headers.get(PREFIX + "exception.class.name", "unknown")

    @property
    def origin(self) -> Origin | None:
        """Where its record lay."""
        return _origin(self.headers)


def headers(message: Message) -> dict[str, str]:
    """The message's headers as text; of a repeated name the last counts."""
    return {
        name: value.decode("utf-8", "replace") if isinstance(value, bytes) else value or ""
        for name, value in dict(message.headers() or []).items()
    }


def origin(message: Message) -> Origin | None:
    """Where the dead letter came from; None when its headers do not say."""
    return _origin(headers(message))


def _origin(found: Mapping[str, str]) -> Origin | None:
    try:
        return Origin(
            topic=found[PREFIX + "topic"],
            partition=int(found[PREFIX + "partition"]),
            offset=int(found[PREFIX + "offset"]),
            reason=found.get(PREFIX + "exception.class.name", ""),
            by_sink=found.get(PREFIX + "connector.name", "") == SINK,
        )
    except (KeyError, ValueError):
        return None


def is_word(message: Message) -> bool:
    """Whether it is a person's word about letters, and none itself."""
    return message.value() is None and ACTION in dict(message.headers() or [])


@dataclass(frozen=True, slots=True)
class Filter:
    """Which letters; what is left out does not matter. Instants in ms, ``until_ms`` exclusive."""

    topic: str = ""
    channel: str = ""
    reason: str = ""
    since_ms: int | None = None
    until_ms: int | None = None
    pattern: re.Pattern[str] | None = None
    offsets: frozenset[int] = frozenset()

    @property
    def narrow(self) -> bool:
        """Whether it leaves anything out."""
        return self != Filter()

    def topics(self, settings: Settings) -> list[str]:
        """The dead-letter topics to read; a :class:`QuanyuError` when there is none of that name."""
        names = {spec.name for spec in load_topics(settings)}
        known = sorted(dlq_topic(name) for name in names if dlq_topic(name) in names)
        name = self.topic or (raw_topic(self.channel) if self.channel else "")
        if not name:
            return known
        name = name if name.endswith(dlq_topic("")) else dlq_topic(name)
        if name not in known:
            raise QuanyuError(f"no topic {name[:80]!r}; known: {', '.join(known)}")
        if self.channel and name != dlq_topic(raw_topic(self.channel)):
            raise QuanyuError(
                f"{name} holds no letters of channel {self.channel}; name one of both"
            )
        return [name]

    def takes(self, letter: DeadLetter, text: str) -> bool:
        """Whether the letter is one of them; ``text``: its value."""
        return (
            (not self.reason or letter.reason == self.reason)
            and (self.since_ms is None or letter.timestamp_ms >= self.since_ms)
            and (self.until_ms is None or letter.timestamp_ms < self.until_ms)
            and (not self.offsets or letter.offset in self.offsets)
            and (
                self.pattern is None
                or self.pattern.search(text) is not None
                or self.pattern.search(letter.headers.get(PREFIX + "exception.message", ""))
                is not None
            )
        )


@dataclass(frozen=True, slots=True)
class Counted:
    """Letters by topic: the open ones by reason, all by state, the open ones by attempt."""

    open: dict[str, dict[str, int]]
    states: dict[str, dict[str, int]]
    attempts: dict[str, dict[int, int]]


def count(settings: Settings, wanted: Filter | None = None) -> Counted:
    """Count letters; topics without any are left out."""
    found: dict[str, tuple[Counter[str], Counter[str], Counter[int]]] = {}
    for letter in read(settings, wanted or Filter()):
        by_reason, by_state, by_attempt = found.setdefault(
            letter.topic, (Counter(), Counter(), Counter())
        )
        by_state[letter.state] += 1
        if letter.state == "open":
            by_reason[letter.reason] += 1
            by_attempt[letter.attempt] += 1
    topics = sorted(found.items())
    return Counted(
        {topic: dict(reasons.most_common()) for topic, (reasons, _, _) in topics if reasons},
        {topic: dict(states) for topic, (_, states, _) in topics},
        {topic: dict(sorted(tries.items())) for topic, (_, _, tries) in topics if tries},
    )


def show(settings: Settings, wanted: Filter, limit: int) -> list[DeadLetter]:
    """The latest letters, handled ones too."""
    return read(settings, wanted)[-limit:]


def read(settings: Settings, wanted: Filter) -> list[DeadLetter]:
    """The letters that the filter takes, the oldest first, each with what became of it."""
    letters, taken = _all(settings, wanted)
    return [letter for letter in letters if letter.place in taken]


def _all(settings: Settings, wanted: Filter) -> tuple[list[DeadLetter], set[tuple[str, int, int]]]:
    """Every letter of the filter's topics, the oldest first, and the places of those that it takes."""
    letters: list[DeadLetter] = []
    taken: set[tuple[str, int, int]] = set()
    with Positions(settings) as positions:
        for topic in wanted.topics(settings):
            if partitions := positions.partitions([topic]):
                runs = positions.records(positions.extents(partitions))
                letters += _fold((m for _, run in runs for m in run), wanted, taken)
    return sorted(letters, key=lambda le: (le.timestamp_ms, *le.place)), taken


def _fold(
    messages: Iterable[Message], wanted: Filter, taken: set[tuple[str, int, int]]
) -> list[DeadLetter]:
    """The letters of one topic under the words behind them; a word is of its own partition."""
    found: dict[tuple[int, int], DeadLetter] = {}
    for message in messages:
        if not is_word(message):
            letter = _view(message)
            found[letter.partition, letter.offset] = letter
            text = "" if wanted.pattern is None else _text(message)
            if wanted.takes(letter, text):
                taken.add(letter.place)
            continue
        said = headers(message)
        try:
            spans = offsets_of(said[LETTERS])
            state, at = VERBS[said[ACTION]], int(said[AT])
        except (KeyError, ValueError):
            continue  # not a word of ours
        number = message.partition() or 0
        for span in spans:
            for offset in span:
                if (letter_ := found.get((number, offset))) is not None:
                    found[number, offset] = replace(
                        letter_, state=state, actor=said.get(ACTOR, ""), handled_ms=at
                    )
    return list(found.values())


class OpenLetters:
    """How many letters are open, and since when; each look reads what came since. For one thread."""

    def __init__(self, settings: Settings) -> None:
        self._topics = Filter().topics(settings)
        self._positions = Positions(settings)
        self._next: dict[tuple[str, int], int] = {}
        #: Of each partition the open letters' timestamps (ms) by their offsets.
        self._open: dict[tuple[str, int], dict[int, int]] = {}

    def close(self) -> None:
        """Give up the connections."""
        self._positions.close()

    def look(self) -> dict[str, tuple[int, int | None]]:
        """Of each dead-letter topic the number of open letters and the oldest one's timestamp, ms.

        Raises :class:`QuanyuError` when the broker does not answer; the next look goes on from here.
        """
        extents = self._positions.extents(self._positions.partitions(self._topics))
        for place, extent in extents.items():
            if self._next.get(place, 0) > extent.end:  # made anew
                self._next[place], self._open[place] = 0, {}
            kept = self._open.get(place, {}).items()
            self._open[place] = {at: ms for at, ms in kept if at >= extent.first}
        fresh = {p: Extent(max(e.first, self._next.get(p, 0)), e.end) for p, e in extents.items()}
        for place, run in self._positions.records(fresh):
            for message in run:
                self._take(self._open[place], message)
                self._next[place] = (message.offset() or 0) + 1
        self._next |= {place: extent.end for place, extent in extents.items()}
        counts: dict[str, tuple[int, int | None]] = {}
        for topic in sorted({topic for topic, _ in extents}):
            times = [
                ms for (t, _), found in self._open.items() if t == topic for ms in found.values()
            ]
            counts[topic] = len(times), min(times, default=None)
        return counts

    @staticmethod
    def _take(found: dict[int, int], message: Message) -> None:
        if not is_word(message):
            found[message.offset() or 0] = message.timestamp()[1]
            return
        said = headers(message)
        with suppress(KeyError, ValueError):  # else it is not a word of ours
            if said[ACTION] in VERBS:
                for span in offsets_of(said[LETTERS]):
                    for offset in span:
                        found.pop(offset, None)


def _bytes(message: Message) -> bytes:
    return message.value() or b""


def _text(message: Message) -> str:
    return _bytes(message).decode("utf-8", "replace")


def _view(message: Message) -> DeadLetter:
    data = _bytes(message)
    said = headers(message)
    tries = said.get(ATTEMPT, "0")
    return DeadLetter(
        topic=message.topic() or "",
        partition=message.partition() or 0,
        offset=message.offset() or 0,
        timestamp_ms=message.timestamp()[1],
        headers=said,
        size=len(data),
        preview=_printable(data[:PREVIEW_BYTES]),
        attempt=int(tries) if tries.isdecimal() else 0,
    )


def _printable(data: bytes) -> str:
    """The bytes as text where they are text, personal data masked, and as ``\\xNN`` where they are not."""
    text = mask(data.decode("utf-8", "backslashreplace")).text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


# ---- what people do with them


@dataclass(frozen=True, slots=True)
class Refused:
    """A letter that is not replayed, and why."""

    topic: str
    offset: int
    why: str


@dataclass(frozen=True, slots=True)
class Handled:
    """What an action did, or (``dry_run``) would do: letters by topic, and records sent.

    ``left``: letters that the filter takes beyond the limit.
    """

    action: str
    dry_run: bool
    letters: dict[str, int]
    records: int
    refused: list[Refused] = field(default_factory=list)
    left: int = 0


def act(
    settings: Settings,
    verb: str,
    wanted: Filter,
    *,
    limit: int,
    actor: str,
    why: str = "",
    dry_run: bool = False,
    say: Callable[[str], None] = lambda _: None,
) -> Handled:
    """``replay`` or ``drop`` at most ``limit`` open letters, the oldest first.

    Raises :class:`QuanyuError` when Kafka does not take them, or when another such command began meanwhile:
    what was done until then is marked, so that the command may be repeated.
    """
    specs = {spec.name: spec for spec in load_topics(settings)}
    if dry_run:
        plan = _plan(*_all(settings, wanted), verb, specs, limit)
        return _told(verb, plan, dry_run=True)
    with _sender(settings) as producer:
        # Read after whoever acted before is fenced: nothing of it is still under way.
        plan = _plan(*_all(settings, wanted), verb, specs, limit)
        done = 0
        with Positions(settings) as positions:
            ordered = sorted(plan.letters, key=lambda le: le.place)
            for topic, group in groupby(ordered, key=lambda le: le.topic):
                for part in chunks(group):
                    sent = [le for le in part if verb == "replay" and le.place not in plan.twins]
                    _commit(settings, producer, positions, verb, topic, part, sent, actor, why)
                    done += len(part)
                    say(f"{done} of {len(plan.letters)} letters")
    return _told(verb, plan, dry_run=False)


def chunks(letters: Iterable[DeadLetter]) -> Iterator[list[DeadLetter]]:
    """The letters in order, as many at a time as one transaction takes."""
    part: list[DeadLetter] = []
    size = 0
    for letter in letters:
        if part and (len(part) >= CHUNK or size + letter.size > CHUNK_BYTES):
            yield part
            part, size = [], 0
        part.append(letter)
        size += letter.size
    if part:
        yield part


@dataclass(slots=True)
class _Plan:
    """``twins``: places of letters whose record another letter of the plan brings."""

    letters: list[DeadLetter]
    twins: set[tuple[str, int, int]]
    refused: list[Refused]
    left: int


def _told(verb: str, plan: _Plan, *, dry_run: bool) -> Handled:
    letters = Counter(letter.topic for letter in plan.letters)
    records = len(plan.letters) - len(plan.twins) if verb == "replay" else 0
    return Handled(verb, dry_run, dict(sorted(letters.items())), records, plan.refused, plan.left)


def _plan(
    letters: Sequence[DeadLetter],
    taken: set[tuple[str, int, int]],
    verb: str,
    specs: Mapping[str, TopicSpec],
    limit: int,
) -> _Plan:
    """Which letters an action takes, the oldest first; a replayed record takes all its letters along."""
    chosen = [le for le in letters if le.state == "open" and le.place in taken]
    if verb == "drop":
        return _Plan(chosen[:limit], set(), [], max(0, len(chosen) - limit))
    of_record: dict[tuple[str, int, int], list[DeadLetter]] = {}
    for letter in letters:
        if (came := letter.origin) is not None:
            of_record.setdefault((came.topic, came.partition, came.offset), []).append(letter)
    plan = _Plan([], set(), [], 0)
    done: set[tuple[str, int, int]] = set()
    for letter in chosen:
        came = letter.origin
        record = (came.topic, came.partition, came.offset) if came else None
        if record in done:
            continue
        others = of_record[record] if record else [letter]
        why = refusal(came, {o.by_sink for le in others if (o := le.origin)}, specs)
        if not why and any(le.state == "replayed" for le in others):
            why = "its record was replayed already, by another letter of it"
        if why or record is None:
            plan.refused.append(Refused(letter.topic, letter.offset, why))
            continue
        done.add(record)
        if len(done) > limit:
            plan.left += 1
            continue
        same = [le for le in others if le.state == "open"]
        plan.letters.extend(same)
        plan.twins.update(le.place for le in same[1:])
    return plan


def refusal(came: Origin | None, makers: set[bool], specs: Mapping[str, TopicSpec]) -> str:
    """Why a record cannot be replayed; empty when it can. ``makers``: whether the sink, an agent, or both
    put it aside.

    What one of two readers has taken may not come to it again: it would be decided, or counted, twice.
    """
    if came is None:
        return "its headers do not say where it lay"
    spec = specs.get(came.topic)
    if spec is None:
        return f"no spec asks for topic {came.topic}"
    if spec.stateful and spec.table and len(makers) < 2:
        taken = "its agent has decided it" if True in makers else f"table {spec.table} has its row"
        return f"{taken}: replayed, it would come to that one twice"
    return ""


@contextmanager
def _sender(settings: Settings) -> Iterator[Producer]:
    producer = Producer(
        {
            **producer_config(settings),
            "message.max.bytes": DEAD_LETTER_BYTES,
            # One for the installation: two people who act at once do not act on the same letter.
            "transactional.id": "quanyu-dlq",
            "log_level": 0,
        }
    )
    try:
        producer.init_transactions(CALL_S)
        try:
            yield producer
        except BaseException:
            # Readers behind an open transaction wait for its end: end it now.
            with suppress(KafkaException):
                producer.abort_transaction(CALL_S)
            raise
    except KafkaException as error:
        raise QuanyuError(
            f"Kafka: {error.args[0].str()}; nothing is half done, repeat the command (another quanyu dlq "
            "replay or drop that began meanwhile stops this one)"
        ) from None


def _commit(
    settings: Settings,
    producer: Producer,
    positions: Positions,
    verb: str,
    topic: str,
    letters: Sequence[DeadLetter],
    sent: Sequence[DeadLetter],
    actor: str,
    why: str,
) -> None:
    """One transaction: the records of ``sent``, the words about ``letters``, a line in the outcomes."""
    now = int(time.time() * 1000)
    producer.begin_transaction()
    for message in _messages(positions, sent):
        _replay(producer, message)
    for partition, group in groupby(letters, key=lambda le: le.partition):
        said = {ACTION: verb, ACTOR: actor, AT: str(now), WHY: why[:300]}
        said[LETTERS] = ranges(le.offset for le in group)
        words: list[tuple[str, str | bytes | None]] = list(said.items())
        producer.produce(topic, None, partition=partition, headers=words)
    reasons = Counter(letter.reason for letter in letters)
    told = ", ".join(f"{reason} {number}" for reason, number in reasons.most_common(10))
    identity = str(uuid.uuid4())
    outcome = {
        "action_id": identity, "kind": "dlq", "action": verb, "target": topic,
        "other": str(len(letters)), "outcome": "applied", "actor": actor, "role": "operator",
        "detail": f"{told}: {why}" if why else told, "at": now, "decided_at": now,
    }  # fmt: skip
    codec = default_codec(settings)
    producer.produce(OUTCOMES, codec.encode("ActionOutcome", outcome), key=identity.encode())
    producer.commit_transaction(CALL_S)


def _messages(positions: Positions, letters: Sequence[DeadLetter]) -> Iterator[Message]:
    """The letters themselves."""
    by_partition: dict[tuple[str, int], set[int]] = {}
    for letter in letters:
        by_partition.setdefault((letter.topic, letter.partition), set()).add(letter.offset)
    extents = {p: Extent(min(found), max(found) + 1) for p, found in by_partition.items()}
    for partition, run in positions.records(extents):
        yield from (m for m in run if m.offset() in by_partition[partition])


def _replay(producer: Producer, message: Message) -> None:
    said = headers(message)
    came = _origin(said)
    if came is None:
        raise AssertionError("refused by the plan")
    tries = said.get(ATTEMPT, "0")
    first = said.get(FIRST) or f"{came.topic}/{came.partition}/{came.offset}"
    attempt = str(1 + (int(tries) if tries.isdecimal() else 0))
    carried: list[tuple[str, str | bytes | None]] = [(ATTEMPT, attempt), (FIRST, first)]
    while True:
        try:
            producer.produce(
                came.topic,
                message.value(),
                key=message.key(),
                partition=came.partition,
                headers=carried,
            )
            return
        except BufferError:
            producer.poll(0.1)
