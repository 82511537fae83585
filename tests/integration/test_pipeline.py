"""A whole stack, as `quanyu up` starts it: what goes in through the channels comes out exactly once."""

import csv
import json
import random
import re
import time
from collections.abc import Iterator
from datetime import UTC
from pathlib import Path
from typing import Any

import clickhouse_connect
import httpx
import psutil
import pytest
from confluent_kafka import Consumer, Message, Producer

from deploy.positions import Positions
from schemas.codec import default_codec
from schemas.kafka import consumer_config, producer_config
from schemas.secrets import load_hash_key, trail_secret
from schemas.settings import load_settings
from schemas.texts import clean
from schemas.topics import load_topics, raw_topic
from streams.intake.privacy import mask
from tests.conftest import eventually
from tests.faults.harness import Stack, free_base_port

pytestmark = [pytest.mark.integration, pytest.mark.timeout(600)]

DATA = Path(__file__).parent.parent.parent.parent / "shared" / "data"


@pytest.fixture(scope="module")
def city(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Stack]:
    """A running stack of its own, for the tests of this file one after another."""
    home = tmp_path_factory.mktemp("city")
    with Stack(home, free_base_port(random.Random())).running() as stack:
        yield stack


def audited(city: Stack) -> dict[str, Any]:
    """The audit, which must be clean."""
    report = city.json("audit", "--timeout", "120", timeout=300)
    assert report["clean"], report
    return report


def channel(report: dict[str, Any], name: str) -> dict[str, int]:
    """Outcomes of one channel, and how many raw records it received."""
    for entry in report["channels"]:
        if entry["channel"] == name:
            return {"received": entry["received"], **entry["outcomes"]}
    return {"received": 0}


@pytest.mark.parametrize(
    ("file", "name", "rows"),
    [
        ("zh_complaints/fujian3_hot_4326.csv", "hotline12345", 4326),
        ("chicago311/chicago_311_data.csv", "chicago311", 5000),
    ],
)
def test_a_second_replay_of_a_real_file_adds_duplicates_and_changes_nothing_else(
    city: Stack, file: str, name: str, rows: int
) -> None:
    if not (DATA / file).exists():
        pytest.skip(f"{file}: the outside data is not beside the project")
    before = channel(audited(city), name)
    assert city.json("replay", str(DATA / file), "--channel", name)["published"] == rows
    first = audited(city)
    once = channel(first, name)
    assert once["received"] - before["received"] == rows
    assert sum(n for k, n in once.items() if k != "received") == once["received"]
    city.json("replay", str(DATA / file), "--channel", name)
    second = audited(city)
    twice = channel(second, name)
    assert twice["duplicate"] - once.get("duplicate", 0) == rows
    assert {k: v for k, v in twice.items() if k not in ("received", "duplicate")} == {
        k: v for k, v in once.items() if k not in ("received", "duplicate")
    }
    for number in ("reports", "events", "orders"):
        assert second["totals"][number] == first["totals"][number]


def test_every_bad_row_of_a_file_has_an_outcome_with_its_reason(
    city: Stack, tmp_path: Path
) -> None:
    good = {
        "留言编号": "G1",
        "留言主题": "路灯不亮",
        "留言时间": "2026/3/1 8:00:00",
        "区县": "金水区",
    }
    point = {"坐标系": "WGS84", "经度": "113.66123", "纬度": "34.78123"}
    rows: list[tuple[dict[str, str], str, str]] = [
        (good | point, "accepted", ""),
        (good | {"留言编号": ""}, "rejected", "missing_native_id"),
        (good | {"留言编号": "B1", "留言时间": "2026/2/30 8:00:00"}, "review", "impossible_date"),
        (good | {"留言编号": "B2", "留言详情": "长" * 1_700_000}, "rejected", "text_too_long"),
        (good | {"留言编号": "B3", "留言主题": "路灯\x00不亮"} | point, "accepted", ""),
        (good | {"留言编号": "B4", "经度": "0", "纬度": "0", "坐标系": "WGS84"}, "review", "null_island"),
        (good | {"留言编号": "B5", "经度": "121.47301", "纬度": "31.23001", "坐标系": "WGS84"},
         "review", "outside_city"),
        (good | point | {"留言编号": "B6", "坐标系": "MARS"}, "review", "unknown_crs"),
        (good | {"留言编号": "B7", "留言主题": "你好"} | point, "review", "class_unknown"),
    ]  # fmt: skip
    path = tmp_path / "bad.csv"
    columns = ["留言编号", "留言主题", "留言时间", "留言详情", "区县", "经度", "纬度", "坐标系"]
    with path.open("w", encoding="utf-8", newline="") as handle:
        writer = csv.DictWriter(handle, columns)
        writer.writeheader()
        writer.writerows(row for row, _, _ in rows)
    with path.open("ab") as raw:
        raw.write(b"B8,\xff\xfe\xff,2026/3/1 8:00:00,,,,,\n")
        raw.write(b"too,few,cells\n")
    expected = [(o, r) for _, o, r in rows] + [("rejected", "encoding"), ("rejected", "malformed")]
    assert city.json("replay", str(path), "--channel", "hotline12345")["published"] == len(expected)
    audited(city)
    client = clickhouse_connect.get_client(host="127.0.0.1", port=city.port + 1, database="quanyu")
    source = client.query(
        "SELECT source_partition, source_offset, outcome, reason FROM report_outcomes "
        "WHERE channel = 'hotline12345' ORDER BY decided_at DESC LIMIT {n:UInt32}",
        parameters={"n": len(expected)},
    ).result_rows
    assert sorted((outcome, reason) for _, _, outcome, reason in source) == sorted(expected)


