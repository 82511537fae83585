"""SQL poll: the rows of one table or view of another system's database, read by a column that grows.

A *sweep* reads pages in the order of watermark and key, from the overlap below the newest row confirmed
when the sweep before it began: whatever was committed late by no more than the overlap lies there,
however long a sweep takes. What is confirmed is remembered by a hash of the whole row as long as a sweep
may meet it again; so a row is published once, and again when anything in it changed. Between two sweeps
only the end is read.

Each page is a statement of its own that reads only, so nothing is held in the other system while the
broker is slow. Rows without a watermark or key have no place in that order: they are looked for once a
minute, published as they are, and remembered while they stand there. A time ahead of our clock is
published, but moves nothing: what comes after it would be missed. Naive times of a zone with summer time
go back by an hour once a year: there the overlap must be an hour, or the column in UTC.
"""

import base64
import math
import re
import sqlite3
import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from hashlib import blake2b
from pathlib import Path
from typing import Any
from urllib.parse import quote
from uuid import UUID
from zoneinfo import ZoneInfo

import sqlalchemy as sa
import structlog
from sqlalchemy.exc import ArgumentError, DBAPIError, NoSuchModuleError, NoSuchTableError

from connectors.mapping import Entry
from connectors.position import Position
from connectors.source import Portion, SourceError
from schemas.channels import ChannelSpec, SqlTransport
from schemas.errors import QuanyuError
from schemas.settings import Settings

log = structlog.get_logger("connectors")

#: Rows of a page, and characters of their cells; a portion is what is new in a page.
PAGE, PAGE_SIZE, FETCH = 5_000, 32 * 1024 * 1024, 500
#: Rows remembered inside the overlap, eight bytes each. When more are committed in so short a time, the
#: overlap is shortened to these, and the log says so.
WINDOW_LIMIT = 500_000
#: Rows without watermark or key that are looked at, and how often: they are found by no index.
ODD_LIMIT, ODD_EVERY_S = 100_000, 60.0
#: A sweep of a full window is followed by so many times its duration in which only the end is read.
PAUSE_RATIO = 4.0
#: How long SQLite waits for a writer; then the connector does.
BUSY_S = 2.0
#: Module of a driver → package that brings it, where the names differ.
PACKAGES = {"psycopg": "psycopg[binary]", "psycopg2": "psycopg2-binary", "MySQLdb": "mysqlclient"}

_BRACES = re.compile(r"\{([^{}]+)\}")
_NO_TIME = datetime.min.replace(tzinfo=UTC)

Value = Any
Key = tuple[Value, ...]


def open_source(settings: Settings, spec: ChannelSpec, address: str) -> "SqlSource":
    """The channel's table at a SQLAlchemy URL; a user who may only read is enough.

    :class:`QuanyuError` for an address that is none or whose driver is not installed.
    """
    if spec.transports.sql is None:
        raise QuanyuError(f"channel {spec.name} has no transport sql")
    return SqlSource(settings, spec, spec.transports.sql, address)


# --- Watermarks: numbers, times, dates, and texts in ISO 8601, as SQLite holds times. Pure.


def rank(value: Value) -> float | None:
    """What orders watermarks of one column; None for what is no watermark."""
    if isinstance(value, str):
        try:
            value = datetime.fromisoformat(value) if value[4:5] == "-" else None
        except ValueError:
            return None
    if isinstance(value, datetime):
        return (value if value.tzinfo else value.replace(tzinfo=UTC)).timestamp()
    if isinstance(value, date):
        return datetime(value.year, value.month, value.day, tzinfo=UTC).timestamp()
    if isinstance(value, int | float | Decimal) and math.isfinite(value):
        return float(value)
    return None


def before(value: Value, overlap: float) -> Value:
    """The value of the same type that lies ``overlap`` (seconds of a time, else units) lower."""
    if isinstance(value, str):
        # To the second and without offset: as text that lies before every spelling of the same second.
        moment = datetime.fromisoformat(value).replace(tzinfo=None)
        return _later(moment, -overlap).isoformat(value[10:11] or "T", "seconds")[: len(value)]
    if isinstance(value, datetime):
        return _later(value, -overlap)
    if isinstance(value, date):
        return value - timedelta(days=math.ceil(overlap / 86_400))
    if isinstance(value, int):
        return value - math.ceil(overlap)
    return value - type(value)(overlap)


