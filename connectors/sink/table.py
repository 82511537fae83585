"""Blocks into ClickHouse: decode, one insert with the block's token, and what an error means."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from operator import itemgetter
from typing import Any

import clickhouse_connect
import polars
from clickhouse_connect.datatypes.base import ClickHouseType
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DataError

from connectors.sink.columns import ColumnReader
from connectors.sink.machine import Block, Record
from schemas.access import clickhouse_options
from schemas.codec import Codec, DecodeError
from schemas.errors import QuanyuError
from schemas.settings import Settings

#: Above the server's longest insert under a full merge queue; past it the fate of the insert is
#: unknown and the same block is sent again.
INSERT_TIMEOUT_S = 60
#: Codes with which ClickHouse refuses the rows themselves: repeating them cannot help. Every other
#: error (too many parts, memory, time-out, shutdown, missing table or rights, network) is repeated
#: until it passes: it is cured by time or by a person, never by dropping rows.
DATA_ERRORS = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        469,  # VIOLATED_CONSTRAINT
        691,  # UNKNOWN_ELEMENT_OF_ENUM
    }
)
UNKNOWN_DATABASE = 81
#: Decoded at once and then turned into columns: tens of thousands of live dicts keep the garbage
#: collector busy and cost as much again as decoding them.
DECODE_RECORDS = 1_000
#: From so many records on a block is read and sent as columns; below it, setting that up costs more.
COLUMNS_FROM = 1_000
#: Pinned, because their defaults moved between versions or may be changed in a user's profile.
INSERT_SETTINGS: Mapping[str, int | str] = {
    "async_insert": 0,
    "insert_deduplicate": 1,
    "deduplicate_insert": "enable",
    "deduplicate_blocks_in_dependent_materialized_views": 1,
    "materialized_views_ignore_errors": 0,
    # What is not there is the column's default only where the table says so.
    "input_format_null_as_default": 0,
    # One block, one part per month, one token: neither split by size nor over threads.
    "max_insert_threads": 1,
    "parallel_view_processing": 0,
    "max_insert_block_size": 1_048_449,
    "min_insert_block_size_rows": 1_048_449,
    "min_insert_block_size_bytes": 268_402_944,
    # A replay of years of reports is not "too many partitions" for ever.
    "max_partitions_per_insert_block": 0,
    # Of a cluster: the acknowledgement means that the shard has the rows.
    "distributed_foreground_insert": 1,
}


class RefusedError(Exception):
    """The rows are refused for good; nothing of the block is in the table."""


class UncertainError(Exception):
    """The insert failed or its fate is unknown; `code` says why. The same block goes again."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code


@dataclass(frozen=True, slots=True)
class Rows:
    """A block decoded: the fields of each record that could be, and those that could not."""

    columns: Mapping[str, Sequence[Any]] | polars.DataFrame
    count: int
    undecodable: Sequence[tuple[Record, DecodeError]]

    @property
    def names(self) -> set[str]:
        """What its columns are called."""
        if isinstance(self.columns, polars.DataFrame):
            return set(self.columns.columns)
        return set(self.columns)

    def values(self, name: str) -> Sequence[Any]:
        """A field of every record, instants in ms."""
        if not isinstance(self.columns, polars.DataFrame):
            return self.columns[name]
        column = self.columns[name]
        return (column.cast(polars.Int64) if column.dtype == polars.Datetime else column).to_list()


def decode(codec: Codec, reader: ColumnReader, record_name: str, block: Block) -> Rows:
    """Columns by field name, in offset order, plus the records that are no `record_name`."""
    if len(block.records) >= COLUMNS_FROM:
        found = reader.read(record_name, [record.body.value() for record in block.records])
        if found is not None:
            found = found.with_columns(
                polars.lit(block.topic).alias("_topic"),
                polars.lit(block.partition, polars.UInt32).alias("_partition"),
                polars.Series("_offset", [r.offset for r in block.records], polars.UInt64),
            )
            return Rows(found, found.height, ())
    return _one_by_one(codec, record_name, block)


def _one_by_one(codec: Codec, record_name: str, block: Block) -> Rows:
    columns: dict[str, list[Any]] = {}
    offsets: list[int] = []
    undecodable: list[tuple[Record, DecodeError]] = []
    for start in range(0, len(block.records), DECODE_RECORDS):
        chunk = block.records[start : start + DECODE_RECORDS]
        records, errors = codec.decode_batch(record_name, [r.body.value() for r in chunk])
        undecodable += [(chunk[index], error) for index, error in sorted(errors.items())]
        if errors:
            chunk = tuple(r for index, r in enumerate(chunk) if index not in errors)
        rows = [record for record in records if record is not None]
        if not rows:
            continue
        fields = tuple(rows[0])
        for name, column in zip(
            fields, zip(*map(itemgetter(*fields), rows), strict=True), strict=True
        ):
            columns.setdefault(name, []).extend(column)
        offsets += [record.offset for record in chunk]
    if offsets:
        columns["_topic"] = [block.topic] * len(offsets)
        columns["_partition"] = [block.partition] * len(offsets)
        columns["_offset"] = offsets
    return Rows(columns, len(offsets), undecodable)


