"""Roles and users of a ClickHouse server, from ``clickhouse/access.yaml`` and the tables' own columns.

A role is granted columns by name: a column that comes with a new migration is for no reader until
``quanyu tables grant`` runs again, and one that is personal never, if access.yaml says so. Passwords come from
the environment and go to the server as salted hashes.
"""

import hashlib
import os
import secrets
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Literal
from xml.sax.saxutils import escape

from clickhouse_connect.driver.exceptions import ClickHouseError
from pydantic import BaseModel, ConfigDict

from schemas import tables
from schemas.documents import read_document
from schemas.errors import QuanyuError
from schemas.queries import load_queries
from schemas.settings import Settings

ACCESS_FILE = Path(__file__).parent / "clickhouse" / "access.yaml"
#: Databases beside the own one in which backup and restore link parts.
BESIDE = ("_backup", "_restore")

Columns = Mapping[str, Sequence[str]]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Limit(_Plain):
    """A setting's value, and the greatest that a client may choose."""

    value: int
    max: int | None = None


class Quota(_Plain):
    """At most so many queries, and seconds of execution, of one user in so many seconds."""

    seconds: int
    queries: int
    execution_time: int


class Role(_Plain):
    """What a role may do; ``without`` names lists of columns it does not read."""

    all: bool = False
    insert: bool = False
    select: tuple[str, ...] = ()
    without: tuple[Literal["personal", "leading"], ...] = ()
    settings: dict[str, Limit] = {}
    quota: Quota | None = None


class Access(_Plain):
    """The file as a whole."""

    personal: dict[str, tuple[str, ...]]
    leading: dict[str, tuple[str, ...]]
    not_for_screen: tuple[str, ...]
    roles: dict[str, Role]

    def hidden(self, role: Role) -> set[tuple[str, str]]:
        """(table, column) that the role does not read though it reads the table."""
        lists: list[Mapping[str, Sequence[str]]] = [getattr(self, name) for name in role.without]
        return {(table, name) for one in lists for table, names in one.items() for name in names}


@cache
def load_access(path: Path = ACCESS_FILE) -> Access:
    """Read and check the file; :class:`QuanyuError` names the field, or the column that is in no table."""
    access = read_document(path, Access)
    known = tables.columns(tables.load_migrations())
    for role in access.roles.values():
        for table, name in sorted(access.hidden(role)):
            if name not in known.get(table, {}):
                raise QuanyuError(f"{path}: {table}.{name} is no column of the tables")
    return access


def readable(role: Role) -> Columns:
    """Table → columns that a role reads, in the tables' order; of ``select`` where it names them."""
    hidden = load_access().hidden(role)
    known = tables.columns(tables.load_migrations())
    return {
        table: found
        for table, names in known.items()
        if (
            found := [
                name
                for name in names
                if (table, name) not in hidden and (not role.select or name in role.select)
            ]
        )
    }


def grants(name: str, database: str, cluster: str | None = None) -> list[str]:
    """What the role is granted, each without its ``TO``."""
    role = load_access().roles[name]
    if role.all:
        return [f"ALL ON `{database}{beside}`.*" for beside in ("", *BESIDE)] + [
            "SELECT ON system.*"
        ]
    found = []
    for table, names in readable(role).items():
        # On a cluster the Distributed table's query reads the one below it under the same user.
        for one in (table, f"{table}_local") if cluster else (table,):
            if role.insert and "_offset" in names:
                found.append(f"INSERT ON `{database}`.`{one}`")
            found.append(f"SELECT({', '.join(names)}) ON `{database}`.`{one}`")
    return found


def role_name(name: str, database: str) -> str:
    """The role's name on the server, where users have the plain names."""
    return f"{database}_{name}"