def test_records_that_are_none_of_ours_go_to_the_dead_letters_and_stop_nothing(city: Stack) -> None:
    settings = load_settings(home=city.home)
    codec = default_codec(settings)
    before = audited(city)
    good = codec.encode(
        "RawReport",
        {"channel": "photo_app", "native_id": "DL-1", "received_at": int(time.time() * 1000), "payload": b"{}",
         "title": "金水区路灯不亮", "district": "金水区"},
    )  # fmt: skip
    producer = Producer(producer_config(settings))
    # As large as the raw topic takes: the dead letter is larger by its headers.
    largest = random.Random(4).randbytes(8 * 1024 * 1024 - 200)
    bad = [b"not avro", b"\x00\x00\x00\xff\xff?", good[:30], good + b"!", b"", None, largest]
    for value in (*bad, good):
        producer.produce(raw_topic("photo_app"), key=b"dl", value=value)
    assert producer.flush(30) == 0
    after = audited(city)
    now, then = channel(after, "photo_app"), channel(before, "photo_app")
    assert now["received"] - then["received"] == len(bad) + 1
    assert now["rejected"] - then.get("rejected", 0) == len(bad)
    assert now["accepted"] - then.get("accepted", 0) == 1
    consumer = Consumer(consumer_config(settings, "dead-letter-check"))
    consumer.subscribe([f"{raw_topic('photo_app')}.dlq"])
    letters: list[Message] = []
    while len(letters) < len(bad):
        message = consumer.poll(10)
        assert message is not None, "a dead letter is missing"
        letters.append(message)
    consumer.close()
    assert [letter.value() for letter in letters] == bad, "the bytes must be untouched"
    names = {header[0] for header in letters[0].headers() or []}
    assert {"__connect.errors.topic", "__connect.errors.exception.message"} <= names


def test_a_push_is_answered_202_and_is_then_in_the_city(city: Stack) -> None:
    keys = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))
    url = f"{city.url}/channels/photo_app/reports"
    key = {"X-API-Key": keys["photo_app"]}
    report = {
        "id": "P-1",
        "title": "井盖缺失",
        "district": "金水区",
        "location": {"lng": "", "lat": ""},
    }
    answer = httpx.post(url, json=report, headers=key)
    assert answer.status_code == 202, answer.text
    (identity,) = answer.json()["reports"]
    audited(city)
    client = clickhouse_connect.get_client(host="127.0.0.1", port=city.port + 1, database="quanyu")
    found = client.query(
        "SELECT outcome FROM report_outcomes WHERE report_id = {id:String}",
        parameters={"id": identity},
    ).result_rows
    assert found == [("accepted",)]
    assert httpx.post(url, json=report).status_code == 401
    assert (
        httpx.post(
            url, content=b"{", headers=key | {"Content-Type": "application/json"}
        ).status_code
        == 400
    )
    missing = httpx.post(url, json=[report, {"title": "x"}], headers=key)
    assert (missing.status_code, missing.json()["index"], missing.json()["field"]) == (400, 1, "id")
    assert httpx.post(url, content=b"[" + b" " * 7_000_000 + b"]", headers=key).status_code == 413


