"""The Grafana dashboards in deploy/grafana/dashboards: one for who is on call, two for the city.

``quanyu metrics --write`` writes them, from ``deploy/grafana/panels.yaml``, the named queries and what the
city's pack says of its KPIs; a test holds the files against that, and the expressions against the metric
registry.
"""

import json
import re
from datetime import date
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import yaml

from deploy.kpi import Period, instant, light_parameters, parameters
from schemas.city import CityPack, load_city
from schemas.queries import NamedQuery, Parameter, load_queries
from schemas.settings import Settings

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
#: Rows of panels, each with title, unit and its expressions by legend.
PANELS = FOLDER.parent / "panels.yaml"
ON_CALL, CITY, KPI = "quanyu-on-call", "quanyu-city", "quanyu-kpi"
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "clickhouse"}
WIDTH, HEIGHT = 8, 7
COLUMNS = 24 // WIDTH

#: The city's numbers: named queries, each as one table; those whose parameters a time range can give.
CITY_QUERIES = (
    *("today_totals", "open_orders", "data_as_of", "by_channel", "by_class", "by_unit"),
    *("intake_by_hour", "outcome_totals", "review_reasons"),
)
#: What takes its rules from the city's pack: weights, targets, the calendar, who belongs to whom, the lights.
KPI_QUERIES = (
    *("quality", "light_totals", "ranking", "map_areas"),
    *("kpi", "kpi_time", "scorecard"),
)
#: Those of them that compare groups, and by what.
COMPARED, GROUPS = ("ranking", "scorecard"), ("centre", "district", "street", "unit")
_PLACEHOLDER = re.compile(r"\{(\w+):\w+\}")
#: What a dashboard's time range and its variable make of a query's parameters. Grafana writes the value of a
#: variable quoted; its choices are a list, not what somebody typed.
GIVEN = {
    "at": "toInt64(${__to})",
    "since": "toInt64(${__from})",
    "until": "toInt64(${__to})",
    "time_zone": "${time_zone:singlequote}",
    "day": "toDate(fromUnixTimestamp64Milli(toInt64(${__to})), ${time_zone:singlequote})",
}


def pack_values(city: CityPack) -> dict[str, str]:
    """What the city's pack gives the queries, by parameter: all its calendar knows, whatever the period."""
    years = sorted(city.calendar.years)
    first, last = date(years[0], 1, 1), date(years[-1], 12, 31)
    zone = ZoneInfo(city.time_zone).key
    since, until = (instant(f"{day}T00:00:00", zone) for day in (first, last))
    given = parameters(city, Period(since, until, until)) | light_parameters(city)
    before = (first - date.fromisoformat(str(given["calendar_from"]))).days
    given |= {"calendar": str(given["calendar"])[before:], "calendar_from": first.isoformat()}
    return {name: str(value) for name, value in given.items() if name not in GIVEN}


def sql_of(query: NamedQuery, pack: frozenset[str] = frozenset()) -> str:
    """The query's own SQL with the dashboard's range in place of its parameters, and variables for ``pack``."""
    values = {
        p.name: GIVEN.get(p.name) or (_variable(p) if p.name in pack else _literal(p))
        for p in query.parameters
    }
    return _PLACEHOLDER.sub(lambda found: values[found[1]], query.sql)


def _variable(parameter: Parameter) -> str:
    name = f"${{{parameter.name}:singlequote}}"
    kinds = {"String": name, "Date": f"toDate({name})"}
    return kinds.get(parameter.type, f"${{{parameter.name}}}")


def _literal(parameter: Parameter) -> str:
    if parameter.default is None:
        raise ValueError(f"{parameter.name}: a dashboard cannot give it")
    text = str(parameter.default)
    return "'" + text.replace("'", "''") + "'" if parameter.type == "String" else text


