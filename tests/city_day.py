"""A city's two days in known rows: what queries, gateway and screen are held against."""

import random
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from functools import cache
from typing import Any
from zoneinfo import ZoneInfo

from clickhouse_connect.driver.client import Client

from schemas.channels import load_channels
from schemas.city import load_city

ZONE = "Asia/Shanghai"
DISTRICTS = ["410102", "410103", "410104", "410105", "410122", "410173"]
CLASSES = ["0102", "0110", "0301", "2302", "2401"]
CHANNELS = [name for name, spec in load_channels().items() if spec.kind != "foreign"]
PLACES = ["中原路与大学路口", "农业路 32 号", "花园路地铁站 B 口", "东风渠北岸", "航海路小学门前"]
TITLES = ["暴露垃圾无人清理", "路面坑洼", "夜间施工噪声", "路口积水", "井盖缺失"]
REASONS = [
    ("review", "no_location"),
    ("review", "class_unknown"),
    ("duplicate", "exact_duplicate"),
    ("rejected", "empty"),
]

TABLES = (
    "report_outcomes",
    "reports",
    "event_links",
    "events",
    "orders",
    "order_transitions",
)

Row = dict[str, Any]


@dataclass
class CityDay:
    """Rows by table, and the instant that counts as now."""

    now_ms: int
    day: str
    zone: str
    rows: dict[str, list[Row]] = field(default_factory=dict)
    #: Links that hold no more, each with its retraction: no number may count them.
    taken_back: list[Row] = field(default_factory=list)

    def insert(self, client: Client, only: str | None = None) -> None:
        """Write the rows into the client's database."""
        for table, rows in [*self.rows.items(), ("event_links", self.taken_back)]:
            if rows and only in (None, table):
                names = list(rows[-1])
                client.insert(
                    table, [[row[name] for name in names] for row in rows], column_names=names
                )

    def today(self, table: str, instant: str = "received_at") -> list[Row]:
        """Rows of the city's day, by plain Python."""
        zone = ZoneInfo(self.zone)
        return [
            r
            for r in self.rows[table]
            if r[instant].astimezone(zone).date().isoformat() == self.day
        ]


