"""A polled table: nothing missed and nothing read twice, whatever the order of its commits."""

import contextlib
import sqlite3
import threading
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from connectors import sql_poll
from connectors.mapping import Entry, entry_report
from connectors.source import SourceError
from connectors.sql_poll import SqlSource, before, dump, load, not_after, open_source, rank
from schemas.channels import ChannelSpec
from schemas.errors import QuanyuError
from schemas.settings import Settings

OVERLAP = 100.0


def spec(**changes: Any) -> ChannelSpec:
    sql = {"table": "calls", "watermark": "w", "overlap": OVERLAP, "interval_s": 0.001}
    return ChannelSpec.model_validate(
        {
            "name": "a_test",
            "title": "a test",
            "transports": {"sql": sql | changes.pop("sql", {})},
            "native_id": "id",
            "fields": {"title": "title"},
        }
        | changes
    )


class Database:
    """Another system's database, with a connection of its own."""

    def __init__(self, folder: Path, table: str = "id TEXT, w, title TEXT") -> None:
        self.path = folder / "calls.db"
        self.url = f"sqlite:///{self.path}"
        self.settings = Settings(home=folder / "home")
        self.connection = sqlite3.connect(self.path, isolation_level=None)
        self.connection.execute("PRAGMA journal_mode=WAL")
        self.connection.execute("PRAGMA synchronous=OFF")
        self.connection.execute(f"CREATE TABLE calls ({table})")

    def add(self, *rows: tuple[Any, ...]) -> None:
        marks = ", ".join("?" * len(rows[0]))
        self.connection.execute("BEGIN")
        self.connection.executemany(f"INSERT INTO calls VALUES ({marks})", rows)
        self.connection.execute("COMMIT")

    def open(self, **changes: Any) -> SqlSource:
        return open_source(self.settings, spec(**changes), self.url)


@pytest.fixture
def database(tmp_path: Path) -> Iterator[Database]:
    made = Database(tmp_path)
    yield made
    made.connection.close()


@pytest.fixture(autouse=True)
def _hurry(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sql_poll, "ODD_EVERY_S", 0.0)
    monkeypatch.setattr(sql_poll, "PAUSE_RATIO", 0.0)


def take(source: SqlSource) -> list[Entry]:
    """Everything that is there now, confirmed."""
    found: list[Entry] = []
    for _ in range(4):  # two empty looks at each lane
        while (portion := source.read(0.01)) is not None:
            assert len(portion.entries) <= sql_poll.PAGE
            found += portion.entries
            source.confirm(portion)
    return found


def ids(entries: list[Entry]) -> list[str]:
    return [entry.fields["id"] for entry in entries if entry.fields is not None]


# --- What a watermark is


@pytest.mark.parametrize(
    ("value", "lower"),
    [
        (1000, 900),
        (1000.5, 900.5),
        (Decimal("1000.5"), Decimal("900.5")),
        ("2026-03-01 08:15:00", "2026-03-01 08:13:20"),
        ("2026-03-01T08:15:00.250+08:00", "2026-03-01T08:13:20"),
        ("2026-03-01", "2026-02-28"),
        (datetime(2026, 3, 1, 0, 1), datetime(2026, 2, 28, 23, 59, 20)),
        (datetime(2026, 3, 1, 0, 1, tzinfo=UTC), datetime(2026, 2, 28, 23, 59, 20, tzinfo=UTC)),
        (date(2026, 3, 1), date(2026, 2, 28)),
        (datetime.min, datetime.min),
    ],
)
def test_the_overlap_lies_below_a_watermark_of_any_type(value: Any, lower: Any) -> None:
    found = before(value, OVERLAP)
    assert found == lower
    assert type(found) is type(value)
    assert sql_poll.reach(value, OVERLAP) <= (rank(value) or 0) - OVERLAP or value == datetime.min


@pytest.mark.parametrize(
    "value", [None, "", "abc", "2026/3/1 8:00", "20260301", b"\0\1", float("nan")]
)
def test_what_has_no_order_is_no_watermark(value: Any) -> None:
    assert rank(value) is None


def test_a_time_ahead_of_the_clock_counts_as_now() -> None:
    now = datetime(2026, 3, 1, 8, 0, tzinfo=UTC)
    assert not_after("2099-01-01 00:00:00", now) == "2026-03-01 08:00:00"
    assert not_after("2099-01-01T00:00:00+08:00", now) == "2026-03-01T16:00:00"
    assert not_after("2026-03-01 07:00:00", now) == "2026-03-01 07:00:00"
    assert not_after(datetime(2099, 1, 1), now) == datetime(2026, 3, 1, 8, 0)
    assert not_after(datetime(2099, 1, 1, tzinfo=UTC), now) == now
    assert not_after(date(2099, 1, 1), now) == now.date()
    assert not_after(10**12, now) == 10**12


