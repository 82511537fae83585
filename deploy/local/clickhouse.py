"""The ClickHouse HTTP interface in front of the engine that runs in this process (chdb).

A plain ClickHouse client, ``curl`` or Grafana's data source talks to it as to a server. Only one
process can open an engine's directory, so everything that reads or writes goes through this port.
Clients name no files: a query that reads or writes files or URLs by name is refused (``guard.py``), but for
a backup, whose place is always a folder of the home's ``backups``. There are no users: it listens on loopback
only.
"""

import contextlib
import json
import logging
import os
import re
import signal
import tempfile
import threading
import time
import uuid
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from xml.sax.saxutils import escape

import chdb
import lz4.frame  # type: ignore[import-untyped]  # it has no stubs
import structlog
import uvicorn
from backports import zstd
from starlette.applications import Starlette
from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import PlainTextResponse, Response
from starlette.routing import Route

from deploy.local.guard import Guard, RefusedError
from schemas.settings import load_settings

log = structlog.get_logger()

#: Handles on the engine, hence queries at once; more would only queue for a small machine's cores.
HANDLES = 6
#: A block of 50,000 wide rows is below 100 MB in Native; more than this is a mistake or an attack.
BODY_LIMIT = 512 * 1024 * 1024

#: Of these, so many are kept for inserts and DDL: slow readers must not hold up the sink.
WRITERS = 2

NAME = rb'(?:[\w]+|`[^`]+`|"[^"]+")'
INSERT = re.compile(
    rb"\A\s*INSERT\s+INTO\s+(?:TABLE\s+)?(?P<table>%(name)s(?:\.%(name)s)?)"
    rb"\s*(?P<columns>\((?:[^()]|\([^()]*\))*\))?"
    rb"\s*(?:SETTINGS\s+(?P<settings>.*?)\s+)?FORMAT\s+(?P<format>\w+)[ \t]*(?:;|\r?\n|\Z)?"
    % {b"name": NAME},
    re.IGNORECASE | re.DOTALL,
)
#: As on a server whose disk for backups has this name; see deploy/backup.py.
BACKUP_DISK = "backups"
BACKUP = re.compile(
    rb"(?:BACKUP DATABASE `[^`\\]+` TO|RESTORE DATABASE `[^`\\]+` AS `[^`\\]+` FROM) "
    rb"Disk\('%b', '\w[\w-]*/data'\)" % BACKUP_DISK.encode()
)
SETTING_NAME = re.compile(r"\A[a-z][a-z0-9_]*\Z")
#: URL parameters that are not settings.
RESERVED = frozenset(
    {
        *(
            "query",
            "query_id",
            "database",
            "default_format",
            "user",
            "password",
            "role",
            "readonly",
        ),
        *("session_id", "session_timeout", "session_check", "quota_key", "client_protocol_version"),
        *("compress", "decompress", "enable_http_compression", "wait_end_of_query", "buffer_size"),
        *("send_progress_in_http_headers", "http_headers_progress_interval_ms"),
        "cancel_http_readonly_queries_on_client_close",
    }
)
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
STATUS = {
    **dict.fromkeys((6, 27, 36, 53, 62, 115), 400),
    **dict.fromkeys((46, 47, 60, 81), 404),
    **{164: 403, 307: 413, 497: 403, 516: 401},
}