class Tables:
    """The sink's side of ClickHouse; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._local = threading.local()
        self._types: dict[str, dict[str, ClickHouseType]] = {}
        self._pinned: dict[str, int | str] | None = None

    def insert(self, table: str, block: Block, rows: Rows) -> None:
        """One synchronous insert under the block's token; returns when the rows are visible.

        Raises :class:`RefusedError` or :class:`UncertainError`.
        """
        try:
            client = self._client()
            types = self._columns(client, table)
            missing = rows.names - types.keys()
            if missing:
                self._types.pop(table, None)
                raise UncertainError(
                    "missing_column", f"{table} has no {sorted(missing)}: apply the tables"
                )
            settings = {**self._pins(client), "insert_deduplication_token": block.token}
            if isinstance(rows.columns, polars.DataFrame):
                sent = rows.columns.to_arrow(compat_level=polars.CompatLevel.oldest())
                client.insert_arrow(table, sent, settings=settings)
                return
            client.insert(
                table,
                list(rows.columns.values()),
                column_names=list(rows.columns),
                column_types=[types[name] for name in rows.columns],
                column_oriented=True,
                settings=settings,
            )
        except UncertainError:
            raise
        except ClickHouseError as error:
            code = getattr(error, "code", None)
            if code in DATA_ERRORS or (code is None and isinstance(error, DataError)):
                self._refuse(table, block, error)
            raise UncertainError(str(code or "network"), _line(error)) from None
        except OSError as error:
            raise UncertainError("network", _line(error)) from None
        except Exception as error:
            # Not from the server: the values could not be written as the column's type.
            self._refuse(table, block, error)

    def _refuse(self, table: str, block: Block, error: Exception) -> None:
        """Refused only when no row of it is there: a view may fail after the table took them."""
        try:
            found = self._client().query(
                "SELECT count() FROM {t:Identifier} WHERE _topic = {topic:String} "
                "AND _partition = {p:UInt32} AND _offset BETWEEN {first:UInt64} AND {last:UInt64}",
                parameters={
                    "t": table,
                    "topic": block.topic,
                    "p": block.partition,
                    "first": block.first,
                    "last": block.last,
                },
            )
            rows = found.result_rows[0][0]
        except (ClickHouseError, OSError) as doubt:
            raise UncertainError("network", _line(doubt)) from None
        if rows:
            raise UncertainError(
                "partly_inserted", f"{rows} rows are in {table}, then {_line(error)}"
            )
        raise RefusedError(_line(error)) from None

    def greatest_offsets(self, table: str, topic: str) -> dict[int, int]:
        """Partition → greatest offset in the table. Raises :class:`UncertainError`."""
        try:
            result = self._client().query(
                "SELECT _partition, max(_offset) FROM {t:Identifier} WHERE _topic = {topic:String} "
                "GROUP BY _partition",
                parameters={"t": table, "topic": topic},
            )
        except (ClickHouseError, OSError) as error:
            raise UncertainError("network", _line(error)) from None
        return {int(partition): int(offset) for partition, offset in result.result_rows}

    def check(self, tables: Sequence[str]) -> None:
        """QuanyuError when a table is missing, UncertainError when the server is silent."""
        try:
            result = self._client().query(
                "SELECT name FROM system.tables WHERE database = {d:String}",
                parameters={"d": self._settings.clickhouse_database},
            )
            found = {row[0] for row in result.result_rows}
        except (ClickHouseError, OSError) as error:
            if getattr(error, "code", None) != UNKNOWN_DATABASE:
                raise UncertainError("network", _line(error)) from None
            found = set()
        missing = sorted(set(tables) - found)
        if missing:
            raise QuanyuError(
                f"database {self._settings.clickhouse_database} has no table "
                f"{', '.join(missing)}; run: quanyu tables apply"
            )

    def _client(self) -> Client:
        client: Client | None = getattr(self._local, "client", None)
        if client is None:
            # Each thread has its own connection: inserts of several partitions overlap.
            client = clickhouse_connect.get_client(
                **clickhouse_options(self._settings),
                database=self._settings.clickhouse_database,
                autogenerate_session_id=False,
                connect_timeout=5,
                send_receive_timeout=INSERT_TIMEOUT_S,
                query_retries=0,
            )
            self._local.client = client
        return client

    def _columns(self, client: Client, table: str) -> dict[str, ClickHouseType]:
        known = self._types.get(table)
        if known is None:
            context = client.create_insert_context(table, "*")
            known = dict(zip(context.column_names, context.column_types, strict=True))
            self._types[table] = known
        return known

    def _pins(self, client: Client) -> dict[str, int | str]:
        """The pinned settings that this server's version knows."""
        if self._pinned is None:
            known = {row[0] for row in client.query("SELECT name FROM system.settings").result_rows}
            self._pinned = {k: v for k, v in INSERT_SETTINGS.items() if k in known}
        return self._pinned


def _line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).splitlines()[0][:300]
