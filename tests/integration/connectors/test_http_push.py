"""Over a socket, with a real broker behind: 202 is a promise, anything else promises nothing."""

import json
import signal
import socket
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
import uvicorn
from fastapi import FastAPI

from connectors import http_push, publish
from connectors.http_push import BODY_LIMIT, router
from connectors.publish import Publisher
from connectors.signature import sign
from schemas.ids import report_id
from tests.conftest import Stack, eventually
from tests.integration.connectors.conftest import Log

pytestmark = pytest.mark.integration

CHANNEL = "photo_app"
KEY = "k" * 32
PATH = f"/channels/{CHANNEL}/reports"


@pytest.fixture
def log(broker: Stack) -> Iterator[Log]:
    made = Log(broker.settings, CHANNEL)
    yield made
    made.close()


@pytest.fixture
def sender(
    broker: Stack, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[httpx.Client]:
    """A client of a server of its own."""
    monkeypatch.setattr(publish, "CONFIRM_TIMEOUT_S", 3.0)
    settings = broker.settings.model_copy(update={"home": tmp_path})
    settings.keys_path.write_text(
        json.dumps(dict.fromkeys((CHANNEL, "police110", "online_window"), KEY)), encoding="utf-8"
    )
    publisher = Publisher(settings)
    app = FastAPI()
    app.include_router(router(settings, publisher))
    server = uvicorn.Server(uvicorn.Config(app, log_level="warning"))
    listening = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]})
    thread.start()
    url = f"http://127.0.0.1:{listening.getsockname()[1]}"
    with httpx.Client(base_url=url, headers={"X-API-Key": KEY}, timeout=60) as client:
        yield client
    server.should_exit = True
    thread.join(30)
    publisher.close()


def reports(*numbers: int) -> list[dict[str, Any]]:
    return [{"id": f"H{n}", "title": "井盖缺失", "district": "金水区"} for n in numbers]


def held(log: Log) -> list[str]:
    return [record["native_id"] for _, record in log.records()]


def test_what_is_answered_202_is_on_the_broker_under_the_ids_told(
    sender: httpx.Client, log: Log
) -> None:
    answer = sender.post(PATH, json=reports(1, 2, 3))
    assert (answer.status_code, answer.json()["accepted"]) == (202, 3)
    found = log.records()
    assert answer.json()["reports"] == [
        report_id(CHANNEL, native, 0) for native in ("H1", "H2", "H3")
    ]
    assert sorted(record["native_id"] for _, record in found) == ["H1", "H2", "H3"]
    assert all(record["received_at"] > 1_700_000_000_000 for _, record in found)


def test_senders_at_the_same_time_get_each_report_in_exactly_once(
    sender: httpx.Client, log: Log
) -> None:
    def send(batch: int) -> int:
        return sender.post(PATH, json=reports(*range(batch * 50, batch * 50 + 50))).status_code

    with ThreadPoolExecutor(16) as pool:
        assert set(pool.map(send, range(60))) == {202}
    assert sorted(held(log)) == sorted(f"H{n}" for n in range(3000))


def test_a_batch_with_one_bad_report_leaves_none_of_it_on_the_broker(
    sender: httpx.Client, log: Log
) -> None:
    answer = sender.post(PATH, json=[*reports(1, 2), {"title": "no id"}, *reports(4)])
    assert (answer.status_code, answer.json()["index"], answer.json()["field"]) == (400, 2, "id")
    assert held(log) == []


def test_a_body_without_a_length_is_cut_off_at_the_limit(sender: httpx.Client, log: Log) -> None:
    sent = 0

    def endless() -> Iterator[bytes]:
        nonlocal sent
        while sent < 20 * BODY_LIMIT:
            sent += 65_536
            yield b" " * 65_536

    try:
        status = sender.post(
            PATH, content=endless(), headers={"Content-Type": "application/json"}
        ).status_code
    except httpx.WriteError:
        status = 413  # the server had answered and hung up before everything was sent
    assert status == 413
    assert held(log) == []
    assert sender.post(PATH, json=reports(9)).status_code == 202


