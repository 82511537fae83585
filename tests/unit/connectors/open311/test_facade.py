"""The city as an Open311 server: what a client may ask and post, without broker and engine."""

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
import schemathesis
from clickhouse_connect.driver.exceptions import OperationalError
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from schemathesis.checks import not_a_server_error
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from connectors.open311 import facade
from connectors.open311.documents import parse
from connectors.open311.facade import BODY_LIMIT, IDS_LIMIT, load_attributes, router
from connectors.open311.model import Attribute, Service, ServiceRequest, render
from connectors.publish import BrokerBehind, Publisher, Unpublishable
from schemas.codec import Codec
from schemas.errors import QuanyuError
from schemas.ids import report_id
from schemas.settings import Settings
from streams.intake.decide import IntakeStep
from tests.unit.streams.batches import NOW, batch, records, run
from tests.unit.tiny_city import EAST, IN_EAST, tiny_city, write_city

KEY = "the key"
FORM = "application/x-www-form-urlencoded; charset=utf-8"
LON, LAT = IN_EAST


class FakePublisher(Publisher):
    """Keeps what it would publish, or raises what it is told to."""

    def __init__(self) -> None:
        self.published: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def publish(self, raws: Sequence[dict[str, Any]], transport: str) -> dict[int, int]:
        if self.error:
            raise self.error
        self.published += raws
        return {0: len(raws)}


class FakeEngine:
    """Answers the named queries from rows by id, and remembers what it was asked."""

    def __init__(self) -> None:
        self.rows: dict[str, dict[str, Any]] = {}
        self.steps: list[dict[str, Any]] = []
        self.asked: list[dict[str, Any]] = []
        self.error: Exception | None = None

    def run(self, _: Any, name: str, **given: Any) -> list[dict[str, Any]]:
        if self.error:
            raise self.error
        self.asked.append({"query": name, **given})
        if name == "steps":
            return self.steps
        ids = given.get("ids")
        found = [row for row in self.rows.values() if not ids or row["report_id"] in ids.split(",")]
        if name == "open311_received":
            return [{"since": 0, "until": NOW}] if found else []
        return found[given.get("offset", 0) :][: given.get("limit", 1000)]

    def add(self, number: int, **other: Any) -> str:
        """A row as the engine has it; its id."""
        identity = f"00000000-0000-5000-8000-{number:012}"
        self.rows[identity] = {
            "report_id": identity, "channel": "hotline12345", "outcome": "accepted", "reason": "",
            "class_code": "0101", "district_code": EAST, "received_at": NOW, "text": "",
            "address": "", "media": [], "lon": LON, "lat": LAT, "event_id": "e",
            "first_report_id": identity, "unit_name": "雨城雨水局", "due_at": NOW + 14_400_000,
            "status": "open", "updated_at": NOW + 1_000, **other,
        }  # fmt: skip
        return identity


@pytest.fixture
def publisher() -> FakePublisher:
    return FakePublisher()


@pytest.fixture
def engine(monkeypatch: pytest.MonkeyPatch) -> FakeEngine:
    made = FakeEngine()
    monkeypatch.setattr(facade, "run", made.run)
    monkeypatch.setattr("clickhouse_connect.get_client", lambda **_: None)
    return made


@pytest.fixture
def app(tmp_path: Path, publisher: FakePublisher, engine: FakeEngine) -> FastAPI:
    write_city(tmp_path / "tiny")
    settings = Settings(home=tmp_path, city=str(tmp_path / "tiny"))
    settings.keys_path.write_text(json.dumps({"open311": KEY, "photo_app": "another"}))
    made = FastAPI()
    made.include_router(router(settings, publisher, lambda rows, _: rows("steps"), lambda: NOW))
    return made


#: Starlette says which client library its answers are of.
Response = Any
Ask = Callable[..., Response]


@pytest.fixture
def get(app: FastAPI) -> Ask:
    """GET below ``/open311/v2``."""
    client = TestClient(app)
    return lambda path, **params: client.get(f"/open311/v2/{path}", params=params)


