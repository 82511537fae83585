"""ClickHouse tables as code: numbered migrations, applied in order, recorded with their checksum.

One SQL source serves a single node and a cluster: placeholders in the migrations are filled from
the settings (`clickhouse_cluster`). Every statement of a migration is safe to run twice, so
:func:`apply` needs no lock: two processes that apply at once both succeed.
"""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import clickhouse_connect
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from schemas.access import clickhouse_options, clickhouse_remedy
from schemas.errors import QuanyuError
from schemas.losses import losses
from schemas.settings import Settings

MIGRATIONS_DIR = Path(__file__).parent / "clickhouse" / "migrations"

#: Blocks whose tokens a table remembers. The sink has one block in flight per partition and
#: repeats a block before it makes the next, so that dozens would do; 10,000 (the server's own
#: default for replicated tables) leaves room for hand-made replays and costs about a megabyte.
DEDUPLICATION_WINDOW = 10_000
#: Replicated tables also forget by age; a sink may be down for days before it repeats its block.
DEDUPLICATION_WINDOW_SECONDS = 7 * 24 * 3600

_FILE_NAME = re.compile(r"(\d{4})_\w+\.sql")
_PLACEHOLDER = re.compile(r"\{(\w+)(?::(\w+))?\}")
_CREATE_TABLE = re.compile(
    r"CREATE TABLE IF NOT EXISTS \{local:(\w+)\} \{on_cluster\}\s*\(\n(.*?)\n\)", re.DOTALL
)
_COLUMN_CHANGE = re.compile(
    r"ALTER TABLE \{local:(\w+)\} \{on_cluster\}\s+(?:ADD COLUMN IF NOT EXISTS|MODIFY COLUMN) ([^;]+?)(?:;|$)",
    re.DOTALL,
)
_VIEW = re.compile(
    r"CREATE MATERIALIZED VIEW IF NOT EXISTS \{local:\w+\} \{on_cluster\} TO \{local:(\w+)\} AS"
    r"[^;]*?FROM \{local:(\w+)\}"
)
_QUERY_CHANGE = re.compile(
    r"ALTER TABLE (\{local:(\w+)_view\} \{on_cluster\}) MODIFY QUERY([^;]*?FROM \{local:(\w+)\})"
)
_FED_BY = re.compile(r"FROM \{local:(\w+)\}")
_ADDED = re.compile(r"(ALTER TABLE \S+(?: ON CLUSTER \S+)?)\s+(ADD COLUMN .+)", re.DOTALL)
_LOCAL_ALTER = re.compile(r"(ALTER TABLE `\w+`\.)`(\w+)_local`")
_COLUMN = re.compile(r"(\w+) (.+?)(?: DEFAULT .+?)?(?: CODEC\(.+\))?(?: AFTER \w+)?,?")


@dataclass(frozen=True, slots=True)
class Migration:
    """One file: its number, name, text as written and checksum (SHA-256 of the text)."""

    number: int
    name: str
    text: str
    checksum: str


def load_migrations(directory: Path = MIGRATIONS_DIR) -> list[Migration]:
    """All migrations in order. Raises :class:`QuanyuError` on a bad name or a gap."""
    migrations = []
    for path in sorted(directory.glob("*.sql")):
        match = _FILE_NAME.fullmatch(path.name)
        if match is None:
            raise QuanyuError(f"{path.name}: a migration is named NNNN_what_it_does.sql")
        text = path.read_text(encoding="utf-8").replace("\r\n", "\n")
        checksum = hashlib.sha256(text.encode()).hexdigest()
        migrations.append(Migration(int(match[1]), path.stem, text, checksum))
    numbers = [migration.number for migration in migrations]
    if numbers != list(range(1, len(numbers) + 1)):
        raise QuanyuError(
            f"{directory.name}: migrations must be numbered 0001, 0002, … without gap or repeat; "
            f"found {numbers}"
        )
    return migrations