def statements(database: str, cluster: str | None, passwords: Mapping[str, str]) -> list[str]:
    """SQL that makes roles, profiles, quotas and grants as the file says; safe to run again.

    Users are made for those roles of which ``passwords`` knows one, with the role's plain name.
    """
    on = f" ON CLUSTER '{cluster}'" if cluster else ""
    made = []
    for name, role in load_access().roles.items():
        quoted = f"`{role_name(name, database)}`"
        made.append(f"CREATE ROLE IF NOT EXISTS {quoted}{on}")
        if role.settings:
            limits = ", ".join(
                f"{setting} = {limit.value}" + ("" if limit.max is None else f" MAX {limit.max}")
                for setting, limit in role.settings.items()
            )
            made.append(
                f"CREATE SETTINGS PROFILE OR REPLACE {quoted}{on} SETTINGS {limits} TO {quoted}"
            )
        if role.quota:
            made.append(
                f"CREATE QUOTA OR REPLACE {quoted}{on} KEYED BY user_name "
                f"FOR INTERVAL {role.quota.seconds} second MAX queries = {role.quota.queries}, "
                f"execution_time = {role.quota.execution_time} TO {quoted}"
            )
        # What an older version granted goes; an insert that is refused in between is repeated.
        made.append(f"REVOKE{on} ALL ON *.* FROM {quoted}")
        made += [f"GRANT{on} {grant} TO {quoted}" for grant in grants(name, database, cluster)]
        if name in passwords:
            salt = secrets.token_hex(16)
            digest = hashlib.sha256((passwords[name] + salt).encode()).hexdigest().upper()
            proof = f"IDENTIFIED WITH sha256_hash BY '{digest}' SALT '{salt}'"
            made.append(f"CREATE USER IF NOT EXISTS `{name}`{on} {proof}")
            made.append(f"ALTER USER `{name}`{on} {proof}")
            made.append(f"GRANT{on} {quoted} TO `{name}`")
            made.append(
                f"ALTER USER `{name}`{on} DEFAULT ROLE {quoted} DEFAULT DATABASE `{database}`"
            )
    return made


def given_passwords(environment: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Role → password, from ``QUANYU_<ROLE>_PASSWORD`` or the file that ``QUANYU_<ROLE>_PASSWORD_FILE`` names.

    Raises :class:`QuanyuError` for a file that cannot be read and a password under 12 characters.
    """
    found = {}
    for name in load_access().roles:
        variable = f"QUANYU_{name.upper()}_PASSWORD"
        password = environment.get(variable, "")
        if path := environment.get(f"{variable}_FILE"):
            try:
                password = Path(path).read_text(encoding="utf-8").rstrip("\r\n")
            except (OSError, UnicodeDecodeError) as error:
                raise QuanyuError(f"{variable}_FILE: {path}: {error}") from None
        if password and len(password) < 12:
            raise QuanyuError(f"{variable}: shorter than 12 characters; use a random one")
        if password:
            found[name] = password
    return found


def grant(settings: Settings) -> list[str]:
    """Apply the file to the configured server; a line for each role and user.

    Raises :class:`QuanyuError` for the embedded engine, which has no users, and when the server refuses.
    """
    if settings.clickhouse is None:
        raise QuanyuError(
            "the embedded engine has no users, it listens on loopback only; set QUANYU_CLICKHOUSE to a "
            "server's address, or see the SQL with --print"
        )
    passwords = given_passwords()
    with tables.connect(settings) as client:
        for statement in statements(
            settings.clickhouse_database, settings.clickhouse_cluster, passwords
        ):
            try:
                client.command(statement)
            except (ClickHouseError, OSError) as error:
                head = statement.partition(" IDENTIFIED")[0][:80]
                raise QuanyuError(
                    f"ClickHouse refused `{head}…`: {str(error).splitlines()[0][:200]}; the user of this "
                    "command needs access management"
                ) from None
    return [
        f"role {role_name(name, settings.clickhouse_database)}"
        + (
            f", user {name}"
            if name in passwords
            else f" (no user: QUANYU_{name.upper()}_PASSWORD is not set)"
        )
        for name in load_access().roles
    ]


# The server's own handlers --------------------------------------------------------------------


def handled() -> list[str]:
    """Named queries that a server's handlers answer: the gateway's public ones that the screen may read."""
    hidden = load_access().not_for_screen
    return [q.name for q in load_queries().values() if not q.private and q.name not in hidden]


def handlers(user: str = "screen") -> str:
    """``http_handlers`` of a server's configuration: each named query at the gateway's path.

    Parameters have the gateway's names, ``?day=2026-03-17&time_zone=Asia/Shanghai``, and their types; all of
    them must be given, since a server fills in no day, zone or city. Answers are ClickHouse's JSON.
    """
    rules = "".join(
        f"""
        <rule>
            <url>/api/queries/{name}</url>
            <methods>GET</methods>
            <handler>
                <type>predefined_query_handler</type>
                <user>{escape(user)}</user>
                <content_type>application/json; charset=UTF-8</content_type>
                <query>{escape(_whole(load_queries()[name].sql))}</query>
            </handler>
        </rule>"""
        for name in handled()
    )
    return (
        f"<clickhouse>\n    <http_handlers>{rules}\n        <defaults/>\n"
        "    </http_handlers>\n</clickhouse>\n"
    )


def _whole(sql: str) -> str:
    return f"{sql.rstrip().removesuffix(';')}\nFORMAT JSON"
