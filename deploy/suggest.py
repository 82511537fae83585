"""``POST /suggest``: what a report that somebody is writing is about, where it is, whether it is known already.

:class:`Adviser` is pure: the very functions of the agents (:mod:`streams.intake`, :mod:`streams.merge`) over
one text, one place and the open events that ``events_nearby`` found around it. Nothing is stored; the report
itself comes through its channel. What is missing is asked for in the words of ``questions.yaml``.
"""

import asyncio
import base64
import binascii
import gc
import hashlib
import re
import threading
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from math import cos, inf, radians
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from fastapi import APIRouter, Request, Security
from fastapi.responses import JSONResponse
from fastapi.security import APIKeyHeader
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from connectors.http_push import read_body
from connectors.refusal import Refusal, Refused
from deploy.open_events import OpenEvents
from deploy.vision import Described, Vision, media_type
from schemas.channels import load_channels
from schemas.city import UNCLASSIFIED, CityPack, load_city
from schemas.documents import read_document
from schemas.errors import QuanyuError
from schemas.grids import LEVELS, METRES_PER_DEGREE, SPECIAL, level_of
from schemas.instants import parse_instant
from schemas.keys import Keys
from schemas.merge_policy import MergePolicy, city_policy
from schemas.queries import connect, run
from schemas.settings import Settings
from schemas.texts import clean
from streams.intake.classify import Classified, Classifier, ReportTexts
from streams.intake.locate import Located, Locator, Place
from streams.intake.normalise import plausible
from streams.intake.privacy import mask
from streams.merge.decide import to_seen
from streams.merge.likeness import metres
from streams.merge.place import HOUR_MS, NAMESAKE_M, OPENING, TAPPED_M, Changes, Placer
from streams.merge.state import MergeState

log = structlog.get_logger("suggest")

#: Named queries that are asked here and not by the screen.
QUERIES = ("events_nearby", "opening_reports", "events_changed")
QUESTIONS = Path(__file__).parent / "questions.yaml"
#: Characters, as intake takes them; so much of a text is held against those of events.
TEXT_LIMIT, COMPARED = 100_000, 2_000
#: A photo as telephones send it, and a body with it in base64.
PHOTO_LIMIT = 6 * 1024 * 1024
BODY_LIMIT = PHOTO_LIMIT * 4 // 3 + 1024 * 1024
BODY_S = 20.0
#: Rows of events that are read, events that are compared (the nearest), and that are told.
ROWS_READ, COMPARED_EVENTS, TOLD_EVENTS = 500, 50, 5
#: Opening reports that are kept: what they say never changes, and many ask about the same events.
REPORTS_KEPT = 5_000
#: Suggestions at once; so many more may wait, each for milliseconds.
THREADS, WAITING = 4, 64
#: A person waits: events that are not there by then are left out, and not asked for again for a while.
CONNECT_S, ANSWER_S, PAUSE_S = 1, 1, 2.0
#: Open events in memory are refreshed at this age, beside the answers; older than the second, not used.
REFRESH_S, STALE_S = 1.0, 10.0
#: The first time there are many, and nobody waits.
REFRESH_LIMIT_S = 30
NO_PHOTO = Described("none")
_CODE = re.compile(r"(?<![0-9])\d{6,18}(?:Z\d{3})?(?![0-9])")
_STREET, _COMMUNITY = LEVELS["street"], LEVELS["community"]
#: What can be missing, each with its question: intake's reasons, and what only a person is asked.
MATTER, CLASS, PLACE, TIME = "matter", "class", "place", "time"
ASKED = {
    MATTER: ("empty",),
    CLASS: ("class_unknown", "class_unsure"),
    PLACE: (
        *("no_location", "place_coarse", "ambiguous_place", "place_conflict", "outside_city"),
        *("null_island", "bad_coordinate", "rounded_point", "unknown_crs"),
    ),
    TIME: ("no_time", "impossible_date"),
}
_WHAT = {reason: what for what, reasons in ASKED.items() for reason in reasons}
Row = Mapping[str, Any]
#: What is known of an opening report that is still on its way.
UNSAID: Row = {"text": "", "device": "", "alarm_state": "", "media": []}


