"""Suggestions: what a report that is being written is about, where it is, what is known, what is missing."""

import base64
import json
import logging
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, cast

import pytest
import yaml
from fastapi.testclient import TestClient

from connectors.publish import Publisher
from connectors.refusal import Refused
from deploy import city_build, suggest
from deploy.gateway import create_app
from deploy.suggest import (
    BODY_LIMIT,
    COMPARED_EVENTS,
    PHOTO_LIMIT,
    ROWS_READ,
    TEXT_LIMIT,
    Adviser,
    Ask,
    Service,
    city_questions,
    nearest,
    read_ask,
    read_photo,
)
from deploy.vision import Described
from schemas.channels import channel_names, load_channels
from schemas.city import CityPack, load_city
from schemas.errors import QuanyuError
from schemas.grids import LEVELS
from schemas.merge_policy import MergePolicy, Rule
from schemas.metrics import COLLECTORS
from schemas.settings import Settings
from streams.intake.classify import Classified
from streams.intake.decide import Reason
from tests.conftest import eventually
from tests.unit.tiny_city import EAST, IN_EAST, IN_NORTH, WEST, write_city, write_whole_city

NOW = 1_773_700_000_000
HOUR = 3_600_000
PHOTO = b"\xff\xd8\xff\xe0" + b"a photo" * 20
LON, LAT = IN_EAST


@pytest.fixture(scope="module")
def adviser(city: CityPack) -> Adviser:
    """The adviser of the tiny city."""
    return Adviser(city)


def ask(**given: Any) -> Ask:
    """A report of a lost cover in the eastern district, unless ``given`` says otherwise."""
    text = "昨晚路边井盖丢失,没有围挡"
    return Ask(**{"text": text, "lon": LON, "lat": LAT, "crs": "CGCS2000", **given})


def row(**changed: Any) -> dict[str, Any]:
    """An event as ``events_nearby`` tells it: the same cover, an hour ago, 30 m north."""
    return {
        "event_id": "event-1", "class_code": "0102", "zone": "core", "lon": LON, "lat": LAT + 30 / 111_320,
        "district_code": EAST, "grid_code": EAST, "title": "井盖丢失", "address": "", "report_count": 2,
        "opened_at": NOW - HOUR, "first_report_id": "report-1", "occurred_at": NOW - HOUR,
        "text": "路边井盖丢失", "device": "", "alarm_state": "", "media": [], **changed,
    }  # fmt: skip


def near(
    adviser: Adviser, asked: Ask, *rows: dict[str, Any], photo: str = ""
) -> list[suggest.Near]:
    return adviser.alike(adviser.look(asked, NOW, photo_sha256=photo), rows, NOW)


def reasons(adviser: Adviser, asked: Ask, **more: Any) -> list[str]:
    answer = adviser.answer(adviser.look(asked, NOW, **more), [], "known")
    assert all(missing.question for missing in answer.missing)
    return [missing.reason for missing in answer.missing]


def test_a_whole_report_is_classed_and_placed_and_nothing_more_is_asked(adviser: Adviser) -> None:
    looked = adviser.look(ask(), NOW)
    answer = adviser.answer(looked, [], "known")
    assert [(c.code, c.name, c.probability) for c in answer.classes] == [("0102", "井盖丢失", 1.0)]
    assert [(g.level, g.code, g.name) for g in answer.grids] == [("district", EAST, "东湾区")]
    assert (answer.class_sure, answer.place_method, answer.missing) == (True, "point", [])


def test_a_named_street_gives_every_level_down_to_it(adviser: Adviser) -> None:
    looked = adviser.look(ask(lon=None, lat=None, address="东湾区长堤街道"), NOW)
    answer = adviser.answer(looked, [], "known")
    assert [g.name for g in answer.grids] == ["东湾区", "长堤街道"]
    assert [m.reason for m in answer.missing] == ["place_coarse"]