def reach(value: Value, overlap: float) -> float:
    """The lowest rank that a sweep from :func:`before` may meet."""
    found = rank(value)
    if found is None:
        return -math.inf
    if (
        isinstance(value, str) and len(value) > 10
    ):  # cut to the second or minute, without its offset
        return found - overlap - 60
    return rank(before(value, overlap)) or -math.inf


def _later(moment: datetime, seconds: float) -> datetime:
    try:
        return moment + timedelta(seconds=seconds)
    except OverflowError:
        return _NO_TIME if moment.tzinfo else _NO_TIME.replace(tzinfo=None)


def not_after(value: Value, now: datetime) -> Value:
    """The value, or now when it lies ahead; numbers know no now. Naive times are in ``now``'s zone."""
    if isinstance(value, str):
        moment = datetime.fromisoformat(value)
        if not moment.tzinfo:
            moment = moment.replace(tzinfo=now.tzinfo)
        if moment <= now:
            return value
        local = now.astimezone(moment.tzinfo).replace(tzinfo=None)
        return local.isoformat(value[10:11] or "T", "seconds")[: len(value)]
    if isinstance(value, datetime):
        return min(value, now if value.tzinfo else now.replace(tzinfo=None))
    return min(value, now.date()) if isinstance(value, date) else value


def dump(value: Value) -> Any:
    """A value of a key as JSON."""
    if value is None or isinstance(value, int | float | str):
        return value
    for kind, (of, write, _) in _KINDS.items():
        if isinstance(value, of):
            return {kind: write(value)}
    raise SourceError("schema_changed", f"rows cannot be read in the order of a {type(value)}")


def load(document: Any) -> Value:
    """The value of what :func:`dump` wrote."""
    if isinstance(document, dict):
        ((kind, text),) = document.items()
        return _KINDS[kind][2](text)
    return document


#: Kind → type, to text, from text. A datetime is a date too, so it stands first.
_KINDS: dict[str, tuple[type, Any, Any]] = {
    "time": (datetime, datetime.isoformat, datetime.fromisoformat),
    "date": (date, date.isoformat, date.fromisoformat),
    "decimal": (Decimal, str, Decimal),
    "uuid": (UUID, str, UUID),
    "bytes": (bytes, bytes.hex, bytes.fromhex),
}


# --- What was confirmed


@dataclass(slots=True)
class _Chunk:
    """Hashes of rows confirmed together, and the highest watermark among them."""

    highest: Value
    digests: list[bytes]

    @property
    def rank(self) -> float:
        """A row whose place is unknown may be met for ever."""
        found = rank(self.highest)
        return math.inf if found is None else found


@dataclass(slots=True)
class _State:
    """The position: what lies in the file, and nothing else decides what is read."""

    source: str
    #: Rows confirmed so far.
    rows: int = 0
    #: The newest watermark confirmed, never ahead of our clock.
    top: Value = None
    #: What top was when the last whole sweep began; the next one starts the overlap below it.
    base: Value = None
    #: Up to here nothing is remembered any more, so nothing is read again.
    floor: Value = None
    #: Key of the last row of the sweep that was under way, and its base.
    at: Key | None = None
    next_base: Value = None
    window: list[_Chunk] = field(default_factory=list)
    #: Rows without a watermark or key.
    odd: set[bytes] = field(default_factory=set)
    #: Columns that the spec names and the table had.
    columns: list[str] = field(default_factory=list)

    def document(self) -> dict[str, Any]:
        return {
            "source": self.source,
            "rows": self.rows,
            "top": dump(self.top),
            "base": dump(self.base),
            "floor": dump(self.floor),
            "at": None if self.at is None else [dump(value) for value in self.at],
            "next_base": dump(self.next_base),
            "window": [[dump(c.highest), _packed(c.digests)] for c in self.window],
            "odd": _packed(self.odd),
            "columns": self.columns,
        }

    @staticmethod
    def of(document: dict[str, Any], source: str) -> "_State":
        if document.get("source") != source:  # another table is another position
            return _State(source)
        at = document["at"]
        return _State(
            source,
            document["rows"],
            load(document["top"]),
            load(document["base"]),
            load(document["floor"]),
            None if at is None else tuple(map(load, at)),
            load(document["next_base"]),
            [_Chunk(load(highest), _unpacked(text)) for highest, text in document["window"]],
            set(_unpacked(document["odd"])),
            document["columns"],
        )


