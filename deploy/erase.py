"""A reporter's personal data, erased on request: what goes at once, what ages out and until when.

At once, in ClickHouse: title, words, address, the point as received, photos' references and the hash of who
reported, of each of the reporter's reports, and title and address of the events that they opened; photos of
this home that no other reporter sent too. What stays is the matter: its class, place and times, so that no
number changes. In Kafka single records cannot be taken out of a log: they age out with their topics, the latest
dead letter after 90 days and a segment's day. The state of merge keeps title and address of an event while it
is open or may recur: a later version of the event brings them back, and :func:`again` erases them again.

Who asked is kept as the keyed hash alone, in the people's log: it is needed to do it again, and after a replay.
"""

import contextlib
import re
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from deploy.desk import Desk
from schemas.errors import QuanyuError
from schemas.secrets import load_hash_key
from schemas.settings import Settings
from schemas.tables import connect
from schemas.texts import clean
from schemas.topics import DAY_MS, load_retention
from streams.intake.privacy import reporter_hash

#: What stands in place of a title, so that a screen shows why nothing is there.
ERASED = "[已删除]"
#: Ids in one statement.
CHUNK = 1_000
#: A segment is closed after a day, and the broker looks every five minutes.
SEGMENT_MS = DAY_MS
_HASH = re.compile(r"[0-9a-f]{32}")
_DIGEST = re.compile(r"sha256:([0-9a-f]{64})")
#: How long a register of erasures is worth repeating: nothing of then stands in Kafka any more.
REGISTER_DAYS = 100


@dataclass(frozen=True, slots=True)
class Ageing:
    """A topic that still holds the data, and when the last of it is gone (ms since 1970)."""

    topic: str
    personal: str
    days: int
    gone_by: int


@dataclass(frozen=True, slots=True)
class Erased:
    """What was erased at once, and what ages out; of a dry run: what would be."""

    reporter: str
    dry_run: bool
    reports: int
    events: int
    photos: int
    ageing: list[Ageing] = field(default_factory=list)


def hash_of(settings: Settings, reporter: str) -> str:
    """The keyed hash of a telephone number or an account as channels send it; a hash is taken as it is."""
    text = clean(reporter)
    if not text:
        raise QuanyuError("--reporter is empty: give a telephone number, an account, or its hash")
    return text if _HASH.fullmatch(text) else reporter_hash(load_hash_key(settings), text)


def erase(settings: Settings, reporter: str, *, dry_run: bool, actor: str = "operator") -> Erased:
    """Erase what one hash reported; safe to repeat, also after it was cut off anywhere.

    Raises :class:`QuanyuError` when ClickHouse does not answer; what was not erased by then is found again.
    """
    with _tables(settings) as tables:
        found = tables.reports("reporter_hash = {reporter:String}", {"reporter": reporter})
        # Who is erased already is known by the log alone: what merge wrote since is found by the reports' ids.
        ids = [identity for identity, _ in found]
        events = tables.opened_by(ids)
        photos = [p for p in _photos(settings, found) if not tables.others_sent(p.name, reporter)]
        if not dry_run and found:
            # The reports last: by their hash all of it is found again when this is cut off.
            tables.forget_events(ids)
            for photo in photos:
                photo.unlink(missing_ok=True)
            tables.forget_reports("reporter_hash = {reporter:String}", {"reporter": reporter})
        done = Erased(reporter, dry_run, len(found), events, len(photos), ageing(_now()))
    if not dry_run:
        with contextlib.closing(Desk(settings)) as desk:
            desk.write(
                kind="erase", action="erase", target=reporter, actor=actor, role="operator",
                detail=f"{done.reports} reports, {done.events} events, {done.photos} photos",
            )  # fmt: skip
    return done


def again(settings: Settings, *, dry_run: bool) -> list[Erased]:
    """Erase once more who was erased lately, and the events of every erased report that merge wrote since."""
    with _tables(settings) as tables:
        since = _now() - REGISTER_DAYS * DAY_MS
        known = tables.register(since)
        ids = tables.erased_reports(since)
        back = tables.opened_by(ids)
        if back and not dry_run:
            tables.forget_events(ids)
    done = [erase(settings, reporter, dry_run=dry_run) for reporter in known]
    return [*done, Erased("events of erased reports", dry_run, 0, back, 0)] if back else done


def expired(settings: Settings, *, dry_run: bool) -> Erased:
    """Erase the personal columns that are older than ``topics.yaml`` lets them stay."""
    days = {one.table: one.table_personal_days for one in load_retention() if one.table}
    with _tables(settings) as tables:
        found = 0
        given: dict[str, Any] = {}
        if (limit := days.get("reports")) is not None:
            condition = "received_at < fromUnixTimestamp64Milli({before:Int64}) AND title != {erased:String}"
            given = {"before": _now() - limit * DAY_MS, "erased": ERASED}
            reports = tables.reports(condition, given)
            found = len(reports)
            if found and not dry_run:
                for photo in _photos(settings, reports):
                    photo.unlink(missing_ok=True)
                tables.forget_reports(condition, given)
        events = 0
        if (limit := days.get("events")) is not None:
            events = tables.forget_old_events(_now() - limit * DAY_MS, dry_run)
    return Erased("all", dry_run, found, events, 0)


