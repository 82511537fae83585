"""Ids from any registry with the Confluent API, against a small stub of that protocol."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from schemas.codec import Codec
from schemas.errors import QuanyuError
from schemas.registry import SchemaIds, load_schemas, registry_ids, schema_ids
from schemas.settings import Settings


class _Registry(BaseHTTPRequestHandler):
    """Gives each subject and schema an id from 1001 on; the same schema again its old one."""

    known: dict[tuple[str, str], int]

    def do_POST(self) -> None:
        subject = self.path.split("/")[2]
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        refused = subject == "quanyu.Refused"
        number = self.known.setdefault((subject, body["schema"]), 1001 + len(self.known))
        answer = {"error_code": 409, "message": "incompatible"} if refused else {"id": number}
        data = json.dumps(answer).encode()
        self.send_response(409 if refused else 200)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


@pytest.fixture
def url() -> Iterator[str]:
    handler = type("Registry", (_Registry,), {"known": {}})
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()


def test_every_version_gets_the_registrys_id_and_keeps_it(url: str) -> None:
    schemas = load_schemas()
    ids = registry_ids(url, schemas)
    assert set(ids) == set(schemas)
    assert min(ids.values()) > 1000
    assert registry_ids(url, schemas) == ids


def test_records_travel_under_the_registrys_ids(url: str) -> None:
    ids = schema_ids(Settings(schema_registry_url=url))
    codec = Codec(ids)
    record = {"channel": "c", "native_id": "1", "received_at": 1_790_000_000_000, "payload": b"{}"}
    value = codec.encode("RawReport", record)
    assert int.from_bytes(value[1:5], "big") == ids.ids["RawReport", 1]
    assert codec.decode(value)[1]["native_id"] == "1"


def test_a_refused_version_names_its_subject(url: str) -> None:
    schema = {"type": "record", "name": "Refused", "namespace": "quanyu", "fields": []}
    with pytest.raises(QuanyuError, match=r"quanyu\.Refused v1"):
        registry_ids(url, {("Refused", 1): schema})


def test_a_registry_that_does_not_answer_is_named() -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(QuanyuError, match=nowhere):
        registry_ids(nowhere, load_schemas())


def test_without_a_registry_the_lock_file_holds() -> None:
    ids: SchemaIds = schema_ids(Settings())
    assert len(set(ids.ids.values())) == len(ids.schemas)