def statements(migration: Migration, database: str, cluster: str | None) -> list[str]:
    """The migration's statements with every placeholder filled; empty ones are left out."""
    bare = _bare(migration)
    if cluster:
        # Where a view's query says `table.column`, the table goes by the name it has everywhere else.
        bare = _FED_BY.sub(lambda m: f"{m[0]} AS {m[1]}" if f"{m[1]}." in bare else m[0], bare)

    def fill(match: re.Match[str]) -> str:
        return _fill(migration, match[1], match[2] or "", database, cluster)

    filled = _PLACEHOLDER.sub(fill, bare)
    parts: list[str] = []
    for part in (part.strip() for part in filled.split(";") if part.strip()):
        # Columns of one table at once: for each statement the engine writes its whole definition anew.
        added, last = _ADDED.fullmatch(part), _ADDED.fullmatch(parts[-1]) if parts else None
        if added and last and added[1] == last[1]:
            parts[-1] += f", {added[2]}"
        else:
            parts.append(part)
    if cluster is None:
        return parts
    # On a cluster a column is added to the Distributed table too, or nobody could read or fill it.
    both = []
    for part in parts:
        both.append(part)
        if (found := _LOCAL_ALTER.match(part)) is not None and "MODIFY QUERY" not in part:
            both.append(f"{found[1]}`{found[2]}`{part[found.end() :]}")
    return both


def view_query(name: str) -> str:
    """What a view selects by the newest migration that says so, its placeholders as they are written."""
    said = re.compile(
        rf"\{{local:{name}\}} \{{on_cluster\}}(?: TO \{{local:\w+\}} AS| MODIFY QUERY)\s([^;]+);"
    )
    queries: list[str] = said.findall("\n".join(_bare(m) for m in load_migrations()))
    return queries[-1]


def _bare(migration: Migration) -> str:
    return re.sub(r"--[^\n]*", "", migration.text)


def script(database: str, cluster: str | None) -> list[str]:
    """Every statement of every migration, in order, the database first."""
    on_cluster = f" ON CLUSTER '{cluster}'" if cluster else ""
    return [f"CREATE DATABASE IF NOT EXISTS `{database}`{on_cluster}"] + [
        statement
        for migration in load_migrations()
        for statement in statements(migration, database, cluster)
    ]


def _fill(
    migration: Migration, word: str, argument: str, database: str, cluster: str | None
) -> str:
    replica = "'/clickhouse/tables/{shard}/{database}/{table}', '{replica}'"
    match word:
        case "local":
            return f"`{database}`.`{argument}{'_local' if cluster else ''}`"
        case "on_cluster":
            return f"ON CLUSTER '{cluster}'" if cluster else ""
        case "merge_tree":
            return f"ReplicatedMergeTree({replica})" if cluster else "MergeTree"
        case "replacing_merge_tree":
            return (
                f"ReplicatedReplacingMergeTree({replica}, {argument})"
                if cluster
                else f"ReplacingMergeTree({argument})"
            )
        case "aggregating_merge_tree":
            return (
                f"ReplicatedAggregatingMergeTree({replica})" if cluster else "AggregatingMergeTree"
            )
        case "summing_merge_tree":
            return (
                f"ReplicatedSummingMergeTree({replica}, {argument})"
                if cluster
                else f"SummingMergeTree({argument})"
            )
        case "settings":
            if cluster:
                return (
                    f"replicated_deduplication_window = {DEDUPLICATION_WINDOW}, "
                    f"replicated_deduplication_window_seconds = {DEDUPLICATION_WINDOW_SECONDS}"
                )
            return f"non_replicated_deduplication_window = {DEDUPLICATION_WINDOW}"
        case "distributed" | "distributed_view":
            if not cluster:
                return ""
            # Sharded by the Kafka partition: a block of the sink goes whole to one shard, so that
            # its token holds there, and all versions of an entity (one key, one partition) meet.
            key = ", cityHash64(_topic, _partition)" if word == "distributed" else ""
            return (
                f"CREATE TABLE IF NOT EXISTS `{database}`.`{argument}` ON CLUSTER '{cluster}' "
                f"AS `{database}`.`{argument}_local` "
                f"ENGINE = Distributed('{cluster}', '{database}', '{argument}_local'{key})"
            )
        case _:
            raise QuanyuError(f"{migration.name}.sql: unknown placeholder {{{word}}}")


def columns(migrations: Sequence[Migration]) -> dict[str, dict[str, str]]:
    """Table → column → type, as the migrations declare them (one column per line)."""
    declared: dict[str, dict[str, str]] = {}
    for migration in migrations:
        text = _bare(migration)
        for table, body in _CREATE_TABLE.findall(text):
            declared[table] = dict(
                _column(line)
                for line in body.splitlines()
                if line.strip() and not line.strip().startswith(("INDEX ", "PROJECTION "))
            )
        for table, definition in _COLUMN_CHANGE.findall(text):
            name, kind = _column(definition)
            declared[table][name] = kind
    return declared