@pytest.fixture
def post(app: FastAPI) -> Ask:
    """POST a good request with what ``fields`` change; None takes a field away."""
    client = TestClient(app)

    def send(form: str = "json", headers: dict[str, str] | None = None, **fields: Any) -> Response:
        good = {"api_key": KEY, "service_code": "0101", "lat": str(LAT), "long": str(LON),
                "description": "路口积水很深", **fields}  # fmt: skip
        body = urlencode({name: value for name, value in good.items() if value is not None})
        return client.post(
            f"/open311/v2/requests.{form}", content=body.encode(),
            headers={"Content-Type": FORM, **(headers or {})},
        )  # fmt: skip

    return send


def errors(answer: Response) -> list[dict[str, Any]]:
    """The errors of an answer in JSON, whose code is the status."""
    found: list[dict[str, Any]] = answer.json()
    assert {error["code"] for error in found} == {answer.status_code}
    return found


# What there is


def test_services_are_the_citys_taxonomy_in_both_formats(get: Ask) -> None:
    found = get("services.json").json()
    assert found[0] == {
        "service_code": "0101", "service_name": "积水", "description": "排水 / 积水",
        "metadata": True, "type": "realtime", "keywords": "积水,路面积水,雨水倒灌", "group": "排水",
    }  # fmt: skip
    assert [service["service_code"] for service in found] == [
        "0101",
        "0102",
        "0201",
        "0202",
        "2999",
    ]
    xml = get("services.xml")
    assert xml.headers["content-type"] == "text/xml; charset=utf-8"
    names = [(entry.fields or {})["service_name"] for entry in parse(xml.content, "answer")]
    assert names == [service["service_name"] for service in found]


def test_a_definition_tells_what_may_be_added(get: Ask) -> None:
    found = get("services/0101.json").json()
    assert found["service_code"] == "0101"
    (entry,) = parse(get("services/0101.xml").content, "answer")
    assert entry.fields is not None
    assert [a["code"] for a in entry.fields["attributes"]] == [
        a["code"] for a in found["attributes"]
    ]
    choice = next(a for a in found["attributes"] if a["datatype"] == "singlevaluelist")
    assert {value["key"] for value in choice["values"]} == {"yes", "no", "unknown"}
    assert errors(get("services/9999.json"))[0]["description"] == "service_code '9999' is not found"


def test_discovery_names_this_interface(get: Ask) -> None:
    (entry,) = parse(get("discovery.xml").content, "answer")
    assert entry.fields is not None
    (endpoint,) = entry.fields["endpoints"]
    assert endpoint["url"] == "http://testserver/open311/v2"
    assert endpoint["formats"] == ["text/xml", "application/json"]
    assert get("discovery.json").json()["endpoints"][0]["type"] == "test"


@pytest.mark.parametrize(
    ("accept", "kind"),
    [
        ("*/*", "text/xml"),
        ("application/json", "application/json"),
        ("text/xml, application/json;q=0.5", "text/xml"),
        ("application/json, application/xml;q=0.5", "application/json"),
    ],
)
def test_without_an_extension_what_is_accepted_decides(
    app: FastAPI, accept: str, kind: str
) -> None:
    answer = TestClient(app).get("/open311/v2/services", headers={"Accept": accept})
    assert answer.headers["content-type"].startswith(kind)
    assert answer.headers["vary"] == "Accept"


@pytest.mark.parametrize("jurisdiction", ["", "990100", "tiny", "雨城"])
def test_the_city_is_known_by_its_code_and_its_packs_name(get: Ask, jurisdiction: str) -> None:
    assert get("services.json", jurisdiction_id=jurisdiction).status_code == 200


def test_another_citys_jurisdiction_is_not_found(get: Ask, post: Ask) -> None:
    for path in ("services.json", "services/0101.json", "requests.json", "tokens/x.json"):
        answer = get(path, jurisdiction_id="city.example")
        assert "city.example" in errors(answer)[0]["description"]
        assert answer.status_code == 404
    assert errors(post(jurisdiction_id="city.example"))[0]["code"] == 404


def test_whatever_is_not_there_or_not_allowed_says_so_in_the_errors_form(app: FastAPI) -> None:
    client = TestClient(app)
    for method, path, status in (
        ("GET", "/open311/v2/services.pdf", 404),
        ("GET", "/open311/v2/nothing.xml", 404),
        ("PUT", "/open311/v2/requests.xml", 405),
        ("DELETE", "/open311/v2/services", 405),
    ):
        answer = client.request(method, path)
        assert answer.status_code == status
        with pytest.raises(QuanyuError, match=f"an error answer, no requests: {status}: "):
            parse(answer.content, "answer")
    assert answer.headers["allow"] == "GET"


