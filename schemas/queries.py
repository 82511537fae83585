"""Named queries: every number is one SQL file with a typed header; screens and tests run the file.

A file ``schemas/clickhouse/queries/<name>.sql`` begins with comment lines::

    -- title: 渠道来源
    -- unit: 件
    -- meaning: One sentence.
    -- refresh: 5 s
    -- drill_down: reports -> reports_of_day(channel = channel)
    -- parameter: day Date — Day of the city.
    -- parameter: limit UInt32 = 10 — How many.

``private`` (optional) says why a query is not for everybody's eyes: ``/api`` does not know it.
``over: name`` (optional) lets a query read another one as if it were a table of that name, with that
one's parameters: a formula stands once, and its sum, its groups and its rows are three queries over it.
``over: name(below = other)`` reads ``name`` as it is over ``other`` instead of ``below``: the same formula
over other rows.
``drill_down`` says which query lists the rows that add up to a column: each argument is the value
of a column of the same row, or a literal in quotes; parameters of the same name (``day``,
``time_zone``) pass on by themselves. Parameters are ``{name:Type}`` placeholders that ClickHouse
binds: a value never becomes SQL text.
"""

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from functools import cache
from pathlib import Path
from typing import Any
from zoneinfo import ZoneInfo

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.httputil import get_pool_manager

from schemas.access import clickhouse_files, clickhouse_options
from schemas.errors import QuanyuError
from schemas.instants import known_zone
from schemas.settings import Settings

QUERIES_DIR = Path(__file__).parent / "clickhouse" / "queries"

#: A person looks at the screen: an answer that takes longer is of no use, and the engine is needed.
MAX_EXECUTION_S = 10
#: Fifty ids in a row are shorter; a longer text is a mistake.
STRING_LIMIT = 2_000

INTEGERS = {
    "UInt8": (0, 2**8 - 1),
    "UInt32": (0, 2**32 - 1),
    "Int8": (-(2**7), 2**7 - 1),
    "Int64": (-(2**63), 2**63 - 1),
}
TYPES = ("String", "Date", *INTEGERS)

_HEADER = re.compile(r"--\s*(?P<key>[a-z_]+):\s*(?P<value>.*?)\s*\Z")
_PARAMETER = re.compile(
    r"(?P<name>[a-z][a-z0-9_]*) (?P<type>\w+)(?: = (?P<default>\S+))? — (?P<meaning>.+)"
)
_DRILL_DOWN = re.compile(r"(?P<column>\w+) -> (?P<query>\w+)\((?P<arguments>[^()]*)\)")
_ARGUMENT = re.compile(r"(?P<name>\w+) = (?:'(?P<literal>[^']*)'|(?P<column>\w+))")
_PLACEHOLDER = re.compile(r"\{(\w+):(\w+)\}")
_NAME = re.compile(r"[a-z][a-z0-9_]*\Z")
_OVER = re.compile(r"(?P<name>\w+)(?:\((?P<below>\w+) = (?P<other>\w+)\))?")
_REFRESH = re.compile(r"(\d+) s")

Value = str | int


@dataclass(frozen=True, slots=True)
class Parameter:
    """One placeholder; without a default it must be given."""

    name: str
    type: str
    default: Value | None
    meaning: str


@dataclass(frozen=True, slots=True)
class DrillDown:
    """Which query lists the rows behind a column; arguments from the row's columns or fixed."""

    column: str
    query: str
    from_columns: Mapping[str, str]
    fixed: Mapping[str, str]

    def arguments(self, row: Mapping[str, Any], given: Mapping[str, Any]) -> dict[str, Any]:
        """Arguments of the drill-down for one row of a query that was run with ``given``."""
        target = load_queries()[self.query]
        passed = {
            p.name: given[p.name]
            for p in target.parameters
            if p.name in given and p.name != "limit"
        }
        return {
            **passed,
            **self.fixed,
            **{name: row[column] for name, column in self.from_columns.items()},
        }


