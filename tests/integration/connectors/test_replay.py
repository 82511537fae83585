"""A file through its channel on a real broker: every entry once, whatever happens on the way."""

import csv
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from connectors import replay as module
from connectors.replay import replay
from deploy.local.parts import child_environment
from schemas.errors import QuanyuError
from schemas.settings import Settings
from tests.conftest import Stack
from tests.integration.connectors.conftest import Log

pytestmark = pytest.mark.integration

DATA = Path(__file__).parents[4] / "shared" / "data"
HOTLINE = "hotline12345"


@pytest.fixture
def home(broker: Stack, tmp_path: Path) -> Settings:
    """The broker's settings with positions of the test's own."""
    return broker.settings.model_copy(update={"home": tmp_path})


@pytest.fixture
def log(broker: Stack) -> Iterator[Log]:
    made = Log(broker.settings, HOTLINE)
    yield made
    made.close()


def write(path: Path, count: int, long: str = "") -> Path:
    with path.open("w", encoding="utf-8", newline="") as out:
        rows = csv.writer(out)
        rows.writerow(["留言编号", "留言主题", "留言详情"])
        rows.writerows([f"N{n}", "路灯不亮", long] for n in range(1, count + 1))
    return path


def ids(log: Log) -> list[str]:
    return [record["native_id"] for _, record in log.records()]


@pytest.mark.parametrize(
    ("file", "channel", "rows"),
    [
        ("zh_complaints/fujian3_hot_4326.csv", HOTLINE, 4326),
        ("chicago311/chicago_311_data.csv", "chicago311", 5000),
    ],
)
def test_a_real_file_is_published_whole_and_a_second_time_anew(
    broker: Stack, home: Settings, file: str, channel: str, rows: int
) -> None:
    path = DATA / file
    if not path.exists():
        pytest.skip(f"{file}: the outside data is not beside the project")
    log = Log(broker.settings, channel)
    with path.open(encoding="utf-8-sig", newline="") as handle:
        expected = list(csv.DictReader(handle))
    for _ in range(2):
        result = replay(home, path, channel)
        assert (result.rows, result.published, result.defects) == (rows, rows, 0)
        found = [record for _, record in log.records()]
        native = [json.loads(record["payload"]) for record in found]
        assert sorted(map(json.dumps, native)) == sorted(map(json.dumps, expected))
        assert {r["connector"].rpartition(":")[2] for r in found} == {
            str(n) for n in range(1, rows + 1)
        }
    log.close()