def on_call() -> dict[str, Any]:
    """What is wrong, where, and since when: from what citizens notice down to what all stands on."""
    panels: list[dict[str, Any]] = [
        {
            **_place(0, 0, 24, 5),
            "id": 1,
            "type": "alertlist",
            "title": "Alerts that fire",
            "options": {"alertName": "Quanyu", "stateFilter": {"firing": True, "pending": True}},
        }
    ]
    top = 5
    rows: dict[str, list[dict[str, Any]]] = yaml.safe_load(PANELS.read_text(encoding="utf-8"))
    for row, shown in rows.items():
        panels.append(
            {
                **_place(0, top, 24, 1),
                "id": len(panels) + 1,
                "type": "row",
                "title": row,
                "panels": [],
            }
        )
        top += 1
        for index, panel in enumerate(shown):
            panels.append(
                {
                    **_place(
                        index % COLUMNS * WIDTH, top + index // COLUMNS * HEIGHT, WIDTH, HEIGHT
                    ),
                    "id": len(panels) + 1,
                    "type": "timeseries",
                    "title": panel["title"],
                    "datasource": PROMETHEUS,
                    "fieldConfig": {"defaults": {"unit": panel["unit"]}, "overrides": []},
                    "targets": [
                        {"refId": f"{number}", "expr": expr, "legendFormat": legend}
                        for number, (legend, expr) in enumerate(panel["show"].items(), 1)
                    ],
                }
            )
        top += -(-len(shown) // COLUMNS) * HEIGHT
    return _dashboard(ON_CALL, "quanyu: on call", panels, "now-3h", [])


def city() -> dict[str, Any]:
    """The city's numbers as of the range's end, by the same files as the screen."""
    panels = _tables({name: sql_of(load_queries()[name]) for name in CITY_QUERIES}, WIDTH)
    return _dashboard(CITY, "全域：城市报件", panels, "now-24h", [_zone()])


def kpi() -> dict[str, Any]:
    """The city's KPIs: of the range, or of the city's day at its end, by the rules of its pack.

    The values of the pack in use stand in the file: another city writes its own, ``quanyu metrics --write``.
    """
    pack = pack_values(load_city(Settings().city))
    names = frozenset(pack)
    queries = {name: load_queries()[name] for name in KPI_QUERIES}
    panels = _tables(
        {n: sql_of(q, names | {"by"} if n in COMPARED else names) for n, q in queries.items()}, 12
    )
    used = {parameter.name for query in queries.values() for parameter in query.parameters}
    constants = [
        {"name": name, "type": "constant", "hide": 2, "query": value, "skipUrlSync": True,
         "current": {"text": value, "value": value}}
        for name, value in pack.items() if name in used
    ]  # fmt: skip
    variables = [_zone(), _choice("by", "比较谁", GROUPS), *constants]
    # A year's KPIs are dear: nobody needs them every half minute.
    return _dashboard(KPI, "全域：考核指标", panels, "now-30d", variables) | {"refresh": "5m"}


def _tables(queries: dict[str, str], width: int) -> list[dict[str, Any]]:
    """Each query's SQL as a table."""
    columns = 24 // width
    return [
        {
            **_place(index % columns * width, index // columns * HEIGHT, width, HEIGHT),
            "id": index + 1,
            "type": "table",
            "title": load_queries()[name].title,
            "description": f"{load_queries()[name].meaning} schemas/clickhouse/queries/{name}.sql",
            "datasource": CLICKHOUSE,
            "targets": [
                {
                    "refId": name,
                    "editorType": "sql",
                    "format": 1,
                    "queryType": "table",
                    "rawSql": sql,
                }
            ],
        }
        for index, (name, sql) in enumerate(queries.items())
    ]


def _zone() -> dict[str, Any]:
    return _choice("time_zone", "city's time zone", ("Asia/Shanghai", "UTC"))


def _choice(name: str, label: str, values: tuple[str, ...]) -> dict[str, Any]:
    """A variable of which one value is chosen, the first until then."""
    return {
        "name": name,
        "label": label,
        "type": "custom",
        "query": ",".join(values),
        "current": {"text": values[0], "value": values[0]},
        "options": [{"text": v, "value": v, "selected": v == values[0]} for v in values],
    }


def _place(x: int, y: int, width: int, height: int) -> dict[str, Any]:
    return {"gridPos": {"x": x, "y": y, "w": width, "h": height}}


def _dashboard(
    uid: str, title: str, panels: list[dict[str, Any]], since: str, variables: list[dict[str, Any]]
) -> dict[str, Any]:
    return {
        "uid": uid,
        "title": title,
        "tags": ["quanyu"],
        "schemaVersion": 39,
        "editable": False,
        "refresh": "30s",
        "time": {"from": since, "to": "now"},
        "templating": {"list": variables},
        "panels": panels,
    }


def written() -> dict[Path, str]:
    """Every dashboard's file and what stands in it."""
    return {
        FOLDER / f"{dashboard['uid']}.json": json.dumps(dashboard, ensure_ascii=False, indent=1)
        + "\n"
        for dashboard in (on_call(), city(), kpi())
    }