@dataclass(frozen=True, slots=True)
class NamedQuery:
    """One number or list: what it means, how often it is worth asking, and its SQL."""

    name: str
    title: str
    unit: str
    meaning: str
    refresh_s: int
    drill_down: tuple[DrillDown, ...]
    parameters: tuple[Parameter, ...]
    sql: str
    private: bool = False
    over: str = ""

    def bind(self, given: Mapping[str, Any]) -> dict[str, Value]:
        """Every parameter's checked value; raises :class:`QuanyuError` naming the one at fault."""
        known = {parameter.name for parameter in self.parameters}
        for name in given:
            if name not in known:
                raise QuanyuError(
                    f"query {self.name}: no parameter {name!r}; it has: {', '.join(sorted(known))}"
                )
        bound: dict[str, Value] = {}
        for parameter in self.parameters:
            value = given.get(parameter.name, parameter.default)
            if value is None:
                raise QuanyuError(
                    f"query {self.name}: parameter {parameter.name} ({parameter.type}) is missing"
                )
            try:
                bound[parameter.name] = _checked(parameter.type, value)
                if parameter.name == "time_zone":
                    known_zone(str(value))  # or the engine fails on it, and seems to be down
            except ValueError as error:
                raise QuanyuError(
                    f"query {self.name}: parameter {parameter.name}: {error}"
                ) from None
        return bound


def connect(settings: Settings, *, connect_s: int, answer_s: int, at_once: int) -> Client:
    """A client for :func:`run` that ``at_once`` threads may use together.

    It does not wait longer than told, asks nothing a second time and limits no rows of its own. Raises
    ``ClickHouseError`` or ``OSError`` when the server does not answer.
    """
    return clickhouse_connect.get_client(
        **clickhouse_options(settings),
        database=settings.clickhouse_database,
        # Without a session one client serves threads at once.
        autogenerate_session_id=False,
        connect_timeout=connect_s,
        send_receive_timeout=answer_s,
        query_limit=0,
        query_retries=0,
        pool_mgr=get_pool_manager(maxsize=at_once, num_pools=1, **clickhouse_files(settings)),
    )


def run(client: Client, name: str, **params: Any) -> list[dict[str, Any]]:
    """Rows of a named query in the client's database; values are bound by ClickHouse.

    In the rows instants are ms since the epoch UTC, days are ISO, what is no number is None. Raises
    :class:`QuanyuError` for an unknown name or a parameter that is missing or of another type; what
    ClickHouse or the network raises passes through.
    """
    return run_within(MAX_EXECUTION_S, client, name, params)