# Posting


def test_a_posted_request_is_confirmed_and_known_by_its_reports_id(
    post: Ask, get: Ask, publisher: FakePublisher
) -> None:
    answer = post()
    (raw,) = publisher.published
    identity = report_id("open311", raw["native_id"], 0)
    assert answer.status_code == 200
    (posted,) = answer.json()
    assert (posted["service_request_id"], posted["account_id"]) == (identity, None)
    assert "/follow/" in posted["service_notice"]
    assert (raw["channel"], raw["lon"], raw["lat"], raw["crs"]) == (
        "open311", str(LON), str(LAT), "WGS84",
    )  # fmt: skip
    (shown,) = get(f"requests/{identity}.json").json()
    assert (shown["status"], shown["status_notes"]) == ("open", "Received.")
    assert (shown["description"], shown["lat"], shown["long"]) == ("路口积水很深", LAT, LON)
    assert get(f"tokens/{raw['native_id']}.json").json() == [
        {"service_request_id": identity, "token": raw["native_id"]}
    ]
    (entry,) = parse(post("xml").content, "answer")
    assert entry.fields is not None
    assert entry.fields["service_request_id"] == report_id(
        "open311", publisher.published[1]["native_id"], 0
    )


def test_a_posted_request_is_what_intake_accepts(
    post: Ask, publisher: FakePublisher, tmp_path: Path, codec: Codec
) -> None:
    post(**{"attribute[occurred_at]": "2026-03-05T09:00:00+01:00", "email": "a@b.example"})
    step = IntakeStep(tiny_city(tmp_path / "tiny"), codec, b"secret")
    outputs, _ = run(step, [batch([codec.encode("RawReport", publisher.published[0])])])
    (report,) = records(codec, outputs, "reports")
    assert (report["class_code"], report["class_method"]) == ("0101", "native")
    assert (report["district_code"], report["text"]) == (EAST, "路口积水很深")
    assert report["occurred_at"] == 1_772_697_600_000  # 08:00 UTC
    assert report["reporter_hash"]
    assert "a@b.example" not in json.dumps(report)


def test_all_that_was_sent_is_kept_but_the_key(post: Ask, publisher: FakePublisher) -> None:
    post(phone="13800001111", first_name="王", own_field="7", account_id="", **{
        "attribute[danger]": "yes", "attribute[x][]": "1",
    })  # fmt: skip
    payload = json.loads(publisher.published[0]["payload"])
    assert (payload["phone"], payload["first_name"], payload["own_field"]) == (
        "13800001111",
        "王",
        "7",
    )
    assert payload["attribute"] == {"danger": "yes", "x": "1"}
    assert "account_id" not in payload
    assert KEY not in publisher.published[0]["payload"].decode()


def test_json_is_taken_as_the_form_is(app: FastAPI, publisher: FakePublisher) -> None:
    answer = TestClient(app).post(
        "/open311/v2/requests.json",
        json={"api_key": KEY, "service_code": "0101", "lat": LAT, "long": LON, "email": None,
              "attribute": {"danger": "no", "many": ["a", 2]}},
    )  # fmt: skip
    assert answer.status_code == 200
    assert publisher.published[0]["lat"] == str(LAT)
    payload = json.loads(publisher.published[0]["payload"])
    assert payload["attribute"] == {"danger": "no", "many": ["a", "2"]}


@pytest.mark.parametrize("location", [{"address_string": "磨坊路 3 号"}, {"address_id": "A-17"}])
def test_an_address_alone_is_a_location(post: Ask, location: dict[str, str]) -> None:
    assert post(lat=None, long=None, **location).status_code == 200