def _packed(digests: Iterable[bytes]) -> str:
    return base64.b64encode(b"".join(digests)).decode()


def _unpacked(text: str) -> list[bytes]:
    data = base64.b64decode(text)
    return [data[i : i + 8] for i in range(0, len(data), 8)]


@dataclass(slots=True)
class _Run:
    """A sweep under way: over the whole overlap, from the end on, or over rows outside the order."""

    kind: str  # whole | end | odd
    started: float
    #: Where it starts: watermarks from here on; after it, when ``after``; all when None.
    low: Value = None
    after: bool = False
    #: Key of the last row read, and how many rows of just this key were passed.
    at: Key | None = None
    skip: int = 0
    base: Value = None
    rows: int = 0
    found: set[bytes] = field(default_factory=set)


@dataclass(slots=True)
class _Pending:
    """What confirming the portion adds to the state."""

    run: _Run
    digests: list[bytes]
    highest: Value
    top: Value
    ends: bool


class SqlSource:
    """One table, read as the module says. Not thread-safe."""

    def __init__(
        self, settings: Settings, spec: ChannelSpec, transport: SqlTransport, address: str
    ) -> None:
        self._spec, self._sql = spec, transport
        self._zone = ZoneInfo(spec.time_zone)
        self._position = Position(settings.home / "positions" / f"{spec.name}.sql.json")
        self._state = _State.of(
            self._position.read(), f"{self._sql.table} by {self._sql.watermark}"
        )
        self._seen = {digest for chunk in self._state.window for digest in chunk.digests}
        schema, _, name = self._sql.table.rpartition(".")
        self._schema, self._name = schema or None, name
        self._engine, self._secret = _engine(spec, address)
        self._run: _Run | None = None
        self._open: Portion | None = None
        self._end: Key | None = None
        self._due = self._whole_due = self._odd_due = 0.0
        self._swept = False
        #: To be raised by the next read: what was confirmed is kept first.
        self._complaint: SourceError | None = None
        self._warned = self._lenient = False
        try:
            self._look()
        except DBAPIError as error:
            raise self._meaning(error) from None
        finally:
            self.close()

    # --- The contract

    def read(self, timeout_s: float) -> Portion | None:
        """See :class:`connectors.source.Source`."""
        end = time.monotonic() + timeout_s
        while self._open is None:
            if self._complaint is not None:
                raise self._complaint
            try:
                self._open = self._step()
            except DBAPIError as error:
                if not self._garbled(error):
                    raise self._meaning(error) from None
            now = time.monotonic()
            if self._open is None:
                if now >= end:
                    return None
                if self._run is None and self._due > now:
                    time.sleep(min(self._due, end) - now)
        return self._open

    def confirm(self, portion: Portion) -> None:
        """See :class:`connectors.source.Source`."""
        state, pending = self._state, portion.position
        run: _Run = pending.run
        state.rows += len(portion.entries)
        if run.kind == "odd":
            state.odd.update(pending.digests)
        else:
            state.window.append(_Chunk(pending.highest, pending.digests))
            self._seen.update(pending.digests)
            if pending.top is not None and (rank(pending.top) or 0) >= (
                rank(state.top) or -math.inf
            ):
                state.top = pending.top
        if run.kind == "whole":
            state.at, state.next_base = run.at, run.base
        if pending.ends:
            self._finish(run)
        self._forget()
        try:
            self._position.write(state.document())
        except OSError as error:
            raise SourceError(
                "disk_full",
                f"the position cannot be kept ({error}); free space: until then rows are read again",
            ) from None
        self._open = None

    def close(self) -> None:
        """See :class:`connectors.source.Source`."""
        self._engine.dispose()

    # --- Sweeps

    def _step(self) -> Portion | None:
        """One page; what is new in it, if anything."""
        if self._run is None:
            if time.monotonic() < self._due:
                return None
            self._run = self._begin()
        run = self._run
        names, rows, more = self._page(run)
        run.rows += len(rows)
        known = self._state.odd if run.kind == "odd" else self._seen
        # What is new, by its hash: a row that stands twice in a page says the same twice.
        new = {digest: values for values, digest in rows if digest not in known}
        highest = top = None
        if run.kind == "odd":
            run.found.update(digest for _, digest in rows)
            run.skip += len(rows)
        elif rows:
            keys = [names.index(name) for name in self._key]
            last = tuple(rows[-1][0][i] for i in keys)
            # Pages begin with the row that ended the one before: keys need not be unique in a view.
            run.skip = run.skip + len(rows) if last == run.at else 0
            run.at, highest = last, last[0]
            now = datetime.now(self._zone)
            for values, _ in reversed(rows):
                value = values[keys[0]]
                if rank(value) is not None and not_after(value, now) == value:
                    top, self._end = value, tuple(values[i] for i in keys)
                    break
        if not new:
            if not more:
                self._finish(run)
            return None
        entries = [
            Entry(number, dict(zip(names, values, strict=True)))
            for number, values in enumerate(new.values(), self._state.rows + 1)
        ]
        pending = _Pending(run, list(new), highest, top, ends=not more)
        return Portion(entries, self._sql.table, pending)

    def _begin(self) -> _Run:
        state, now = self._state, time.monotonic()
        if self._orderless and self._swept and now >= self._odd_due:
            self._odd_due, self._swept = now + ODD_EVERY_S, False
            return _Run("odd", now)
        if self._end is not None and now < self._whole_due:
            return _Run("end", now, at=self._end)
        if state.at is not None:  # of a process before this one
            return _Run("whole", now, at=state.at, base=state.next_base)
        base = state.top
        if base is None and rank(newest := self._newest()) is not None:
            base = not_after(newest, datetime.now(self._zone))
        low = None if state.base is None else before(state.base, self._sql.overlap)
        if (floor := rank(state.floor)) is not None and (
            state.base is None or reach(state.base, self._sql.overlap) <= floor
        ):
            return _Run("whole", now, low=state.floor, after=True, base=base)
        return _Run("whole", now, low=low, base=base)

    def _finish(self, run: _Run) -> None:
        now = time.monotonic()
        self._run = None
        if run.kind == "odd":
            self._state.odd &= run.found
            if run.skip >= ODD_LIMIT:
                self._complaint = SourceError(
                    "no_watermark",
                    f"{self._sql.table}: {ODD_LIMIT} rows and more have no {' or no '.join(self._key)}; "
                    "fill the columns, or name another watermark",
                )
            return
        if run.kind == "whole":
            if not run.rows and run.low is not None:
                self._look_back()
            self._state.base, self._state.at = run.base, None
            self._swept = True
            self._whole_due = now + PAUSE_RATIO * (now - run.started)
        # After a sweep that found something the next follows at once.
        self._due = 0.0 if self._open is not None else now + self._sql.interval_s

    def _look_back(self) -> None:
        """A table that ends before what was read before is another one, or was restored."""
        newest = self._newest()
        place = rank(newest)
        if place is not None and place < reach(self._state.base, self._sql.overlap):
            self._complaint = SourceError(
                "went_back",
                f"{self._sql.table}: {self._sql.watermark} ends at {newest}, below what was read before. "
                "Was the database restored? Remove positions/"
                f"{self._spec.name}.sql.json in the home to read it from its beginning",
            )

    def _forget(self) -> None:
        """Drop what no sweep will meet again, then what is too much to remember."""
        state = self._state
        run = self._run if self._run is not None and self._run.kind == "whole" else None
        base = run.base if run else state.base
        if base is not None:
            limit = reach(base, self._sql.overlap)
            if run:
                limit = min(limit, (rank(run.at[0]) if run.at else None) or -math.inf)
            self._drop([chunk for chunk in state.window if chunk.rank < limit])
        total = sum(len(chunk.digests) for chunk in state.window)
        while total > WINDOW_LIMIT:
            oldest = min(state.window, key=lambda chunk: chunk.rank)
            self._drop([oldest])
            total -= len(oldest.digests)
            if rank(oldest.highest) is not None:
                state.floor = oldest.highest
            if not self._warned:
                self._warned = True
                log.warning(
                    "overlap shortened",
                    channel=self._spec.name,
                    rows=WINDOW_LIMIT,
                    floor=str(state.floor),
                    meaning="rows committed later below the floor are not read",
                )

    def _drop(self, chunks: Sequence[_Chunk]) -> None:
        gone = {id(chunk) for chunk in chunks}
        for chunk in chunks:
            self._seen.difference_update(chunk.digests)
        self._state.window = [c for c in self._state.window if id(c) not in gone]

    # --- The database

    def _page(self, run: _Run) -> tuple[list[str], list[tuple[tuple[Value, ...], bytes]], bool]:
        """Column names, rows with their hashes, and whether there may be more."""
        # Untyped columns: values come as the driver gives them, so that no odd one stops a page.
        columns: list[sa.ColumnElement[Any]] = [sa.column(name) for name in self._key]
        watermark, ties = columns[0], columns[1:]
        missing = [sa.column(name).is_(None) for name in self._orderless]
        where: list[sa.ColumnElement[bool]] = [~condition for condition in missing]
        if run.kind == "odd":
            where = [sa.or_(*missing)]
        elif run.at:
            value, *rest = run.at
            where += [watermark >= value, sa.or_(watermark > value, _from(ties, rest))]
        elif run.low is not None:
            where.append(watermark > run.low if run.after else watermark >= run.low)
        statement: sa.Select[Any] = (
            sa.select(sa.literal_column("*"))
            .select_from(sa.table(self._name, schema=self._schema))
            .where(*where)
            .order_by(*columns)
            .limit(PAGE)
            .offset(run.skip or None)
        )
        found: list[tuple[tuple[Value, ...], bytes]] = []
        size = 0
        with self._engine.connect() as connection:
            result = connection.execution_options(yield_per=FETCH).execute(statement)
            names = list(result.keys())
            self._expect(names)
            for part in result.partitions(FETCH):
                for row in part:
                    values = tuple(row)
                    if memoryview in map(type, values):
                        values = tuple(bytes(v) if type(v) is memoryview else v for v in values)
                    text = repr(values).encode("utf-8", "surrogatepass")
                    size += len(text)
                    found.append((values, blake2b(text, digest_size=8).digest()))
                if size > PAGE_SIZE:
                    result.close()
                    return names, found, True
        return names, found, len(found) == PAGE

    def _newest(self) -> Value:
        statement: sa.Select[Any] = sa.select(
            sa.func.max(sa.column(self._sql.watermark))
        ).select_from(sa.table(self._name, schema=self._schema))
        with self._engine.connect() as connection:
            return connection.execute(statement).scalar()

    def _look(self) -> None:
        """Find the table and what orders its rows: the watermark, then its key or the channel's id."""
        inspector = sa.inspect(self._engine)
        try:
            columns = inspector.get_columns(self._name, schema=self._schema)
        except NoSuchTableError:
            raise SourceError(
                "schema_changed",
                f"no table or view {self._sql.table}; put it back, or name another as "
                f"transports.sql.table in connectors/channels/{self._spec.name}.yaml",
            ) from None
        nullable = {column["name"]: column["nullable"] for column in columns}
        self._expect(list(nullable))
        try:
            unique = inspector.get_pk_constraint(self._name, schema=self._schema)
        except (NotImplementedError, NoSuchTableError):  # a view, in some dialects
            unique = {"constrained_columns": [], "name": None}
        ties = unique.get("constrained_columns") or self._id_columns(list(nullable))
        self._key = [self._sql.watermark, *(t for t in ties if t != self._sql.watermark)]
        self._orderless = [name for name in self._key if nullable.get(name, True)]

    def _expect(self, names: list[str]) -> None:
        """The columns that the spec leans on are there, and none is gone that was."""
        if self._sql.watermark not in names:
            raise self._lost(self._sql.watermark, "transports.sql.watermark", names)
        if not self._id_columns(names):
            source = self._spec.native_id
            first = source if isinstance(source, str) else source[0]
            raise self._lost((_BRACES.findall(first) or [first])[0], "native_id", names)
        named = self._named()
        for name in self._state.columns:
            if name in named and name not in names:
                raise self._lost(name, "fields", names)
        self._state.columns = sorted(named.intersection(names))

    def _lost(self, column: str, place: str, names: list[str]) -> SourceError:
        return SourceError(
            "schema_changed",
            f"{self._sql.table} has no column {column} (any more); put it back, or change {place} in "
            f"connectors/channels/{self._spec.name}.yaml. Its columns: {', '.join(names)[:300]}",
        )

    def _id_columns(self, names: list[str]) -> list[str]:
        source = self._spec.native_id
        for path in [source] if isinstance(source, str) else source:
            columns = _BRACES.findall(path) or [path]
            if set(columns) <= set(names):
                return list(dict.fromkeys(columns))
        return []

    def _named(self) -> set[str]:
        spec = self._spec
        sources = [spec.native_id, spec.revision or "", *spec.fields.values()]
        sources += [name for point in spec.points for name in (point.lon, point.lat)]
        paths = [p for s in sources for p in ([s] if isinstance(s, str) else s)]
        names = {name for path in paths for name in _BRACES.findall(path) or [path]}
        return names | {name.split(".")[0] for name in names}

    def _garbled(self, error: DBAPIError) -> bool:
        """A text that is no UTF-8 would stop every page that holds it: from now on its rest is read."""
        if self._lenient or not isinstance(error.orig, sqlite3.Error):
            return False
        if "decode to UTF-8" not in str(error.orig):
            return False
        self._lenient = True

        def replace(connection: sqlite3.Connection, _: Any) -> None:
            connection.text_factory = lambda data: data.decode("utf-8", "replace")

        sa.event.listen(self._engine, "connect", replace)
        return True

    def _meaning(self, error: DBAPIError) -> SourceError:
        """The driver's first line, without the password and without the statement's values."""
        words = (str(error.orig).strip().splitlines() or [type(error.orig).__name__])[0][:300]
        if self._secret:
            words = words.replace(self._secret, "***")
        if isinstance(error.orig, sqlite3.Error):
            code = getattr(error.orig, "sqlite_errorcode", 0) & 0xFF
            if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
                return SourceError("locked", f"{self._sql.table}: {words}")
        try:
            self._look()  # a statement that a changed table refuses
        except SourceError as changed:
            return changed
        except DBAPIError:
            return SourceError("unreachable", f"the database does not answer: {words}")
        return SourceError("refused", f"{self._sql.table} cannot be read: {words}")


