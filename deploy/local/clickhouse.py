"""The ClickHouse HTTP interface in front of the engine that runs in this process (chdb).

A plain ClickHouse client, ``curl`` or Grafana's data source talks to it as to a server. Only one
process can open an engine's directory, so everything that reads or writes goes through this port.
Clients name no files: a query that reads or writes files or URLs by name is refused.
"""

import contextlib
import queue
import re
import signal
import tempfile
import uuid
import zlib
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import chdb
import lz4.frame
import structlog
import uvicorn
from backports import zstd
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from schemas.settings import load_settings

log = structlog.get_logger()

#: Handles on the engine: as many queries at once. More only queue for the two cores of a small machine.
HANDLES = 6
#: A block of 50,000 wide rows is below 100 MB in Native; more than this is a mistake or an attack.
BODY_LIMIT = 512 * 1024 * 1024

INSERT = re.compile(
    rb"\A\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<table>[\w.`\"]+)\s*(?P<columns>\((?:[^()]|\([^()]*\))*\))?"
    rb"\s*(?:SETTINGS\s+(?P<settings>.*?)\s+)?FORMAT\s+(?P<format>\w+)[ \t]*(?:;|\r?\n|\Z)?",
    re.IGNORECASE | re.DOTALL,
)
LITERAL = re.compile(r"'(?:[^'\\]|\\.|'')*'|--[^\n]*|/\*.*?\*/", re.DOTALL)
#: Functions and clauses by which SQL reaches files, other hosts or programs.
OUTSIDE = re.compile(
    r"\b(?:INFILE|OUTFILE)\b|\b(?:file|fileCluster|url|urlCluster|s3|s3Cluster|gcs|hdfs|hdfsCluster|"
    r"azureBlobStorage|remote|remoteSecure|mysql|postgresql|mongodb|redis|sqlite|odbc|jdbc|executable|"
    r"iceberg\w*|deltaLake\w*|hudi|input|python)\s*\(|\bENGINE\s*=?\s*(?:File|URL|S3|HDFS|MySQL|PostgreSQL|"
    r"SQLite|Executable|ODBC|JDBC|Python)\b|\bBACKUP\b|\bRESTORE\b",
    re.IGNORECASE,
)
FORMAT = re.compile(r"\bFORMAT\s+(\w+)\s*;?\s*\Z", re.IGNORECASE)
SETTING_NAME = re.compile(r"\A[a-z][a-z0-9_]*\Z")
#: URL parameters that are not settings.
RESERVED = {
    "query", "database", "default_format", "user", "password", "session_id", "session_timeout", "query_id",
    "compress", "decompress", "enable_http_compression", "http_headers_progress_interval_ms",
    "send_progress_in_http_headers", "wait_end_of_query", "role", "quota_key", "client_protocol_version",
    "session_check", "buffer_size", "cancel_http_readonly_queries_on_client_close",
}
CONTENT_TYPES = {
    "JSON": "application/json; charset=UTF-8",
    "JSONCompact": "application/json; charset=UTF-8",
    "JSONEachRow": "application/x-ndjson; charset=UTF-8",
    "JSONCompactEachRow": "application/x-ndjson; charset=UTF-8",
    "CSV": "text/csv; charset=UTF-8",
    "CSVWithNames": "text/csv; charset=UTF-8",
    "TabSeparated": "text/tab-separated-values; charset=UTF-8",
    "Native": "application/octet-stream",
    "RowBinary": "application/octet-stream",
}
#: HTTP status by ClickHouse error code, as a server answers; anything else is 500.
STATUS = {60: 404, 81: 404, 62: 400, 47: 404, 36: 400, 46: 404, 27: 400, 6: 400, 53: 400, 516: 401, 497: 403}


class Refused(Exception):
    """A request that a server would answer with an exception of its own."""

    def __init__(self, code: int, name: str, message: str) -> None:
        super().__init__(f"Code: {code}. DB::Exception: {message} ({name})")
        self.code = code


