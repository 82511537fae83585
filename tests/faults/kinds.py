"""The kinds of faults, and at which part, wire or point of the code each can strike.

A fault returns when it is healed, as far as it heals at all; recovery is counted from then. What a fault
needs and the machine lacks makes it raise :class:`Skipped`.
"""

import contextlib
import io
import json
import os
import random
import signal
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import fastavro
import httpx
from confluent_kafka import KafkaError, Message, Producer

from schemas.kafka import producer_config
from schemas.settings import Settings
from schemas.topics import raw_topic
from tests.faults.harness import WiredStack, until
from tests.faults.loads import Push, Replay, row, write_csv
from tests.faults.network import Mood, Network
from tests.faults.stack import GUESTS, WIRED, addresses

#: Longer than the session of worker and sink (10 s): their partitions are given to somebody else.
FREEZE_S = 12.0
#: A broker or an engine that does not answer for so long, and then does.
PAUSE_S = 6.0
#: What is wrong with a wire lasts so long.
WRONG_S = 4.0
#: A named point that nobody came to by then is none of this run's load.
REACH_S = 25.0

ROOT = Path(__file__).parents[2]
RAW_V1 = json.loads((ROOT / "schemas/avro/RawReport.v1.avsc").read_text(encoding="utf-8"))
LOCK = json.loads((ROOT / "schemas/avro/ids.lock").read_text(encoding="utf-8"))
RAW_V1_ID = next(
    entry["id"]
    for entry in LOCK["schemas"]
    if (entry["record"], entry["version"]) == ("RawReport", 1)
)


class Skipped(Exception):
    """This machine or this moment cannot have the fault; says why."""


@dataclass
class Scene:
    """What a fault may touch."""

    stack: WiredStack
    network: Network
    push: Push
    replay: Replay
    rng: random.Random
    #: Folders that are small file systems of their own.
    small_disks: set[str]

    def pid(self, part: str) -> int:
        """The part's process, once it runs."""
        found: list[int] = []

        def runs() -> bool:
            pid = self.stack.recorded()[part]["pid"]
            found[:] = [pid] if pid else []
            return bool(found)

        if not until(runs, 30.0, 0.05):
            raise Skipped(f"{part} does not run")
        return found[0]

    def signal(self, part: str, number: signal.Signals) -> int:
        """Send a part a signal; its pid."""
        pid = self.pid(part)
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)
        return pid

    @contextlib.contextmanager
    def moods(self, names: list[str], mood: Mood) -> Iterator[None]:
        """Several wires at once."""
        with contextlib.ExitStack() as held:
            for name in names:
                held.enter_context(self.network.mood(name, mood))
            yield


Strike = Callable[[Scene], None]


@dataclass(frozen=True, slots=True)
class Fault:
    """A kind of fault at one place."""

    kind: str
    place: str
    strike: Strike


# Processes ------------------------------------------------------------------------------------------------


def send(number: signal.Signals, part: str, scene: Scene) -> None:
    """One signal; "replay" is the connector that reads a file."""
    if part == "replay":
        if not scene.replay.kill(number):
            raise Skipped("no replay runs at this moment")
    else:
        scene.signal(part, number)


def freeze(part: str, seconds: float, scene: Scene) -> None:
    """SIGSTOP, and SIGCONT to the same process."""
    pid = scene.signal(part, signal.SIGSTOP)
    time.sleep(seconds)
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, signal.SIGCONT)


def point(name: str, action: str, scene: Scene) -> None:
    """Whoever comes to the named point next gets the signal there, as often as ``action`` says."""
    asked = scene.stack.faults / "failpoint"
    draft = asked.with_suffix(".new")
    draft.write_text(f"{name}:{action}", encoding="utf-8")
    draft.replace(asked)
    if name.startswith("ledger.acquired"):
        scene.signal("worker", signal.SIGKILL)  # nobody acquires what he has
    try:
        if not until(lambda: not asked.exists(), REACH_S, 0.02):
            raise Skipped(f"nobody came to {name} within {REACH_S:.0f} s")
    finally:
        asked.unlink(missing_ok=True)
    if action == "stop":
        time.sleep(FREEZE_S)
        for taken in scene.stack.faults.glob("failpoint.*"):
            with contextlib.suppress(ProcessLookupError, ValueError):
                os.kill(int(taken.suffix[1:]), signal.SIGCONT)
    for taken in scene.stack.faults.glob("failpoint.*"):
        taken.unlink()


