"""What the doctor says of facts: the severity, the words and the command that mends it."""

import socket
import stat
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from deploy.configuration import problems
from deploy.doctor import Finding, examine, exit_code, unread
from deploy.doctor_facts import (
    ClickHouse,
    Facts,
    File,
    Kafka,
    Machine,
    Part,
    Place,
    Schemas,
    gather,
)
from schemas.settings import Settings
from schemas.topics import Difference

NOW = 1_790_000_000_000
RAW = "reports.raw.hotline12345"


def healthy(**changes: Any) -> Facts:
    """A stack in which all is well, but for what is said."""
    whole = Facts(
        now_ms=NOW,
        settings=Settings(home=Path("/srv/q")),
        settings_problems=[],
        machine=Machine("java 25", "", [], "chdb", "", 20.0, 50.0, "/srv", [], "郑州市", ""),
        files=[File("/srv/q", 0o755, True, False), File("/srv/q/keys.json", 0o600, True, True)],
        owner=17,
        parts=[Part("worker", "port 8004", True)],
        kafka=Kafka("k:9092", brokers=1, places=[place()], state={"reports.merge.state": 9}),
        clickhouse=ClickHouse("http://c:8123", version="26.9", disks={"default": (80.0, 100.0)}),
        schemas=Schemas(),
    )
    return replace(whole, **changes)


def place(**changes: Any) -> Place:
    """Where a group stands that has read everything."""
    return replace(Place("quanyu-streams", RAW, 0, 100, 0, 100), **changes)


def bad(facts: Facts) -> list[Finding]:
    """Findings that say that something is wrong."""
    return [f for f in examine(facts) if f.severity in ("warning", "error", "unknown")]


def test_a_healthy_stack_has_one_good_word_for_each_area_and_exit_0() -> None:
    findings = examine(healthy())
    assert bad(healthy()) == []
    assert exit_code(findings) == 0
    assert len({f.area for f in findings}) == 15


def test_a_stopped_consumer_that_retention_overtook_is_named_loudly_with_how_to_bring_it_back() -> (
    None
):
    gone = place(committed=100, first=900, end=950, lag=50, oldest_ms=NOW)
    (found,) = bad(healthy(kafka=Kafka("k:9092", places=[gone])))
    assert (found.area, found.severity) == ("offsets", "error")
    assert found.what.startswith("RETENTION OVERTOOK quanyu-streams")
    assert "up to 800 records" in found.what
    assert "quanyu replay FILE --channel hotline12345" in found.mend


@pytest.mark.parametrize(
    ("where", "started", "lost"),
    [
        (place(committed=None, first=40, end=50), True, 40),
        (place(committed=None, first=40, end=50), False, 0),  # a group that never ran lost nothing
        (place(committed=100, first=101, end=101), True, 0),  # only a marker was left
        (place(committed=100, first=101, end=120), True, 1),
        (place(committed=100, first=100, end=120), True, 0),
    ],
)
def test_what_counts_as_deleted_unread(where: Place, started: bool, lost: int) -> None:
    assert unread(where, started) == lost


@given(st.integers(0, 50), st.integers(0, 50), st.integers(0, 50))
def test_a_group_at_or_behind_the_first_offset_lost_nothing(
    first: int, ahead: int, rest: int
) -> None:
    assert unread(place(committed=first + ahead, first=first, end=first + ahead + rest), True) == 0


def test_a_topic_made_anew_under_a_group_is_named_with_the_reset() -> None:
    (found,) = bad(healthy(kafka=Kafka("k:9092", places=[place(committed=500)])))
    assert "beyond its end 100" in found.what
    assert f"--topic {RAW}:0 --reset-offsets" in found.mend


@pytest.mark.parametrize(("age_s", "severity"), [(30, None), (120, "warning"), (3600, "error")])
def test_lag_is_judged_by_the_oldest_record_that_waits(age_s: int, severity: str | None) -> None:
    late = place(committed=50, lag=50, oldest_ms=NOW - age_s * 1000)
    found = bad(healthy(kafka=Kafka("k:9092", places=[late, place(partition=1)])))
    assert [f.severity for f in found] == ([severity] if severity else [])