class Handle:
    """One connection to the engine, with the settings of its last request still set."""

    def __init__(self, path: Path) -> None:
        self.connection = chdb.connect(str(path))
        self._settings: dict[str, str] = {}
        self._database = "default"

    def run(self, sql: str, format: str, request: "Statement") -> Any:
        """Run one statement under the request's database and settings."""
        if request.database != self._database:
            self.connection.query(f"USE {quoted(request.database)}", "Null")
            self._database = request.database
        for name in self._settings.keys() - request.settings.keys():
            self.connection.query(f"SET {name} = DEFAULT", "Null")
        for name, value in request.settings.items():
            if self._settings.get(name) != value:
                self.connection.query(f"SET {name} = {literal(value)}", "Null")
        self._settings = dict(request.settings)
        return self.connection.query(sql, format, params=request.parameters or None)


@dataclass(frozen=True, slots=True)
class Statement:
    """One request: SQL text or an insert with its data, and what it runs under."""

    sql: bytes
    data: bytes
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    default_format: str


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of the result, its format and what was read or written."""

    body: bytes
    format: str
    rows: int
    bytes_read: int


class Engine:
    """A pool of handles on one directory; safe to call from threads."""

    def __init__(self, path: Path, handles: int = HANDLES) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._path = path
        self._spool = path.parent / "clickhouse-spool"
        self._spool.mkdir(exist_ok=True)
        for leftover in self._spool.iterdir():
            leftover.unlink()
        self._idle: queue.SimpleQueue[Handle] = queue.SimpleQueue()
        self._handles = [Handle(path) for _ in range(handles)]
        for handle in self._handles:
            self._idle.put(handle)

    @contextlib.contextmanager
    def _handle(self) -> Iterator[Handle]:
        handle = self._idle.get()
        try:
            yield handle
        finally:
            self._idle.put(handle)

    def execute(self, statement: Statement) -> Answer:
        """Run a statement; raises the engine's error, or :class:`Refused`."""
        whole = statement.sql + (b"\n" if statement.sql and statement.data else b"") + statement.data
        insert = INSERT.match(whole)
        if insert:
            return self._insert(statement, insert, whole)
        try:
            sql = whole.decode("utf-8")
        except UnicodeDecodeError as error:
            raise Refused(62, "SYNTAX_ERROR", f"the query is not UTF-8 at byte {error.start}") from None
        refuse_outside(sql)
        named = FORMAT.search(LITERAL.sub("''", sql))
        format = named.group(1) if named else statement.default_format
        with self._handle() as handle:
            result = handle.run(sql, format, statement)
            return Answer(bytes(result.bytes()), format, int(result.rows_read()), int(result.bytes_read()))

    def _insert(self, statement: Statement, insert: "re.Match[bytes]", whole: bytes) -> Answer:
        """Hand the rows to the engine through a private file that only this process names."""
        if insert["format"].upper() == b"VALUES":
            raise Refused(62, "SYNTAX_ERROR", "write INSERT INTO … VALUES without FORMAT")
        with tempfile.NamedTemporaryFile(dir=self._spool, suffix=".rows") as spool:
            spool.write(memoryview(whole)[insert.end() :])
            spool.flush()
            head = b"INSERT INTO " + insert["table"] + b" " + (insert["columns"] or b"")
            refuse_outside(head.decode())
            settings = b" SETTINGS " + insert["settings"] if insert["settings"] else b""
            sql = (
                f"{head.decode()} FROM INFILE {literal(spool.name)} COMPRESSION 'none'"
                f"{settings.decode()} FORMAT {insert['format'].decode()}"
            )
            with self._handle() as handle:
                result = handle.run(sql, "Null", statement)
                return Answer(b"", "Null", int(result.rows_read()), int(result.bytes_read()))

    def close(self) -> None:
        """Wait for what runs, then close every handle."""
        for _ in self._handles:
            self._idle.get()
        for handle in self._handles:
            handle.connection.close()


def quoted(identifier: str) -> str:
    """A quoted identifier."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """A quoted string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def refuse_outside(sql: str) -> None:
    """Raise :class:`Refused` when the SQL would reach files, other hosts or programs."""
    found = OUTSIDE.search(LITERAL.sub("''", sql))
    if found:
        raise Refused(
            497, "ACCESS_DENIED", f"{found.group(0).strip(' (')} is not allowed through this interface"
        )


def parse(query: Mapping[str, str], body: bytes, headers: Mapping[str, str]) -> Statement:
    """A statement from URL parameters, body and headers; raises :class:`Refused`."""
    settings, parameters = {}, {}
    for name, value in query.items():
        if name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        elif name not in RESERVED:
            if not SETTING_NAME.match(name):
                raise Refused(115, "UNKNOWN_SETTING", f"Unknown setting {name}")
            settings[name] = value
    sql = query.get("query", "").encode()
    return Statement(
        sql=sql,
        data=body,
        database=query.get("database") or headers.get("x-clickhouse-database") or "default",
        settings=settings,
        parameters=parameters,
        default_format=query.get("default_format") or headers.get("x-clickhouse-format") or "TabSeparated",
    )