def test_a_push_too_big_for_the_next_topic_is_rejected_and_the_city_goes_on(city: Stack) -> None:
    keys = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))
    before = channel(audited(city), "photo_app")
    # Each cell is within the connector's limit; together, incompressible, they pass the broker's 1 MiB.
    chars = random.Random(3)
    big = ["".join(chr(chars.randrange(0x20000, 0x2A6D0)) for _ in range(99_000)) for _ in range(3)]
    report = {"id": "BIG-1", "title": "井盖缺失", "district": "金水区"}
    whole = report | {"description": big[0], "address": big[1], "photos": [big[2]]}
    for body in (whole, report | {"id": "BIG-2"}):
        answer = httpx.post(
            f"{city.url}/channels/photo_app/reports",
            json=body,
            headers={"X-API-Key": keys["photo_app"]},
            timeout=60,
        )
        assert answer.status_code == 202, answer.text
    after = channel(audited(city), "photo_app")
    assert after["rejected"] - before.get("rejected", 0) == 1
    assert after["accepted"] - before.get("accepted", 0) == 1


def test_the_tables_answer_a_plain_client_and_the_screen_agrees_with_them(city: Stack) -> None:
    audited(city)
    text = httpx.post(
        f"http://127.0.0.1:{city.port + 1}/", content="SELECT count() FROM quanyu.reports"
    ).text
    client = clickhouse_connect.get_client(host="127.0.0.1", port=city.port + 1)
    assert client.command("SELECT count() FROM quanyu.reports") == int(text)
    totals = httpx.get(f"{city.url}/api/queries/today_totals").json()["rows"][0]
    assert totals["accepted"] == int(text), "every report of this test was received today"
    outcomes = client.command("SELECT count() FROM quanyu.report_outcomes")
    assert totals["reports"] == outcomes
    wanted: dict[str, str | int] = {"limit": 1000, "outcome": "accepted"}
    rows = httpx.get(f"{city.url}/api/queries/reports_of_day", params=wanted).json()["rows"]
    assert len(rows) == min(1000, int(text))
    page = httpx.get(f"{city.url}/")
    assert "一屏观全域" in page.text
    assert "script-src 'self'" in page.headers["content-security-policy"]


