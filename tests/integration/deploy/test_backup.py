"""A backup taken while a real sink inserts, and its restore: nothing lost or doubled, or it says so."""

import contextlib
import json
import os
import shutil
import signal
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import TopicPartition
from confluent_kafka.admin import AdminClient

from connectors.sink.runner import Route
from deploy.backup import MANIFEST, Made, Restored, backup, restore
from schemas import tables
from schemas.errors import QuanyuError
from schemas.kafka import admin_config
from schemas.retention import retention
from tests.conftest import Fresh, eventually
from tests.integration.connectors.test_sink import City, city  # noqa: F401 # a fixture

pytestmark = [
    pytest.mark.integration,
    pytest.mark.long,
    pytest.mark.skipif(
        os.environ.get("QUANYU_TEST_CONTAINERS") == "1",
        reason="a server's image declares no disk for backups",
    ),
]


def back_up(city: City, folder: Path | None = None) -> Made:  # noqa: F811 # the fixture's value
    route = Route(city.topic, "ReportOutcome", "report_outcomes", city.letters)
    return backup(city.settings, folder, sink_routes=[route], group=city.group, say=lambda _: None)


def bring_back(city: City, made: Made, **words: bool) -> Restored:  # noqa: F811
    return restore(city.settings, Path(made.folder), group=city.group, say=lambda _: None, **words)


def wipe(city: City) -> None:  # noqa: F811
    city.client.command(f"DROP DATABASE {city.settings.clickhouse_database} SYNC")


def test_backed_up_while_a_sink_inserts_wiped_and_restored_it_goes_on_exactly(
    city: City,  # noqa: F811
    tmp_path: Path,
) -> None:
    enough = threading.Event()
    feeding = threading.Thread(target=city.produce_until, args=(enough,), daemon=True)
    feeding.start()
    sink = city.sink(instance=None)
    for turn in range(2):
        city.wait_for_rows(city.rows() + 400)
        made = back_up(city, tmp_path / f"{turn}")
        # It cut a table that grew, and the sink went on.
        city.wait_for_rows(city.rows() + 200)
        sink.send_signal(signal.SIGKILL if turn else signal.SIGTERM)
        sink.wait(20)
        wipe(city)
        done = bring_back(city, made)
        assert done.rows == made.rows
        assert done.waiting > 0
        assert 400 <= city.rows() <= made.rows
        assert not city.difference(), "a counter was cut at another moment than its facts"
        assert tables.diff(city.settings) == []
        sink = city.sink(instance=None)
    enough.set()
    feeding.join()
    city.wait_for_rows()
    city.assert_exact()


