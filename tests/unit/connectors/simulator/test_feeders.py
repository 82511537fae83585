"""A feeder says that a report was accepted when it was, and what it repeats has the same ids."""

import hashlib
import json
import sqlite3
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest

from connectors.files import read_entries
from connectors.forms import read_form
from connectors.signature import TIMESTAMP_HEADER, sign
from connectors.simulator import Report, Simulation, load_numbers
from connectors.simulator.feeders import (
    FORMS,
    FileFeeder,
    HttpFeeder,
    NotAccepted,
    SqlFeeder,
    feeder,
)
from schemas.channels import load_channel
from schemas.city import CityPack
from schemas.errors import QuanyuError
from schemas.settings import Settings

START_MS = 1_772_528_400_000


@pytest.fixture(scope="module")
def by_channel(city: CityPack) -> dict[str, list[Report]]:
    day = load_numbers().scenario("day")
    found: dict[str, list[Report]] = {}
    run = Simulation(city, day, seed=5, rate=200.0, start_ms=START_MS, duration=10.0)
    for report in run.reports():
        found.setdefault(report.channel, []).append(report)
    return found


class Server(BaseHTTPRequestHandler):
    """Answers what the test says, in turn, and keeps what it was sent."""

    answers: ClassVar[list[int]] = []
    requests: ClassVar[list[tuple[str, dict[str, str], bytes]]] = []

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self.requests.append((self.path, dict(self.headers), body))
        self.send_response(self.answers.pop(0) if self.answers else 202)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: Any) -> None:
        """Nothing."""


@pytest.fixture
def gateway(tmp_path: Path) -> Iterator[Settings]:
    """Settings of a home with keys, whose gateway is the server above."""
    Server.answers, Server.requests = [], []
    server = HTTPServer(("127.0.0.1", 0), Server)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    settings = Settings(home=tmp_path, port=server.server_port)
    settings.keys_path.write_text(
        '{"photo_app": ["new", "old"], "police110": "p", "online_window": "w"}'
    )
    yield settings
    server.shutdown()
    thread.join()
    server.server_close()


def sent_ids(field: str) -> list[list[str]]:
    return [[native[field] for native in json.loads(body)] for _, _, body in Server.requests]


def test_what_is_not_answered_202_is_not_accepted_and_goes_again_with_the_same_ids(
    gateway: Settings, by_channel: dict[str, list[Report]]
) -> None:
    reports = by_channel["photo_app"][:50]
    sender = HttpFeeder(gateway, load_channel("photo_app"))
    for status in (503, 429, 408):
        Server.answers = [status]
        with pytest.raises(NotAccepted, match=str(status)):
            list(sender.deliver(reports))
    assert list(sender.deliver(reports)) == [reports]
    assert sent_ids("id") == [[r.native_id for r in reports]] * 4
    assert Server.requests[0][1]["X-API-Key"] == "new"


def test_what_no_repetition_heals_is_a_sentence(
    gateway: Settings, by_channel: dict[str, list[Report]]
) -> None:
    Server.answers = [401]
    with pytest.raises(QuanyuError, match="photo_app: refused: 401"):
        list(HttpFeeder(gateway, load_channel("photo_app")).deliver(by_channel["photo_app"][:1]))
    with pytest.raises(QuanyuError, match="quanyu up"):
        HttpFeeder(gateway, load_channel("grid_patrol"))


def test_a_webhook_is_signed_over_the_bytes_that_are_sent(
    gateway: Settings, by_channel: dict[str, list[Report]]
) -> None:
    list(HttpFeeder(gateway, load_channel("police110")).deliver(by_channel["police110"][:3]))
    ((path, headers, body),) = Server.requests
    assert path == "/channels/police110/reports"
    proof = sign("p", int(headers[TIMESTAMP_HEADER]), body)
    assert proof.items() <= headers.items()
    assert "X-API-Key" not in headers