def test_topics_and_tables_that_differ_have_the_command_that_mends_them() -> None:
    kafka = Kafka("k:9092")
    kafka.differences = [
        Difference("events", "missing", "events: missing (2 partitions)"),
        Difference("orders", "config", "orders: retention.ms is 1, should be 2"),
        Difference("events", "partitions", "events: 4 partitions, should be 2", mended=False),
        Difference("reports.raw.gone", "stray", "reports.raw.gone: no spec asks for it", False),
    ]
    tables = ClickHouse("http://127.0.0.1:8001")
    tables.differences = [
        "migration 0044_more is not applied",
        "table reports: column urgent Bool is missing",
        "table orders: column version is UInt8, not UInt64",
        "table orders: column mine is in no migration",
        "table orders: deduplication_window = 10000 is missing; a repeated block would count twice",
    ]
    found = bad(healthy(kafka=kafka, clickhouse=tables))
    assert [(f.severity, f.mend.partition(" --data-binary ")[2] or f.mend) for f in found] == [
        ("error", "quanyu topics apply"),
        ("warning", "quanyu topics apply"),
        ("error", "quanyu topics diff"),
        ("error", "quanyu tables apply"),
        ("error", "'ALTER TABLE reports ADD COLUMN urgent Bool'"),
        ("error", "'ALTER TABLE orders MODIFY COLUMN version UInt64'"),
        ("warning", "'ALTER TABLE orders DROP COLUMN mine'"),
        (
            "error",
            "'ALTER TABLE orders MODIFY SETTING non_replicated_deduplication_window = 10000'",
        ),
    ]


def test_a_server_that_does_not_answer_is_an_error_and_what_lies_behind_it_unknown() -> None:
    facts = healthy(kafka=Kafka("k:9092", error="no answer"))
    found = {f.area: f.severity for f in bad(facts)}
    assert found.pop("kafka") == "error"
    assert set(found.values()) == {"unknown"}
    assert exit_code(examine(facts)) == 1


def test_what_the_cluster_does_not_let_us_see_is_no_error_but_exit_2() -> None:
    facts = healthy(kafka=Kafka("k:9092", unseen=["topics: not authorised"]))
    assert exit_code(examine(facts)) == 2


def test_secrets_that_others_read_and_a_home_that_others_write_are_closed_again() -> None:
    files = [
        File("/srv/q", 0o777, True, False),
        File("/srv/q/hash.key", 0o640, True, True),
        File("/srv/q/people.json", 0o600, False, True),
    ]
    found = bad(healthy(files=files))
    assert [f.mend for f in found] == [
        "chmod go-w /srv/q",
        "chmod 600 /srv/q/hash.key",
        "sudo chown $(id -u) /srv/q/people.json",
    ]


@pytest.mark.parametrize(("skew", "severity"), [(1.0, None), (-5.0, "warning"), (90.0, "error")])
def test_clocks_that_differ_more_than_freshness_allows(skew: float, severity: str | None) -> None:
    found = bad(healthy(clickhouse=ClickHouse("http://c", skew_s=skew, doubt_s=0.1)))
    assert [f.severity for f in found] == ([severity] if severity else [])
    if skew > 0:
        found = bad(healthy(kafka=Kafka("k:9092", broker_ahead_s=skew)))
        assert [f.severity for f in found] == ([severity] if severity else [])


def test_a_part_that_does_not_answer_names_its_log() -> None:
    (found,) = bad(
        healthy(parts=[Part("sink", "port 8005", False), Part("worker", "port 8004", True)])
    )
    assert found.mend == "tail -n 50 /srv/q/logs/sink.log"


def test_before_the_first_start_nothing_is_wrong_and_nothing_is_made(tmp_path: Path) -> None:
    facts = gather(Settings(home=tmp_path / "home", port=21990), [])
    assert (facts.kafka, facts.clickhouse, facts.owner) == (None, None, None)
    assert not (tmp_path / "home").exists()
    assert {f.severity for f in examine(facts) if f.area in ("kafka", "tables", "lag")} == {"info"}


def test_a_used_port_a_wrong_city_and_an_open_key_are_found_on_a_real_machine(
    tmp_path: Path,
) -> None:
    (tmp_path / "keys.json").write_text("{}", encoding="utf-8")
    (tmp_path / "keys.json").chmod(stat.S_IRUSR | stat.S_IROTH)
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        settings = Settings(home=tmp_path, port=port - 1, city="atlantis")
        found = bad(gather(settings, problems(settings, {})))
    said = " ".join(f.what for f in found)
    assert str(port) in said
    assert "atlantis" in said
    assert "keys.json holds secrets" in said


def test_servers_elsewhere_that_do_not_answer_are_errors_within_seconds(tmp_path: Path) -> None:
    settings = Settings(
        home=tmp_path,
        kafka="127.0.0.1:9",
        clickhouse="http://127.0.0.1:9",
        parts={"sink": ["http://127.0.0.1:9/"]},
    )
    facts = gather(settings, [])
    assert facts.kafka is not None
    assert facts.clickhouse is not None
    assert "127.0.0.1:9" in facts.kafka.error
    assert "127.0.0.1:9" in facts.clickhouse.error
    assert exit_code(examine(facts)) == 1
    (sink,) = [f for f in bad(facts) if f.area == "parts"]
    assert sink.mend.startswith("curl -sS http://127.0.0.1:9/healthz")