@pytest.mark.parametrize(
    ("changed", "status", "words"),
    [
        ({"api_key": None}, 403, "api_key is missing"),
        ({"api_key": "another"}, 403, "api_key"),
        ({"service_code": None}, 400, "service_code is missing"),
        ({"service_code": "7777"}, 404, "service_code '7777' is not found"),
        ({"lat": None, "long": None}, 400, "no location: send lat and long, or address_string"),
        ({"long": None}, 400, "lat and long come together"),
        ({"lat": "91"}, 400, "lat is no number between -90 and 90"),
        ({"long": "nan"}, 400, "long is no number"),
        ({"lat": "1_0"}, 400, "lat is no number"),
        ({"description": "长" * 4_001}, 400, "description is longer than 4000 characters"),
        ({"phone": "1" * 101}, 400, "phone is longer than 100"),
        ({"media_url": "javascript:alert(1)"}, 400, "media_url is no http or https address"),
        ({"media_url": "http://["}, 400, "media_url"),
        ({"attribute[danger]": "perhaps"}, 400, "attribute[danger] is none of yes, no, unknown"),
        ({"attribute[occurred_at]": "soon"}, 400, "attribute[occurred_at] is no time"),
        ({"attribute[place_detail]": "x" * 2_001}, 400, "longer than 2000"),
        ({"x" * 61: "1"}, 400, "no field has so long a name"),
    ],
)
def test_what_is_missing_or_wrong_is_named_and_nothing_published(
    post: Ask, publisher: FakePublisher, changed: dict[str, Any], status: int, words: str
) -> None:
    answer = post(**changed)
    assert answer.status_code == status
    assert words in " ".join(error["description"] for error in errors(answer))
    assert publisher.published == []
    assert post().status_code == 200


def test_everything_wrong_is_said_at_once(post: Ask) -> None:
    answer = post(lat="x", media_url="y", **{"attribute[danger]": "z"})
    assert len(errors(answer)) == 3


@pytest.mark.parametrize(
    ("body", "kind", "words"),
    [
        (b"service_code=\xff", FORM, "not UTF-8"),
        (b"service_code=%FF", FORM, "not UTF-8"),
        (b"a=1&a=2", FORM, "a stands twice"),
        (b"&".join(b"f%d=1" % n for n in range(300)), FORM, "more than 200 fields"),
        (b"x" * (BODY_LIMIT + 1), FORM, "larger than"),
        (b"<a/>", "text/xml", "Content-Type 'text/xml'"),
        (b"{", "application/json", "not JSON"),
        (b'{"a": 1, "a": 2}', "application/json", "stands twice"),
        (b'{"lat": NaN}', "application/json", "NaN is not JSON"),
        (b"[]", "application/json", "not a JSON object"),
        (b"[" * 60_000, "application/json", "nested too deep"),
        (b'{"a": {}}', "application/json", "a is neither text nor number"),
        (b'{"attribute": []}', "application/json", "api_key"),
        (b'{"attribute": [1]}', "application/json", "attribute is not an object"),
        (b"", FORM, "api_key"),
    ],
)
def test_a_body_that_cannot_be_read_is_refused(
    app: FastAPI, publisher: FakePublisher, body: bytes, kind: str, words: str
) -> None:
    answer = TestClient(app).post(
        "/open311/v2/requests.json", content=body, headers={"Content-Type": kind}
    )
    assert answer.status_code in (400, 403)
    assert words in errors(answer)[0]["description"]
    assert publisher.published == []


def test_a_repetition_under_one_key_is_the_same_request_and_another_is_not(post: Ask) -> None:
    def sent(key: str, **fields: str) -> str:
        answer = post(headers={"Idempotency-Key": key}, **fields)
        return str(answer.json()[0]["service_request_id"])

    first = sent("one")
    assert sent("one") == first
    assert sent("two") != first
    # Another report under the same key would be lost as a repetition of the first.
    assert sent("one", description="另一件事") != first
    assert sent("") != sent("")


def test_a_broker_that_is_behind_is_no_yes_and_says_when_to_come_again(
    post: Ask, get: Ask, publisher: FakePublisher
) -> None:
    publisher.error = BrokerBehind("the broker confirmed 0 of 1 in time", retry_after_s=7)
    answer = post(headers={"Idempotency-Key": "one"})
    assert (answer.status_code, answer.headers["retry-after"]) == (429, "7")
    assert "send the same again" in errors(answer)[0]["description"]
    publisher.error = Unpublishable("too large")
    assert post().status_code == 400
    publisher.error = None
    assert post(headers={"Idempotency-Key": "one"}).status_code == 200


# Reading