def ageing(now_ms: int) -> list[Ageing]:
    """Which topics hold personal data that stood there until now, and when the last of it is gone."""
    return [
        Ageing(one.topic, one.personal, one.days, now_ms + one.days * DAY_MS + SEGMENT_MS)
        for one in load_retention()
        if one.personal
    ]


def _photos(settings: Settings, reports: Sequence[tuple[str, list[str]]]) -> list[Path]:
    digests = {d for _, media in reports for one in media for d in _DIGEST.findall(one)}
    paths = [settings.home / "media" / digest[:2] / digest for digest in sorted(digests)]
    return [path for path in paths if path.exists()]


class _Tables:
    """The statements; every value is bound by ClickHouse."""

    def __init__(self, client: Client, settings: Settings) -> None:
        self._client = client
        self._client.database = settings.clickhouse_database
        cluster = settings.clickhouse_cluster
        self._local = "_local" if cluster else ""
        self._on = " ON CLUSTER {cluster:Identifier}" if cluster else ""
        self._given: dict[str, Any] = {"cluster": cluster} if cluster else {}

    def reports(self, condition: str, given: dict[str, Any]) -> list[tuple[str, list[str]]]:
        """Id and media of the reports that match."""
        sql = f"SELECT report_id, media FROM reports WHERE {condition}"  # noqa: S608 # constants of ours
        rows = self._client.query(sql, parameters=given).result_rows
        return [(str(identity), list(media)) for identity, media in rows]

    def register(self, since: int) -> list[str]:
        """Hashes that were erased since."""
        rows = self._client.query(
            "SELECT DISTINCT target FROM action_outcomes WHERE kind = 'erase' "
            "AND decided_at >= fromUnixTimestamp64Milli({since:Int64}) ORDER BY target",
            parameters={"since": since},
        ).result_rows
        return [str(target) for (target,) in rows]

    def erased_reports(self, since: int) -> list[str]:
        """Reports of late whose words are erased."""
        rows = self._client.query(
            "SELECT report_id FROM reports WHERE title = {erased:String} AND text = '' "
            "AND received_at >= fromUnixTimestamp64Milli({since:Int64})",
            parameters={"erased": ERASED, "since": since},
        ).result_rows
        return [str(identity) for (identity,) in rows]

    def opened_by(self, reports: Sequence[str]) -> int:
        """How many events that these reports opened still show their words."""
        return sum(
            int(
                self._client.query(
                    "SELECT uniqExact(event_id) FROM events WHERE has({ids:Array(String)}, first_report_id) "
                    "AND (title != {erased:String} OR address != '')",
                    parameters={"ids": some, "erased": ERASED},
                ).result_rows[0][0]
            )
            for some in _chunks(reports)
        )

    def others_sent(self, digest: str, reporter: str) -> bool:
        """Whether somebody else's report has the same photo."""
        rows = self._client.query(
            "SELECT 1 FROM reports WHERE reporter_hash != {reporter:String} "
            "AND arrayExists(m -> position(m, {digest:String}) > 0, media) LIMIT 1",
            parameters={"reporter": reporter, "digest": digest},
        ).result_rows
        return bool(rows)

    def forget_events(self, reports: Sequence[str]) -> None:
        """Title and address of what these reports opened, in every version."""
        for some in _chunks(reports):
            self._alter(
                "events",
                "title = {erased:String}, address = '' WHERE has({ids:Array(String)}, first_report_id)",
                {"ids": some},
            )

    def forget_old_events(self, before: int, dry_run: bool) -> int:
        """Title and address of events that opened before; how many there are."""
        condition = (
            "opened_at < fromUnixTimestamp64Milli({before:Int64}) AND title != {erased:String}"
        )
        given = {"before": before, "erased": ERASED}
        sql = f"SELECT uniqExact(event_id) FROM events WHERE {condition}"  # noqa: S608 # constants of ours
        count = int(self._client.query(sql, parameters=given).result_rows[0][0])
        if count and not dry_run:
            self._alter(
                "events", f"title = {{erased:String}}, address = '' WHERE {condition}", given
            )
        return count

    def forget_reports(self, condition: str, given: dict[str, Any]) -> None:
        """All that tells of a person in the reports that match."""
        self._alter(
            "reports",
            "title = {erased:String}, text = '', address = '', source_lon = '', source_lat = '', "
            f"media = [], reporter_hash = '' WHERE {condition}",
            given,
        )

    def _alter(self, table: str, change: str, given: dict[str, Any]) -> None:
        self._client.command(
            f"ALTER TABLE {table}{self._local}{self._on} UPDATE {change}",
            parameters={"erased": ERASED, **self._given, **given},
            # It returns when every replica has rewritten its parts: what is said to be erased is.
            settings={"mutations_sync": 2},
        )


@contextlib.contextmanager
def _tables(settings: Settings) -> Iterator[_Tables]:
    with connect(settings) as client:
        try:
            yield _Tables(client, settings)
        except (ClickHouseError, OSError) as error:
            why = str(error).partition("\n")[0][:300]
            raise QuanyuError(
                f"ClickHouse did not do it ({why}); run the command again: it goes on where it ended"
            ) from None


def _chunks(ids: Sequence[str]) -> Iterator[list[str]]:
    for start in range(0, len(ids), CHUNK):
        yield list(ids[start : start + CHUNK])


def _now() -> int:
    return int(time.time() * 1000)