@pytest.mark.parametrize(
    "value",
    [
        None, 7, 7.25, "a", Decimal("7.10"), date(2026, 3, 1), b"\0\xff",
        datetime(2026, 3, 1, 8, 15, 0, 250), datetime(2026, 3, 1, tzinfo=UTC), UUID(int=7),
    ],
)  # fmt: skip
def test_a_key_comes_back_from_the_position_as_it_was(value: Any) -> None:
    found = load(dump(value))
    assert found == value
    assert type(found) is type(value)


# --- Nothing missed, nothing twice


def test_a_table_is_read_from_its_beginning_and_then_what_comes(database: Database) -> None:
    database.add(("a", 1, "积水"), ("b", 2, "路灯"))
    source = database.open()
    portion = source.read(1.0)
    assert portion is not None
    assert portion.origin == "calls"
    assert portion.entries == [
        Entry(1, {"id": "a", "w": 1, "title": "积水"}),
        Entry(2, {"id": "b", "w": 2, "title": "路灯"}),
    ]
    source.confirm(portion)
    assert take(source) == []
    database.add(("c", 3, "井盖"))
    assert take(source) == [Entry(3, {"id": "c", "w": 3, "title": "井盖"})]


def test_what_was_not_confirmed_is_read_again_and_what_was_is_not(database: Database) -> None:
    database.add(("a", 1, ""), ("b", 2, ""))
    source = database.open()
    portion = source.read(1.0)
    assert source.read(1.0) is portion
    source.close()
    again = database.open()
    assert ids(take(again)) == ["a", "b"]
    again.close()
    assert take(database.open()) == []


def test_a_row_committed_late_inside_the_overlap_is_found(database: Database) -> None:
    database.add(("a", 1000, ""))
    source = database.open()
    take(source)
    database.add(("late", 901, ""), ("too late", 899, ""), ("b", 1001, ""))
    assert sorted(ids(take(source))) == ["b", "late"]


def test_a_row_committed_behind_a_sweep_that_is_under_way_is_found_by_the_next(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "PAGE", 10)
    database.add(*((f"n{n:04}", 10 * n, "") for n in range(100)))
    source = database.open()
    first = source.read(1.0)
    assert first is not None
    source.confirm(first)
    # Its watermark is inside the overlap of what was newest then, and the sweep goes on far above.
    database.add(("late", 95, ""), ("late too", 985, ""))
    database.add(*((f"m{n:04}", 1000 + 10 * n, "") for n in range(100)))
    found = ids(take(source))
    assert "late too" in found
    assert len(found) == len(set(found)) == 192
    assert take(source) == []


def test_a_row_that_changed_is_read_again_even_in_the_same_second(database: Database) -> None:
    database.add(("a", "2026-03-01 08:15:00", "积水"), ("b", "2026-03-01 08:15:00", "路灯"))
    source = database.open()
    take(source)
    database.connection.execute("UPDATE calls SET title = '积水很深' WHERE id = 'a'")
    assert [entry.fields and entry.fields["title"] for entry in take(source)] == ["积水很深"]
    assert take(source) == []


@pytest.mark.parametrize("key", ["id TEXT", "id TEXT PRIMARY KEY"])
def test_thousands_of_rows_of_one_watermark_neither_stall_nor_get_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, key: str
) -> None:
    monkeypatch.setattr(sql_poll, "PAGE", 100)
    database = Database(tmp_path, f"{key}, w, title TEXT")
    database.add(*((f"n{n:05}", "2026-03-01 08:15:00", "") for n in range(2_345)))
    found = ids(take(database.open()))
    assert sorted(found) == [f"n{n:05}" for n in range(2_345)]


def test_more_rows_of_one_watermark_and_id_than_a_page_are_all_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "PAGE", 10)
    database.add(*(("same", 5, f"{n}") for n in range(95)), ("z", 5, ""), ("z", 6, ""))
    found = [entry.fields and entry.fields["title"] for entry in take(database.open())]
    assert Counter(found) == Counter([*map(str, range(95)), "", ""])