@pytest.mark.parametrize(
    ("given", "reason"),
    [
        ({"lon": None, "lat": None}, "no_location"),
        ({"lon": "nan", "lat": "nan"}, "bad_coordinate"),
        ({"lon": "inf"}, "bad_coordinate"),
        ({"lon": 0.0, "lat": 90.0}, "rounded_point"),
        ({"lon": 12.3456, "lat": 90.0}, "outside_city"),
        ({"lon": 12.3456, "lat": -90.0}, "outside_city"),
        ({"lon": 180.0001, "lat": 10.0001}, "bad_coordinate"),
        ({"lon": 0.0, "lat": 0.0}, "null_island"),
        ({"lon": 20.1, "lat": 50.1}, "rounded_point"),
        ({"crs": "EPSG:31466"}, "unknown_crs"),
        ({"crs": ""}, "unknown_crs"),
        ({"lon": None}, "bad_coordinate"),
        ({"lon": None, "lat": None, "address": "同名街道"}, "ambiguous_place"),
    ],
)
def test_a_place_that_is_none_is_asked_for_and_never_guessed(
    adviser: Adviser, given: dict[str, Any], reason: str
) -> None:
    looked = adviser.look(ask(**given), NOW)
    answer = adviser.answer(looked, [], "unasked")
    assert answer.grids == []
    assert (answer.place_reason, [m.reason for m in answer.missing]) == (reason, [reason])
    assert adviser.nearby(looked, NOW) is None


def test_who_names_a_place_of_two_is_asked_which_of_them(adviser: Adviser) -> None:
    looked = adviser.look(ask(lon=None, lat=None, address="同名街道"), NOW)
    (missing,) = adviser.answer(looked, [], "known").missing
    assert "东湾区同名街道" in missing.question
    assert "西山区同名街道" in missing.question


def test_who_says_nothing_is_asked_everything(adviser: Adviser) -> None:
    assert reasons(adviser, Ask()) == ["empty", "no_location", "no_time"]
    assert reasons(adviser, Ask(text=" \u3000\u200b ")) == ["empty", "no_location", "no_time"]
    assert reasons(adviser, ask(text="今天天气很好")) == ["class_unknown"]
    assert reasons(adviser, ask(text="😀😀😀")) == ["class_unknown", "no_time"]


def test_when_is_asked_unless_field_or_words_say_it(adviser: Adviser) -> None:
    assert reasons(adviser, ask(text="井盖丢失")) == ["no_time"]
    assert reasons(adviser, ask(text="井盖丢失", occurred_at="2026-03-16 20:00")) == []
    assert reasons(adviser, ask(occurred_at="2026-02-30 20:00")) == ["impossible_date"]
    assert reasons(adviser, ask(occurred_at="1970-01-01")) == ["impossible_date"]


def test_below_the_threshold_the_best_three_are_offered(
    adviser: Adviser, monkeypatch: pytest.MonkeyPatch
) -> None:
    top = (("0102", 0.41), ("0101", 0.33), ("2999", 0.1))
    unsure = Classified("0102", 0.41, "model", top, sure=False)
    monkeypatch.setattr(adviser._classifier, "classify", lambda _: [unsure])
    looked = adviser.look(ask(), NOW)
    answer = adviser.answer(looked, adviser.alike(looked, [row(class_code="0101")], NOW), "known")
    assert [(c.code, c.probability) for c in answer.classes] == list(top)
    (missing,) = answer.missing
    assert missing.reason == "class_unsure"
    assert "井盖丢失、积水" in missing.question
    assert "未分类" not in missing.question
    assert [e.class_code for e in answer.events] == ["0101"], "each of the three may be it"
    assert (adviser.nearby(looked, NOW) or {})["class_codes"] == "0101,0102"


def test_every_reason_of_intake_that_a_person_can_mend_has_its_question() -> None:
    asked = {reason for group in suggest.ASKED.values() for reason in group}
    never = {
        "undecodable",
        "missing_native_id",
        "encoding",
        "malformed",
        "text_too_long",
        "exact_duplicate",
    }
    assert set(Reason) - never <= asked


