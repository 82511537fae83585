"""The interface is what ``/openapi.json`` says it is, and no request of any shape is a server's error.

Requests are drawn from the description itself, valid ones and broken ones, for every operation in it.
"""

import contextlib
import hashlib
import json
import re
import time
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pytest
import schemathesis
from fastapi import FastAPI
from fastapi.testclient import TestClient
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Unsatisfiable
from schemathesis import BaseSchema, Case, GenerationMode
from schemathesis.checks import not_a_server_error
from schemathesis.config import GenerationConfig, ProjectConfig, ProjectsConfig, SchemathesisConfig
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import (
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
    status_code_conformance,
)

from connectors.publish import Publisher
from connectors.signature import sign
from deploy.gateway import create_app
from schemas import tables, topics
from schemas.channels import channel_names, load_channel, load_channels
from schemas.queries import load_queries
from tests.conftest import Stack

pytestmark = [pytest.mark.integration, pytest.mark.long, pytest.mark.timeout(900)]

KEY = "k" * 32
SIGNED = {n for n, s in load_channels().items() if s.transports.http and s.transports.http.signed}
EXAMPLES = 15
#: Of a busy machine.
PATIENCE_S = 120.0
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Signing:
    """Signs what is sent to signed channels with the time of sending; else as it was sent."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http":
            return  # a shutdown, which comes after each test, would close the publisher
        parts = scope["path"].split("/")
        signed = parts[1:2] == ["channels"] and parts[2] in SIGNED and scope["method"] == "POST"
        if not signed or not any(name == b"x-api-key" for name, _ in scope["headers"]):
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        proof = sign(KEY, int(time.time()), body).items()
        headers = scope["headers"] + [(k.lower().encode(), v.encode()) for k, v in proof]

        async def again() -> Any:
            return {"type": "http.request", "body": body, "more_body": False}

        await self._app(scope | {"headers": headers}, again, send)


def plausible(case: Case[Any]) -> dict[str, str]:
    """Give a drawn request what only an insider knows, so that what lies behind is reached too.

    Returns the headers to send with it. Half of the requests stay as they were drawn.
    """
    drawn = repr((case.path_parameters, case.query, case.body)).encode("utf-8", "surrogatepass")
    if case.method != "POST" or hashlib.sha256(drawn).digest()[0] % 2:
        return {}
    bodies = case.body if isinstance(case.body, list) else [case.body]
    name = str((case.path_parameters or {}).get("name"))
    for number, body in enumerate(body for body in bodies if isinstance(body, dict)):
        if name in channel_names():
            native_id = load_channel(name).native_id
            first = native_id if isinstance(native_id, str) else native_id[0]
            for field in re.findall(r"{(.+?)}", first) or [first]:
                body[field] = f"n{number}"
        elif "open311" in case.path:
            case.query = {}
            body.update(api_key=KEY, service_code="0102", address_string="花园路 1 号")
            body.pop("jurisdiction_id", None)
    return {"X-API-Key": KEY}


def drawn(examples: int) -> settings:
    """The same examples on every machine, at any speed."""
    return settings(
        max_examples=examples,
        deadline=None,
        derandomize=True,
        database=None,
        phases=[Phase.generate],  # to shrink a failure takes minutes
        suppress_health_check=list(HealthCheck),
    )


@pytest.fixture(scope="module")
def app(stack: Stack, tmp_path_factory: pytest.TempPathFactory) -> Iterator[FastAPI]:
    """A gateway with a real broker and engine, and a database of its own."""
    own = stack.settings.model_copy(
        update={
            "home": tmp_path_factory.mktemp("gateway"),
            "clickhouse_database": "test_schemathesis",
        }
    )
    own.keys_path.write_text(json.dumps(dict.fromkeys(channel_names(), KEY)), encoding="utf-8")
    topics.apply(own)
    tables.apply(own)
    publisher = Publisher(own)
    yield create_app(own, publisher)
    publisher.close()
    with clickhouse_connect.get_client(dsn=own.clickhouse_url) as client:
        client.command("DROP DATABASE test_schemathesis")


@pytest.fixture(scope="module")
def description(app: FastAPI) -> BaseSchema:
    """The interface as it describes itself."""
    project = ProjectConfig(
        generation=GenerationConfig(max_examples=EXAMPLES, deterministic=True),
    )
    config = SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project))
    return schemathesis.openapi.from_asgi("/openapi.json", Signing(app), config=config)


def test_every_part_of_the_interface_is_described(description: BaseSchema) -> None:
    paths = set(description)
    assert "/channels/{name}/reports" in paths
    assert {path.split("/")[1] for path in paths} >= {"channels", "api", "open311"}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_asked_is_answered_as_described(
    description: BaseSchema, mode: GenerationMode, subtests: pytest.Subtests
) -> None:
    answered: set[tuple[str, int]] = set()
    for found in description.get_all_operations():
        assert isinstance(found, Ok), found.err()
        operation = found.ok()

        @drawn(EXAMPLES)
        @given(operation.as_strategy(generation_mode=mode))
        def asked(case: Case[Any]) -> None:
            response = case.call_and_validate(
                headers=plausible(case), checks=CHECKS, timeout=PATIENCE_S
            )
            answered.add((case.operation.label, response.status_code))

        with subtests.test(operation.label), contextlib.suppress(Unsatisfiable):
            asked()  # one without parameters cannot be asked wrongly
    if mode.is_positive:
        assert ("POST /channels/{name}/reports", 202) in answered
        assert ("POST /open311/v2/requests.{format}", 200) in answered


WILD = st.text(max_size=12) | st.sampled_from(
    ["0", "-1", "1.5", "1e9", "nan", str(2**31), str(2**63), str(-(2**63)), str(2**64), "2026-03-17",
     "2026-02-30", "0001-01-01", "1899-12-31", "1970-01-01", "2299-12-31", "9999-12-31", "' OR 1=1 --",
     "Asia/Shanghai", "Mars/Phobos", "\\", "\0", "{x:String}", "𝄞"]
)  # fmt: skip


@pytest.mark.parametrize("name", sorted(n for n, q in load_queries().items() if not q.private))
def test_a_named_query_answers_whatever_its_parameters_are(app: FastAPI, name: str) -> None:
    client = TestClient(app)
    parameters = [parameter.name for parameter in load_queries()[name].parameters]

    @drawn(12)
    @given(st.dictionaries(st.sampled_from([*parameters, "nothing"]), WILD))
    def asked(given_: dict[str, str]) -> None:
        answer = client.get(f"/api/queries/{name}", params=given_)
        assert answer.status_code in (200, 400), answer.text

    asked()