class Handle:
    """One connection to the engine; the database and settings of its last request are still set.

    Rows go to the engine through its ``spool``, a file that only this process names. It is written again and
    again: some file systems look through what was deleted of late for each file that they make.
    """

    def __init__(self, place: str, spools: Path) -> None:
        self.connection = chdb.connect(place)  # type: ignore[no-untyped-call]  # as it is
        self.spool = tempfile.NamedTemporaryFile(dir=spools, suffix=".rows", buffering=0)  # noqa: SIM115 # closed with it
        self.clean = True
        self._settings: dict[str, str] = {}
        self._database = "default"

    def changes(self, request: "Statement") -> int:
        """How many statements it takes to bring the handle to the request's database and settings."""
        changed = self._settings.items() ^ request.settings.items()
        return len({name for name, _ in changed}) + (request.database != self._database)

    def run(self, sql: str, format: str, request: "Statement") -> Any:
        """Run one statement under the request's database and settings."""
        # False while they change: a handle that fails in between is thrown away.
        self.clean = False
        for name in self._settings.keys() - request.settings.keys():
            self.connection.query(f"SET {name} = DEFAULT", "Null")
        for name, value in request.settings.items():
            if self._settings.get(name) != value:
                self.connection.query(f"SET {name} = {literal(value)}", "Null")
        self._settings = dict(request.settings)
        if request.database != self._database:
            self.connection.query(f"USE {quoted(request.database)}", "Null")
            self._database = request.database
        self.clean = True
        return self.connection.query(sql, format, params=request.parameters or None)

    @contextlib.contextmanager
    def spooled(self, rows: memoryview) -> Iterator[None]:
        """Within, the spool holds just these rows."""
        try:
            while rows:
                rows = rows[self.spool.write(rows) :]
            yield
        finally:
            self.spool.seek(0)
            self.spool.truncate()

    def close(self) -> None:
        """Give up the connection and its file."""
        self.connection.close()
        self.spool.close()


@dataclass(frozen=True, slots=True)
class Statement:
    """One request: SQL text or an insert with its data, and what it runs under."""

    sql: bytes
    data: bytes
    database: str
    settings: Mapping[str, str]
    parameters: Mapping[str, str]
    default_format: str
    readonly: bool = False


@dataclass(frozen=True, slots=True)
class Answer:
    """Bytes of the result, its format and what was read or written."""

    body: bytes
    format: str
    rows: int
    bytes_read: int
    written: bool = False


class Engine:
    """A pool of handles on one directory; safe to call from threads."""

    def __init__(self, path: Path, handles: int = HANDLES) -> None:
        path.mkdir(parents=True, exist_ok=True)
        self._place = f"{path}?config-file={configuration(path)}"
        self._spool = path.parent / "clickhouse-spool"
        self._spool.mkdir(exist_ok=True)
        for leftover in self._spool.iterdir():
            leftover.unlink()
        self._handles = handles
        self._free = threading.Semaphore(handles)
        self._choice = threading.Lock()
        self._readers = threading.BoundedSemaphore(handles - WRITERS)
        first = Handle(self._place, self._spool)
        own_default_database(first.connection, path)
        self.guard = Guard.of(first.connection)
        self._idle = [first, *(Handle(self._place, self._spool) for _ in range(handles - 1))]

    @contextlib.contextmanager
    def _handle(self, statement: "Statement") -> Iterator[Handle]:
        """An idle handle, that which is nearest to what the statement runs under."""
        with self._free:
            with self._choice:
                handle = min(self._idle, key=lambda idle: idle.changes(statement))
                self._idle.remove(handle)
            try:
                yield handle
            finally:
                if not handle.clean:
                    handle.close()
                    handle = Handle(self._place, self._spool)
                self._idle.append(handle)

    def execute(self, statement: Statement) -> Answer:
        """Run a statement; raises the engine's error, or :class:`RefusedError`."""
        separator = b"\n" if statement.sql and statement.data else b""
        whole = statement.sql + separator + statement.data
        insert = INSERT.match(whole)
        if insert and insert["format"].upper() != b"VALUES":
            return self._insert(statement, insert, whole)
        if BACKUP.fullmatch(whole) and not statement.readonly:
            return self._query(statement, whole, None)
        checked = self.guard.check(text(whole))
        if checked.reads:
            with self._readers:
                return self._query(statement, whole, checked.format)
        if statement.readonly:
            raise RefusedError(164, "READONLY", "Cannot execute query in readonly mode: use POST")
        return self._query(statement, whole, checked.format)

    def _query(self, statement: Statement, whole: bytes, format: str | None) -> Answer:
        format = format or statement.default_format
        with self._handle(statement) as handle:
            result = handle.run(text(whole), format, statement)
            return Answer(
                bytes(result.bytes()), format, int(result.rows_read()), int(result.bytes_read())
            )

    def _insert(self, statement: Statement, insert: "re.Match[bytes]", whole: bytes) -> Answer:
        """Hand the rows to the engine through its handle's file."""
        self.guard.check(text(whole[: insert.end()]))
        if statement.readonly:
            raise RefusedError(164, "READONLY", "Cannot insert in readonly mode: use POST")
        parts = {name: text(part or b"") for name, part in insert.groupdict().items()}
        settings = f"SETTINGS {parts['settings']}" if parts["settings"] else ""
        with self._handle(statement) as handle:
            sql = (
                f"INSERT INTO {parts['table']} {parts['columns']} FROM INFILE "
                f"{literal(handle.spool.name)} COMPRESSION 'none' {settings} FORMAT {parts['format']}"
            )
            with handle.spooled(memoryview(whole)[insert.end() :]):
                result = handle.run(sql, "Null", statement)
            return Answer(
                b"", "Null", int(result.rows_read()), int(result.bytes_read()), written=True
            )

    def close(self) -> None:
        """Wait for what runs, then close every handle."""
        for _ in range(self._handles):
            self._free.acquire()
        for handle in self._idle:
            handle.close()