def test_the_window_posts_forms_with_their_photographs_and_a_busy_one_the_rest_together(
    gateway: Settings, by_channel: dict[str, list[Report]]
) -> None:
    reports = by_channel["online_window"][: FORMS + 7]
    spec = load_channel("online_window")
    parts = list(HttpFeeder(gateway, spec).deliver(reports))
    assert [r for part in parts for r in part] == reports
    *forms, (_, _, together) = Server.requests
    assert len(forms) == FORMS
    for (_, headers, body), report in zip(forms, reports, strict=False):
        form = read_form(spec, body, headers["Content-Type"])
        assert form.native["accept_no"] == report.native_id
        # The same photograph has the same hash, however it is sent.
        assert [a["sha256"] for a in form.native.get("attachments", [])] == [
            a["sha256"] for a in report.native["attachments"]
        ]
        assert {hashlib.sha256(f).hexdigest() for f in report.files} == set(form.files)
    assert [n["accept_no"] for n in json.loads(together)] == [r.native_id for r in reports[FORMS:]]


def test_of_a_delivery_that_breaks_off_the_rest_is_left(
    gateway: Settings, by_channel: dict[str, list[Report]]
) -> None:
    Server.answers = [202, 202, 503]
    reports = by_channel["online_window"][:4]
    accepted: list[Report] = []
    delivery = HttpFeeder(gateway, load_channel("online_window")).deliver(reports)
    with pytest.raises(NotAccepted):
        accepted.extend(report for part in delivery for report in part)
    assert accepted == reports[:2]


def test_rows_are_inserted_once_though_a_commit_was_not_heard_of(
    by_channel: dict[str, list[Report]], tmp_path: Path
) -> None:
    reports = by_channel["hotline12345"][:300]
    path = tmp_path / "feeds" / "calls.db"
    sender = SqlFeeder(load_channel("hotline12345"), f"sqlite:///{path}", "Asia/Shanghai")
    list(sender.deliver(reports[:200]))
    list(sender.deliver(reports))  # the first 200 again
    sender.close()
    rows = (
        sqlite3.connect(path)
        .execute("SELECT order_num, updated_at, lng FROM work_orders")
        .fetchall()
    )
    assert sorted(row[0] for row in rows) == sorted(r.native_id for r in reports)
    assert all(row[1] for row in rows)
    native = {r.native_id: r.native for r in reports}
    assert all(row[2] == native[row[0]]["lng"] for row in rows)


def test_a_database_that_is_locked_is_tried_again(
    by_channel: dict[str, list[Report]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("connectors.simulator.feeders.TIMEOUT_S", 0.05)
    reports = by_channel["city_management"][:20]
    sender = SqlFeeder(
        load_channel("city_management"), f"sqlite:///{tmp_path}/c.db", "Asia/Shanghai"
    )
    list(sender.deliver(reports[:1]))
    other = sqlite3.connect(tmp_path / "c.db", isolation_level=None)
    other.execute("BEGIN EXCLUSIVE")
    with pytest.raises(NotAccepted, match="locked"):
        list(sender.deliver(reports[1:]))
    other.execute("ROLLBACK")
    assert list(sender.deliver(reports[1:])) == [reports[1:]]


@pytest.mark.parametrize("channel", ["mailbox", "uav"])
def test_files_come_whole_under_their_name_and_hold_every_report(
    channel: str, by_channel: dict[str, list[Report]], tmp_path: Path
) -> None:
    reports = by_channel[channel]
    folder = tmp_path / "drop"
    sender = FileFeeder(load_channel(channel), str(folder), "day-5-now")
    assert [r for part in sender.deliver(reports) for r in part] == reports
    files = sorted(folder.iterdir())
    groups = {r.group for r in reports}
    assert len(files) == len(groups)
    assert not any(path.name.endswith(".part") for path in files)
    entries = [entry for path in files for entry in read_entries(path)]
    assert len(entries) == len(reports)
    assert all(entry.fields is not None for entry in entries)


def test_a_folder_that_cannot_be_written_is_tried_again(
    by_channel: dict[str, list[Report]], tmp_path: Path
) -> None:
    folder = tmp_path / "drop"
    folder.write_text("in the way")
    with pytest.raises(NotAccepted, match="drop"):
        list(FileFeeder(load_channel("uav"), str(folder), "run").deliver(by_channel["uav"][:1]))


def test_a_channel_without_an_address_says_how_to_get_one(tmp_path: Path) -> None:
    settings = Settings(home=tmp_path)
    with pytest.raises(QuanyuError, match=r"mailbox has no address.*quanyu up"):
        feeder(settings, {}, "mailbox", zone="Asia/Shanghai", run="r")