def test_a_request_tells_its_unit_and_deadline_and_nobodys_words(
    get: Ask, engine: FakeEngine
) -> None:
    engine.add(1, text="我是王某", address="磨坊路 3 号 2 单元", media=["http://photo"])
    # What the query leaves out for other channels must not come back by a fault of it.
    (shown,) = get("requests.json").json()
    assert shown == {
        "service_request_id": "00000000-0000-5000-8000-000000000001", "status": "open",
        "status_notes": None, "service_name": "积水", "service_code": "0101",
        "description": "排水", "agency_responsible": "雨城雨水局", "service_notice": None,
        "requested_datetime": "2026-03-05T09:40:00+01:00",
        "updated_datetime": "2026-03-05T09:40:01+01:00",
        "expected_datetime": "2026-03-05T13:40:00+01:00", "address": "东湾区", "address_id": None,
        "zipcode": None, "lat": LAT, "long": LON, "media_url": None,
    }  # fmt: skip


def test_a_duplicate_points_to_the_request_that_it_joined(get: Ask, engine: FakeEngine) -> None:
    first = engine.add(1)
    second = engine.add(
        2, first_report_id=first, channel="open311", text="same", media=["sha256:0 http://a/b"]
    )
    (shown,) = get(f"requests/{second}.json").json()
    assert shown["status_notes"] == f"Duplicate request. See {first}."
    assert (shown["description"], shown["media_url"]) == ("same", "http://a/b")
    assert "extended_attributes" not in shown
    (shown,) = get(f"requests/{second}.json", extensions="true").json()
    assert shown["extended_attributes"] == {"channel": "open311", "duplicate_of": first}


def test_who_gives_the_requests_secret_sees_every_step_and_nobody_else_does(
    app: FastAPI, post: Ask, get: Ask, engine: FakeEngine
) -> None:
    (posted,) = post().json()
    identity, secret = posted["service_request_id"], posted["service_notice"].split()[-1].strip(".")
    other = engine.add(1)
    blank = {"state": "", "reason": "", "unit": "", "due_at": None, "note": ""}
    engine.steps = [
        blank | {"at": NOW, "what": "received", "state": "open311"},
        blank | {"at": NOW + 9_000, "what": "order", "state": "HANDLED", "unit": "雨城雨水局",
                 "note": "已修复，联系 13812345678"},
    ]  # fmt: skip
    client = TestClient(app)

    def followed(report: str, given: str, form: str = "json") -> Response:
        path = f"/open311/v2/requests/{report}.{form}"
        return client.get(path, headers={"X-Trail-Secret": given})

    answer = followed(identity, secret)
    assert answer.headers["cache-control"] == "no-store"
    assert answer.json()[0]["extended_attributes"]["trail"] == [
        {"datetime": "2026-03-05T09:40:00+01:00", "what": "received", "state": "open311",
         "agency": None, "notes": None},
        {"datetime": "2026-03-05T09:40:09+01:00", "what": "order", "state": "HANDLED",
         "agency": "雨城雨水局", "notes": "已修复，联系 ***"},
    ]  # fmt: skip
    assert followed(identity, secret, "xml").text.count("<step>") == 2
    for report, wrong in ((identity, "x" * 16), (identity, ""), (other, secret)):
        assert followed(report, wrong).status_code == 404
        assert "step" not in followed(report, wrong, "xml").text
    assert "trail" not in get(f"requests/{identity}.json", extensions="true").text
    engine.error = OperationalError("gone")
    assert followed(identity, secret).status_code == 503


def test_a_report_in_review_is_open_and_says_why(get: Ask, engine: FakeEngine) -> None:
    identity = engine.add(
        1, outcome="review", reason="no_location", class_code="", lon=None, lat=None, event_id="",
        first_report_id="", unit_name="", due_at=None,
    )  # fmt: skip
    (shown,) = get(f"requests/{identity}.json").json()
    assert (shown["status"], shown["status_notes"]) == (
        "open",
        "In review by a person: no location.",
    )
    assert (shown["service_code"], shown["lat"], shown["expected_datetime"]) == ("2999", None, None)