class _Answer(BaseModel):
    model_config = ConfigDict(frozen=True)


class Ask(BaseModel):
    """What is known of a report that is being written; everything may be missing."""

    model_config = ConfigDict(extra="forbid", strict=True, allow_inf_nan=False, frozen=True)

    text: str = Field(default="", max_length=TEXT_LIMIT, description="What the person says.")
    address: str = Field(default="", max_length=1000, description="What is said of the place.")
    lon: float | Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description="Longitude, or east of the city's plane; as it was measured."
    )
    lat: float | Annotated[str, Field(max_length=40)] | None = Field(
        default=None, description="Latitude, or north."
    )
    crs: str = Field(
        default="",
        max_length=20,
        description="WGS84, CGCS2000, GCJ02, BD09 or CITY; goes with a point.",
    )
    occurred_at: str = Field(
        default="", max_length=40, description="When; ISO 8601, or as cities write."
    )
    photo: str = Field(
        default="",
        max_length=BODY_LIMIT,
        description=f"JPEG, PNG, WebP or GIF, in base64 or as data URL; at most {PHOTO_LIMIT} bytes.",
    )


class ClassGuess(_Answer):
    """A class of the taxonomy and how probable it is, 0 to 1."""

    code: str
    name: str
    class_name: str
    probability: float


class GridStep(_Answer):
    """A grid that holds the place, at one level."""

    level: str
    code: str
    name: str


class Near(_Answer):
    """A known open event that this may be.

    ``same``: a report with this class and these words would join it; else a person decides.
    """

    event_id: str
    class_code: str
    class_name: str
    title: str
    address: str
    report_count: int
    distance_m: float | None = Field(description="Null when either has no point.")
    age_s: int = Field(description="Since it was opened.")
    same: bool
    score: float
    why: str


class Missing(_Answer):
    """A detail to ask for."""

    what: str = Field(description="matter, class, place or time.")
    reason: str
    question: str


class Suggestion(_Answer):
    """What can be said of the report by now."""

    classes: list[ClassGuess] = Field(description="The best three, best first.")
    class_method: str = Field(description="model, keyword; empty without a class.")
    class_sure: bool = Field(description="Whether intake would take the first without a person.")
    grids: list[GridStep] = Field(description="Coarse to fine, as far as certain.")
    place_method: str = Field(description="point, name or both; empty without a place.")
    place_confidence: float
    place_reason: str = Field(description="Why there is no place; empty when there is one.")
    events: list[Near]
    events_state: str = Field(description="known; unasked without class or place; unavailable.")
    missing: list[Missing]
    photo: str = Field(description="none, described or unavailable.")
    photo_reason: str
    photo_description: str


class Questions(BaseModel):
    """``questions.yaml``: what is asked when something is missing, and how people say when."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    questions: dict[str, str]
    time_words: list[str]
    photo_prompt: str

    @field_validator("questions")
    @classmethod
    def _whole(cls, questions: dict[str, str]) -> dict[str, str]:
        wrong = sorted(_WHAT.keys() ^ questions.keys())
        if wrong:
            state = "is missing" if wrong[0] in _WHAT else "is never asked"
            raise ValueError(f"{wrong[0]} {state}")
        return questions


def city_questions(city: CityPack) -> Questions:
    """The pack's ``questions.yaml``, else ours; :class:`QuanyuError` names what is wrong in it."""
    own = city.folder / "questions.yaml"
    return read_document(own if own.exists() else QUESTIONS, Questions)


class Looked(NamedTuple):
    """What the report says of itself, before anybody else's is known. Texts are cleaned and masked."""

    text: str
    address: str
    classified: Classified | None
    located: Located
    occurred_ms: int | None
    #: Why it is not known when: no_time, impossible_date; empty when it is, in the field or in words.
    time_reason: str
    photo_sha256: str
    described: Described