@cache
def grids_of(district: str) -> list[str]:
    """Three micro-grids of a district, and one that is known by its street only."""
    codes = [c for c, _, _ in load_city("zhengzhou").grids.names("micro") if c.startswith(district)]
    return [codes[0], codes[1], codes[len(codes) // 2], codes[-1][:9]]


def city_day(now: datetime, reports: int = 400, seed: int = 7, zone: str = ZONE) -> CityDay:
    """``reports`` over the last 36 hours, some to the millisecond around the city's midnight."""
    choice = random.Random(seed)
    now = now.replace(microsecond=0)
    midnight = now.astimezone(ZoneInfo(zone)).replace(hour=0, minute=0, second=0)
    made = CityDay(round(now.timestamp() * 1000), midnight.date().isoformat(), zone)
    edges = [midnight, midnight - timedelta(milliseconds=1), midnight + timedelta(milliseconds=1)]
    instants = sorted(
        edges
        + [
            now - timedelta(seconds=choice.uniform(0, 36 * 3600))
            for _ in range(reports - len(edges))
        ]
    )
    made.rows = {
        t: []
        for t in (
            "report_outcomes",
            "reports",
            "event_links",
            "events",
            "orders",
            "order_transitions",
        )
    }
    opened: list[Row] = []
    for number, at in enumerate(instants):
        source = {"_topic": "t", "_partition": 0, "_offset": number}
        report = f"report-{number:05}"
        channel = choice.choice(CHANNELS)
        outcome, reason = choice.choice(REASONS) if choice.random() < 0.25 else ("accepted", "")
        kind, district = choice.choice(CLASSES), choice.choices(DISTRICTS, [6, 5, 4, 3, 2, 1])[0]
        decided = at + timedelta(milliseconds=choice.randint(80, 900))
        made.rows["report_outcomes"].append(
            {
                "report_id": report,
                "channel": channel,
                "outcome": outcome,
                "reason": reason,
                "class_code": kind,
                "district_code": district,
                "received_at": at,
                "decided_at": decided,
                **source,
                "_inserted_at": decided + timedelta(milliseconds=200),
            }
        )
        if outcome != "accepted":
            continue
        title, place = choice.choice(TITLES), choice.choice(PLACES)
        joined = choice.choice(opened[-20:]) if opened and choice.random() < 0.3 else None
        relation = (
            choice.choice(["co_report", "urge", "supplement"])
            if joined
            else ("recurrence" if choice.random() < 0.05 else "opened")
        )
        event = joined["event_id"] if joined else f"event-{number:05}"
        if joined:
            kind, district = joined["class_code"], joined["district_code"]
        made.rows["reports"].append(
            {
                "report_id": report,
                "channel": channel,
                "title": title,
                "address": place,
                "class_code": kind,
                "district_code": district,
                "received_at": at,
                "occurred_at": at,
                **source,
            }
        )
        moved = choice.random() < 0.1
        if moved:
            # It opened an event, and then proved to belong to this one.
            former = {
                "link_id": f"former-{number}", "report_id": report, "event_id": f"former-{number}",
                "relation": "opened", "channel": channel, "class_code": choice.choice(CLASSES),
                "district_code": choice.choice(DISTRICTS), "occurred_at": at, "received_at": at,
                "decided_at": decided, **source,
            }  # fmt: skip
            made.taken_back += [{**former, "sign": 1}, {**former, "sign": -1}]
        made.rows["event_links"].append(
            {
                "link_id": f"link-{number}",
                "sequence": int(moved),
                "report_id": report,
                "event_id": event,
                "relation": relation,
                "score": 0.8,
                "reason": "35 m, 12 min",
                "channel": channel,
                "class_code": kind,
                "district_code": district,
                "occurred_at": at,
                "received_at": at,
                "decided_at": decided,
                **source,
            }
        )
        if joined:
            version = {
                **joined,
                "version": joined["version"] + 1,
                "updated_at": at,
                "report_count": joined["report_count"] + 1,
                **source,
            }
            opened[opened.index(joined)] = version
            made.rows["events"].append(version)
            continue
        row = {
            "event_id": event,
            "version": 1,
            "status": "open",
            "class_code": kind,
            "title": title,
            "address": place,
            "lon": 113.6 + choice.uniform(-0.1, 0.15),
            "lat": 34.75 + choice.uniform(-0.06, 0.06),
            "district_code": district,
            "grid_code": grids_of(district)[number % 4],
            "first_report_id": report,
            "first_channel": channel,
            "report_count": 1,
            "occurred_at": at,
            "opened_at": at,
            "updated_at": at,
            "decided_at": decided,
            "priority": 3,
            **source,
        }
        opened.append(row)
        made.rows["events"].append(row)
        unit = f"{district}-CG"
        dispatched = decided + timedelta(milliseconds=100)
        made.rows["orders"].append(
            {
                "order_id": f"order-{number:05}",
                "version": 1,
                "event_id": event,
                "unit_code": unit,
                "unit_name": f"{district} 城管执法局",
                "level": "district",
                "state": "DISPATCHED",
                "class_code": kind,
                "district_code": district,
                "priority": choice.choice([1, 2, 3, 3, 3]),
                "opened_at": at,
                "dispatched_at": dispatched,
                "due_at": at + timedelta(hours=choice.choice([2, 4, 36, 72])),
                "rule": f"{kind}:城管执法局",
                **source,
            }
        )
        order = made.rows["orders"][-1]
        made.rows["order_transitions"].append(
            {
                **{name: order[name] for name in ("unit_name", "priority", "opened_at", "due_at")},
                "transition_id": f"step-{number}",
                "order_id": f"order-{number:05}",
                "event_id": event,
                "version": 1,
                "from_state": "UNKNOWN",
                "to_state": "DISPATCHED",
                "actor": "system",
                "role": "system",
                "unit_code": unit,
                "class_code": kind,
                "district_code": district,
                "at": dispatched,
                **source,
            }
        )
    return made


def counted(rows: list[Row], key: str) -> Counter[str]:
    """How many rows of each key."""
    return Counter(row[key] for row in rows)