@pytest.mark.parametrize(
    ("written", "shown"),
    [
        ("电话13812345678，勿公开", "电话***，勿公开"),
        ("138-1234-5678 or 0371-66668888", "*** or 0371-***"),
        ("410105199001011234", "***"),
        ("41010519900101123X", "***"),
        ("写信 wang@mail.example.cn 给我", "写信 *** 给我"),
        ("2026-03-17 08:30, 32 号楼 15 层, bus 904", "2026-03-17 08:30, 32 号楼 15 层, bus 904"),
    ],
)
def test_numbers_and_addresses_of_people_are_not_shown(
    get: Ask, engine: FakeEngine, written: str, shown: str
) -> None:
    engine.add(1, channel="open311", text=written, address=written)
    (request,) = get("requests.json").json()
    assert (request["description"], request["address"]) == (shown, shown)


def test_filters_go_to_the_engine_and_ids_override_them(get: Ask, engine: FakeEngine) -> None:
    day = 86_400_000
    start, end = "2026-03-01T00:00:00+01:00", "2026-03-02T00:00:00Z"
    assert get("requests.json", service_code="0101,0102,bogus", status="closed", start_date=start,
               end_date=end, page="3", page_size="20").status_code == 200  # fmt: skip
    last = engine.asked[-1]
    assert (last["class_codes"], last["status"]) == ("0101,0102", "closed")
    assert (last["limit"], last["offset"]) == (20, 40)
    assert (last["since"], last["until"]) == (
        NOW - 4 * day - 34_800_000,
        NOW - 3 * day - 31_200_000,
    )
    get("requests.json", status="open,closed", service_code="")
    assert (engine.asked[-1]["status"], engine.asked[-1]["class_codes"]) == ("", "")
    assert engine.asked[-1]["since"] == NOW - 90 * day
    assert get("requests.json", service_code="bogus").json() == []
    one, two = engine.add(1), engine.add(2)
    found = get("requests.json", service_request_id=f"{two},{one},not-one", status="closed").json()
    assert {request["service_request_id"] for request in found} == {one, two}
    assert engine.asked[-1]["ids"] == f"{two},{one}"


def test_the_newest_hour_is_asked_first_and_more_only_when_it_is_not_enough(
    get: Ask, engine: FakeEngine
) -> None:
    for number in range(3):
        engine.add(number)
    get("requests.json", page_size="3")
    pages = [asked for asked in engine.asked if asked["query"] == "open311_page"]
    assert [(asked["until"] - asked["since"]) for asked in pages] == [3_600_000]
    engine.asked.clear()
    get("requests.json", page_size="4")
    assert engine.asked[-1]["since"] == NOW  # no further back than the oldest of the page
    pages = [asked for asked in engine.asked if asked["query"] == "open311_page"]
    spans = [asked["until"] - asked["since"] for asked in pages]
    assert spans == sorted(spans)
    assert spans[-1] == 90 * 86_400_000


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"start_date": "yesterday"}, "start_date is no time"),
        ({"end_date": "2026-02-30T00:00:00Z"}, "end_date is no time"),
        ({"start_date": "2026-01-01T00:00:00Z", "end_date": "2026-05-01T00:00:00Z"}, "90 days"),
        ({"start_date": "2026-01-02T00:00:00Z", "end_date": "2026-01-01T00:00:00Z"}, "before"),
        ({"status": "pending"}, "status"),
        ({"page": "0"}, "page"),
        ({"page": "1e3"}, "page"),
        ({"page_size": "1001"}, "page_size"),
        ({"service_request_id": ",".join(map(str, range(IDS_LIMIT + 1)))}, "at most 50"),
        ({"service_code": "x" * 5_000}, "service_code"),
        ({"extensions": "maybe"}, "extensions"),
    ],
)
def test_a_filter_that_is_none_is_named(get: Ask, params: dict[str, str], words: str) -> None:
    answer = get("requests.json", **params)
    assert answer.status_code == 400
    assert words in errors(answer)[0]["description"]


def test_a_plus_that_was_not_escaped_is_a_plus(app: FastAPI, engine: FakeEngine) -> None:
    client = TestClient(app)
    for query in ("2026-03-01T00:00:00+01:00", "2026-03-01T00%3A00%3A00%2B01%3A00"):
        client.get(f"/open311/v2/requests.json?start_date={query}&end_date=2026-03-02T00:00:00Z")
    first, second = (asked for asked in engine.asked if asked["query"] == "open311_page"
                     and asked["until"] - asked["since"] == 90_000_000)  # fmt: skip
    assert first == second


