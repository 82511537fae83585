"""The Grafana dashboards in deploy/grafana/dashboards: one for who is on call, one for the city.

``quanyu metrics --write`` writes them, from ``deploy/grafana/panels.yaml`` and the named queries; a test holds
the files against that, and the expressions against the metric registry.
"""

import json
import re
from pathlib import Path
from typing import Any

import yaml

from schemas.queries import NamedQuery, Parameter, load_queries

FOLDER = Path(__file__).parent / "grafana" / "dashboards"
#: Rows of panels, each with title, unit and its expressions by legend.
PANELS = FOLDER.parent / "panels.yaml"
ON_CALL, CITY = "quanyu-on-call", "quanyu-city"
PROMETHEUS = {"type": "prometheus", "uid": "prometheus"}
CLICKHOUSE = {"type": "grafana-clickhouse-datasource", "uid": "clickhouse"}
WIDTH, HEIGHT = 8, 7
COLUMNS = 24 // WIDTH

#: The city's numbers: named queries, each as one table; those whose parameters a time range can give.
CITY_QUERIES = (
    *("today_totals", "open_orders", "data_as_of", "by_channel", "by_class", "by_unit"),
    *("intake_by_hour", "outcome_totals", "review_reasons"),
)
_PLACEHOLDER = re.compile(r"\{(\w+):\w+\}")
#: What a dashboard's time range and its variable make of a query's parameters. Grafana writes the value of a
#: variable quoted; its choices are a list, not what somebody typed.
GIVEN = {
    "at": "toInt64(${__to})",
    "until": "toInt64(${__to})",
    "time_zone": "${time_zone:singlequote}",
    "day": "toDate(fromUnixTimestamp64Milli(toInt64(${__to})), ${time_zone:singlequote})",
}


def sql_of(query: NamedQuery) -> str:
    """The query's own SQL with the dashboard's range in place of its parameters."""
    values = {p.name: GIVEN.get(p.name) or _literal(p) for p in query.parameters}
    return _PLACEHOLDER.sub(lambda found: values[found[1]], query.sql)


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
    panels = [
        {
            **_place(index % COLUMNS * WIDTH, index // COLUMNS * HEIGHT, WIDTH, HEIGHT),
            "id": index + 1,
            "type": "table",
            "title": query.title,
            "description": f"{query.meaning} schemas/clickhouse/queries/{query.name}.sql",
            "datasource": CLICKHOUSE,
            "targets": [
                {
                    "refId": query.name,
                    "editorType": "sql",
                    "format": 1,
                    "queryType": "table",
                    "rawSql": sql_of(query),
                }
            ],
        }
        for index, query in enumerate(load_queries()[name] for name in CITY_QUERIES)
    ]
    zone = {
        "name": "time_zone",
        "label": "city's time zone",
        "type": "custom",
        "query": "Asia/Shanghai,UTC",
        "current": {"text": "Asia/Shanghai", "value": "Asia/Shanghai"},
        "options": [
            {"text": name, "value": name, "selected": name == "Asia/Shanghai"}
            for name in ("Asia/Shanghai", "UTC")
        ],
    }
    return _dashboard(CITY, "全域：城市报件", panels, "now-24h", [zone])


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
        for dashboard in (on_call(), city())
    }
