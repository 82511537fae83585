"""What roles are granted, and that a server's handlers are the gateway's queries."""

import re
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
import yaml

from deploy.local.clickhouse import RESERVED
from deploy.screen import router
from schemas import roles, tables
from schemas.errors import QuanyuError
from schemas.queries import load_queries
from schemas.settings import Settings

ROLES = ("sink", "screen", "analyst", "operator")


def test_the_handlers_of_a_server_are_the_gateways_public_queries_at_the_same_paths() -> None:
    """But for those that access.yaml names, which a server's screen may not read."""
    document = ET.fromstring(roles.handlers())
    rules = {str(rule.findtext("url")): rule for rule in document.findall("http_handlers/rule")}
    paths = [
        str(getattr(route, "path", ""))
        for route in router(Settings()).routes
        if "{name}" in getattr(route, "path", "")
    ]
    assert paths == ["/api/queries/{name}"]
    public = [query for query in load_queries().values() if not query.private]
    hidden = roles.load_access().not_for_screen
    assert set(hidden) <= {query.name for query in public}
    assert set(rules) == {
        paths[0].format(name=query.name) for query in public if query.name not in hidden
    }
    for query in public:
        if query.name in hidden:
            continue
        handler = rules[f"/api/queries/{query.name}"].find("handler")
        assert handler is not None
        assert handler.findtext("type") == "predefined_query_handler"
        assert handler.findtext("user") == "screen"
        sql = str(handler.findtext("query"))
        assert sql == f"{query.sql}\nFORMAT JSON"
        typed = set(re.findall(r"\{(\w+):(\w+)\}", sql))
        assert typed == {(p.name, p.type) for p in query.parameters}
        # A server would take these for itself.
        assert not RESERVED & {p.name for p in query.parameters}


def test_only_the_operator_is_granted_everything_and_only_the_sink_inserts() -> None:
    assert tuple(roles.load_access().roles) == ROLES
    for name in ROLES:
        granted = roles.grants(name, "quanyu")
        assert any(g.startswith("ALL ") for g in granted) == (name == "operator")
        assert any(g.startswith("INSERT ") for g in granted) == (name == "sink")


def test_personal_columns_are_in_no_grant_of_screen_or_analyst_on_either_table_of_a_cluster() -> (
    None
):
    access = roles.load_access()
    for name in ("screen", "analyst"):
        granted = roles.grants(name, "quanyu", "main")
        assert len(granted) == 2 * len(tables.columns(tables.load_migrations()))
        for grant in granted:
            found = re.fullmatch(r"SELECT\((.+)\) ON `quanyu`\.`(\w+?)(_local)?`", grant)
            assert found
            assert not set(found[1].split(", ")) & set(access.personal.get(found[2], ()))


def test_a_new_text_of_a_report_is_not_read_before_somebody_decided() -> None:
    """Columns of free text and of places are decided one by one: a new one fails here until it is."""
    decided = {
        *("report_id", "native_id", "title", "text", "source_lon", "source_lat", "address"),
        *("reporter_hash", "forwarded_from", "media", "origin", "lon", "lat"),
    }
    reports = tables.columns(tables.load_migrations())["reports"]
    free = {
        name
        for name, kind in reports.items()
        if re.search(r"(?<!\()String|Float64|Array\(String", kind) or kind == "Nullable(String)"
    }
    assert free <= decided, "personal or not? decide in access.yaml, then name it here"


def test_passwords_come_from_variables_or_files_and_reach_the_server_only_hashed(
    tmp_path: Path,
) -> None:
    secret = tmp_path / "sink"
    secret.write_text("the sink's own word\n", encoding="utf-8")
    given = {
        "QUANYU_SINK_PASSWORD_FILE": str(secret),
        "QUANYU_SCREEN_PASSWORD": "the wall's own word",
    }
    passwords = roles.given_passwords(given)
    assert passwords == {"sink": "the sink's own word", "screen": "the wall's own word"}
    made = roles.statements("quanyu", None, passwords)
    assert not any("own word" in statement for statement in made)
    users = {s.split("`")[1] for s in made if s.startswith("CREATE USER")}
    assert users == {"sink", "screen"}
    with pytest.raises(QuanyuError, match="QUANYU_ANALYST_PASSWORD: shorter than 12"):
        roles.given_passwords({"QUANYU_ANALYST_PASSWORD": "short"})
    with pytest.raises(QuanyuError, match=r"QUANYU_ANALYST_PASSWORD_FILE: .*nowhere"):
        roles.given_passwords({"QUANYU_ANALYST_PASSWORD_FILE": str(tmp_path / "nowhere")})


def test_the_embedded_engine_has_no_users_and_says_so() -> None:
    with pytest.raises(QuanyuError, match="the embedded engine has no users"):
        roles.grant(Settings())


def test_a_column_that_is_in_no_table_is_named(tmp_path: Path) -> None:
    document = yaml.safe_load(roles.ACCESS_FILE.read_text(encoding="utf-8"))
    document["personal"]["reports"].append("mood")
    path = tmp_path / "access.yaml"
    path.write_text(yaml.safe_dump(document), encoding="utf-8")
    with pytest.raises(QuanyuError, match=r"reports\.mood is no column"):
        roles.load_access(path)