def test_what_people_answer_merge_and_split_is_done_once_and_every_number_follows(
    city: Stack, tmp_path: Path
) -> None:
    keys = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))

    def report(name: str, title: str, **more: Any) -> str:
        body = {"id": name, "title": title, "district": "金水区", **more}
        answer = httpx.post(
            f"{city.url}/channels/photo_app/reports",
            json=body,
            headers={"X-API-Key": keys["photo_app"]},
        )
        assert answer.status_code == 202, answer.text
        return str(answer.json()["reports"][0])

    points = ({"lng": "113.66123", "lat": "34.78123"}, {"lng": "113.66523", "lat": "34.78623"})
    one, two = (
        report(f"D-{n}", "井盖缺失", location={**point, "crs": "WGS84"}, description=f"第{n}处")
        for n, point in enumerate(points)
    )
    lost = report("D-9", "你好", description="请看一下这里的情况")
    audited(city)
    key = city.json("people", "add", "desk-1", "--role", "centre")["key"]
    headers = {"X-API-Key": key}
    desk = httpx.Client(base_url=f"{city.url}/desk", headers=headers, timeout=60)
    client = clickhouse_connect.get_client(host="127.0.0.1", port=city.port + 1, database="quanyu")

    def event_of(identity: str) -> str:
        found = client.query(
            "SELECT argMax(event_id, (sequence, sign)) FROM event_links WHERE report_id = {id:String}",
            parameters={"id": identity},
        )
        return str(found.result_rows[0][0])

    def orders_of(event: str) -> list[str]:
        found = client.query(
            "SELECT argMax(state, version) FROM orders WHERE event_id = {id:String} GROUP BY order_id",
            parameters={"id": event},
        )
        return [state for (state,) in found.result_rows]

    def opened_today() -> tuple[int, int]:
        totals = httpx.get(f"{city.url}/api/queries/today_totals").json()["rows"][0]
        listed = httpx.get(f"{city.url}/api/queries/events_of_day", params={"limit": 1000}).json()
        assert totals["events"] == len(listed["rows"])
        return totals["events"], totals["linked"]

    # A report that waits is answered once.
    waiting = {row["report_id"]: row for row in desk.get("/reviews").json()["rows"]}
    assert waiting[lost]["text"] == "请看一下这里的情况"
    unsaid = desk.post(f"/reviews/{lost}", json={"action": "accept"})
    assert (unsaid.status_code, unsaid.json()["outcome"]) == (409, "refused"), unsaid.text
    said = {"action": "accept", "class_code": "0110", "grid_code": "410105"}
    answers = [
        desk.post(f"/reviews/{lost}", json=said, headers={"Idempotency-Key": "k1"}),
        desk.post(f"/reviews/{lost}", json=said, headers={"Idempotency-Key": "k1"}),
    ]
    assert answers[0].status_code == 200, answers[0].text
    assert answers[1].status_code == 404, "it waits no longer"
    audited(city)
    assert event_of(lost)

    # Merged, one event and one order are left; split, both are as they were.
    first, second = event_of(one), event_of(two)
    assert first != second
    before, orders = opened_today(), (orders_of(first), orders_of(second))
    merged = city.json("event", "merge", second, first, "--reason", "one matter")
    assert merged["outcome"] == "applied"
    audited(city)
    assert event_of(two) == first
    assert opened_today() == (before[0] - 1, before[1])
    assert (orders_of(first), orders_of(second)) == (orders[0], ["WITHDRAWN"])
    again = desk.post(f"/events/{second}/merge", json={"into": first})
    assert (again.status_code, again.json()["reason"]) == (409, "already_done")
    split = desk.post(f"/events/{first}/split", json={"report_ids": [two], "reason": "no, two"})
    assert split.status_code == 200, split.text
    audited(city)
    assert event_of(two) == second
    assert opened_today() == before
    assert (orders_of(first), orders_of(second)) == orders

    # Its citizen follows it by its secret, and sees that it went and came back.
    known = trail_secret(load_hash_key(load_settings(home=city.home)), two)
    trail = f"{city.url}/trail/{two}"
    followed = httpx.get(trail, headers={"X-Trail-Secret": known}).json()
    assert [s["what"] for s in followed["steps"]][:2] == ["received", "decided"]
    assert [s["what"] for s in followed["steps"]].count("moved") == 2
    assert followed["state"] == "DISPATCHED"
    assert httpx.get(trail, headers={"X-Trail-Secret": "x" * 16}).status_code == 404
    traced = city.json("trace", two)
    assert [link["sign"] for link in traced["links"]] == [1, -1, 1, -1, 1]
    assert [action["action"] for action in traced["actions"]] == ["merge", "merge", "split"]

    # Whose duty it is, and by which rule, is what its order says.
    told = city.json("duty", "explain", first)
    [given] = client.query(
        "SELECT unit_code, rule, due_at FROM orders WHERE event_id = {id:String} AND version = 1",
        parameters={"id": first},
    ).result_rows
    assert (told["unit_code"], told["rule"]) == tuple(given[:2])
    assert told["due_at"] == round(given[2].replace(tzinfo=UTC).timestamp() * 1000)
    assert any(rule["applies"] and rule["fits"] for rule in told["rules"])

    # What people said is what a city trains with.
    counts = city.json("review", "export", "--out", str(tmp_path / "taught"))
    assert counts["classes"] >= 1
    rows = list(csv.DictReader((tmp_path / "taught/classes.csv").open(encoding="utf-8")))
    assert ("请看一下这里的情况", "0110") in [(row["text"], row["label"]) for row in rows]

    # Nobody else may.
    unit = city.json("people", "add", "u1", "--role", "unit", "--unit", "410105-CG")["key"]
    body = {"into": first}
    for key, status in (("", 401), ("x", 401), (unit, 403)):
        answer = httpx.post(
            f"{city.url}/desk/events/{second}/merge", json=body, headers={"X-API-Key": key}
        )
        assert (answer.status_code, set(answer.json())) == (status, {"error", "reason"})
    assert desk.post("/events/unknown/merge", json=body).status_code == 404
    assert desk.post(f"/events/{second}/merge", json={"to": first}).status_code == 422


#: A telephone number, an identity number with its check digit, and a plate: of nobody.
TOLD = ("13900010002", "11010519491231002X", "豫A12345")


