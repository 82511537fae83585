"""The batch transport leans on private names of Faust and aiokafka: each is checked by name."""

import inspect

import faust
import pytest
from aiokafka import AIOKafkaConsumer
from faust.app.base import App

from streams.batch import Batch
from streams.transport import CONTRACT, Limits, cut


@pytest.mark.parametrize(
    ("owner", "name", "parameters"), CONTRACT, ids=[f"{o.__name__}.{n}" for o, n, _ in CONTRACT]
)
def test_a_private_name_we_rely_on_has_not_moved(
    owner: type, name: str, parameters: tuple[str, ...]
) -> None:
    found = getattr(owner, name, None)
    assert found is not None, f"{owner.__name__}.{name} is gone from faust {faust.__version__}"
    assert tuple(inspect.signature(found).parameters)[: len(parameters)] == parameters


def test_agent_errors_still_reach_the_app() -> None:
    assert tuple(inspect.signature(App._on_agent_error).parameters) == ("self", "agent", "exc")


def test_the_consumer_still_reads_its_isolation_level_at_start() -> None:
    source = inspect.getsource(AIOKafkaConsumer)
    assert "isolation_level=self._isolation_level" in source
    assert "fetch_max_wait_ms=self._fetch_max_wait_ms" in source


class _Record:
    topic, partition, headers, key = "t", 0, (), b"k"

    def __init__(self, offset: int, size: int) -> None:
        self.offset, self.timestamp, self.value = offset, offset, b"x" * size


def test_runs_respect_both_limits_and_lose_no_record() -> None:
    records = [_Record(offset, 10 if offset % 7 else 1000) for offset in range(0, 200, 2)]
    runs = list(cut(records, Limits(records=9, size=1500)))
    assert [o for run in runs for o in run.offsets] == [r.offset for r in records]
    assert all(len(run) <= 9 for run in runs)
    assert all(len(run) == 1 or sum(map(len, filter(None, run.values))) <= 1500 for run in runs)


def test_a_record_above_the_limit_is_a_run_of_its_own() -> None:
    assert [len(run) for run in cut([_Record(0, 5000), _Record(1, 1)], Limits(10, 100))] == [1, 1]


def test_since_drops_what_was_decided_and_keeps_the_columns_together() -> None:
    batch = Batch("t", 0, [b"a", b"b", b"c"], [b"1", b"2", b"3"], [5, 7, 9], [1, 2, 3], [None] * 3)
    assert batch.since(5) is batch
    later = batch.since(6)
    assert (later.offsets, later.keys, later.values) == ([7, 9], [b"b", b"c"], [b"2", b"3"])
    assert len(batch.since(10)) == 0
