"""A folder of files: each is read once and whole, put away where it belongs, and nothing is deleted."""

import errno
import json
import os
import threading
import zipfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from connectors import file_drop
from connectors.file_drop import FileDrop, open_source
from connectors.files import XLSX_SMALL
from connectors.source import SourceError
from schemas.channels import ChannelSpec
from schemas.settings import Settings
from tests.conftest import eventually


class Drop:
    """A drop folder and those who read it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "drop"
        self.settings = Settings(home=folder / "home")
        self.opened: list[FileDrop] = []

    def open(self, **options: Any) -> FileDrop:
        spec = ChannelSpec.model_validate(
            {
                "name": "a_test",
                "title": "a test",
                "transports": {"file": {"settle_s": 0, "interval_s": 0.001} | options},
                "native_id": "id",
                "fields": {"title": "text"},
            }
        )
        self.opened.append(open_source(self.settings, spec, str(self.folder)))
        return self.opened[-1]

    def write(self, name: str, count: int, first: int = 0) -> Path:
        path = self.folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("id,text\n" + "".join(f"n{first + n},x\n" for n in range(count)))
        return path

    def names(self, folder: str = "") -> list[str]:
        return sorted(p.name for p in (self.folder / folder).iterdir() if p.is_file())

    def reason(self, name: str) -> str:
        return (self.folder / "failed" / f"{name}.reason.txt").read_text()


@pytest.fixture
def drop(tmp_path: Path) -> Iterator[Drop]:
    made = Drop(tmp_path)
    yield made
    for source in made.opened:
        source.close()


def take(source: FileDrop) -> list[str]:
    """Ids of everything that is there, confirmed; an entry that cannot be read is its defect."""
    found: list[str] = []
    idle = 0
    # On a slow machine the time of a read may end with a file that is put away, before the next is seen.
    while idle < 2:
        portion = source.read(0.03)
        if portion is None:
            idle += 1
            continue
        idle = 0
        assert len(portion.entries) <= file_drop.CHUNK
        found += [e.fields["id"] if e.fields else e.defect for e in portion.entries]
        source.confirm(portion)
    return found


def test_a_folder_is_made_and_its_files_are_read_oldest_first_and_put_away(drop: Drop) -> None:
    source = drop.open()
    assert drop.folder.is_dir()
    os.utime(drop.write("b.csv", 2), (1_000, 1_000))
    os.utime(drop.write("a.CSV", 2, 10), (2_000, 2_000))
    portion = source.read(1.0)
    assert portion is not None
    assert portion.origin == "b.csv"
    assert [entry.number for entry in portion.entries] == [1, 2]
    assert take(source) == ["n0", "n1", "n10", "n11"]
    assert drop.names("done") == ["a.CSV", "b.csv"]
    assert drop.names() == []
    assert not any((drop.folder / ".claimed").iterdir())
    assert not any((drop.settings.home / "positions" / "a_test.file").iterdir())


def test_a_name_that_is_taken_gets_a_number_and_both_files_stay(drop: Drop) -> None:
    source = drop.open()
    for first in (0, 10, 20):
        drop.write("day.csv", 1, first)
        assert take(source) == [f"n{first}"]
    assert drop.names("done") == ["day (2).csv", "day (3).csv", "day.csv"]
    assert (drop.folder / "done" / "day.csv").read_text() == "id,text\nn0,x\n"


def test_hidden_unfinished_and_other_files_are_left_alone(drop: Drop) -> None:
    source = drop.open(patterns=["*"])
    names = [".a.csv", "a.csv.part", "a.csv.TMP"]
    for name in names:
        drop.write(name, 1)
    assert take(source) == []
    assert drop.names() == sorted(names)
    other = drop.open(patterns=["*.csv"])
    drop.write("a.pdf", 1)
    assert take(other) == []
    assert "a.pdf" in drop.names()


def test_a_file_that_still_changes_is_left_alone_until_it_rests(drop: Drop) -> None:
    source = drop.open(settle_s=0.4)
    path = drop.write("a.csv", 1)
    # An old time says nothing: some programs set it before they are done.
    os.utime(path, (1_000, 1_000))
    portion = None
    for n in range(1, 8):
        portion = portion or source.read(0.1)
        if portion is None:
            with path.open("a") as out:
                out.write(f"n{n},x\n")
    found = eventually(lambda: take(source))
    # However slow this machine is, each row is either read or its file's reason says that it is not.
    if not drop.names("failed"):
        assert found == [f"n{n}" for n in range(len(found))]
        assert len((drop.folder / "done" / "a.csv").read_text().splitlines()) == len(found) + 1


def test_a_file_that_grows_while_it_is_read_is_not_called_done(drop: Drop) -> None:
    source = drop.open()
    path = drop.write("a.csv", 3)
    with path.open("a") as late:
        portion = source.read(1.0)
        assert portion is not None
        late.write("n3,x\n")
        late.flush()
        source.confirm(portion)
        assert take(source) == []
    assert "went on being written" in drop.reason("a.csv")
    assert "the 3 entries before it were published" in drop.reason("a.csv")
    assert drop.names("done") == []


def test_a_file_that_vanishes_or_is_claimed_by_another_is_no_fault(drop: Drop) -> None:
    first, second = drop.open(), drop.open()
    drop.write("a.csv", 3)
    portion = first.read(1.0)
    assert portion is not None
    assert second.read(0.05) is None
    first.confirm(portion)
    assert take(first) == []
    assert take(second) == []


def test_what_was_not_confirmed_is_read_again_and_what_was_is_not(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_drop, "CHUNK", 10)
    drop.write("a.csv", 35)
    first = drop.open()
    for _ in range(2):
        portion = first.read(1.0)
        assert portion is not None
        first.confirm(portion)
    portion = first.read(1.0)
    assert portion is not None
    assert first.read(1.0) is portion
    first.close()
    assert take(drop.open()) == [f"n{n}" for n in range(20, 35)]
    assert drop.names("done") == ["a.csv"]


def test_a_new_file_of_the_name_of_one_that_was_left_is_another_file(drop: Drop) -> None:
    drop.write("a.csv", 3)
    first = drop.open()
    portion = first.read(1.0)
    assert portion is not None
    first.confirm(portion)
    first.close()
    drop.write("a.csv", 3, 10)
    assert take(drop.open()) == ["n10", "n11", "n12"]
    assert drop.names("done") == ["a (2).csv", "a.csv"]


def test_two_readers_share_a_folder_and_no_file_is_read_twice(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(file_drop, "CHUNK", 7)
    for n in range(40):
        drop.write(f"{n}.csv", 20, n * 100)
    found: list[list[str]] = [[], []]

    def work(mine: list[str], source: FileDrop) -> None:
        while len(drop.names("done")) < 40:
            mine += take(source)

    readers = [threading.Thread(target=work, args=(mine, drop.open())) for mine in found]
    for reader in readers:
        reader.start()
    for reader in readers:
        reader.join()
    assert Counter(found[0] + found[1]) == Counter(
        f"n{m * 100 + n}" for m in range(40) for n in range(20)
    )


def truncated(path: Path) -> None:
    import openpyxl

    book = openpyxl.Workbook()
    for row in (["id", "text"], *([f"n{n}", "x"] for n in range(3_000))):
        book.worksheets[0].append(row)
    book.save(path)
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members["xl/worksheets/sheet1.xml"] = members["xl/worksheets/sheet1.xml"][:-2_000]
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in members.items():
            archive.writestr(name, data)


def bomb(path: Path) -> None:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("xl/worksheets/sheet1.xml", b"0" * (XLSX_SMALL + 1))


@pytest.mark.parametrize(
    ("name", "data", "words"),
    [
        ("a.xlsx", b"PK\x03\x04 cut", "a.xlsx: not a readable .xlsx"),
        ("a.xlsx", bomb, "times its size, limit"),
        ("a.xlsx", truncated, "entries before it were published"),
        ("a.csv", b"", "a.csv:1: no header; the first line names the columns"),
        ("a.geojson", b'{"type": "FeatureCollection", "features": [', "a.geojson:1: not JSON"),
        ("a.pdf", b"%PDF", ".pdf is not one of"),
    ],
)
def test_a_file_that_cannot_be_read_is_put_aside_with_the_reason_and_the_next_is_read(
    drop: Drop, name: str, data: Any, words: str
) -> None:
    source = drop.open(patterns=["*"])
    if callable(data):
        data(drop.folder / name)
    else:
        (drop.folder / name).write_bytes(data)
    whole = (drop.folder / name).read_bytes()
    drop.write("z.csv", 1, 9_000)
    found = take(source)
    assert found[-1] == "n9000" or found[0] == "n9000"
    assert drop.names("failed") == [name, f"{name}.reason.txt"]
    assert (drop.folder / "failed" / name).read_bytes() == whole
    assert words in drop.reason(name)
    assert str(drop.folder) not in drop.reason(name)
    assert drop.names("done") == ["z.csv"]


def test_links_pipes_and_folders_are_put_aside_unread(drop: Drop, tmp_path: Path) -> None:
    source = drop.open()
    secret = tmp_path / "secret.csv"
    secret.write_text("id,text\nsecret,x\n")
    (drop.folder / "link.csv").symlink_to(secret)
    (drop.folder / "loose.csv").symlink_to(tmp_path / "nowhere")
    os.mkfifo(drop.folder / "pipe.csv")
    (drop.folder / "folder.csv").mkdir()
    (drop.folder / "folder.csv" / "inner.csv").write_text("id,text\ninner,x\n")
    assert take(source) == []
    for name in ("link.csv", "loose.csv", "pipe.csv", "folder.csv"):
        assert "no plain file" in drop.reason(name)
    assert (drop.folder / "failed" / "folder.csv" / "inner.csv").exists()
    assert secret.exists()


def test_a_file_that_may_not_be_opened_holds_back_no_other(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = os.open

    def refused(path: Any, flags: int, mode: int = 0o777, **rest: Any) -> int:
        if Path(path).name == "a.csv" and ".claimed" in str(path):
            raise PermissionError(errno.EACCES, "Permission denied", str(path))
        return real(path, flags, mode, **rest)

    source = drop.open()
    drop.write("a.csv", 1)
    drop.write("b.csv", 1, 10)
    monkeypatch.setattr(os, "open", refused)
    assert take(source) == ["n10"]
    assert "a.csv cannot be opened: Permission denied" in drop.reason("a.csv")


def test_a_name_in_another_encoding_or_of_the_longest_kind_is_read(drop: Drop) -> None:
    source = drop.open()
    old = os.fsencode(drop.folder) + "/热线.csv".encode("gb18030")
    with open(old, "wb") as out:
        out.write(b"id,text\nn1,x\n")
    long = "关" * 83 + ".csv"
    drop.write(long, 1, 2)
    drop.write("好" * 83 + ".xlsx", 1)
    portion = source.read(1.0)
    assert portion is not None
    portion.origin.encode()
    assert sorted(take(source)) == ["n1", "n2"]
    assert long in drop.names("done")
    (failed,) = [name for name in drop.names("failed") if name.endswith(".xlsx")]
    assert failed == "好" * 83 + ".xlsx"


@pytest.mark.parametrize("at", ["rename", "reserve", "reason"])
def test_a_full_disk_in_the_folder_is_said_and_nothing_is_lost(
    drop: Drop, monkeypatch: pytest.MonkeyPatch, at: str
) -> None:
    full = OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
    source = drop.open()
    if at == "reason":
        (drop.folder / "a.csv").write_bytes(b"")
    else:
        drop.write("a.csv", 3)

    def fails(*_: Any, **__: Any) -> Any:
        raise full

    with monkeypatch.context() as patch:
        if at == "rename":
            patch.setattr(Path, "rename", fails)
        elif at == "reason":
            patch.setattr(Path, "write_text", fails)
        else:
            patch.setattr(file_drop, "_reserve", fails)
        for _ in range(3):
            with pytest.raises(
                SourceError, match=r"No space left on device.*nothing is lost"
            ) as caught:
                take(source)
            assert caught.value.reason == "disk_full"
            source.close()
            source = drop.open()
    found = take(source)
    if at == "reason":
        assert drop.names("failed") == ["a.csv", "a.csv.reason.txt"]
    else:
        assert found == (["n0", "n1", "n2"] if at == "rename" else [])
        assert drop.names("done") == ["a.csv"]


def test_a_folder_that_cannot_be_made_or_is_gone_is_said(drop: Drop, tmp_path: Path) -> None:
    source = drop.open()
    drop.folder.rename(tmp_path / "away")
    with pytest.raises(SourceError) as caught:
        take(source)
    assert caught.value.reason == "unreachable"
    drop.folder.write_text("a file where the folder should be")
    with pytest.raises(SourceError, match="cannot be made"):
        drop.open()


def test_a_full_disk_under_the_position_repeats_the_rows_and_loses_none(
    drop: Drop, monkeypatch: pytest.MonkeyPatch
) -> None:
    drop.write("a.csv", 2)
    source = drop.open()
    portion = source.read(1.0)
    assert portion is not None

    def full(*_: Any) -> None:
        raise OSError(errno.ENOSPC, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("connectors.position.Position.write", full)
        with pytest.raises(SourceError, match="free space"):
            source.confirm(portion)
    source.close()
    assert take(drop.open()) == ["n0", "n1"]


def test_long_entries_make_short_portions(drop: Drop, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_drop, "CHUNK_SIZE", 10_000)
    source = drop.open(patterns=["*.jsonl"])
    (drop.folder / "a.jsonl").write_text(
        "".join(json.dumps({"id": f"n{n}", "deep": {"a": ["x" * 3_000]}}) + "\n" for n in range(9))
    )
    portion = source.read(1.0)
    assert portion is not None
    assert len(portion.entries) == 4
    assert len(take(source)) == 9


def test_reading_waits_no_longer_than_it_may(drop: Drop) -> None:
    source = drop.open(interval_s=3600.0)
    assert source.read(0.0) is None
    drop.write("a.csv", 1)
    assert source.read(0.01) is None
    assert eventually(lambda: take(drop.open())) == ["n0"]