def configuration(path: Path) -> Path:
    """Write what the engine of this directory is told at its start: where backups lie."""
    folder = path.parent / BACKUP_DISK
    folder.mkdir(exist_ok=True)
    file = path.parent / "clickhouse.xml"
    file.write_text(
        f"<clickhouse><storage_configuration><disks><{BACKUP_DISK}><type>local</type>"
        f"<path>{escape(str(folder.resolve()))}/</path></{BACKUP_DISK}></disks></storage_configuration>"
        f"<backups><allowed_disk>{BACKUP_DISK}</allowed_disk></backups></clickhouse>\n",
        encoding="utf-8",
    )
    return file


def own_default_database(connection: Any, path: Path) -> None:
    """Make ``default`` a plain database.

    The engine lays it over the file system, where every path is a table that anybody may select
    from. Its tables, if it has any, stay.
    """
    connection.query("DETACH DATABASE default", "Null")
    if any((path / "metadata" / "default").glob("*.sql")):
        connection.query("ATTACH DATABASE default", "Null")
        return
    # Without tables the engine forgets the database's id and cannot attach it again.
    for left in (path / "metadata" / "default.sql", path / "metadata" / "default"):
        if left.is_dir() and not left.is_symlink():
            left.rmdir()
        else:
            left.unlink(missing_ok=True)
    connection.query("CREATE DATABASE default ENGINE = Atomic", "Null")


def text(sql: bytes) -> str:
    """The SQL as text; :class:`RefusedError` when it is not UTF-8."""
    try:
        return sql.decode("utf-8")
    except UnicodeDecodeError as error:
        raise RefusedError(
            62, "SYNTAX_ERROR", f"the query is not UTF-8 at byte {error.start}"
        ) from None


def quoted(identifier: str) -> str:
    """A quoted identifier."""
    return "`" + identifier.replace("\\", "\\\\").replace("`", "\\`") + "`"


def literal(text: str) -> str:
    """A quoted string literal."""
    return "'" + text.replace("\\", "\\\\").replace("'", "\\'") + "'"


def parse(
    method: str, query: Mapping[str, str], body: bytes, headers: Mapping[str, str]
) -> Statement:
    """A statement from URL parameters, body and headers; raises :class:`RefusedError`."""
    settings, parameters = {}, {}
    for name, value in query.items():
        if name.startswith("param_"):
            parameters[name.removeprefix("param_")] = value
        elif name not in RESERVED:
            if not SETTING_NAME.match(name):
                raise RefusedError(115, "UNKNOWN_SETTING", f"Unknown setting {name}")
            settings[name] = value
    for flag in ("compress", "decompress"):
        if query.get(flag, "0") not in ("0", "false"):
            raise RefusedError(
                48, "NOT_IMPLEMENTED", f"{flag}=1 is not supported: use Content-Encoding"
            )
    return Statement(
        sql=query.get("query", "").encode(),
        data=body,
        database=query.get("database") or headers.get("x-clickhouse-database") or "default",
        settings=settings,
        parameters=parameters,
        default_format=query.get("default_format")
        or headers.get("x-clickhouse-format")
        or "TabSeparated",
        readonly=method == "GET" or query.get("readonly", "0") != "0",
    )