def test_an_unknown_request_or_token_is_not_found_and_may_be_asked_again(get: Ask) -> None:
    assert get("requests/00000000-0000-5000-8000-000000000009.json").status_code == 404
    assert get("requests/'; DROP TABLE reports.json").status_code == 404
    answer = get("tokens/never-seen.json")
    assert answer.status_code == 404
    assert "not yet decided" in errors(answer)[0]["description"]


def test_a_token_of_a_decided_request_is_found_after_a_restart(
    get: Ask, engine: FakeEngine
) -> None:
    identity = report_id("open311", "tok", 0)
    engine.rows[identity] = engine.rows.pop(engine.add(1, channel="open311")) | {
        "report_id": identity
    }
    assert get("tokens/tok.json").json() == [{"service_request_id": identity, "token": "tok"}]


def test_without_clickhouse_requests_say_503_in_words_of_ours_and_the_rest_lives(
    get: Ask, post: Ask, engine: FakeEngine
) -> None:
    engine.error = OperationalError("Code: 241. secret host 10.0.0.1")
    identity = "00000000-0000-5000-8000-000000000001"
    for path in ("requests.json", f"requests/{identity}.json", "tokens/x.json"):
        answer = get(path)
        assert answer.status_code == 503
        assert "10.0.0.1" not in answer.text
        assert errors(answer)
    assert get("services.json").status_code == 200
    assert post().status_code == 200


def test_any_text_makes_valid_xml(get: Ask, engine: FakeEngine) -> None:
    text = "<b>&\x00\x01\ud800]]>\ufffe\"'\n\t井"
    engine.add(1, channel="open311", text=text)
    (entry,) = parse(get("requests.xml").content, "answer")
    assert entry.fields is not None
    assert entry.fields["description"] == "<b>&]]>\"'\n\t井"
    assert get("requests.json").json()[0]["description"].endswith("井")


# Documents


def test_the_documents_have_the_specifications_fields() -> None:
    fixtures = Path(__file__).resolve().parents[3] / "fixtures" / "open311" / "sferik_open311"
    for name, model in (("service_requests.xml", ServiceRequest), ("services.xml", Service)):
        (entry, *_) = parse((fixtures / name).read_bytes(), name)
        assert entry.fields is not None
        assert set(model.model_fields) - {"extended_attributes"} == set(entry.fields)
    (entry,) = parse((fixtures / "service_definition.xml").read_bytes(), "definition")
    assert entry.fields is not None
    assert set(Attribute.model_fields) == set(entry.fields["attribute"][0])


def test_attributes_that_are_wrong_are_refused_by_file_and_line(tmp_path: Path) -> None:
    assert [attribute.order for attribute in load_attributes()] == [1, 2, 3]
    path = tmp_path / "attributes.yaml"
    for text, words in (
        (
            "attributes:\n- {code: a, datatype: colour, description: b, order: 1}",
            ":1: attributes.0.datatype",
        ),
        (
            "attributes: [{code: a, datatype: singlevaluelist, description: b, order: 1}]",
            ":1: .* values",
        ),
        ("attribute: []", ":1: attribute"),
    ):
        path.write_text(text)
        with pytest.raises(QuanyuError, match=rf"attributes\.yaml{words}"):
            load_attributes(path)


def test_an_empty_list_is_an_empty_document() -> None:
    assert parse(render("services", [], "xml"), "answer") == []
    assert render("services", [], "json") == b"[]"


def test_the_interface_is_as_it_describes_itself(app: FastAPI, engine: FakeEngine) -> None:
    """Whatever is sent, no server error, and only statuses, types and fields that are described."""
    engine.add(1)
    described = schemathesis.openapi.from_asgi("/openapi.json", app)
    checks = [
        not_a_server_error,
        status_code_conformance,
        content_type_conformance,
        response_schema_conformance,
    ]
    tried = 0
    for result in described.get_all_operations():
        assert isinstance(result, Ok)

        @hypothesis_settings(
            max_examples=8, derandomize=True, database=None, deadline=None,
            suppress_health_check=list(HealthCheck),
        )  # fmt: skip
        @given(case=result.ok().as_strategy())
        def holds(case: Any) -> None:
            case.call_and_validate(checks=checks, params={**case.query, "api_key": KEY})

        holds()
        tried += 1
    assert tried == 14
