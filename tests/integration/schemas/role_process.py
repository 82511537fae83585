"""The real engine under one role: statements in, what became of each out. Run by test_roles.py.

The embedded engine has one user, ``default``; a configuration of its own gives that user the role's grants,
profile and quota, which the engine then enforces as a server does.
"""

import json
import re
import sys
from pathlib import Path
from xml.sax.saxutils import escape

import chdb

from schemas import tables
from schemas.roles import Role, grants, load_access

DATABASE = "quanyu"


def configuration(folder: Path, name: str) -> Path:
    """Files that make ``default`` the role."""
    role: Role = load_access().roles[name]
    values = "".join(f"<{key}>{limit.value}</{key}>" for key, limit in role.settings.items())
    held = "".join(
        f"<{key}><max>{limit.max}</max></{key}>"
        for key, limit in role.settings.items()
        if limit.max is not None
    )
    granted = "".join(f"<query>{escape(f'GRANT {one}')}</query>" for one in grants(name, DATABASE))
    quota = ""
    if role.quota:
        quota = (
            f"<interval><duration>{role.quota.seconds}</duration><queries>{role.quota.queries}</queries>"
            f"<execution_time>{role.quota.execution_time}</execution_time></interval>"
        )
    users = folder / f"{name}-users.xml"
    users.write_text(
        f"<clickhouse><profiles><default>{values}<constraints>{held}</constraints></default></profiles>"
        f"<quotas><default>{quota}</default></quotas><users><default><password></password>"
        "<networks><ip>::/0</ip></networks><profile>default</profile><quota>default</quota>"
        f"<grants>{granted}</grants></default></users></clickhouse>",
        encoding="utf-8",
    )
    config = folder / f"{name}.xml"
    config.write_text(
        f"<clickhouse><users_config>{users}</users_config></clickhouse>", encoding="utf-8"
    )
    return config


def main() -> None:
    """Arguments: a folder; then a role and JSON of (statement, parameters), or nothing to make the tables."""
    folder = Path(sys.argv[1])
    place = str(folder / "engine")
    if len(sys.argv) == 2:
        connection = chdb.connect(place)  # type: ignore[no-untyped-call] # as it is
        connection.query(f"CREATE DATABASE {DATABASE}")
        for migration in tables.load_migrations():
            for statement in tables.statements(migration, DATABASE, None):
                connection.query(statement)
        connection.close()
        return
    config = configuration(folder, sys.argv[2])
    connection = chdb.connect(f"{place}?config-file={config}")  # type: ignore[no-untyped-call] # as it is
    connection.query(f"USE {DATABASE}")
    answers: list[object] = []
    for statement, parameters in json.loads(sys.stdin.read()):
        try:
            result = connection.query(statement, "TSV", params=parameters or None)
            answers.append({"text": bytes(result.bytes()).decode()})
        except Exception as error:
            code = re.search(r"Code: (\d+)", str(error))
            answers.append({"code": int(code[1]) if code else 0, "error": str(error)[:500]})
    connection.close()
    print(json.dumps(answers))


if __name__ == "__main__":
    main()
