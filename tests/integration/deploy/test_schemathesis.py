"""The interface is what ``/openapi.json`` says it is, and no request of any shape is a server's error.

Requests are drawn from the description itself, valid ones and broken ones, for every operation in it. Of
those that prove themselves some carry a good key or signature, so that what lies behind is reached too.
"""

import contextlib
import hashlib
import json
import time
from collections.abc import Iterator
from typing import Any

import clickhouse_connect
import pytest
import schemathesis
from hypothesis import HealthCheck, given, settings
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
from schemas.channels import channel_names, load_channel
from schemas.settings import Settings

pytestmark = [pytest.mark.integration, pytest.mark.timeout(900)]

KEY = "k" * 32
EXAMPLES = 30
CHECKS = [
    not_a_server_error,
    status_code_conformance,
    content_type_conformance,
    response_headers_conformance,
    response_schema_conformance,
]


class Authentic:
    """Gives most requests the credentials that their channel asks for; the body decides which."""

    def __init__(self, app: Any) -> None:
        self._app = app

    async def __call__(self, scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] != "http" or scope["method"] != "POST":
            await self._app(scope, receive, send)
            return
        body, more = b"", True
        while more:
            message = await receive()
            body, more = body + message.get("body", b""), message.get("more_body", False)
        if hashlib.sha256(body).digest()[0] % 4:
            scope = scope | {"headers": scope["headers"] + self._proof(scope["path"], body)}

        async def again() -> Any:
            nonlocal body
            given, body = body, b""
            return {"type": "http.request", "body": given, "more_body": False}

        await self._app(scope, again, send)

    @staticmethod
    def _proof(path: str, body: bytes) -> list[tuple[bytes, bytes]]:
        name = path.strip("/").split("/")[1:2]
        http = (
            load_channel(name[0]).transports.http if name and name[0] in channel_names() else None
        )
        proof = sign(KEY, int(time.time()), body) if http and http.signed else {"X-API-Key": KEY}
        return [(k.lower().encode(), v.encode()) for k, v in proof.items()]


@pytest.fixture(scope="module")
def description(
    settings: Settings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[BaseSchema]:
    """The interface of a gateway with a real broker and engine, as it describes itself."""
    own = settings.model_copy(
        update={
            "home": tmp_path_factory.mktemp("gateway"),
            "clickhouse_database": "test_schemathesis",
            "kafka": settings.bootstrap,
            "clickhouse": settings.clickhouse_url,
        }
    )
    own.keys_path.write_text(json.dumps(dict.fromkeys(channel_names(), KEY)), encoding="utf-8")
    topics.apply(own)
    tables.apply(own)
    publisher = Publisher(own)
    generation = GenerationConfig(max_examples=EXAMPLES, deterministic=True)
    project = ProjectConfig(generation=generation)
    yield schemathesis.openapi.from_asgi(
        "/openapi.json",
        Authentic(create_app(own, publisher)),
        config=SchemathesisConfig(seed=1, projects=ProjectsConfig(default=project)),
    )
    publisher.close()
    with clickhouse_connect.get_client(dsn=own.clickhouse_url) as client:
        client.command("DROP DATABASE test_schemathesis")


def test_every_part_of_the_interface_is_described(description: BaseSchema) -> None:
    paths = set(description)
    assert "/channels/{name}/reports" in paths
    assert {path.split("/")[1] for path in paths} >= {"channels", "api", "open311"}


@pytest.mark.parametrize("mode", list(GenerationMode))
def test_whatever_is_asked_is_answered_as_described(
    description: BaseSchema, mode: GenerationMode, subtests: pytest.Subtests
) -> None:
    for found in description.get_all_operations():
        assert isinstance(found, Ok), found.err()
        operation = found.ok()

        @settings(
            max_examples=EXAMPLES,
            deadline=None,
            derandomize=True,
            database=None,
            suppress_health_check=list(HealthCheck),
        )
        @given(operation.as_strategy(generation_mode=mode))
        def asked(case: Case[Any]) -> None:
            case.call_and_validate(checks=CHECKS)

        with subtests.test(operation.label), contextlib.suppress(Unsatisfiable):
            asked()  # one without parameters cannot be asked wrongly