def test_an_order_whose_event_may_be_known_waits_until_somebody_says_that_it_is_another(
    city: Stack,
) -> None:
    keys = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))
    found = []
    for name, address in (
        ("K-1", "金水区北林路街道北林路亚卫盛世华庭88号"),
        ("K-2", "金水区北林路街道那一片"),
    ):
        body = {"id": name, "title": "大件垃圾", "district": "金水区", "address": address}
        answer = httpx.post(
            f"{city.url}/channels/photo_app/reports",
            json=body,
            headers={"X-API-Key": keys["photo_app"]},
        )
        assert answer.status_code == 202, answer.text
        found += answer.json()["reports"]
        audited(city)
    events = [city.json("trace", identity)["links"][-1]["event_id"] for identity in found]

    def waiting() -> dict[str, dict[str, Any]]:
        rows = city.json("review", "list", "--events", "--limit", "1000")["rows"]
        return {row["event_id"]: row for row in rows if row["order_id"]}

    doubt = waiting()[events[1]]
    assert doubt["into"] == events[0]
    assert city.json("order", "show", doubt["order_id"])["state"] == "NEEDS_REVIEW"
    said = city.json("event", "apart", *reversed(events), "--reason", "asked the caller")
    assert said["outcome"] == "applied"
    audited(city)
    order = city.json("order", "show", doubt["order_id"])
    assert (order["state"], order["steps"][-1]["action"]) == ("DISPATCHED", "dispatch")
    assert order["due_at"]
    assert events[1] not in waiting()


def test_whoever_reported_is_found_nowhere_beyond_the_raw_topics(city: Stack) -> None:
    key = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))["photo_app"]
    answer = httpx.post(
        f"{city.url}/channels/photo_app/reports",
        headers={"X-API-Key": key},
        json={
            "id": "PII-1", "title": f"路灯不亮 {TOLD[0]}", "user_id": TOLD[0],
            "submitted_at": "2026-03-02T08:00:00+08:00",
            "description": f"我叫张三丰,电话{TOLD[0]},身份证{TOLD[1]},车牌{TOLD[2]},文化路路灯不亮",
            "location": {"lng": 113.67123, "lat": 34.79123, "crs": "WGS84"},
        },
    )  # fmt: skip
    assert answer.status_code == 202, answer.text
    known = sum(entry["received"] for entry in audited(city)["channels"])
    sent = city.json("simulate", "--scenario", "storm", "--rate", "40", "--duration", "5")["sent"]

    def arrived() -> bool:
        return bool(sum(c["received"] for c in audited(city)["channels"]) >= known + sent)

    # Some channels are polled.
    eventually(arrived, 120, 1.0)
    settings = load_settings(home=city.home)
    codec = default_codec(settings)
    numbers, elsewhere = set(TOLD), dict[str, bytes]()
    with Positions(settings) as positions:
        topics = [spec.name for spec in load_topics(settings)]
        for (topic, _), messages in positions.records(
            positions.extents(positions.partitions(topics))
        ):
            raw = topic.startswith("reports.raw.")
            values = [m.value() or b"" for m in messages]
            if raw and not topic.endswith((".dlq", ".state")):
                for report in codec.decode_batch("RawReport", values)[0]:
                    said = (report or {}).get("reporter") or ""
                    numbers |= {said} if re.fullmatch(r"1\d{10}", said) else set()
                    for field in ("title", "text", "address"):
                        numbers |= set(mask(clean((report or {}).get(field))).phones)
            # Dead letters and answers bear the raw record, byte for byte, as long as they wait.
            elif not topic.endswith(".dlq") and topic != "review.answers":
                keys = [m.key() or b"" for m in messages]
                elsewhere[topic] = elsewhere.get(topic, b"") + b"\n".join([*values, *keys])
    for log in (city.home / "logs").iterdir():
        elsewhere[log.name] = log.read_bytes()
    for part in city.parts().values():
        if part["name"] not in ("kafka", "clickhouse", "mqtt"):
            found = httpx.get(f"http://127.0.0.1:{part['port']}/metrics", trust_env=False)
            elsewhere[f"metrics of {part['name']}"] = found.content
    for (table,) in city.rows("SELECT name FROM system.tables WHERE database = 'quanyu'"):
        rows = city.rows(f"SELECT * FROM quanyu.{table}")
        elsewhere[f"table {table}"] = json.dumps(rows, ensure_ascii=False).encode()
    assert len(numbers) > 20, "the storm told no telephone numbers"
    leaks = {
        (where, number)
        for where, text in elsewhere.items()
        for number in numbers
        if number.encode() in text
    }
    assert not leaks


