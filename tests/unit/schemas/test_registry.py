"""Ids from any registry with the Confluent API, against a small stub of that protocol."""

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from schemas.codec import HEADER, Codec, DecodeError
from schemas.errors import QuanyuError
from schemas.registry import Registry, SchemaIds, load_schemas, schema_ids
from schemas.settings import Settings

RAW = {"channel": "c", "native_id": "1", "received_at": 1_790_000_000_000, "payload": b"{}"}


class _Stub(BaseHTTPRequestHandler):
    """Gives each subject and schema an id from 1001 on; the same schema again its old one."""

    known: dict[tuple[str, str], int]
    asked: list[str]
    read_only: bool

    def do_POST(self) -> None:
        subject, _, action = self.path.partition("?")[0].removeprefix("/subjects/").partition("/")
        schema = json.loads(self.rfile.read(int(self.headers["Content-Length"])))["schema"]
        self.asked.append(f"{action} {subject}")
        if action == "versions" and subject == "quanyu.Refused":
            self._answer(409, {"error_code": 409, "message": "incompatible"})
        elif action == "versions" and self.read_only:
            self._answer(403, {"error_code": 40301, "message": "read only"})
        elif action == "versions":
            number = self.known.setdefault((subject, schema), 1001 + len(self.known))
            self._answer(200, {"id": number})
        elif (subject, schema) in self.known:
            number = self.known[subject, schema]
            self._answer(200, {"id": number, "subject": subject, "version": 1, "schema": schema})
        else:
            self._answer(404, {"error_code": 40403, "message": "schema not found"})

    def do_GET(self) -> None:
        number = self.path.partition("?")[0].rpartition("/")[2]
        self.asked.append(f"id {number}")
        for (_, schema), known in self.known.items():
            if str(known) == number:
                self._answer(200, {"schema": schema})
                return
        self._answer(404, {"error_code": 40403, "message": "schema not found"})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/vnd.schemaregistry.v1+json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        """Quiet."""


class Stub:
    """The stub's address and what is in it."""

    def __init__(self) -> None:
        fields = {"known": {}, "asked": [], "read_only": False}
        self.handler: Any = type("Handler", (_Stub,), fields)
        self.server = ThreadingHTTPServer(("127.0.0.1", 0), self.handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def register(self, name: str, schema: Any) -> int:
        """Somebody else's registration."""
        return Registry(self.url).ids({(name, 1): schema})[name, 1]

    def stop(self) -> None:
        self.server.shutdown()
        self.server.server_close()


@pytest.fixture
def stub() -> Iterator[Stub]:
    stub = Stub()
    yield stub
    stub.stop()


@pytest.fixture
def codec_at(stub: Stub) -> Codec:
    """A codec of this tree with the stub's ids."""
    return Codec(schema_ids(Settings(schema_registry_url=stub.url)))


def newer_raw_report() -> Any:
    """The next version of RawReport, which this tree does not have yet."""
    schema = json.loads(json.dumps(load_schemas()["RawReport", 1]))
    schema["fields"].append({"name": "weather", "type": "string", "default": ""})
    return schema


def newer_value(number: int) -> bytes:
    """A record as the next version's writer frames it."""
    ids = SchemaIds({("RawReport", 1): newer_raw_report()}, {("RawReport", 1): number})
    return Codec(ids).encode("RawReport", {**RAW, "weather": "rain"})


def test_every_version_gets_the_registrys_id_and_keeps_it(stub: Stub) -> None:
    schemas = load_schemas()
    ids = Registry(stub.url).ids(schemas)
    assert set(ids) == set(schemas)
    assert min(ids.values()) > 1000
    assert Registry(stub.url).ids(schemas) == ids


def test_reading_rights_are_enough_when_every_version_is_registered(stub: Stub) -> None:
    ids = Registry(stub.url).ids(load_schemas())
    stub.handler.read_only = True
    assert Registry(stub.url).ids(load_schemas()) == ids
    with pytest.raises(QuanyuError, match=r"quanyu\.RawReport v1.*read only"):
        stub.register("RawReport", newer_raw_report())


def test_records_travel_under_the_registrys_ids(stub: Stub, codec_at: Codec) -> None:
    value = codec_at.encode("RawReport", RAW)
    assert int.from_bytes(value[1:5], "big") > 1000
    assert codec_at.decode(value)[1]["native_id"] == "1"


def test_a_newer_writers_record_is_read_with_its_own_schema_asked_for_once(
    stub: Stub, codec_at: Codec
) -> None:
    number = stub.register("RawReport", newer_raw_report())
    values = [newer_value(number)] * 3 + [codec_at.encode("RawReport", RAW)]
    records, errors = codec_at.decode_batch("RawReport", values)
    assert errors == {}
    assert records[0] == records[3]
    assert stub.handler.asked.count(f"id {number}") == 1


def test_an_id_that_nobody_has_is_an_error_and_asked_for_once(stub: Stub, codec_at: Codec) -> None:
    values: list[bytes | None] = [HEADER.pack(0, 77) + b"x"] * 5
    _, errors = codec_at.decode_batch("RawReport", values)
    assert {error.code for error in errors.values()} == {"unknown_schema"}
    assert len(errors) == 5
    assert stub.handler.asked.count("id 77") == 1


@pytest.mark.parametrize(
    "schema",
    [
        {"type": "record", "name": "Stranger", "namespace": "quanyu", "fields": []},
        {"type": "record", "name": "RawReport", "namespace": "elsewhere", "fields": []},
        {"type": "record", "name": "RawReport"},
        "string",
        7,
    ],
)
def test_a_registered_schema_that_is_none_of_ours_is_unknown(
    stub: Stub, codec_at: Codec, schema: Any
) -> None:
    stub.handler.known["other", json.dumps(schema)] = 5000
    with pytest.raises(DecodeError, match="unknown_schema"):
        codec_at.decode(HEADER.pack(0, 5000) + b"x")


def test_a_registry_that_fell_silent_is_not_taken_for_an_unknown_schema(
    stub: Stub, codec_at: Codec
) -> None:
    stub.stop()
    with pytest.raises(QuanyuError, match="cannot be reached"):
        codec_at.decode_batch("RawReport", [HEADER.pack(0, 77) + b"x"])


def test_a_refused_version_names_its_subject(stub: Stub) -> None:
    schema = {"type": "record", "name": "Refused", "namespace": "quanyu", "fields": []}
    with pytest.raises(QuanyuError, match=r"quanyu\.Refused v1"):
        stub.register("Refused", schema)


def test_a_registry_that_does_not_answer_is_named() -> None:
    nowhere = "http://127.0.0.1:9"
    with pytest.raises(QuanyuError, match=nowhere):
        Registry(nowhere).ids(load_schemas())


def test_without_a_registry_the_lock_file_holds() -> None:
    ids = schema_ids(Settings())
    assert len(set(ids.ids.values())) == len(ids.schemas)