def test_a_view_without_a_key_and_ids_that_repeat_is_read_whole(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "PAGE", 7)
    database.connection.execute("CREATE VIEW seen AS SELECT * FROM calls")
    database.add(*((f"n{n % 5}", n // 6, f"{n}") for n in range(100)))
    found = take(database.open(sql={"table": "seen"}))
    assert sorted(int((entry.fields or {})["title"]) for entry in found) == list(range(100))


def test_rows_without_watermark_or_id_are_published_once(database: Database) -> None:
    database.add(
        ("a", 1, "x"), ("b", None, "没有时间"), (None, 3, "没有号"), (None, None, "都没有")
    )
    source = database.open()
    found = [entry.fields and entry.fields["title"] for entry in take(source)]
    assert found == ["x", "都没有", "没有时间", "没有号"] or sorted(map(str, found)) == sorted(
        ["x", "都没有", "没有时间", "没有号"]
    )
    assert take(source) == []
    assert take(database.open()) == []
    database.connection.execute("UPDATE calls SET w = 4 WHERE id = 'b'")
    assert ids(take(source)) == ["b"]
    database.add(("c", None, "又一个"))
    assert ids(take(source)) == ["c"]


def test_too_many_rows_without_a_watermark_are_said_while_the_others_are_read(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "ODD_LIMIT", 20)
    monkeypatch.setattr(sql_poll, "PAGE", 10)
    database.add(("a", 1, ""), *((f"n{n}", None, "") for n in range(50)))
    source = database.open()
    with pytest.raises(SourceError, match="20 rows and more have no w or no id") as caught:
        take(source)
    assert caught.value.reason == "no_watermark"
    database.add(("b", 2, ""))
    portion = database.open().read(1.0)
    assert portion is not None
    assert ids(list(portion.entries)) == ["b"]


def test_a_time_in_the_future_is_published_and_holds_nothing_back(database: Database) -> None:
    database.add(("a", "2026-03-01 08:00:00", ""), ("wrong", "2099-01-01 00:00:00", ""))
    source = database.open()
    assert sorted(ids(take(source))) == ["a", "wrong"]
    database.add(("b", "2026-03-01 08:00:01", ""))
    assert ids(take(source)) == ["b"]
    again = database.open()
    database.add(("c", "2026-03-01 08:00:02", ""))
    assert ids(take(again)) == ["c"]


def test_a_watermark_that_is_no_time_is_published_once_and_holds_nothing_back(
    database: Database,
) -> None:
    database.add(("a", "2026-03-01 08:00:00", ""), ("odd", "昨天", ""))
    source = database.open()
    assert sorted(ids(take(source))) == ["a", "odd"]
    for minute in range(1, 30):
        database.add((f"n{minute}", f"2026-03-01 08:{minute:02}:00", ""))
        assert ids(take(source)) == [f"n{minute}"]


def test_only_so_many_rows_are_remembered_and_none_of_them_is_read_for_ever(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "WINDOW_LIMIT", 50)
    monkeypatch.setattr(sql_poll, "PAGE", 20)
    database.add(*((f"n{n:03}", 5, "") for n in range(200)))
    source = database.open()
    assert len(take(source)) == 200
    assert take(source) == []
    database.add(("z", 6, ""))
    assert ids(take(source)) == ["z"]
    assert take(database.open()) == []


def test_what_lies_below_the_overlap_is_forgotten(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "PAGE", 100)
    database.add(*((f"n{n:05}", n, "") for n in range(5_000)))
    source = database.open()
    assert len(take(source)) == 5_000
    database.add(("z", 5_001, ""))
    take(source)
    position = database.settings.home / "positions" / "a_test.sql.json"
    assert position.stat().st_size < 4_000


def test_a_page_of_long_texts_is_cut_by_its_size(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "PAGE_SIZE", 100_000)
    monkeypatch.setattr(sql_poll, "FETCH", 10)
    database.add(*((f"n{n:03}", n, "水" * 10_000) for n in range(100)))
    source = database.open()
    portion = source.read(1.0)
    assert portion is not None
    assert len(portion.entries) == 10
    assert len(take(source)) == 100


UNHURRIED = hypothesis_settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
#: What another system and the connector do in turn: (what, how late, which row).
STEPS = st.lists(
    st.tuples(
        st.sampled_from(
            ["commit", "commit", "many", "change", "read", "read", "confirm", "restart"]
        ),
        st.integers(0, int(OVERLAP)),
        st.integers(0, 40),
    ),
    max_size=40,
)


@UNHURRIED
@given(steps=STEPS, times=st.booleans(), ratio=st.sampled_from([0.0, 1e9]))
def test_whatever_the_order_of_commits_inside_the_overlap_nothing_is_missed_or_repeated(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int, int]],
    times: bool, ratio: float,
) -> None:  # fmt: skip
    folder = tmp_path_factory.mktemp("model")
    with contextlib.ExitStack() as stack, pytest.MonkeyPatch.context() as patch:
        database = Database(folder, "id TEXT PRIMARY KEY, w, title TEXT")
        stack.callback(database.connection.close)
        patch.setattr(sql_poll, "PAGE", 5)
        patch.setattr(sql_poll, "PAUSE_RATIO", ratio)
        began = datetime(2026, 3, 1, 8, 0)

        def at(clock: int) -> Any:
            return str(began + timedelta(seconds=clock)) if times else clock

        clock, count = 0, 0
        wanted: set[tuple[str, Any, str]] = set()
        confirmed: Counter[tuple[str, Any, str]] = Counter()
        source, portion = database.open(), None

        def confirm() -> None:
            assert portion is not None
            source.confirm(portion)
            confirmed.update(tuple((e.fields or {}).values()) for e in portion.entries)

        for what, late, number in steps:
            if what in ("commit", "many"):
                clock += number
                rows = [
                    (f"n{count + i}", at(clock - late), "new")
                    for i in range(12 if what == "many" else 1)
                ]
                count += len(rows)
                database.add(*rows)
                wanted.update(rows)
            elif what == "change" and count:
                clock += 1
                row = (f"n{number % count}", at(clock), f"changed {clock}")
                # What was never read in its older form need not be: it is no longer there.
                wanted -= {old for old in wanted if old[0] == row[0] and not confirmed[old]}
                database.connection.execute(
                    "UPDATE calls SET w = ?, title = ? WHERE id = ?", (row[1], row[2], row[0])
                )
                wanted.add(row)
            elif what == "read" and portion is None:
                portion = source.read(0.0)
            elif what == "confirm" and portion is not None:
                confirm()
                portion = None
            elif what == "restart":
                source.close()
                source, portion = database.open(), None
        patch.setattr(sql_poll, "PAUSE_RATIO", 0.0)
        source.close()
        source = database.open()
        while (portion := source.read(0.05)) is not None:
            confirm()
        assert wanted <= set(confirmed)
        assert set(confirmed.values()) <= {1}


# --- What goes wrong


def test_values_of_every_type_become_a_raw_report(database: Database) -> None:
    database.connection.execute("ALTER TABLE calls ADD COLUMN photo BLOB")
    database.connection.execute("ALTER TABLE calls ADD COLUMN at DATETIME")
    database.add(("a", 1, "积水", b"\xff\x00", "no time at all"))
    database.connection.execute(
        "INSERT INTO calls VALUES ('b', 2, CAST(x'e6b0ff' AS TEXT), NULL, 5)"
    )
    first, second = take(database.open())
    raw = entry_report(spec(), first, received_at=0, connector="x")
    assert (raw["native_id"], raw["title"], raw["defects"]) == ("a", "积水", [])
    assert b'"photo":"ff00","at":"no time at all"' in raw["payload"]
    assert second.fields is not None
    assert "\ufffd" in second.fields["title"]


def test_a_table_or_column_that_is_gone_is_named_with_the_remedy(database: Database) -> None:
    database.add(("a", 1, ""))
    source = database.open()
    take(source)
    for statement, words in (
        (
            "ALTER TABLE calls RENAME COLUMN title TO subject",
            r"no column title .* change fields in .*a_test.yaml",
        ),
        (
            "ALTER TABLE calls RENAME COLUMN w TO changed",
            r"no column w .* change transports\.sql\.watermark",
        ),
        ("ALTER TABLE calls RENAME COLUMN id TO no", r"no column"),
        ("ALTER TABLE calls RENAME TO other", "no table or view calls; put it back"),
    ):
        database.connection.execute(statement)
        for opened in (source, None):
            with pytest.raises(SourceError, match=words) as caught:
                take(opened or database.open())
            assert caught.value.reason == "schema_changed"


def test_a_column_that_comes_along_is_in_the_payload_from_then_on(database: Database) -> None:
    source = database.open()
    take(source)
    database.connection.execute("ALTER TABLE calls ADD COLUMN street TEXT")
    database.add(("a", 1, "", "长堤街道"))
    (entry,) = take(source)
    assert entry.fields == {"id": "a", "w": 1, "title": "", "street": "长堤街道"}


def test_a_database_that_is_gone_while_polled_is_unreachable_and_goes_on_later(
    database: Database, tmp_path: Path
) -> None:
    database.add(("a", 1, ""))
    source = database.open()
    take(source)
    database.connection.close()
    away = tmp_path / "away.db"
    database.path.rename(away)
    for opened in (source, None):
        with pytest.raises(SourceError) as caught:
            take(opened or database.open())
        assert caught.value.reason == "unreachable"
    assert not database.path.exists(), "the reader must not make the file"
    away.rename(database.path)
    database.connection = sqlite3.connect(database.path, isolation_level=None)
    database.add(("b", 2, ""))
    assert ids(take(database.open())) == ["b"]


def test_a_database_that_was_put_back_to_an_older_day_is_said(database: Database) -> None:
    database.add(("a", 1000, ""))
    source = database.open()
    take(source)
    database.connection.execute("UPDATE calls SET w = 10")
    with pytest.raises(
        SourceError, match=r"w ends at 10, below .* Was the database restored"
    ) as caught:
        take(source)
    assert caught.value.reason == "went_back"


def test_a_table_whose_rows_were_cleared_away_is_no_fault(database: Database) -> None:
    database.add(("a", 1000, ""))
    source = database.open()
    take(source)
    database.connection.execute("DELETE FROM calls")
    assert take(source) == []
    assert take(database.open()) == []
    database.add(("b", 1001, ""))
    assert ids(take(source)) == ["b"]


def test_a_locked_database_is_waited_for_and_not_held(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sql_poll, "BUSY_S", 0.05)
    database.connection.execute("PRAGMA journal_mode=DELETE")
    database.add(("a", 1, ""))
    source = database.open()
    database.connection.execute("BEGIN EXCLUSIVE")
    with pytest.raises(SourceError) as caught:
        take(source)
    assert caught.value.reason == "locked"
    database.connection.execute("COMMIT")
    portion = source.read(1.0)
    assert portion is not None
    # While the broker is asked to confirm, the writer writes.
    database.add(("b", 2, ""))
    source.confirm(portion)
    assert ids(take(source)) == ["b"]


def test_a_writer_in_another_thread_disturbs_nothing(database: Database) -> None:
    def write() -> None:
        with contextlib.closing(sqlite3.connect(database.path, isolation_level=None)) as mine:
            for n in range(300):
                mine.execute("INSERT INTO calls VALUES (?, ?, '')", (f"n{n}", n))

    writer = threading.Thread(target=write)
    source = database.open()
    writer.start()
    found = take(source)
    while writer.is_alive():
        found += take(source)
    writer.join()
    found += take(source)
    assert Counter(ids(found)) == Counter(f"n{n}" for n in range(300))


def test_a_full_disk_under_the_position_repeats_the_rows_and_loses_none(
    database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    database.add(("a", 1, ""))
    source = database.open()
    portion = source.read(1.0)
    assert portion is not None

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("connectors.position.Position.write", full)
        with pytest.raises(SourceError, match=r"No space left on device.*free space") as caught:
            source.confirm(portion)
    assert caught.value.reason == "disk_full"
    assert ids(take(database.open())) == ["a"]


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("not an address", "no database URL; write e.g. postgresql"),
        ("sqlite://", "names no file"),
        (
            "mysql+pymysql://u:s3cret@h/d",
            "driver pymysql is not installed; run: pip install 'pymysql'",
        ),
        ("postgresql+psycopg2://u:s3cret@h/d", "pip install 'psycopg2-binary'"),
        ("dm+dmPython://u:s3cret@h/d", "SQLAlchemy knows no dm.dmPython; install the package"),
        ("postgresql+psycopg://u:s3cret@h:port/d", "no database URL"),
    ],
)
def test_an_address_that_is_none_or_has_no_driver_is_said_without_its_password(
    database: Database, address: str, message: str
) -> None:
    with pytest.raises(QuanyuError, match=message) as caught:
        open_source(database.settings, spec(), address)
    assert "s3cret" not in str(caught.value)


def test_a_position_of_another_table_is_not_this_ones(database: Database) -> None:
    database.add(("a", 1, ""))
    take(database.open())
    database.connection.execute("CREATE VIEW other AS SELECT * FROM calls")
    assert ids(take(database.open(sql={"table": "other"}))) == ["a"]