def test_every_port_of_the_stack_is_reached_from_this_machine_alone(city: Stack) -> None:
    (owner,) = {part["pid"] for part in city.parts().values() if part["name"] == "screen"}
    supervisor = psutil.Process(owner).parent()
    assert supervisor is not None
    listening = {
        (connection.laddr.ip, connection.laddr.port)
        for process in [supervisor, *supervisor.children(recursive=True)]
        for connection in process.net_connections("inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert {port for _, port in listening} >= {p["port"] for p in city.parts().values()}
    assert {ip.removeprefix("::ffff:") for ip, _ in listening} <= {"127.0.0.1", "::1"}


def test_an_erased_reporter_leaves_no_word_and_no_number_changes(city: Stack) -> None:
    phone = "13700030004"
    key = json.loads((city.home / "keys.json").read_text(encoding="utf-8"))["photo_app"]
    for number in (1, 2):
        answer = httpx.post(
            f"{city.url}/channels/photo_app/reports",
            headers={"X-API-Key": key},
            json={
                "id": f"ERASE-{number}", "title": "井盖丢失", "user_id": phone,
                "submitted_at": "2026-03-02T08:00:00+08:00",
                "description": f"某小区门口第{number}个井盖丢失,很危险", "address": "建设路某号门口",
                "location": {"lng": 113.61123 + number / 100, "lat": 34.75123, "crs": "WGS84"},
            },
        )  # fmt: skip
        assert answer.status_code == 202, answer.text
    before = audited(city)
    counters = (
        "SELECT (SELECT sum(n) FROM quanyu.outcome_counts), (SELECT sum(n) FROM quanyu.link_counts)"
    )
    counted = city.rows(counters)

    def erased(*argv: str) -> dict[str, Any]:
        found: list[dict[str, Any]] = city.json("erase", *argv)["erased"]
        return {k: found[0][k] for k in ("reports", "events", "dry_run")} if found else {}

    assert erased("--reporter", phone, "--dry-run") == {"reports": 2, "events": 2, "dry_run": True}
    assert city.rows("SELECT count() FROM quanyu.reports WHERE address = '建设路某号门口'") == [[2]]
    document = city.json("erase", "--reporter", "+86 137-0003-0004", "--actor", "dpo-1")["erased"][
        0
    ]
    assert (document["reports"], document["events"]) == (2, 2)
    assert {a["topic"] for a in document["ageing"]} >= {"reports.raw.photo_app", "reports.dlq"}
    assert all(a["gone_by"] > time.time() * 1000 for a in document["ageing"])
    mine = (
        "report_id IN (SELECT report_id FROM quanyu.report_outcomes WHERE native_id LIKE 'ERASE-%')"
    )
    left = f"SELECT DISTINCT title, text, address, reporter_hash, media FROM quanyu.reports WHERE {mine}"
    assert city.rows(left) == [["[已删除]", "", "", "", []]]
    assert city.rows("SELECT count() FROM quanyu.events WHERE address = '建设路某号门口'") == [[0]]
    assert erased("--reporter", phone) == {"reports": 0, "events": 0, "dry_run": False}
    assert city.json("erase", "--again")["erased"][0]["reports"] == 0
    after = audited(city)
    assert (after["totals"], city.rows(counters)) == (before["totals"], counted)
    # The log says who did it and how much, and knows the reporter by the keyed hash alone.
    log = "SELECT actor, role, detail, target FROM quanyu.action_outcomes WHERE kind = 'erase'"
    first = city.rows(f"{log} ORDER BY at")[0]
    assert first[:3] == ["dpo-1", "operator", "2 reports, 2 events, 0 photos"]
    assert phone not in json.dumps(first)


def test_the_wrong_role_gets_403_and_a_row_that_anybody_with_sql_can_find(city: Stack) -> None:
    key = city.json("people", "add", "u-403", "--role", "unit", "--unit", "410105-CG")["key"]
    answer = httpx.get(f"{city.url}/desk/reviews", headers={"X-API-Key": key}, trust_env=False)
    assert answer.status_code == 403
    log = "SELECT action, outcome, reason, role FROM quanyu.action_outcomes WHERE actor = 'u-403'"
    assert eventually(lambda: city.rows(log)) == [["GET /desk/reviews", "refused", "role", "unit"]]