# Wires ----------------------------------------------------------------------------------------------------


def wire(mood: Mood, names: list[str], seconds: float, scene: Scene) -> None:
    """Wires that are not well for a while."""
    with scene.moods(names, mood):
        time.sleep(seconds)


def unplug(name: str, scene: Scene) -> None:
    """Every connection of a wire reset at once; the next one is fine."""
    scene.network.reset(name)


def in_the_middle_of_an_insert(number: signal.Signals, scene: Scene) -> None:
    """The engine dies while a block is on its way."""
    inserting = scene.network.wires["clickhouse:sink"].inserting
    inserting.clear()
    pid = scene.pid("clickhouse")
    if not inserting.wait(15):
        raise Skipped("no insert came by")
    with contextlib.suppress(ProcessLookupError):
        os.kill(pid, number)


# The group, the disk, the clock ---------------------------------------------------------------------------


def storm(module: str, part: str, scene: Scene) -> None:
    """Guests join the group and leave it every few seconds, some in good order and some not."""
    with contextlib.ExitStack() as left, (scene.stack.home / "guests.log").open("ab") as log:
        for number in range(4):
            guest = subprocess.Popen(
                [sys.executable, "-m", module],
                env={
                    **scene.stack.hurt_env,
                    **addresses(scene.stack.port, part),
                    "QUANYU_PORT": str(scene.stack.port + GUESTS + 10 * (number % 2)),
                },
                stdout=log,
                stderr=log,
            )
            left.callback(guest.wait)
            left.callback(guest.kill)
            time.sleep(scene.rng.uniform(2.0, 4.0))
            guest.send_signal(scene.rng.choice((signal.SIGTERM, signal.SIGKILL)))


def full_disk(folder: str, scene: Scene) -> None:
    """No byte is left on the disk of Kafka or of the engine for a while."""
    if folder not in scene.small_disks:
        raise Skipped("no small file system: that takes root and mount")
    ballast = scene.stack.home / folder / "ballast"
    try:
        with ballast.open("wb", buffering=0) as file, contextlib.suppress(OSError):
            piece = bytes(4 * 1024 * 1024)
            while file.write(piece) == len(piece):
                pass
            while file.write(b"\0"):
                pass
        time.sleep(WRONG_S)
    finally:
        ballast.unlink(missing_ok=True)


def clock(seconds: float, scene: Scene) -> None:
    """The wall clock of every process of ours jumps, and jumps back."""
    file = scene.stack.faults / "clock"
    file.write_text(str(seconds), encoding="utf-8")
    time.sleep(WRONG_S)
    file.unlink()


# What comes in --------------------------------------------------------------------------------------------


def producer(scene: Scene) -> Producer:
    """Writes into the stack's own broker."""
    settings = Settings(home=scene.stack.home, port=scene.stack.port)
    return Producer(producer_config(settings))


def raw_v1(native_id: str, scene: Scene) -> bytes:
    """A raw report as a connector of the first version frames it."""
    native = row(native_id, scene.rng)
    fields = {
        "channel": "hotline12345",
        "native_id": native_id,
        "received_at": int(time.time() * 1000),
        "payload": json.dumps(native, ensure_ascii=False).encode(),
        "title": native["留言主题"],
        "text": native["留言详情"],
        "occurred_at": native["留言时间"],
    }
    out = io.BytesIO()
    fastavro.schemaless_writer(out, fastavro.parse_schema(RAW_V1), fields)
    return struct.pack(">bI", 0, RAW_V1_ID) + out.getvalue()