def test_a_sender_that_dribbles_is_cut_off_and_holds_up_nobody(
    sender: httpx.Client, log: Log, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(http_push, "BODY_S", 1.0)
    address = (sender.base_url.host, sender.base_url.port or 0)
    slow = [socket.create_connection(address) for _ in range(50)]
    for line in slow:
        line.settimeout(30)
        line.sendall(
            f"POST {PATH} HTTP/1.1\r\nHost: x\r\nX-API-Key: {KEY}\r\n"
            "Content-Type: application/json\r\nContent-Length: 100000\r\n\r\n[".encode()
        )
    assert sender.post(PATH, json=reports(1)).status_code == 202
    for line in slow:
        answer = b""
        while part := line.recv(65_536):  # until the server hangs up
            answer += part
        assert answer.startswith(b"HTTP/1.1 408 ")
        assert b"slow_body" in answer
        line.close()
    assert held(log) == ["H1"]


def test_a_body_that_arrives_in_crumbs_but_in_time_is_taken(sender: httpx.Client, log: Log) -> None:
    body = json.dumps(reports(1)).encode()

    def crumbs() -> Iterator[bytes]:
        for byte in body:
            yield bytes([byte])

    answer = sender.post(PATH, content=crumbs(), headers={"Content-Type": "application/json"})
    assert answer.status_code == 202
    assert held(log) == ["H1"]


def test_one_signed_request_sent_at_once_by_many_is_taken_once(
    broker: Stack, sender: httpx.Client
) -> None:
    log = Log(broker.settings, "police110")
    body = json.dumps({"alarm_no": "A1", "content": "占道"}).encode()
    headers = sign(KEY, int(time.time()), body) | {"Content-Type": "application/json"}

    def send(_: int) -> tuple[int, str | None]:
        answer = sender.post("/channels/police110/reports", content=body, headers=headers)
        return answer.status_code, answer.json().get("reason")

    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(send, range(40)))
    assert answers.count((202, None)) == 1
    assert set(answers) <= {(202, None), (401, "replayed"), (429, "under_way")}
    assert held(log) == ["A1"]
    log.close()


def test_a_signed_request_that_the_broker_did_not_confirm_may_be_sent_again(
    broker: Stack, sender: httpx.Client
) -> None:
    log = Log(broker.settings, "police110")
    body = json.dumps({"alarm_no": "A2", "content": "占道"}).encode()
    headers = sign(KEY, int(time.time()), body)

    def send() -> int:
        return sender.post("/channels/police110/reports", content=body, headers=headers).status_code

    broker.processes["kafka"].send_signal(signal.SIGSTOP)
    try:
        assert send() == 429
    finally:
        broker.processes["kafka"].send_signal(signal.SIGCONT)
    eventually(lambda: send() == 202)
    assert set(held(log)) == {"A2"}
    log.close()


def test_a_form_with_photos_is_on_the_broker_and_its_files_on_the_disk(
    broker: Stack, sender: httpx.Client, tmp_path: Path
) -> None:
    log = Log(broker.settings, "online_window")
    photo = bytes(range(256)) * 12_000
    answer = sender.post(
        "/channels/online_window/reports",
        data={"accept_no": "W1", "subject": "路灯不亮"},
        files=[("attachments", ("灯.jpg", photo)), ("attachments", ("灯2.jpg", b"small"))],
    )
    assert answer.status_code == 202
    ((_, record),) = log.records()
    kept = [tmp_path / "media" / m[7:9] / m.removeprefix("sha256:") for m in record["media"]]
    assert [path.read_bytes() for path in kept] == [photo, b"small"]
    log.close()


def test_a_broker_that_stands_still_gives_429_and_when_to_come_again(
    broker: Stack, sender: httpx.Client, log: Log
) -> None:
    assert sender.post(PATH, json=reports(1)).status_code == 202
    broker.processes["kafka"].send_signal(signal.SIGSTOP)
    try:
        answer = sender.post(PATH, json=reports(2))
    finally:
        broker.processes["kafka"].send_signal(signal.SIGCONT)
    assert answer.status_code == 429
    assert int(answer.headers["Retry-After"]) > 0
    assert "reports" not in answer.json()
    eventually(lambda: sender.post(PATH, json=reports(2)).status_code == 202)
    assert set(held(log)) == {"H1", "H2"}


def test_what_was_answered_202_outlives_the_broker_that_is_killed(
    broker: Stack, sender: httpx.Client, log: Log
) -> None:
    promised: set[str] = set()
    refused = 0
    stop = threading.Event()

    def load() -> None:
        nonlocal refused
        number = 0
        while not stop.is_set():
            batch = range(number, number + 20)
            # As a real sender does: the same again until it is confirmed.
            if sender.post(PATH, json=reports(*batch)).status_code == 202:
                promised.update(f"H{n}" for n in batch)
                number += 20
            else:
                refused += 1

    def reached(promises: int = 0, refusals: int = 0) -> None:
        eventually(lambda: len(promised) >= promises and refused >= refusals)

    loading = threading.Thread(target=load)
    loading.start()
    try:
        for _ in range(2):
            reached(promises=len(promised) + 200)
            broker.processes["kafka"].kill()
            broker.processes["kafka"].wait()
            reached(refusals=refused + 1)
            broker.start_kafka()
        reached(promises=len(promised) + 200)
    finally:
        stop.set()
        loading.join(60)
    assert promised <= set(held(log))