def _column(line: str) -> tuple[str, str]:
    match = _COLUMN.fullmatch(" ".join(line.split()))
    if match is None:
        raise QuanyuError(f"migration: cannot read the column {line.strip()!r}")
    return match[1], match[2]


def connect(settings: Settings, answer_s: int = 300) -> Client:
    """A client of the configured server, not bound to the database (which may not exist yet).

    It waits ``answer_s`` seconds for an answer.

    Raises :class:`QuanyuError` when the server does not answer.
    """
    try:
        return clickhouse_connect.get_client(
            **clickhouse_options(settings),
            autogenerate_session_id=False,
            send_receive_timeout=answer_s,
        )
    except (ClickHouseError, OSError) as error:
        raise QuanyuError(
            f"ClickHouse does not answer at {settings.clickhouse_url} ({_first_line(error)}); "
            f"{clickhouse_remedy(settings, error)}"
        ) from None


def diff(settings: Settings) -> list[str]:
    """What :func:`apply` would do, and what differs from the migrations already applied.

    One line per finding; an empty list means that the tables are as the migrations say. Raises
    :class:`QuanyuError` when an applied migration was changed or the server is unreachable.
    """
    with connect(settings) as client:
        pending = _pending(client, settings, load_migrations())
        lines = [f"migration {migration.name} is not applied" for migration in pending]
        return lines + _drift(client, settings, pending)


def apply(settings: Settings, up_to: int | None = None) -> list[str]:
    """Apply the pending migrations in order; returns a line for each, and for what is left to do.

    Safe to run at any time.

    ``up_to``: the number of the last one to apply, for tables as an older version had them.

    Raises :class:`QuanyuError` when an applied migration was changed, the server is unreachable
    or refuses a statement, or a migration would lose what rows hold and does not say so (schemas/losses.py);
    what was applied before stays, and a repeated apply goes on from there.
    """
    done: list[str] = []
    behind: list[str] = []
    with connect(settings) as client:
        pending = _pending(client, settings, load_migrations())
        if up_to is not None:
            pending = [migration for migration in pending if migration.number <= up_to]
        if not pending:
            return []
        database, cluster = settings.clickhouse_database, settings.clickhouse_cluster
        on_cluster = f" ON CLUSTER '{cluster}'" if cluster else ""
        engine = "ReplacingMergeTree(applied_at)"
        if cluster:
            path = "'/clickhouse/tables/all/{database}/{table}', '{shard}-{replica}'"
            engine = f"ReplicatedReplacingMergeTree({path}, applied_at)"
        for statement in (
            f"CREATE DATABASE IF NOT EXISTS `{database}`{on_cluster}",
            f"CREATE TABLE IF NOT EXISTS `{database}`.schema_migrations{on_cluster} "
            "(number UInt32, name String, checksum String, applied_at DateTime64(3, 'UTC')) "
            f"ENGINE = {engine} ORDER BY number",
        ):
            _command(client, statement, "schema_migrations")
        for migration in pending:
            # Who applied at the same time is at work by now: a view that is made anew would miss its inserts.
            if migration.number in {number for number, *_ in _applied(client, database)}:
                continue
            if lost := losses(client, database, migration.text):
                raise QuanyuError(
                    f"migration {migration.name}.sql would lose what database {database} holds: "
                    + "; ".join(lost)
                    + ". A migration that is meant to says so, a line for each: -- loses: table.column — why"
                )
            safe = _with_views_anew(client, database, migration)
            for statement in statements(safe, database, cluster):
                _command(client, statement, migration.name)
            _command(
                client,
                f"INSERT INTO `{database}`.schema_migrations SELECT {migration.number}, "
                f"'{migration.name}', '{migration.checksum}', now64(3)",
                migration.name,
            )
            done.append(f"applied migration {migration.name}")
            behind += _behind(client, settings, migration)
    return done + list(dict.fromkeys(behind))


def _with_views_anew(client: Client, database: str, migration: Migration) -> Migration:
    """The migration; a view that it changes in place is dropped and made while its facts are empty.

    Until its next start the engine gives the blocks of a changed view other tokens than after it, and a block
    that the sink repeats over that start would count twice. Of facts that have rows a dropped view would miss
    inserts.
    """

    def anew(change: re.Match[str]) -> str:
        view, counter, query, facts = change.groups()
        if _has_rows(client, database, facts):
            return change[0]
        create = f"CREATE MATERIALIZED VIEW IF NOT EXISTS {view} TO {{local:{counter}}} AS{query}"
        return f"DROP VIEW IF EXISTS {view} SYNC;\n{create}"

    return replace(migration, text=_QUERY_CHANGE.sub(anew, migration.text))