def test_a_killed_sinks_block_in_doubt_is_not_cut(
    city: City,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    city.produce(1_000)
    city.sink(failpoint="inserted:3:kill").wait(60)
    with monkeypatch.context() as patched:
        patched.setattr("deploy.backup.SETTLE_S", 0.5)
        with pytest.raises(QuanyuError, match="the sink has a block of report_outcomes in doubt"):
            back_up(city)
    city.sink()
    city.wait_for_rows()
    assert back_up(city).rows > 0
    left = city.client.query(
        "SELECT name FROM system.databases WHERE endsWith(name, '_backup')"
    ).result_rows
    assert not left, "what it linked its parts into is gone"
    assert not list(city.settings.home.glob("backups/*-restore"))
    city.produce(100)
    city.wait_for_rows()
    city.assert_exact()


@pytest.fixture
def kept(city: City, tmp_path: Path) -> Made:  # noqa: F811
    """A backup of 600 records, whose sink has ended."""
    city.produce(600)
    sink = city.sink(instance=None)
    city.wait_for_rows()
    sink.terminate()
    assert sink.wait(10) == 0
    retention(city.settings, apply=True)
    return back_up(city, tmp_path / "kept")


def test_rows_that_are_there_are_replaced_only_by_the_word(city: City, kept: Made) -> None:  # noqa: F811
    with pytest.raises(QuanyuError, match=r"has rows \(outcome_counts\).*--replace"):
        bring_back(city, kept)
    city.client.command(f"ALTER TABLE {city.table} DELETE WHERE 1 SETTINGS mutations_sync = 2")
    bring_back(city, kept, replace=True)
    assert city.rows() == 600
    assert retention(city.settings) == [], "what tables kept is kept on"
    city.produce(50)
    city.sink()
    city.wait_for_rows()
    city.assert_exact()


def test_a_running_sink_keeps_its_offsets_and_the_rows_stay(
    city: City,  # noqa: F811
    kept: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    city.sink(instance=None)
    city.produce(50)
    city.wait_for_rows()
    monkeypatch.setattr("deploy.backup.GROUP_EMPTY_S", 3.0)
    with pytest.raises(QuanyuError, match="stop the sink"):
        bring_back(city, kept, replace=True)
    city.assert_exact()


def test_what_kafka_no_longer_holds_is_said_by_offset_and_lost_only_by_the_word(
    city: City,  # noqa: F811
    kept: Made,
) -> None:
    city.produce(400)
    admin = AdminClient(admin_config(city.settings))
    deleted = admin.delete_records([TopicPartition(city.topic, 0, -1)])
    low = next(iter(deleted.values())).result(30).low_watermark
    wipe(city)
    lost = rf"RECORDS WOULD BE LOST(.|\n)*{city.topic}/0: offsets \d+ to {low - 1} are deleted"
    with pytest.raises(QuanyuError, match=lost):
        bring_back(city, kept)
    done = bring_back(city, kept, accept_loss=True)
    assert len(done.lost) == 1
    assert done.waiting > 0
    city.sink()
    held = city.client.query(f"SELECT count() FROM {city.table} WHERE _partition = 1").result_rows[
        0
    ][0]
    # The other partition lost nothing.
    eventually(lambda: city.rows() > 600)
    assert held <= city.rows()


def test_a_topic_made_anew_is_not_taken_for_the_former(
    city: City,  # noqa: F811
    kept: Made,
    fresh: Fresh,
) -> None:
    admin = AdminClient(admin_config(city.settings))
    admin.delete_topics([city.topic])[city.topic].result(30)

    def made() -> bool:
        with contextlib.suppress(Exception):
            fresh.create_topic(city.topic, 2)
            return True
        return False

    eventually(made)
    city.produce(1_000)
    wipe(city)
    with pytest.raises(QuanyuError, match=f"{city.topic}: was made anew"):
        bring_back(city, kept)


def _cut_short(folder: Path) -> str:
    path = max(folder.glob("data/**/*.bin"), key=lambda p: p.stat().st_size)
    path.write_bytes(path.read_bytes()[:-1])
    return f"{path.name}: is not as it was written"


def _flip(folder: Path) -> str:
    path = max(folder.glob("data/**/*.bin"), key=lambda p: p.stat().st_size)
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    return f"{path.name}: is not as it was written"


def _remove(folder: Path) -> str:
    next(folder.glob("data/**/checksums.txt")).unlink()
    return "checksums.txt: is missing"


def _add(folder: Path) -> str:
    (folder / "data" / "more").write_text("x")
    return "more: is no file of this backup"


def _other_offset(folder: Path) -> str:
    path = folder / MANIFEST
    document = json.loads(path.read_text(encoding="utf-8"))
    document["positions"][0]["next"] += 1
    path.write_text(json.dumps(document))
    return "manifest.json: damaged or changed by hand"


def _half(folder: Path) -> str:
    path = folder / MANIFEST
    path.write_text(path.read_text(encoding="utf-8")[:100])
    return "manifest.json: .*use another backup"


def _none(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return "no whole backup"


def test_a_damaged_backup_is_refused_by_the_files_name_before_anything_is_touched(
    city: City,  # noqa: F811
    kept: Made,
    tmp_path: Path,
) -> None:
    damages: list[Callable[[Path], str]] = [
        _cut_short, _flip, _remove, _add, _other_offset, _half, _none,
    ]  # fmt: skip
    for damage in damages:
        folder = tmp_path / damage.__name__
        shutil.copytree(kept.folder, folder)
        said = damage(folder)
        with pytest.raises(QuanyuError, match=said):
            restore(city.settings, folder, group=city.group, replace=True, say=lambda _: None)
    city.assert_exact()


def test_a_backup_of_newer_tables_is_refused_and_one_of_older_tables_is_brought_forward(
    city: City,  # noqa: F811
    kept: Made,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    known = tables.load_migrations()
    wipe(city)
    with monkeypatch.context() as patched:
        patched.setattr(tables, "load_migrations", lambda: known[:-1])
        with pytest.raises(QuanyuError, match=f"{known[-1].name}, which this version of quanyu"):
            bring_back(city, kept)
    text = "ALTER TABLE {local:report_outcomes} {on_cluster} ADD COLUMN IF NOT EXISTS mood String;"
    newer = tables.Migration(len(known) + 1, "9999_mood", text, "x")
    monkeypatch.setattr(tables, "load_migrations", lambda: [*known, newer])
    bring_back(city, kept)
    assert tables.diff(city.settings) == []
    assert city.rows() == 600


def test_a_client_names_no_other_place_for_a_backup(clickhouse: Client) -> None:
    for statement in (
        "BACKUP DATABASE `default` TO File('/tmp/x')",
        "BACKUP DATABASE `default` TO Disk('backups', '../x/data')",
        "BACKUP DATABASE `default` TO Disk('default', 'x/data')",
        "RESTORE DATABASE `a` AS `b` FROM Disk('backups', 'x/y/data')",
    ):
        with pytest.raises(ClickHouseError, match=r"(BACKUP|RESTORE) is not allowed"):
            clickhouse.command(statement)