def run_within(
    seconds: int, client: Client, name: str, params: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """:func:`run` for who can wait longer than a screen: ClickHouse gives up after so many seconds."""
    query = find(name)
    bound = query.bind(params)
    result = client.query(query.sql, parameters=bound, settings={"max_execution_time": seconds})
    names = result.column_names
    return [dict(zip(names, map(_plain, row), strict=True)) for row in result.result_rows]


def find(name: str) -> NamedQuery:
    """The query of that name; :class:`QuanyuError` lists the known ones."""
    queries = load_queries()
    if name not in queries:
        raise QuanyuError(f"no query {name[:60]!r}; known: {', '.join(queries)}")
    return queries[name]


@cache
def load_queries(directory: Path = QUERIES_DIR) -> dict[str, NamedQuery]:
    """Every query by name, sorted; :class:`QuanyuError` as ``file:line: what is wrong``."""
    queries = {path.stem: read_query(path) for path in sorted(directory.glob("*.sql"))}
    for query in queries.values():
        path = directory / f"{query.name}.sql"
        for drill in query.drill_down:
            where = f"{path}:{_line_of(path, f'-- drill_down: {drill.column}')}: drill_down"
            target = queries.get(drill.query)
            if target is None:
                raise QuanyuError(f"{where}: no query {drill.query}; write {drill.query}.sql")
            parameters = {parameter.name for parameter in target.parameters}
            for name in [*drill.from_columns, *drill.fixed]:
                if name not in parameters:
                    raise QuanyuError(f"{where}: {drill.query} has no parameter {name}")
    return queries


def read_query(path: Path, instead: Mapping[str, str] | None = None) -> NamedQuery:
    """Read and check one file; ``instead``: which other query it is over than the one that it names."""
    if not _NAME.match(path.stem):
        raise QuanyuError(f"{path}: a query's name is lower case letters, digits and _")
    try:
        lines = path.read_text(encoding="utf-8").splitlines()
    except UnicodeDecodeError as error:
        raise QuanyuError(f"{path}: not UTF-8 at byte {error.start}; save it as UTF-8") from None
    once: dict[str, str] = {}
    drills: list[DrillDown] = []
    parameters: dict[str, Parameter] = {}
    end = 0
    for number, line in enumerate(lines, 1):
        if not line.startswith("--"):
            break
        end = number
        where = f"{path}:{number}"
        header = _HEADER.match(line)
        if not header:
            raise QuanyuError(f"{where}: a header line is `-- key: value`")
        key, value = header["key"], header["value"]
        if key == "drill_down":
            drills.append(_drill_down(where, value))
        elif key == "parameter":
            parameter = _parameter(where, value)
            if parameter.name in parameters:
                raise QuanyuError(f"{where}: parameter {parameter.name} stands twice")
            parameters[parameter.name] = parameter
        elif key not in ("title", "unit", "meaning", "refresh", "private", "over"):
            raise QuanyuError(
                f"{where}: unknown key {key!r}; use title, unit, meaning, refresh, private, over, "
                "drill_down, parameter"
            )
        elif key in once:
            raise QuanyuError(f"{where}: {key} stands twice")
        elif not value:
            raise QuanyuError(f"{where}: {key} is empty")
        else:
            once[key] = value
            if key == "refresh" and not _REFRESH.fullmatch(value):
                raise QuanyuError(f"{where}: refresh: {value!r}; write e.g. 5 s")
    for key in ("title", "unit", "meaning", "refresh"):
        if key not in once:
            raise QuanyuError(f"{path}:{end + 1}: {key} is missing; add `-- {key}: …`")
    sql = "\n".join(lines[end:]).strip()
    if not sql:
        raise QuanyuError(f"{path}:{end + 1}: no SQL below the header")
    below = _below(path, once.get("over", ""), instead or {})
    called, read = below or ("", None)
    inherited = {parameter.name: parameter for parameter in read.parameters} if read else {}
    twice = sorted(inherited.keys() & parameters.keys())
    if twice:
        declared = _line_of(path, f"-- parameter: {twice[0]} ")
        raise QuanyuError(f"{path}:{declared}: parameter {twice[0]} stands in {once['over']} too")
    _hold_placeholders(path, [""] * end + lines[end:], parameters, inherited)
    parameters = inherited | parameters
    if read:
        more = re.match(r"WITH\s", sql)
        sql = f"WITH {called} AS\n(\n{read.sql}\n)" + (f",{sql[4:]}" if more else f"\n{sql}")
    refresh_s = int(once["refresh"].split()[0])
    return NamedQuery(
        path.stem, once["title"], once["unit"], once["meaning"], refresh_s,
        tuple(drills), tuple(parameters.values()), sql, "private" in once, read.name if read else "",
    )  # fmt: skip


def _below(path: Path, over: str, instead: Mapping[str, str]) -> tuple[str, NamedQuery] | None:
    """What a query is over: the name by which it reads it, and the query that this is in truth."""
    if not over:
        return None
    where = f"{path}:{_line_of(path, '-- over:')}: over:"
    match = _OVER.fullmatch(over)
    if not match:
        raise QuanyuError(f"{where} {over!r}; write `name` or `name(below = other)`")
    read = instead.get(match["name"], match["name"])
    file = path.with_name(f"{read}.sql")
    if file == path or not _NAME.match(read) or not file.exists():
        raise QuanyuError(f"{where} no other query {read}; write {read}.sql")
    other = {match["below"]: match["other"]} if match["below"] else {}
    query = read_query(file, other)
    if other and query.over != match["other"]:
        raise QuanyuError(f"{where} {read} is not over {match['below']}")
    return match["name"], query


def _parameter(where: str, text: str) -> Parameter:
    match = _PARAMETER.fullmatch(text)
    if not match:
        raise QuanyuError(
            f"{where}: parameter: {text!r}; write `name Type — meaning` or "
            "`name Type = default — meaning`"
        )
    if match["type"] not in TYPES:
        raise QuanyuError(
            f"{where}: parameter {match['name']}: type {match['type']}; use {', '.join(TYPES)}"
        )
    default: Value | None = None
    if match["default"] is not None:
        try:
            default = _checked(match["type"], match["default"].strip("'"))
        except ValueError as error:
            raise QuanyuError(f"{where}: parameter {match['name']}: default: {error}") from None
    return Parameter(match["name"], match["type"], default, match["meaning"])


def _drill_down(where: str, text: str) -> DrillDown:
    match = _DRILL_DOWN.fullmatch(text)
    if not match:
        raise QuanyuError(
            f"{where}: drill_down: {text!r}; write `column -> query(parameter = column)`"
        )
    from_columns, fixed = {}, {}
    for part in filter(None, (part.strip() for part in match["arguments"].split(","))):
        argument = _ARGUMENT.fullmatch(part)
        if not argument:
            raise QuanyuError(
                f"{where}: drill_down: argument {part!r}; write parameter = column or = 'value'"
            )
        if argument["column"]:
            from_columns[argument["name"]] = argument["column"]
        else:
            fixed[argument["name"]] = argument["literal"]
    return DrillDown(match["column"], match["query"], from_columns, fixed)


def _hold_placeholders(
    path: Path, lines: list[str], own: Mapping[str, Parameter], inherited: Mapping[str, Parameter]
) -> None:
    """Every placeholder is a parameter, every parameter a placeholder; ``lines``: the file's, by number."""
    used = set()
    parameters = {**inherited, **own}
    for number, line in enumerate(lines, 1):
        for name, kind in _PLACEHOLDER.findall(line):
            used.add(name)
            if name not in parameters:
                raise QuanyuError(
                    f"{path}:{number}: {{{name}:{kind}}} is no parameter of the header; add it"
                )
            if kind != parameters[name].type:
                raise QuanyuError(
                    f"{path}:{number}: {{{name}:{kind}}} is {parameters[name].type} in the header"
                )
    for name in own:
        if name not in used:
            declared = _line_of(path, f"-- parameter: {name} ")
            raise QuanyuError(f"{path}:{declared}: parameter {name} is not used; remove it")


def _line_of(path: Path, start: str) -> int:
    lines = path.read_text(encoding="utf-8").splitlines()
    return next((number for number, line in enumerate(lines, 1) if line.startswith(start)), 1)


def _checked(kind: str, value: Any) -> Value:
    """The value as ClickHouse will read it; ValueError says what is wrong."""
    if kind in INTEGERS:
        low, high = INTEGERS[kind]
        if isinstance(value, bool) or not re.fullmatch(r"-?[0-9]{1,19}", str(value)):
            raise ValueError(f"{str(value)[:60]!r} is not a whole number")
        if not low <= int(value) <= high:
            raise ValueError(f"{value} is not between {low} and {high}")
        return int(value)
    if kind == "Date":
        if not re.fullmatch(r"\d{4}-\d{2}-\d{2}", str(value)):
            raise ValueError(f"{str(value)[:60]!r} is not a day; write e.g. 2026-07-20")
        return date.fromisoformat(str(value)).isoformat()
    if len(str(value)) > STRING_LIMIT or "\x00" in str(value):
        raise ValueError(f"longer than {STRING_LIMIT} characters, or not a text")
    return str(value)


def _plain(value: Any) -> Any:
    """What JSON can carry."""
    match value:
        case datetime():
            instant = value if value.tzinfo else value.replace(tzinfo=UTC)
            return round(instant.timestamp() * 1000)
        case date():
            return value.isoformat()
        case float() if not math.isfinite(value):
            return None
        case _:
            return value


def day_of(at_ms: int, time_zone: str) -> str:
    """The city's day of an instant, ISO."""
    return datetime.fromtimestamp(at_ms / 1000, ZoneInfo(time_zone)).date().isoformat()