def poison(scene: Scene) -> None:
    """What no reader can read, in the raw topics; and bodies that no channel takes."""
    good = raw_v1("X0", scene)
    bad: list[bytes | None] = [
        None,
        b"",
        b"\x00",
        b"\x01" + good[1:],
        b"\x00\x7f\xff\xff\xff" + good[5:],
        good[: len(good) // 2],
        good + b"more",
        good[:5] + b"\xff" * 40,
        good[:5],
        b'{"json": true}',
        os.urandom(300),
        bytes(1024 * 1024),
    ]
    client = producer(scene)
    for channel in ("hotline12345", "iot", "photo_app"):
        for number, value in enumerate(bad):
            client.produce(raw_topic(channel), value, key=b"poison", partition=number % 2)
    left = client.flush(30)
    keys = json.loads((scene.stack.home / "keys.json").read_text(encoding="utf-8"))
    bodies = [b"", b"[", b"nul", b'{"a": NaN}', b"[[]]", b"\xff\xfe", b"[" * 5000, b'{"a":1,"a":2}']
    with httpx.Client(base_url=scene.stack.url, timeout=15, trust_env=False) as push:
        for body in bodies:
            with contextlib.suppress(httpx.HTTPError):
                answer = push.post(
                    "/channels/hotline12345/reports",
                    content=body,
                    headers={
                        "X-API-Key": keys["hotline12345"],
                        "content-type": "application/json",
                    },
                )
                if answer.status_code not in (400, 413, 415, 422, 503):
                    raise RuntimeError(f"{body[:20]!r} was answered {answer.status_code}")
    if left:
        raise Skipped("the broker did not take the poison")


def older_writer(scene: Scene) -> None:
    """A connector of the first schema version writes beside those of the newest."""
    client = producer(scene)
    confirmed: list[str] = []

    def delivered(error: KafkaError | None, message: Message) -> None:
        key = message.key()
        if error is None and isinstance(key, bytes):
            confirmed.append(key.decode())

    for number in range(500):
        native_id = f"S{scene.rng.randrange(10**9):09d}-{number}"
        client.produce(
            raw_topic("hotline12345"),
            raw_v1(native_id, scene),
            key=native_id.encode(),
            on_delivery=delivered,
        )
    client.flush(30)
    scene.push.confirmed.extend(confirmed)


def hot_place(scene: Scene) -> None:
    """Thousands of different reports of one matter at one place: one zone, one partition, one event."""
    stem = f"{scene.rng.randrange(10**9):09d}"
    for start in range(0, 3000, 500):
        batch = [row(f"P{stem}-{n}", random.Random(1)) for n in range(start, start + 500)]
        scene.push.push(batch)


def duplicates(scene: Scene) -> None:
    """The same reports a hundred times: from several senders at once, and as a file."""
    batch = list(scene.push.former)
    if not batch:
        raise Skipped("nothing was pushed yet")

    def again() -> None:
        for _ in range(25):
            scene.push.push(batch)

    threads = [threading.Thread(target=again) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    folder = scene.stack.home / "drop" / "hotline12345"
    with contextlib.suppress(OSError):
        write_csv(folder / f"again-{time.time_ns()}.csv", batch)


# The deck -------------------------------------------------------------------------------------------------

PROCESSES = ("worker", "sink", "connectors", "screen", "monitor", "mqtt", "clickhouse", "kafka")
POINTS = (
    *(
        f"ledger.{where}@{agent}"
        for where in ("decided", "changelog", "produced", "committed")
        for agent in ("intake", "merge", "dispatch")
    ),
    "ledger.acquired",
    *(f"sink.{where}" for where in ("pending_committed", "sending", "inserted", "done_committed")),
    *("publish.produced", "publish.confirmed", "position.saving", "position.saved"),
)
KAFKA_WIRES = tuple(f"kafka:{part}" for part in WIRED)
WIRES = (
    *("kafka:worker", "kafka:sink", "kafka:connectors", "kafka:screen", "kafka:replay"),
    *("clickhouse:sink", "clickhouse:screen"),
)
DEAF = Mood(deaf_up=True, deaf_down=True)
WRONG: Mapping[str, Mood] = {
    "network cut": Mood(cut=True),
    "network delayed": Mood(delay_s=0.3),
    "network throttled": Mood(rate=60_000),
    "half-open, no answers": Mood(deaf_down=True),
    "half-open, no requests": Mood(deaf_up=True),
}


def deck() -> list[Fault]:
    """Every fault once."""
    faults = [
        *(Fault("kill -9", p, partial(send, signal.SIGKILL, p)) for p in (*PROCESSES, "replay")),
        *(Fault("SIGTERM", p, partial(send, signal.SIGTERM, p)) for p in PROCESSES),
        *(
            Fault("frozen beyond its session", p, partial(freeze, p, FREEZE_S))
            for p in ("worker", "sink", "connectors", "screen")
        ),
        *(Fault("frozen server", p, partial(freeze, p, PAUSE_S)) for p in ("kafka", "clickhouse", "mqtt")),
        *(Fault("kill -9 at a point", p, partial(point, p, "kill")) for p in POINTS),
        *(
            Fault("frozen at a point", p, partial(point, p, "stop"))
            for p in ("ledger.produced@intake", "ledger.committed@merge", "sink.sending", "sink.inserted",
                      "sink.pending_committed")
        ),
        *(Fault("SIGTERM at a point", p, partial(point, p, "term"))
          for p in ("ledger.produced@merge", "ledger.decided@intake", "sink.sending", "publish.produced")),
        *(
            Fault(kind, name, partial(wire, mood, [name], WRONG_S))
            for kind, mood in WRONG.items()
            for name in WIRES
        ),
        *(Fault("connections reset", name, partial(unplug, name)) for name in WIRES),
        *(
            Fault("cut off beyond its session", name, partial(wire, DEAF, [name], FREEZE_S + 2))
            for name in ("kafka:worker", "kafka:sink")
        ),
        Fault("server away for all", "kafka", partial(wire, Mood(cut=True), list(KAFKA_WIRES), 8.0)),
        Fault("server away for all", "clickhouse",
              partial(wire, Mood(cut=True), ["clickhouse:sink", "clickhouse:screen"], 8.0)),
        *(
            Fault("ClickHouse refuses", name, partial(wire, Mood(refuse=code), ["clickhouse:sink"], WRONG_S))
            for code, name in ((252, "too many parts"), (241, "memory"), (164, "read-only"), (243, "no space"))
        ),
        Fault("applied, answer lost", "clickhouse:sink",
              partial(wire, Mood(swallow=True), ["clickhouse:sink"], WRONG_S)),
        Fault("dies in an insert", "clickhouse", partial(in_the_middle_of_an_insert, signal.SIGKILL)),
        Fault("ends in an insert", "clickhouse", partial(in_the_middle_of_an_insert, signal.SIGTERM)),
        Fault("rebalance storm", "worker", partial(storm, "streams.worker", "worker")),
        Fault("rebalance storm", "sink", partial(storm, "connectors.sink", "sink")),
        *(Fault("disk full", folder, partial(full_disk, folder)) for folder in ("kafka", "clickhouse")),
        *(Fault("clock jumps", f"{hours:+d} h", partial(clock, hours * 3600.0)) for hours in (-26, -1, 1, 26)),
        Fault("poison", "raw topics, push", poison),
        Fault("older writer", "raw topic", older_writer),
        Fault("hot place", "one zone", hot_place),
        Fault("duplicates ×100", "push, file", duplicates),
    ]  # fmt: skip
    assert len({(f.kind, f.place) for f in faults}) == len(faults)
    return faults


#: Ten that between them touch every step, and heal at once: for every test run.
TEN = (
    ("kill -9 at a point", "publish.produced"),
    ("kill -9 at a point", "sink.inserted"),
    ("ClickHouse refuses", "too many parts"),
    ("kill -9 at a point", "ledger.changelog@intake"),
    ("applied, answer lost", "clickhouse:sink"),
    ("kill -9 at a point", "ledger.produced@merge"),
    ("kill -9", "clickhouse"),
    ("connections reset", "kafka:worker"),
    ("poison", "raw topics, push"),
    ("duplicates ×100", "push, file"),
)