def test_a_citys_own_questions_stand_in_its_pack(tmp_path: Path) -> None:
    pack = write_city(tmp_path / "pack")
    document = yaml.safe_load(suggest.QUESTIONS.read_text(encoding="utf-8"))
    document["questions"]["no_time"] = "Kiedy?"
    (pack / "questions.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    assert city_questions(load_city(str(pack))).questions["no_time"] == "Kiedy?"
    del document["questions"]["no_time"]
    (pack / "questions.yaml").write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(QuanyuError, match=r"questions\.yaml.*no_time is missing"):
        city_questions(load_city(str(pack)))


# ---- known events


def test_the_same_matter_is_told_with_distance_age_and_why(adviser: Adviser) -> None:
    (found,) = near(adviser, ask(), row())
    assert (found.event_id, found.class_name, found.same) == ("event-1", "井盖丢失", True)
    assert found.distance_m == pytest.approx(30.0, abs=0.2)
    assert found.age_s == 3600
    assert found.why.startswith("30 m, 1.0 h")


@pytest.mark.parametrize(
    "other",
    [
        {"class_code": "0101"},
        {"lat": LAT + 150 / 111_320},
        {"opened_at": NOW - 100 * HOUR, "occurred_at": NOW - 100 * HOUR},
        {"lon": None, "lat": None, "grid_code": WEST, "text": ""},
    ],
)
def test_another_matter_is_not_told(adviser: Adviser, other: dict[str, Any]) -> None:
    assert near(adviser, ask(), row(**other)) == []


def test_what_merge_would_put_before_a_person_is_told_as_such(city: CityPack) -> None:
    policy = MergePolicy(default=Rule(radius_m=100, hours=24, join=0.9, review=0.3))
    (found,) = near(Adviser(city, policy), ask(), row())
    assert not found.same
    assert found.why.startswith("may be one with another: 30 m")


def test_the_likeliest_comes_first_and_few_are_told(adviser: Adviser) -> None:
    rows = [
        row(
            event_id=f"event-{metres}",
            first_report_id=f"report-{metres}",
            lat=LAT + metres / 111_320,
        )
        for metres in range(80, 5, -5)
    ]
    found = near(adviser, ask(), *rows)
    assert [e.event_id for e in found] == [f"event-{metres}" for metres in range(10, 35, 5)]


def test_the_same_photo_is_the_same_matter(adviser: Adviser) -> None:
    far = row(lat=LAT + 300 / 111_320, media=["sha256:" + "ab" * 32 + " http://photos/1"])
    assert near(adviser, ask(), far) == []
    (found,) = near(adviser, ask(), far, photo="ab" * 32)
    assert (found.same, found.why) == (True, "the same photo")


def test_events_are_looked_for_as_far_as_merge_would_look(adviser: Adviser) -> None:
    asked = adviser.nearby(adviser.look(ask(), NOW), NOW) or {}
    assert (asked["zone"], asked["class_codes"], asked["limit"]) == (
        "core",
        "0102",
        ROWS_READ,
    )
    assert (asked["since"], asked["until"]) == (NOW - 24 * HOUR, NOW)
    assert cast(int, asked["north"]) - cast(int, asked["south"]) == pytest.approx(
        2e6 * 500 / 111_320, abs=2
    )
    named = (
        adviser.nearby(adviser.look(ask(lon=None, lat=None, address="东湾区长堤街道"), NOW), NOW)
        or {}
    )
    assert named["grid"] == "990102001"
    assert "west" not in named


def test_the_newest_version_counts_and_the_nearest_open_events_are_compared() -> None:
    box = {"west": 19_999_000, "east": 20_001_000, "south": 49_999_000, "north": 50_001_000}
    far = [
        {"event_id": f"far-{n}", "status": "open", "lon": 20.0, "lat": 50.0 + n / 1e6}
        for n in range(900, 900 - COMPARED_EVENTS, -1)
    ]
    rows: list[dict[str, Any]] = [
        *far,
        {"event_id": "named", "status": "open", "lon": None, "lat": None},
        {"event_id": "closed", "status": "closed", "lon": 20.0, "lat": 50.0},
        {"event_id": "closed", "status": "open", "lon": 20.0, "lat": 50.0},
        {"event_id": "near", "status": "open", "lon": 20.0, "lat": 50.0},
        {"event_id": "near", "status": "closed", "lon": 20.0, "lat": 50.0},
    ]
    found = [row["event_id"] for row in nearest(rows, box)]
    assert (found[0], len(found)) == ("near", COMPARED_EVENTS)
    assert not {"closed", "named", "far-900"} & set(found)
    assert [row["event_id"] for row in nearest(rows[-5:], {})] == ["named", "near"]


# ---- photos


def test_a_photo_tells_what_it_is_and_never_where(adviser: Adviser) -> None:
    described = Described("described", text="北原区的路灯不亮")
    looked = adviser.look(ask(text="这里"), NOW, described, "00" * 32)
    answer = adviser.answer(looked, [], "known")
    assert answer.classes[0].code == "0201"
    assert answer.grids[0].code == EAST
    assert (answer.photo, answer.photo_description) == ("described", "北原区的路灯不亮")
    without = adviser.look(ask(text="", lon=None, lat=None), NOW, described)
    assert without.located.reason == "no_location"


@pytest.mark.parametrize(
    ("photo", "status", "reason"),
    [
        ("not base64!", 400, "bad_photo"),
        ("data:image/jpeg,raw", 400, "bad_photo"),
        (base64.b64encode(b"<svg onload=alert(1)>").decode(), 400, "not_an_image"),
        (base64.b64encode(b"%PDF-1.7").decode(), 400, "not_an_image"),
        ("data:image/jpeg;base64," + base64.b64encode(b"MZ").decode(), 400, "not_an_image"),
        (base64.b64encode(PHOTO[:4] + bytes(PHOTO_LIMIT)).decode(), 413, "photo_too_large"),
    ],
)
def test_what_is_no_photo_is_refused(photo: str, status: int, reason: str) -> None:
    with pytest.raises(Refused) as refused:
        read_photo(photo)
    assert (refused.value.status, refused.value.body.reason) == (status, reason)
    assert refused.value.body.field == "photo"


def test_a_photo_is_taken_plain_and_as_data_url() -> None:
    plain = base64.b64encode(PHOTO).decode()
    assert read_photo(plain) == read_photo(f"data:image/jpeg;base64,{plain}") == PHOTO


@pytest.mark.parametrize(
    ("body", "status", "reason", "field"),
    [
        (b"", 400, "not_json", None),
        (b"[]", 400, "not_object", None),
        (b"null", 400, "not_object", None),
        (b"{", 400, "not_json", None),
        (b'{"text": "\xff"}', 400, "not_json", None),
        (b'{"text": "\\ud800"}', 400, "not_json", None),
        (b"[" * 100_000, 400, "not_json", None),
        (b'{"lon": NaN, "lat": 1.5}', 400, "bad_field", "lon"),
        (b'{"lon": true}', 400, "bad_field", "lon"),
        (b'{"text": 7}', 400, "bad_field", "text"),
        (b'{"phone": "13800138000"}', 400, "unknown_field", "phone"),
        (json.dumps({"text": "字" * (TEXT_LIMIT + 1)}).encode(), 413, "text_too_long", "text"),
    ],
)
def test_a_request_that_cannot_be_read_is_refused_without_repeating_it(
    body: bytes, status: int, reason: str, field: str | None
) -> None:
    with pytest.raises(Refused) as refused:
        read_ask(body)
    found = refused.value.body
    assert (refused.value.status, found.reason, found.field) == (status, reason, field)
    assert "13800138000" not in found.error


# ---- over HTTP

SIGNED = [n for n, s in load_channels().items() if s.transports.http and s.transports.http.signed]


@pytest.fixture
def client(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[TestClient]:
    """A gateway of the tiny city whose ClickHouse port is closed; it asks with a channel's key."""
    # Nothing listens on port 1; any other may be a stack of a test beside this one.
    pack = str(write_city(tmp_path / "pack"))
    settings = Settings(home=tmp_path, clickhouse="http://127.0.0.1:1", city=pack)
    settings.keys_path.write_text(json.dumps({name: f"key-{name}" for name in channel_names()}))

    class Nobody:
        def close(self, limit_s: float = 1.0) -> None:
            """Nothing to wait for."""

    monkeypatch.setattr("deploy.gateway.LOOK_S", 0.05)
    with TestClient(create_app(settings, cast(Publisher, Nobody()))) as made:
        made.headers["X-API-Key"] = "key-photo_app"
        yield made


def test_a_changed_pack_is_shown_and_suggested_by_and_a_wrong_one_is_not(
    tmp_path: Path, client: TestClient
) -> None:
    taxonomy = tmp_path / "pack" / "taxonomy.csv"
    former = taxonomy.read_text(encoding="utf-8")

    def write(old: str, new: str) -> None:
        assert old in former
        taxonomy.write_text(former.replace(old, new), encoding="utf-8")

    def codes() -> list[str]:
        answer = client.post("/suggest", json={"text": "秋千坏了"})
        return [found["code"] for found in answer.json()["classes"]]

    def refused() -> float | None:
        return COLLECTORS.get_sample_value("quanyu_pack_refused")

    assert codes() == []
    names = client.get("/api/city").json()["classes"]
    write("2uh", "soon")
    eventually(lambda: refused() == 1)
    assert codes() == []
    assert client.get("/api/city").json()["classes"] == names
    write("井盖|井盖丢失", "井盖|井盖丢失|秋千")
    eventually(lambda: refused() == 0)
    assert codes() == ["0102"]
    write(names["0102"]["name"], "盖板缺损")
    eventually(lambda: client.get("/api/city").json()["classes"]["0102"]["name"] == "盖板缺损")
    assert not (tmp_path / "pack.json").exists(), "the home's file is the worker's"


BODY = {"text": "昨晚路边井盖丢失", "lon": LON, "lat": LAT, "crs": "CGCS2000"}


def test_without_clickhouse_the_answer_says_so_and_is_whole(client: TestClient) -> None:
    answer = client.post("/suggest", json=BODY)
    found = answer.json()
    assert (answer.status_code, found["events_state"], found["events"]) == (200, "unavailable", [])
    assert found["classes"][0]["code"] == "0102"
    assert found["grids"][0]["code"] == EAST
    assert answer.headers["cache-control"] == "no-store"


def test_without_an_endpoint_a_photo_does_not_block(client: TestClient) -> None:
    answer = client.post("/suggest", json={**BODY, "photo": base64.b64encode(PHOTO).decode()})
    found = answer.json()
    assert (found["photo"], found["photo_reason"]) == ("unavailable", "not_configured")
    assert found["classes"][0]["code"] == "0102"


@pytest.mark.parametrize("key", ["", "key-", "wrong", *(f"key-{name}" for name in SIGNED)])
def test_without_a_channels_key_nothing_is_told(client: TestClient, key: str) -> None:
    answer = client.post("/suggest", json=BODY, headers={"X-API-Key": key})
    assert (answer.status_code, answer.json()["reason"]) == (401, "key")


def test_refusals_have_the_form_of_the_other_interfaces(client: TestClient) -> None:
    for sent, status, reason in (
        ({"content": b"a" * (BODY_LIMIT + 1)}, 413, "body_too_large"),
        ({"content": b"x", "headers": {"Content-Type": "text/xml"}}, 415, "content_type"),
        ({"content": b"x", "headers": {"Content-Encoding": "gzip"}}, 415, "content_encoding"),
        ({"json": {"text": "字" * 350_000}}, 413, "text_too_long"),
    ):
        answer = client.post("/suggest", **cast(Any, sent))
        assert (answer.status_code, answer.json()["reason"]) == (status, reason)
        assert set(answer.json()) <= {"error", "reason", "field", "index"}
    answer = client.get("/suggest")
    assert (answer.status_code, answer.json()["reason"]) == (405, "method")


def test_a_pack_that_cannot_be_read_is_said_and_not_an_error_of_the_server(
    client: TestClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreadable(_: str) -> CityPack:
        raise QuanyuError("/srv/packs/secret: grids are not built")

    monkeypatch.setattr(suggest, "load_city", unreadable)
    answer = client.post("/suggest", json=BODY)
    assert (answer.status_code, answer.json()["reason"]) == (503, "city_not_ready")
    assert "secret" not in answer.text


def test_words_of_reports_are_not_told_without_a_key(client: TestClient) -> None:
    for name in suggest.QUERIES:
        assert client.get(f"/api/queries/{name}").status_code == 404
        assert name not in client.get("/api/queries").json()
    tiles = client.get("/api/tiles", params={"names": "events_nearby"}).json()["tiles"]
    assert tiles["events_nearby"]["status"] == 404


def test_nothing_that_was_said_is_logged(
    client: TestClient, caplog: pytest.LogCaptureFixture, capsys: pytest.CaptureFixture[str]
) -> None:
    with caplog.at_level(logging.DEBUG):
        client.post("/suggest", json={**BODY, "text": "我叫王小明,电话13800138000,井盖丢失"})
        client.post("/suggest", json={**BODY, "phone": "13800138000"})
        client.post("/suggest", json={**BODY, "lon": "13800138000x"})
    said = capsys.readouterr()
    written = said.out + said.err + caplog.text
    assert "13800138000" not in written
    assert "王小明" not in written


def test_clickhouse_that_is_gone_is_not_asked_again_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    service = Service(Settings(home=tmp_path, port=27900))
    monkeypatch.setattr(service, "_refresh", lambda: None)
    tried: list[float] = []

    def gone(**_: Any) -> None:
        tried.append(time.monotonic())
        raise ConnectionRefusedError

    monkeypatch.setattr("clickhouse_connect.get_client", gone)
    monkeypatch.setattr(suggest, "PAUSE_S", 60.0)
    nearby = {"since": 0, "until": NOW}
    assert [service.events(nearby) for _ in range(50)] == [None] * 50
    assert len(tried) == 1
    service._paused_until = 0.0
    assert service.events(nearby) is None
    assert len(tried) == 2


def test_every_level_that_the_city_has_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANYU_CACHE", str(tmp_path / "cache"))
    whole = load_city(str(write_whole_city(tmp_path / "whole")))
    city_build.build(whole, say=lambda _: None)
    adviser = Adviser(whole)
    looked = adviser.look(ask(lon=IN_NORTH[0], lat=IN_NORTH[1]), NOW)
    answer = adviser.answer(looked, [], "known")
    levels = [g.level for g in answer.grids]
    assert levels in (list(LEVELS), [*list(LEVELS)[:3], "special"])
    assert all(g.name and g.name != g.code for g in answer.grids)