def _from(columns: Sequence[sa.ColumnElement[Any]], values: Sequence[Value]) -> Any:
    """The columns, compared in turn, are not below the values."""
    if not columns:
        return sa.true()
    if len(columns) == 1:
        return columns[0] >= values[0]
    return sa.or_(
        columns[0] > values[0],
        sa.and_(columns[0] == values[0], _from(columns[1:], values[1:])),
    )


def _engine(spec: ChannelSpec, address: str) -> tuple[sa.Engine, str]:
    """The engine of an address and the address's password."""
    where = f"source {spec.name}.sql"
    try:
        url = sa.make_url(address)
        name = url.get_backend_name()
    except (ArgumentError, ValueError):
        raise QuanyuError(
            f"{where}: no database URL; write e.g. postgresql+psycopg://reader:password@host/database"
        ) from None
    options: dict[str, Any] = {"pool_size": 1, "max_overflow": 0}
    if name == "sqlite":
        if not url.database or url.database == ":memory:":
            raise QuanyuError(f"{where}: names no file; write sqlite:////folder/file.db")
        # Read only, and never makes the file that is not there.
        file = quote(str(Path(url.database).absolute()))
        url = url.set(database=f"file:{file}", query={"mode": "ro", "uri": "true"})
        # An open connection would go on reading a file that was replaced.
        options = {"connect_args": {"timeout": BUSY_S}, "poolclass": sa.NullPool}
    try:
        engine = sa.create_engine(url, hide_parameters=True, **options)
    except NoSuchModuleError:
        raise QuanyuError(
            f"{where}: SQLAlchemy knows no {url.drivername}; install the package that brings its dialect"
        ) from None
    except ImportError as error:
        module = error.name or url.get_driver_name()
        raise QuanyuError(
            f"{where}: the driver {module} is not installed; run: pip install "
            f"'{PACKAGES.get(module, module)}'"
        ) from None
    except (ArgumentError, TypeError) as error:
        raise QuanyuError(f"{where}: {str(error).splitlines()[0]}") from None
    return engine, str(url.password or "")