def test_equal_ids_meet_in_one_partition_however_they_are_spelled(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text("留言编号,留言主题\nＡ１,x\n A1 ,y\nA1,z\n", encoding="utf-8")
    result = replay(home, path, HOTLINE)
    assert len(result.offsets) == 1
    assert {key for key, _ in log.records()} == {b"A1"}


def test_every_bad_entry_is_published_with_its_defect_and_its_bytes(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(
        "留言编号,留言主题,修订号\n1,好,0\n,无号,0\n3,版本,x\n4,少\n".encode()
        + b"5,\xff\xff,0\n"
        + '6,"未闭合,0\n7,好,2\n'.encode()
    )
    result = replay(home, path, HOTLINE)
    assert (result.rows, result.published, result.defects) == (7, 7, 4)
    found = sorted((record for _, record in log.records()), key=lambda r: r["connector"])
    assert [(r["native_id"], [d.partition(":")[0] for d in r["defects"]]) for r in found] == [
        ("1", []),
        (None, []),
        ("3", ["revision"]),
        (None, ["malformed"]),
        (None, ["encoding"]),
        (None, ["malformed"]),
        ("7", []),
    ]
    assert [r["payload"] for r in found[3:6]] == [
        "4,少".encode(),
        b"5,\xff\xff,0",
        '6,"未闭合,0'.encode(),
    ]
    assert [r["revision"] for r in found] == [0, 0, 0, 0, 0, 0, 2]


def test_an_entry_above_the_brokers_limit_stops_none_of_the_others(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    # Five megabytes of quotation marks are ten as JSON.
    path = write(tmp_path / "a.csv", 3)
    with path.open("a", encoding="utf-8", newline="") as out:
        csv.writer(out).writerows([["BIG", "x", '"' * 5_000_000], ["N4", "路灯不亮", ""]])
    result = replay(home, path, HOTLINE)
    assert (result.published, result.defects) == (5, 1)
    found = {r["connector"].rpartition(":")[2]: r for _, r in log.records()}
    assert [found[n]["native_id"] for n in "12345"] == ["N1", "N2", "N3", None, "N4"]
    assert "limit" in str(found["4"]["defects"])


def test_a_killed_replay_goes_on_after_what_was_confirmed(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    path = write(tmp_path / "a.csv", 400)
    # The child publishes 100 at a time and is killed, as hard as can be, after the second hundred.
    script = (
        "import os, signal, sys\n"
        "from pathlib import Path\n"
        "from connectors import replay\n"
        "from schemas.settings import load_settings\n"
        "replay.CHUNK = 100\n"
        "done = 0\n"
        "def progress(n):\n"
        "    global done\n"
        "    done += n\n"
        "    if done == 200: os.kill(os.getpid(), signal.SIGKILL)\n"
        "replay.replay(load_settings(), Path(sys.argv[1]), sys.argv[2], progress=progress)\n"
    )
    environment = child_environment(home, {}) | {"QUANYU_HOME": str(home.home)}
    killed = subprocess.run(
        [sys.executable, "-c", script, str(path), HOTLINE], env=environment, capture_output=True
    )
    assert killed.returncode == -9, killed.stderr.decode()
    assert len(ids(log)) == 200
    result = replay(home, path, HOTLINE)
    assert (result.resumed_at, result.rows, result.published) == (200, 400, 200)
    assert sorted(ids(log)) == sorted(f"N{n}" for n in range(201, 401))
    assert not list((home.home / "replay").iterdir())
    assert replay(home, path, HOTLINE).resumed_at == 0


def test_while_the_broker_is_away_no_position_moves_and_the_file_is_sent_after_all(
    broker: Stack, home: Settings, log: Log, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path / "a.csv", 30)
    broker.processes["kafka"].kill()
    broker.processes["kafka"].wait()
    try:
        with monkeypatch.context() as impatient:
            impatient.setattr(module, "PATIENCE_S", 1.0)
            impatient.setattr("connectors.publish.CONFIRM_TIMEOUT_S", 2.0)
            with pytest.raises(QuanyuError, match="Kafka does not confirm"):
                replay(home, path, HOTLINE)
        assert not (home.home / "replay").exists()
    finally:
        broker.start_kafka()
    assert replay(home, path, HOTLINE).published == 30
    assert set(ids(log)) == {f"N{n}" for n in range(1, 31)}


def test_the_rhythm_of_what_happened_is_kept_when_asked_for(
    home: Settings, log: Log, tmp_path: Path
) -> None:
    path = tmp_path / "a.csv"
    path.write_text(
        "留言编号,留言主题,留言时间\n1,x,2026/3/1 8:00:00\n2,x,2026/3/1 8:01:00\n", encoding="utf-8"
    )
    replay(home, path, HOTLINE, speed=60)
    first, second = sorted(r["received_at"] for _, r in log.records())
    assert second - first >= 900


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none.csv", "--channel", HOTLINE], "no such file"),
        (["a.csv", "--channel", "nobody"], "known: chicago311"),
        (["a.txt", "--channel", HOTLINE], "is not one of"),
        (["a.csv", "--channel", HOTLINE, "--speed", "fast"], "--speed"),
        (["broken.xlsx", "--channel", HOTLINE], "not a readable .xlsx"),
    ],
)
def test_a_mistake_of_the_user_is_one_sentence_and_exit_2(
    home: Settings, tmp_path: Path, arguments: list[str], words: str
) -> None:
    write(tmp_path / "a.csv", 1)
    write(tmp_path / "a.txt", 1)
    (tmp_path / "broken.xlsx").write_bytes(b"PK\x03\x04")
    done = subprocess.run(
        [sys.executable, "-m", "deploy.cli", "replay", *arguments],
        cwd=tmp_path,
        env=child_environment(home, {})
        | {"QUANYU_HOME": str(home.home), "PYTHONPATH": os.fspath(Path(__file__).parents[3])},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 2, done.stderr
    assert words in done.stderr
    assert "Traceback" not in done.stderr
