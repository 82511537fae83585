"""The batch transport on the real broker: nothing lost, nothing doubled, whatever happens to a worker.

The worker under test counts the records of each key and writes one output for each record, with the
count that it reached. So the outputs and the state say by themselves whether a record was decided once.
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from confluent_kafka import Consumer, Producer, TopicPartition
from confluent_kafka.admin import AdminClient

from schemas.kafka import admin_config, consumer_config, producer_config
from schemas.settings import Settings
from streams.ledger import POSITION_KEY
from tests.conftest import Fresh, eventually
from tests.faults import python_path

pytestmark = [pytest.mark.integration, pytest.mark.timeout(150)]

PROGRAM = Path(__file__).parent / "counting_worker.py"
PARTITIONS = 4
KEYS = 40


class Tail:
    """Follows committed records of a topic from its beginning; keeps all that it saw."""

    def __init__(self, settings: Settings, topic: str, group: str) -> None:
        self._consumer = Consumer(consumer_config(settings, group))
        self._consumer.assign([TopicPartition(topic, p, 0) for p in range(PARTITIONS)])
        self.records: list[tuple[int, bytes, bytes | None]] = []

    def read(self, quiet: float = 0.1) -> "Tail":
        """Read what is there; ends when nothing came for ``quiet`` seconds."""
        while messages := self._consumer.consume(5000, quiet):
            for message in messages:
                assert message.error() is None, message.error()
                partition, key = message.partition(), message.key()
                assert isinstance(partition, int)
                assert isinstance(key, bytes)
                self.records.append((partition, key, message.value()))
        return self

    def close(self) -> None:
        """Stop following."""
        self._consumer.close()


@dataclass
class Scene:
    """One input and output topic with the workers that run between them."""

    settings: Settings
    fresh: Fresh
    tmp_path: Path
    source: str = ""
    output: str = ""
    sent: int = 0
    workers: list[subprocess.Popen[bytes]] = field(default_factory=list)
    extra: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.source = self.fresh.topic("in", PARTITIONS)
        self.output = self.fresh.topic("out", PARTITIONS)
        self.fresh.create_topic(
            f"{self.source}.count.state", PARTITIONS, {"cleanup.policy": "compact"}
        )
        self._producer = Producer(producer_config(self.settings))
        self._output = Tail(self.settings, self.output, self.fresh.name("check-out"))
        self._state = Tail(
            self.settings, f"{self.source}.count.state", self.fresh.name("check-state")
        )

    def send(self, count: int, value: bytes = b"x" * 100, keys: int = KEYS) -> None:
        """Send numbered records; the key says which counter they belong to."""
        for _ in range(count):
            self._producer.produce(self.source, key=b"k%d" % (self.sent % keys), value=value)
            self.sent += 1
        assert self._producer.flush(30) == 0

    def start(self, instance: str = "", **env: str) -> subprocess.Popen[bytes]:
        """Start a worker."""
        environment = {
            **os.environ,
            "QUANYU_KAFKA": self.settings.bootstrap,
            "QUANYU_HOME": str(self.tmp_path),
            "QUANYU_RUN": "100",
            "QUANYU_SESSION": "3",
            "PYTHONPATH": python_path(PROGRAM.parents[3]),
            **({"QUANYU_INSTANCE": instance} if instance else {}),
            **env,
        }
        log = (self.tmp_path / f"worker-{len(self.workers)}.log").open("wb")
        worker = subprocess.Popen(
            [sys.executable, str(PROGRAM), self.fresh.name("app"), self.source, self.output, *self.extra],
            env=environment, stdout=log, stderr=log,
        )  # fmt: skip
        self.workers.append(worker)
        return worker

    def position(self) -> dict[int, int]:
        """Committed position of each partition of the input."""
        found = dict.fromkeys(range(PARTITIONS), 0)
        for partition, key, value in self._state.read().records:
            if key == POSITION_KEY:
                found[partition] = int(value or b"0")
        return found

    def outputs(self) -> list[tuple[bytes, bytes]]:
        """Every committed output: key and text."""
        return [(key, value or b"") for _, key, value in self._output.read().records]

    def done(self) -> bool:
        """Whether as many outputs are committed as records were sent."""
        return len(self.outputs()) >= self.sent

    def kill_all(self) -> None:
        """End what still runs."""
        for worker in self.workers:
            if worker.poll() is None:
                worker.send_signal(signal.SIGCONT)
                worker.kill()
            worker.wait()
        self._output.close()
        self._state.close()

    def assert_exact(self) -> None:
        """Each record once in the output; counters without gap or repetition; state equals truth."""
        self._output.read(quiet=1.0)
        outputs = self.outputs()
        sources = Counter(text.partition(b":")[0] for _, text in outputs)
        assert [s for s, n in sources.items() if n > 1][:20] == [], "doubled"
        assert len(sources) == self.sent, f"lost {self.sent - len(sources)}"
        counts: dict[bytes, list[int]] = {}
        for key, text in outputs:
            counts.setdefault(key, []).append(int(text.partition(b":")[2]))
        for key, reached in counts.items():
            assert sorted(reached) == list(range(1, len(reached) + 1)), key
        state: dict[bytes, int] = {}
        for _, key, value in self._state.read(quiet=0.5).records:
            if key != POSITION_KEY:
                state[key] = int(value or b"0")
        assert state == {key: len(reached) for key, reached in counts.items()}


@pytest.fixture
def scene(settings: Settings, fresh: Fresh, tmp_path: Path) -> Iterator[Scene]:
    made = Scene(settings, fresh, tmp_path)
    yield made
    made.kill_all()


def test_every_record_is_decided_once_and_an_empty_partition_is_no_trouble(scene: Scene) -> None:
    scene.send(2000, keys=1)  # one key, one partition: the others stay empty
    scene.start()
    eventually(scene.done, 60)
    scene.assert_exact()


def test_an_exception_in_one_batch_stops_the_worker_and_loses_nothing(scene: Scene) -> None:
    scene.send(500)
    scene.send(1, b"boom")
    scene.send(500)
    marker = str(scene.tmp_path / "boom")
    worker = scene.start(QUANYU_BOOM=marker)
    assert worker.wait(60) == 70, "an agent's exception must end the process with 70"
    assert not scene.done(), "the batch that raised must not be committed"
    scene.start(QUANYU_BOOM=marker)
    eventually(scene.done, 60)
    scene.assert_exact()


@pytest.mark.parametrize("place", ["changelog", "produced", "committed"])
def test_kill_at_a_named_point_neither_loses_nor_doubles(scene: Scene, place: str) -> None:
    scene.send(1500)
    worker = scene.start(QUANYU_FAILPOINT=f"ledger.{place}@count:1:kill")
    assert worker.wait(60) == -signal.SIGKILL
    scene.start()
    eventually(scene.done, 60)
    scene.assert_exact()


def test_kill_at_random_moments_neither_loses_nor_doubles(scene: Scene) -> None:
    rng = random.Random(20261124)
    for _ in range(4):
        before = sum(scene.position().values())
        scene.send(3000)
        # The same static member, so that the next one has its partitions at once.
        worker = scene.start(instance="one")
        eventually(lambda before=before: sum(scene.position().values()) > before, 60)  # type: ignore[misc]
        time.sleep(rng.uniform(0.0, 0.15))
        worker.kill()
        worker.wait()
    scene.start(instance="one")
    eventually(scene.done, 60)
    scene.assert_exact()


def test_a_second_worker_joining_and_leaving_neither_loses_nor_doubles(scene: Scene) -> None:
    scene.send(1000)
    scene.start()
    eventually(lambda: sum(scene.position().values()) > 0, 60)
    for ending in (signal.SIGTERM, signal.SIGKILL):
        second = scene.start()
        log = scene.tmp_path / f"worker-{len(scene.workers) - 1}.log"

        def took_over(log: Path = log) -> bool:
            # A partition is acquired with its first batch, so records must keep coming.
            scene.send(KEYS)
            return b"acquired" in log.read_bytes()

        eventually(took_over, 60)
        scene.send(1000)
        second.send_signal(ending)
        second.wait(20)
        scene.send(1000)
    eventually(scene.done, 90)
    scene.assert_exact()


def test_sigterm_leaves_the_group_within_the_budget(scene: Scene) -> None:
    scene.send(500)
    worker = scene.start()
    eventually(scene.done, 60)
    started = time.monotonic()
    worker.terminate()
    assert worker.wait(12) == 0
    assert time.monotonic() - started < 12


@pytest.mark.long
def test_a_frozen_worker_that_revives_is_fenced(scene: Scene) -> None:
    scene.send(1000)
    frozen = scene.start()
    eventually(scene.done, 60)
    frozen.send_signal(signal.SIGSTOP)
    scene.send(2000)
    scene.start()
    eventually(scene.done, 90)
    frozen.send_signal(signal.SIGCONT)
    scene.send(2000)
    eventually(scene.done, 90)
    scene.assert_exact()


def test_a_position_never_passes_unfinished_work(scene: Scene) -> None:
    scene.send(2000)
    worker = scene.start(QUANYU_FAILPOINT="ledger.produced@count:1:kill")
    worker.wait(60)
    decided = Counter(int(text.partition(b"/")[0]) for _, text in scene.outputs())
    for partition, position in scene.position().items():
        assert position <= decided[partition], (
            "records of one producer without transactions have no gaps"
        )
    group = Consumer(consumer_config(scene.settings, scene.fresh.name("app")))
    committed = group.committed(
        [TopicPartition(scene.source, p) for p in range(PARTITIONS)], timeout=10
    )
    group.close()
    positions = scene.position()
    assert all(tp.offset <= positions[tp.partition] for tp in committed)


def test_after_a_seek_back_decided_records_are_skipped(scene: Scene) -> None:
    scene.send(1500)
    worker = scene.start()
    eventually(scene.done, 60)
    worker.terminate()
    worker.wait(15)
    group = Consumer(consumer_config(scene.settings, scene.fresh.name("app")))
    group.commit(
        offsets=[TopicPartition(scene.source, p, 0) for p in range(PARTITIONS)], asynchronous=False
    )
    group.close()
    scene.send(500)
    scene.start()
    eventually(scene.done, 60)
    scene.assert_exact()


def test_retention_that_overtook_a_stopped_worker_stops_it_loudly_and_a_person_goes_on(
    scene: Scene,
) -> None:
    scene.send(1000)
    worker = scene.start()
    eventually(scene.done, 60)
    worker.terminate()
    worker.wait(15)
    scene.send(1000)
    partition, position = max(scene.position().items(), key=lambda entry: entry[1])
    place = TopicPartition(scene.source, partition, position + 50)
    admin = AdminClient(admin_config(scene.settings))
    admin.delete_records([place])[place].result(10)
    loss = f"{scene.source}/{partition}:{position}"
    for accepted in ("", loss.replace(f":{position}", f":{position - 1}")):
        assert scene.start(QUANYU_ACCEPT_LOSS=accepted).wait(60) == 70
    log = (scene.tmp_path / f"worker-{len(scene.workers) - 1}.log").read_text(encoding="utf-8")
    assert "retention_overtook" in log
    assert f"QUANYU_ACCEPT_LOSS={loss}" in log
    scene.start(QUANYU_ACCEPT_LOSS=loss)
    eventually(lambda: len(scene.outputs()) >= scene.sent - 50, 60)
    scene.sent -= 50
    scene.assert_exact()


def test_a_topic_made_anew_stops_the_worker_instead_of_skipping_its_records(scene: Scene) -> None:
    scene.send(1000)
    worker = scene.start()
    eventually(scene.done, 60)
    worker.terminate()
    worker.wait(15)
    admin = AdminClient(admin_config(scene.settings))
    admin.delete_topics([scene.source])[scene.source].result(10)
    eventually(lambda: scene.source not in admin.list_topics(timeout=5).topics)
    scene.fresh.create_topic(scene.source, PARTITIONS)
    scene.send(KEYS)
    assert scene.start().wait(60) == 70
    assert b"topic_made_anew" in (scene.tmp_path / "worker-1.log").read_bytes()


def test_ordinary_topics_live_beside_batch_topics(scene: Scene) -> None:
    plain, plain_out = (
        scene.fresh.topic("plain", PARTITIONS),
        scene.fresh.topic("plain-out", PARTITIONS),
    )
    scene.extra = [plain, plain_out]
    producer = Producer(producer_config(scene.settings))
    for number in range(200):
        producer.produce(plain, key=b"p%d" % number, value=b"%d" % number)
    assert producer.flush(30) == 0
    scene.send(1000)
    scene.start()
    eventually(scene.done, 60)
    scene.assert_exact()
    consumer = Consumer(
        {
            **consumer_config(scene.settings, scene.fresh.name("plain")),
            "isolation.level": "read_uncommitted",
        }
    )
    consumer.subscribe([plain_out])
    seen: set[bytes] = set()

    def all_forwarded() -> bool:
        seen.update(m.value() for m in consumer.consume(500, 0.5) if m.error() is None)  # type: ignore[misc]
        return len(seen) == 200

    eventually(all_forwarded, 30)
    consumer.close()


def test_aborted_records_are_never_decided(scene: Scene) -> None:
    producer = Producer(
        {**producer_config(scene.settings), "transactional.id": scene.fresh.name("t")}
    )
    producer.init_transactions(20)
    for number in range(10):
        producer.begin_transaction()
        for i in range(50):
            producer.produce(scene.source, key=b"k%d" % (i % KEYS), value=b"x")
        if number % 2:
            producer.abort_transaction()
        else:
            producer.commit_transaction()
            scene.sent += 50
    scene.start()
    eventually(scene.done, 60)
    scene.assert_exact()