def _has_rows(client: Client, database: str, table: str) -> bool:
    found = client.query(f"SELECT 1 FROM `{database}`.`{table}` LIMIT 1")  # noqa: S608 # our own names
    return bool(found.result_rows)


def _behind(client: Client, settings: Settings, migration: Migration) -> list[str]:
    """What a new view's table lacks: a view sees only what is inserted from now on."""
    lines = []
    for table, facts in _VIEW.findall(migration.text):
        if _has_rows(client, settings.clickhouse_database, facts):
            lines.append(
                f"{table} counts what comes from now on; for the rows of {facts} that are there: "
                f"quanyu tables rebuild {table}"
            )
    return lines


def _command(client: Client, statement: str, migration: str) -> None:
    try:
        client.command(statement, settings={"async_insert": 0})
    except (ClickHouseError, OSError) as error:
        head = " ".join(statement.split())[:80]
        raise QuanyuError(
            f"migration {migration}: ClickHouse refused `{head}…`: {_first_line(error)}"
        ) from None


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0]


def _pending(client: Client, settings: Settings, known: list[Migration]) -> list[Migration]:
    """Migrations not applied yet; refuses an applied one whose file changed or is gone."""
    exists = client.query(
        "SELECT name FROM system.tables WHERE database = {d:String} AND name = {n:String}",
        parameters={"d": settings.clickhouse_database, "n": "schema_migrations"},
    ).result_rows
    if not exists:
        return known
    rows = _applied(client, settings.clickhouse_database)
    files = {migration.number: migration for migration in known}
    for number, name, checksum in rows:
        migration = files.get(number)
        if migration is None:
            raise QuanyuError(
                f"migration {name} is applied in database {settings.clickhouse_database} but not "
                "among the files: this version of quanyu is older than its tables; upgrade it"
            )
        if migration.checksum != checksum:
            raise QuanyuError(
                f"migration {migration.name}.sql was changed after it was applied to database "
                f"{settings.clickhouse_database}; restore it and write a new migration instead"
            )
    applied = {row[0] for row in rows}
    return [migration for migration in known if migration.number not in applied]


def _applied(client: Client, database: str) -> Sequence[Sequence[Any]]:
    """Number, name and checksum of each."""
    return client.query(
        "SELECT number, name, checksum FROM {d:Identifier}.schema_migrations FINAL ORDER BY number",
        parameters={"d": database},
    ).result_rows


def _drift(client: Client, settings: Settings, pending: Sequence[Migration]) -> list[str]:
    numbers = {migration.number for migration in pending}
    applied = [m for m in load_migrations() if m.number not in numbers]
    suffix = "_local" if settings.clickhouse_cluster else ""
    database = {"d": settings.clickhouse_database}
    found: dict[str, dict[str, str]] = {}
    for table, name, kind in client.query(
        "SELECT table, name, type FROM system.columns WHERE database = {d:String}",
        parameters=database,
    ).result_rows:
        found.setdefault(table, {})[name] = kind
    definitions: dict[str, str] = {}
    for table, definition in client.query(
        "SELECT name, create_table_query FROM system.tables WHERE database = {d:String}",
        parameters=database,
    ).result_rows:
        definitions[table] = definition
    lines = []
    for table, declared in columns(applied).items():
        there = found.get(table + suffix)
        if there is None:
            lines.append(f"table {table}{suffix} is missing though its migration is applied")
            continue
        for name, kind in declared.items():
            if name not in there:
                lines.append(f"table {table}{suffix}: column {name} {kind} is missing")
            elif there[name] != kind:
                lines.append(f"table {table}{suffix}: column {name} is {there[name]}, not {kind}")
        lines += [
            f"table {table}{suffix}: column {name} is in no migration"
            for name in there
            if name not in declared
        ]
        window = f"deduplication_window = {DEDUPLICATION_WINDOW}"
        if window not in definitions.get(table + suffix, ""):
            lines.append(
                f"table {table}{suffix}: {window} is missing; a repeated block would count twice"
            )
    return lines