def decompressed(body: bytes, encoding: str) -> bytes:
    """The body as it was before Content-Encoding; :class:`RefusedError` when cut or too large."""
    if not encoding or encoding == "identity":
        return body
    if encoding not in DECOMPRESSORS:
        raise RefusedError(432, "UNKNOWN_CODEC", f"Content-Encoding {encoding} is not supported")
    plain = bytearray()
    try:
        while body:  # a body may hold several frames, one after another
            frame = DECOMPRESSORS[encoding]()
            plain += frame.decompress(body, BODY_LIMIT + 1 - len(plain))
            if len(plain) > BODY_LIMIT:
                raise RefusedError(307, "TOO_MANY_BYTES", f"body is larger than {BODY_LIMIT} bytes")
            if not frame.eof:
                raise EOFError("it ends in the middle")
            body = frame.unused_data or b""
    except (RuntimeError, zstd.ZstdError, zlib.error, EOFError) as error:
        raise RefusedError(
            354, "ZLIB_INFLATE_FAILED", f"body is not valid {encoding}: {error}"
        ) from None
    return bytes(plain)


DECOMPRESSORS: Mapping[str, Callable[[], Any]] = {
    "lz4": lz4.frame.LZ4FrameDecompressor,
    "zstd": zstd.ZstdDecompressor,
    "gzip": lambda: zlib.decompressobj(wbits=47),
    "deflate": lambda: zlib.decompressobj(wbits=47),
}


def create_app(engine: Engine) -> Starlette:
    """The HTTP interface of an engine."""

    async def ping(_: Request) -> Response:
        return PlainTextResponse("Ok.\n")

    async def query(request: Request) -> Response:
        started = time.monotonic()
        query_id = request.query_params.get("query_id") or str(uuid.uuid4())
        headers = {"X-ClickHouse-Query-Id": query_id, "X-ClickHouse-Server-Display-Name": "quanyu"}
        try:
            body = await bounded_body(request)
            body = decompressed(body, request.headers.get("content-encoding", ""))
            query = dict(request.query_params)
            statement = parse(request.method, query, body, request.headers)
            if not statement.sql.strip() and not body.strip():
                return PlainTextResponse("Ok.\n")
            answer = await run_in_threadpool(engine.execute, statement)
        except Exception as error:
            return failure(error, headers)
        headers["X-ClickHouse-Format"] = answer.format
        headers["X-ClickHouse-Summary"] = summary(answer, time.monotonic() - started)
        return Response(
            answer.body,
            media_type=CONTENT_TYPES.get(answer.format, "text/plain; charset=UTF-8"),
            headers=headers,
        )

    return Starlette(
        routes=[
            Route("/ping", ping),
            Route("/", query, methods=["GET", "POST"]),
        ]
    )


def summary(answer: Answer, seconds: float) -> str:
    """What was read and written, as a server says it: numbers as strings."""
    written = (answer.rows, answer.bytes_read) if answer.written else (0, 0)
    names = ("read_rows", "read_bytes", "written_rows", "written_bytes", "elapsed_ns")
    values = (answer.rows, answer.bytes_read, *written, int(seconds * 1e9))
    return json.dumps({name: str(value) for name, value in zip(names, values, strict=True)})


async def bounded_body(request: Request) -> bytes:
    """The request's body; :class:`RefusedError` once it passes the limit, whatever its header."""
    parts: list[bytes] = []
    size = 0
    async for part in request.stream():
        size += len(part)
        if size > BODY_LIMIT:
            raise RefusedError(307, "TOO_MANY_BYTES", f"body is larger than {BODY_LIMIT} bytes")
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
    structlog.configure(
        processors=[
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.JSONRenderer(ensure_ascii=False),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(
            logging.getLevelName(settings.log_level)
        ),
    )
    # Days are cut in UTC unless a query says otherwise, wherever the machine stands.
    os.environ["TZ"] = "UTC"
    engine = Engine(settings.home.resolve() / "clickhouse")
    config = uvicorn.Config(
        create_app(engine),
        host="127.0.0.1",
        port=settings.clickhouse_port,
        log_level="warning",
        timeout_graceful_shutdown=8,
        # A pooled client may come back after minutes; a closed connection costs it a request.
        timeout_keep_alive=75,
    )
    # uvicorn raises the signal again when it has stopped; there is still an engine to close then.
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: None)
    uvicorn.Server(config).run()
    engine.close()


if __name__ == "__main__":
    main()