class Adviser:
    """The decisions of one city's agents, for one report at a time. Pure; reads the city when it is made.

    Raises :class:`QuanyuError` when grids, model or questions of the pack cannot be read.
    """

    def __init__(self, city: CityPack, policy: MergePolicy | None = None) -> None:
        self._city = city
        self._policy = policy or city_policy(city)
        self._classifier = Classifier(city)
        self._locator = Locator(city)
        self._placer = Placer(self._policy, city.district_names)
        self.questions = city_questions(city)
        self._names = {street.code: street.name for street in city.streets}
        self._names |= {community.code: community.name for community in city.communities}
        for level in (*LEVELS, SPECIAL):
            self._names |= {code: name for code, name, _ in city.grids.names(level)}
        self._alike = {code: group for group in self._policy.alike for code in group}

    def look(
        self,
        ask: Ask,
        now_ms: int,
        described: Described = NO_PHOTO,
        photo_sha256: str = "",
    ) -> Looked:
        """Class and place, by intake's own steps. A photo's words tell what it is, never where."""
        text, address = clean(ask.text), clean(ask.address)
        words = "。".join(filter(None, (text, described.text)))
        occurred = parse_instant(ask.occurred_at, self._city.time_zone) if ask.occurred_at else None
        if occurred is not None and not plausible(occurred, now_ms):
            occurred = None
        place = Place(
            clean(_number(ask.lon)), clean(_number(ask.lat)), clean(ask.crs).upper().replace("-", ""),
            "", "", (address, "", text), occurred.ms if occurred else now_ms,
        )  # fmt: skip
        (classified,) = self._classifier.classify([ReportTexts("", "", words)])
        (located,) = self._locator.locate([place])
        time_reason = ""
        if ask.occurred_at:
            time_reason = "" if occurred else "impossible_date"
        elif not any(word in text for word in self.questions.time_words):
            time_reason = "no_time"
        return Looked(
            mask(text or described.text).text, mask(address).text, classified, located,
            occurred.ms if occurred else None, time_reason, photo_sha256, described,
        )  # fmt: skip

    def nearby(self, looked: Looked, now_ms: int) -> dict[str, str | int] | None:
        """Parameters of ``events_nearby``: as far as merge would look. None without class or place."""
        codes = self._codes(looked)
        located = looked.located
        if not codes or not located.zone:
            return None
        rules = [self._policy.rule(code) for code in codes]
        found: dict[str, str | int] = {
            "since": now_ms - round(max(rule.hours for rule in rules) * HOUR_MS),
            "until": now_ms,
            "zone": located.zone,
            "class_codes": ",".join(sorted({c for code in codes for c in self._group(code)})),
            "grid": located.grid[:_STREET],
            "limit": ROWS_READ,
        }
        if located.lon is not None and located.lat is not None:
            reach = (
                max(NAMESAKE_M, *(rule.radius_m + TAPPED_M for rule in rules)) / METRES_PER_DEGREE
            )
            wide = reach / cos(radians(located.lat))
            box = {
                "west": located.lon - wide, "east": located.lon + wide,
                "south": located.lat - reach, "north": located.lat + reach,
            }  # fmt: skip
            found |= {side: round(degrees * 1e6) for side, degrees in box.items()}
        return found

    def alike(self, looked: Looked, rows: Sequence[Row], now_ms: int) -> list[Near]:
        """Which events merge would join, or put before a person, each asked by itself; likeliest first.

        An event counts as its opening report made it; what it learnt from later ones only merge knows.
        """
        codes = self._codes(looked)
        found: list[Near] = []
        for row in rows:
            code = next((c for c in codes if row["class_code"] in self._group(c)), None)
            near = self._near(looked, code, row, now_ms) if code else None
            if near is not None:
                found.append(near)
        found.sort(key=lambda near: (not near.same, -near.score, near.event_id))
        return found[:TOLD_EVENTS]

    def answer(self, looked: Looked, events: list[Near], events_state: str) -> Suggestion:
        """Everything that can be said."""
        classified, located, described = looked.classified, looked.located, looked.described
        top = classified.top if classified else ()
        return Suggestion(
            classes=[
                ClassGuess(
                    code=code,
                    name=self._city.classes[code].name,
                    class_name=self._city.classes[code].class_name,
                    probability=round(chance, 4),
                )
                for code, chance in top
            ],
            class_method=classified.method if classified else "",
            class_sure=bool(classified and classified.sure),
            grids=self._steps(located.grid),
            place_method=located.method,
            place_confidence=round(located.confidence, 4),
            place_reason=located.reason,
            events=events,
            events_state=events_state,
            missing=self._missing(looked),
            photo=described.state,
            photo_reason=described.reason,
            photo_description=described.text,
        )

    def _near(self, looked: Looked, code: str, row: Row, now_ms: int) -> Near | None:
        """One event as merge sees it: its opener is placed, then this report."""
        located = looked.located
        opener = to_seen(
            {
                **row,
                "report_id": row["first_report_id"],
                "received_at": row["opened_at"],
                "channel": "",
                "native_id": row["first_report_id"],
                "forwarded_from": None,
                "reporter_hash": "",
            },
            self._policy,
        )
        received = max(now_ms, opener.received_at + 1)
        asked = to_seen(
            {
                "report_id": "",
                "occurred_at": received if looked.occurred_ms is None else looked.occurred_ms,
                "received_at": received,
                "channel": "",
                "native_id": "",
                "forwarded_from": None,
                "class_code": code,
                "zone": located.zone,
                "lon": located.lon,
                "lat": located.lat,
                "district_code": located.district,
                "grid_code": located.grid,
                "title": "",
                "address": looked.address,
                "text": looked.text[:COMPARED],
                "reporter_hash": "",
                "media": [f"sha256:{looked.photo_sha256}"] if looked.photo_sha256 else [],
                "device": "",
                "alarm_state": "",
            },
            self._policy,
        )
        state, changes = MergeState(), Changes()
        self._placer.place(state, opener, changes)
        self._placer.place(state, asked, changes)
        same = bool(opener.event) and asked.event == opener.event and asked.relation not in OPENING
        if not same and (not asked.candidate or asked.candidate != opener.event):
            return None
        distance = None
        if None not in (located.lon, located.lat, row["lon"], row["lat"]):
            distance = round(
                metres(located.lon or 0.0, located.lat or 0.0, row["lon"], row["lat"]), 1
            )
        return Near(
            event_id=row["event_id"],
            class_code=row["class_code"],
            class_name=self._class_name(row["class_code"]),
            title=row["title"],
            address=row["address"],
            report_count=row["report_count"],
            distance_m=distance,
            age_s=max(0, (now_ms - row["opened_at"]) // 1000),
            same=same,
            score=round(asked.score, 3),
            why=asked.reason,
        )

    def _missing(self, looked: Looked) -> list[Missing]:
        """What a person should be asked, in the order of asking."""
        classified, located = looked.classified, looked.located
        found: list[Missing] = []

        def missing(reason: str, choices: Sequence[str] = ()) -> None:
            text = self.questions.questions[reason].replace("{choices}", "、".join(choices))
            found.append(Missing(what=_WHAT[reason], reason=reason, question=text))

        if not looked.text:
            missing("empty")
        elif classified is None or classified.code == UNCLASSIFIED:
            missing("class_unknown")
        elif not classified.sure:
            names = [self._class_name(code) for code, _ in classified.top if code != UNCLASSIFIED]
            missing("class_unsure", names)
        if located.reason:
            missing(located.reason, [self._path(code) for code in _CODE.findall(located.detail)])
        elif located.lon is None and len(located.grid) < _COMMUNITY:
            missing("place_coarse")
        if looked.time_reason:
            missing(looked.time_reason)
        return found

    def _codes(self, looked: Looked) -> list[str]:
        """The classes that it may be, best first."""
        top = looked.classified.top if looked.classified else ()
        return [code for code, _ in top if code != UNCLASSIFIED]

    def _group(self, code: str) -> list[str]:
        return self._alike.get(code, [code])

    def _class_name(self, code: str) -> str:
        found = self._city.classes.get(code)
        return found.name if found else code

    def _steps(self, grid: str) -> list[GridStep]:
        codes = [grid[:n] for n in LEVELS.values() if n < len(grid)] if grid else []
        if level_of(grid) == SPECIAL:
            codes = [code for code in codes if len(code) <= _COMMUNITY]
        return [
            GridStep(level=level_of(code), code=code, name=self._name(code))
            for code in [*codes, *filter(None, (grid,))]
        ]

    def _name(self, code: str) -> str:
        if len(code) == LEVELS["district"]:
            return self._city.district_name(code)
        return self._names.get(code, code)

    def _path(self, grid: str) -> str:
        return "".join(step.name for step in self._steps(grid))


def _number(value: float | str | None) -> str:
    """A coordinate as intake reads them: its decimals say how well it is known."""
    return "" if value is None else str(value)


class Service:
    """One installation's adviser, events and vision; reads the city when it is first asked or warmed."""

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        self.keys = Keys(settings.keys_path)
        self.vision: Vision | None = None
        self._lock = threading.Lock()
        self._adviser: Adviser | None = None
        self._client: Client | None = None
        self._paused_until = 0.0
        self.warmed = False
        self._said: dict[str, Row] = {}
        self._reader: Client | None = None
        self._open = OpenEvents(self._changed)
        self._refreshed_at = self._tried_at = -inf
        self._refreshing = threading.Lock()

    def adviser(self) -> Adviser:
        """The adviser, made once."""
        with self._lock:
            if self._adviser is None:
                self._adviser = Adviser(load_city(self.settings.city))
            return self._adviser

    def renew(self, adviser: Adviser) -> None:
        """Suggest by another pack from the next question on."""
        with self._lock:
            self._adviser = adviser
            self.vision = None  # asks in the pack's words

    def warm(self) -> None:
        """Read the city before somebody waits for it; what is wrong is told, and again to who asks."""
        try:
            advise(self, Ask(), NO_PHOTO, "")
        except QuanyuError as error:
            log.warning("no suggestions", error=str(error))
        self._refresh()
        # The city stays; to look through it for garbage would stop everybody for a tenth of a second.
        gc.collect()
        gc.freeze()
        self.warmed = True

    def events(self, nearby: Mapping[str, str | int]) -> list[dict[str, Any]] | None:
        """Open events as ``events_nearby`` tells them, with opening reports; None when ClickHouse does not
        answer in time. While many ask they come from memory and may be some seconds old."""
        if time.monotonic() < self._paused_until:
            return None
        self._refresh()
        fresh = time.monotonic() - self._refreshed_at <= STALE_S and self._open.covers(nearby)
        try:
            if self._client is None:
                self._client = self._connected(ANSWER_S)
            rows = (
                self._open.near(nearby) if fresh else run(self._client, "events_nearby", **nearby)
            )
            events = nearest(rows, nearby)
            self._read_reports(self._client, events)
        except (ClickHouseError, OSError) as error:
            self._paused_until = time.monotonic() + PAUSE_S
            log.warning("events unknown", error=type(error).__name__)
            return None
        said = self._said
        return [{**event, **said.get(event["first_report_id"], UNSAID)} for event in events]

    def _read_reports(self, client: Client, events: Sequence[Row]) -> None:
        """Read what is not known yet of the events' opening reports."""
        said = self._said
        unread = [event for event in events if event["first_report_id"] not in said]
        for start in range(0, len(unread), COMPARED_EVENTS):
            some = unread[start : start + COMPARED_EVENTS]
            opened = [event["opened_at"] for event in some]
            reports = run(
                client,
                "opening_reports",
                ids=",".join(event["first_report_id"] for event in some),
                since=min(opened),
                until=max(opened),
            )
            if len(said) > REPORTS_KEPT:
                said = self._said = {}
            # One that is not there after a minute will not come; it is not asked for for ever.
            late = time.time() * 1000 - 60_000
            said.update((e["first_report_id"], UNSAID) for e in some if e["opened_at"] < late)
            said.update((report["report_id"], report) for report in reports)

    def _refresh(self) -> None:
        """Keep the open events in memory fresh while somebody asks, beside the answers."""
        now = time.monotonic()
        if now - self._tried_at > REFRESH_S and self._refreshing.acquire(blocking=False):
            self._tried_at = now
            threading.Thread(target=self._read_open, name="open-events", daemon=True).start()

    def _read_open(self) -> None:
        began = time.monotonic()
        try:
            self._open.refresh(int(time.time() * 1000))
            self._refreshed_at = began
            if self._reader is not None:
                self._read_reports(self._reader, self._open.newest(REPORTS_KEPT // 2))
        except (ClickHouseError, OSError) as error:
            log.warning("open events not refreshed", error=type(error).__name__)
        finally:
            self._refreshing.release()

    def _changed(self, **asked: int) -> list[Row]:
        if self._reader is None:
            self._reader = self._connected(REFRESH_LIMIT_S)
        return list(run(self._reader, "events_changed", **asked))

    def _connected(self, answer_s: int) -> Client:
        return connect(self.settings, connect_s=CONNECT_S, answer_s=answer_s, at_once=THREADS)

    def accepts(self, key: str) -> bool:
        """Whether it is a key of any channel that proves itself by one: who may report may ask."""
        return sum(self.keys.accepts(name, key) for name in _with_keys()) > 0


def nearest(rows: Sequence[Row], nearby: Mapping[str, str | int]) -> list[Row]:
    """Of versions, each event's newest before its others: the open events, nearest to the box's middle first.

    At most :data:`COMPARED_EVENTS`; those without a point come last, newest first.
    """
    newest: dict[str, Row] = {}
    for row in rows:
        newest.setdefault(row["event_id"], row)
    box = [int(nearby.get(side, 0)) / 1e6 for side in ("west", "east", "south", "north")]
    lon, lat = (box[0] + box[1]) / 2, (box[2] + box[3]) / 2

    def away(event: Row) -> float:
        if not lon or event["lon"] is None or event["lat"] is None:
            return inf
        return metres(lon, lat, event["lon"], event["lat"])

    found = [event for event in newest.values() if event["status"] == "open"]
    return sorted(found, key=away)[:COMPARED_EVENTS]


def advise(service: Service, ask: Ask, described: Described, photo_sha256: str) -> Suggestion:
    """The suggestion at this moment; :class:`QuanyuError` when the city's pack cannot be read."""
    adviser, now_ms = service.adviser(), int(time.time() * 1000)
    looked = adviser.look(ask, now_ms, described, photo_sha256)
    nearby = adviser.nearby(looked, now_ms)
    rows = service.events(nearby) if nearby else []
    if rows is None:
        return adviser.answer(looked, [], "unavailable")
    return adviser.answer(
        looked, adviser.alike(looked, rows, now_ms), "known" if nearby else "unasked"
    )


def router(service: Service) -> APIRouter:
    """``POST /suggest``."""
    routes = APIRouter(tags=["suggest"])
    threads = ThreadPoolExecutor(THREADS, "suggest")
    waiting = 0

    async def answered(request: Request) -> Suggestion:
        nonlocal waiting
        if not service.accepts(request.headers.get("x-api-key", "")):
            raise Refused(401, "key", "X-API-Key is missing or not the key of a channel")
        _readable(request)
        ask = read_ask(await read_body(request, BODY_LIMIT, BODY_S))
        photo = read_photo(ask.photo)
        if waiting >= WAITING:
            raise Refused(
                429, "busy", "too many ask at once; ask again", headers={"Retry-After": "1"}
            )
        waiting += 1
        try:
            loop = asyncio.get_running_loop()
            described = NO_PHOTO
            if photo:
                if service.vision is None:
                    adviser = await loop.run_in_executor(threads, service.adviser)
                    service.vision = Vision(service.settings, adviser.questions.photo_prompt)
                described = await service.vision.describe(photo)
                if described.reason not in ("", "not_configured"):
                    log.warning("photo not described", reason=described.reason)
            digest = hashlib.sha256(photo).hexdigest() if photo else ""
            return await loop.run_in_executor(threads, advise, service, ask, described, digest)
        except QuanyuError as error:
            log.warning("no suggestions", error=str(error))
            raise Refused(
                503, "city_not_ready", "the city's pack cannot be read; see the log",
                headers={"Retry-After": "60"},
            ) from None  # fmt: skip
        finally:
            waiting -= 1

    @routes.post(
        "/suggest",
        response_model=Suggestion,
        responses=_responses(),
        openapi_extra={
            "requestBody": {
                "required": True,
                "content": {"application/json": {"schema": Ask.model_json_schema()}},
            }
        },
        dependencies=[
            Security(APIKeyHeader(name="X-API-Key", scheme_name="key", auto_error=False))
        ],
    )
    async def suggest(request: Request) -> JSONResponse:
        """Classes, grids, known events and missing details of a report that is being written."""
        try:
            found = await answered(request)
        except Refused as refused:
            return _refusal(refused)
        return JSONResponse(found.model_dump(), headers={"Cache-Control": "no-store"})

    @routes.api_route(
        "/suggest",
        methods=["GET", "HEAD", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE"],
        include_in_schema=False,
    )
    async def elsewhere(request: Request) -> JSONResponse:
        return _refusal(
            Refused(405, "method", f"{request.method} is not POST", headers={"Allow": "POST"})
        )

    return routes


def read_ask(body: bytes) -> Ask:
    """The request; :class:`Refused` names the field at fault and repeats nothing of what it holds."""
    try:
        return Ask.model_validate_json(body)
    except ValidationError as error:
        first = error.errors(include_input=False, include_url=False)[0]
    kind, message = first["type"], first["msg"]
    if not first["loc"]:
        reason = "not_json" if kind == "json_invalid" else "not_object"
        raise Refused(400, reason, f"the body is no object of JSON: {message}")
    field = str(first["loc"][0])[:60]
    if kind == "string_too_long":
        raise Refused(413, "text_too_long", f"{field}: {message}", field)
    if kind == "extra_forbidden":
        raise Refused(400, "unknown_field", f"there is no such field; known: {_FIELDS}", field)
    raise Refused(400, "bad_field", f"{field}: {message}", field)


def read_photo(photo: str) -> bytes:
    """The photo's bytes, none when there is none; :class:`Refused` when it is none, or too large."""
    if not photo:
        return b""
    if photo.startswith("data:"):
        head, _, photo = photo.partition(",")
        if not head.endswith(";base64"):
            raise Refused(400, "bad_photo", "a data URL of a photo is in base64", "photo")
    try:
        data = base64.b64decode(photo, validate=True)
    except (binascii.Error, ValueError):
        raise Refused(400, "bad_photo", "the photo is not base64", "photo") from None
    if len(data) > PHOTO_LIMIT:
        raise Refused(
            413, "photo_too_large", f"the photo is larger than {PHOTO_LIMIT} bytes", "photo"
        )
    if not media_type(data):
        raise Refused(400, "not_an_image", "send JPEG, PNG, WebP or GIF", "photo")
    return data


_FIELDS = ", ".join(Ask.model_fields)


def _with_keys() -> list[str]:
    found = load_channels().items()
    return [n for n, spec in found if spec.transports.http and not spec.transports.http.signed]


def _readable(request: Request) -> None:
    """Refuse what is no JSON before it is read; a few kilobytes may inflate to gigabytes."""
    coding = request.headers.get("content-encoding", "").strip().lower()
    if coding not in ("", "identity"):
        raise Refused(
            415,
            "content_encoding",
            "send the body as it is",
            headers={"Accept-Encoding": "identity"},
        )
    kind = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if kind not in ("application/json", ""):
        raise Refused(415, "content_type", "send application/json")


def _refusal(refused: Refused) -> JSONResponse:
    return JSONResponse(
        refused.body.model_dump(exclude_none=True), refused.status, headers=refused.headers
    )


def _responses() -> dict[int | str, dict[str, Any]]:
    meanings = {
        400: "No JSON, a field that is none of these, or a photo that is none.",
        401: "No key of a channel.",
        408: "The body came too slowly.",
        413: "Text or photo is too large.",
        415: "Not JSON; or compressed.",
        429: "Too many at once.",
        503: "The city's pack cannot be read.",
    }
    found: dict[int | str, dict[str, Any]] = {
        code: {"model": Refusal, "description": meaning} for code, meaning in meanings.items()
    }
    for code in (429, 503):
        found[code]["headers"] = {
            "Retry-After": {
                "description": "Seconds.",
                "required": True,
                "schema": {"type": "integer", "minimum": 1},
            }
        }
    return found