def decompressed(body: bytes, encoding: str) -> bytes:
    """The body as sent before Content-Encoding; raises :class:`Refused` when it is not that or too large."""
    try:
        if not encoding or encoding == "identity":
            return body
        if encoding == "lz4":
            plain = lz4.frame.LZ4FrameDecompressor().decompress(body, max_length=BODY_LIMIT + 1)
        elif encoding == "zstd":
            plain = zstd.ZstdDecompressor().decompress(body, max_length=BODY_LIMIT + 1)
        elif encoding in ("gzip", "deflate"):
            plain = zlib.decompressobj(wbits=47).decompress(body, BODY_LIMIT + 1)
        else:
            raise Refused(432, "UNKNOWN_CODEC", f"Content-Encoding {encoding} is not supported")
    except (RuntimeError, zstd.ZstdError, zlib.error, EOFError) as error:
        raise Refused(354, "ZLIB_INFLATE_FAILED", f"body is not valid {encoding}: {error}") from None
    if len(plain) > BODY_LIMIT:
        raise Refused(307, "TOO_MANY_BYTES", f"body is larger than {BODY_LIMIT} bytes")
    return bytes(plain)


def create_app(engine: Engine) -> Starlette:
    """The HTTP interface of an engine."""

    async def ping(_: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def query(request: Request) -> Response:
        query_id = request.query_params.get("query_id") or str(uuid.uuid4())
        headers = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Server-Display-Name": "quanyu"}
        try:
            body = await bounded_body(request)
            body = decompressed(body, request.headers.get("content-encoding", ""))
            statement = parse(dict(request.query_params), body, request.headers)
            if not statement.sql.strip() and not body.strip():
                return PlainTextResponse("Ok.\n")
            answer = await run_in_threadpool(engine.execute, statement)
        except Exception as error:
            return failure(error, headers)
        headers["X-ClickHouse-Format"] = answer.format
        headers["X-ClickHouse-Summary"] = (
            f'{{"read_rows":"{answer.rows}","read_bytes":"{answer.bytes_read}",'
            f'"written_rows":"{answer.rows}","written_bytes":"{answer.bytes_read}"}}'
        )
        return Response(
            answer.body, media_type=CONTENT_TYPES.get(answer.format, "text/plain; charset=UTF-8"), headers=headers
        )

    return Starlette(
        routes=[
            Route("/ping", ping),
            Route("/", query, methods=["GET", "POST"]),
        ]
    )


async def bounded_body(request: Request) -> bytes:
    """The request's body; :class:`Refused` once it passes the limit, whatever its header said."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise Refused(307, "TOO_MANY_BYTES", f"body is larger than {BODY_LIMIT} bytes")
        parts.append(part)
    return b"".join(parts)


def failure(error: Exception, headers: dict[str, str]) -> Response:
    """An error as a server answers it: status, exception code header, message as text."""
    message = str(error)
    found = re.search(r"Code: (\d+)", message)
    code = int(found.group(1)) if found else 1002
    if not found:
        message = f"Code: 1002. DB::Exception: {message} (UNKNOWN_EXCEPTION)"
    log.warning("query_failed", code=code, message=message[:500])
    return PlainTextResponse(
        message + "\n",
        status_code=STATUS.get(code, 500),
        headers={**headers, "X-ClickHouse-Exception-Code": str(code)},
    )


def main() -> None:
    """Serve the home's engine until SIGTERM; inserts that run are finished first."""
    settings = load_settings()
    engine = Engine(settings.home.resolve() / "clickhouse")
    config = uvicorn.Config(
        create_app(engine),
        host=settings.bind,
        port=settings.clickhouse_port,
        log_level="warning",
        timeout_graceful_shutdown=8,
        # A pooled client may come back after minutes; a closed keep-alive costs it a failed request.
        timeout_keep_alive=75,
    )
    # uvicorn raises the signal again once it has stopped; by then there is still an engine to close.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run()
    engine.close()


if __name__ == "__main__":
    main()
