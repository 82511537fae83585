# ruff: noqa: S608 # names of tables and databases are our own; values go as parameters
"""A backup of ClickHouse that the sink can go on from, and its restore.

A table and the counters that its view fills are cut at one instant: for some tenths of a second the table
refuses inserts, which the sink repeats, and its parts are linked into a database beside it, which is then
written by the engine's own BACKUP while inserts go on. For that instant it is known of each Kafka partition
up to which offset its records are in the tables. A restore gives the sink's group these offsets again: what
came later is inserted once more from Kafka, nothing is lost and nothing counted twice.

A block that the sink has in doubt is waited for. The deduplication tokens are not in a backup and need not be:
no block is cut by it.

The files lie on the engine's disk ``backups``: embedded, the home's folder of that name; on a server, a disk
of its configuration. The folder of a backup holds ``manifest.json``, written last, and, when the engine is
embedded, the data in ``data/``.
"""

import contextlib
import hashlib
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError
from confluent_kafka import Consumer, KafkaException, TopicCollection, TopicPartition
from confluent_kafka.admin import AdminClient
from pydantic import BaseModel, ConfigDict, ValidationError

from connectors.sink.machine import PENDING
from connectors.sink.runner import Route, routes
from deploy.flows import SINK_GROUP
from deploy.local import home as homes
from deploy.local.clickhouse import BACKUP_DISK
from deploy.local.parts import child_environment, storage_parts
from deploy.local.supervisor import READY_LIMIT_S, die_with_parent, tail
from deploy.positions import Extent, Positions
from deploy.rebuild import counters, inserts_held
from schemas import tables
from schemas.errors import QuanyuError
from schemas.kafka import admin_config, consumer_config
from schemas.retention import retention
from schemas.settings import Settings

MANIFEST = "manifest.json"
DATA = "data"
#: The sink settles its block within its linger, a second, once its inserts are held.
SETTLE_S = 5.0
POLL_S = 0.05
#: Tries to find a moment without a block in doubt.
ATTEMPTS = 3
#: A static member of the sink's group counts as there until its session ends.
GROUP_EMPTY_S = 30.0
#: A broker that was just started answers for its groups by then.
ANSWER_S = 30.0
#: One statement may copy a year of a city.
LONG_S = 6 * 3600

Say = Callable[[str], None]
Place = tuple[str, int]


class _Plain(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Applied(_Plain):
    """A migration that the tables had seen."""

    number: int
    name: str
    checksum: str


class Position(_Plain):
    """The records of one partition that are in the backup: all below ``next``."""

    topic: str
    partition: int
    next: int


class File(_Plain):
    """One file of the data: its size and SHA-256."""

    bytes: int
    sha256: str


class Manifest(_Plain):
    """What a backup holds.

    ``rows``: see :func:`_rows`; ``topics``: each topic's id, so that one made anew is not taken for it.

    ``files`` is None when the data lies on a server's disk, which checks it by itself.
    """

    format: Literal[1]
    name: str
    made_at: datetime
    database: str
    engine: str
    migrations: tuple[Applied, ...]
    rows: dict[str, int]
    topics: dict[str, str]
    positions: tuple[Position, ...]
    files: dict[str, File] | None


@dataclass(frozen=True, slots=True)
class Made:
    """A finished backup. ``held_s``: the longest time for which a table refused inserts."""

    folder: str
    rows: int
    bytes: int
    held_s: float
    seconds: float


@dataclass(frozen=True, slots=True)
class Restored:
    """A finished restore. ``waiting``: offsets that the sink has still to read; ``lost``: what Kafka no longer
    holds, one sentence for each partition."""

    database: str
    rows: int
    waiting: int
    lost: tuple[str, ...]
    seconds: float


# Backup ---------------------------------------------------------------------------------------


def backup(
    settings: Settings,
    folder: Path | None = None,
    *,
    sink_routes: Sequence[Route] | None = None,
    group: str = SINK_GROUP,
    say: Say = print,
) -> Made:
    """Write a backup while the sink goes on inserting; ``folder`` is made (default: below the home's backups).

    Raises :class:`QuanyuError` on a cluster, when tables differ from the migrations, when the sink's block
    stays in doubt, when Kafka or ClickHouse does not answer. Nothing is left behind then.
    """
    _refuse_cluster(settings)
    began = time.monotonic()
    now = datetime.now(UTC)
    database = settings.clickhouse_database
    name = f"{database}-{now:%Y%m%dT%H%M%S}Z"
    folder = folder or _disk(settings) / name
    written = _disk(settings) / name
    for place in (folder, written):
        if place.exists() and (not place.is_dir() or any(place.iterdir())):
            raise QuanyuError(f"{place}: is there already and not empty; name a new folder")
    if differences := tables.diff(settings):
        raise QuanyuError(
            f"tables are not as the migrations say ({differences[0]}), a backup of them could not be restored; "
            "see quanyu tables diff"
        )
    beside = f"{database}_backup"
    with tables.connect(settings, answer_s=LONG_S) as client, Positions(settings) as kafka:
        _need_disk(client)
        whole = False
        try:
            places, held_s = _cut(client, settings, kafka, sink_routes, group, beside, say)
            rows = _rows(client, beside)
            say(f"writing {sum(rows.values())} rows of {len(rows)} tables")
            client.command(f"BACKUP DATABASE `{beside}` TO Disk('{BACKUP_DISK}', '{name}/{DATA}')")
            files = None
            if settings.clickhouse is None:
                _move(written / DATA, folder / DATA)
                files = _sums(folder / DATA)
            manifest = Manifest(
                format=1,
                name=name,
                made_at=now,
                database=database,
                engine=str(client.query("SELECT version()").result_rows[0][0]),
                migrations=tuple(
                    Applied(number=m.number, name=m.name, checksum=m.checksum)
                    for m in tables.load_migrations()
                ),
                rows=rows,
                topics=_topic_ids(settings, {topic for topic, _ in places}),
                positions=tuple(
                    Position(topic=topic, partition=partition, next=at)
                    for (topic, partition), at in sorted(places.items())
                ),
                files=files,
            )
            folder.mkdir(parents=True, exist_ok=True)
            folder.chmod(0o700)  # reports hold personal data
            _write(folder / MANIFEST, manifest)
            whole = True
        except (ClickHouseError, OSError, KafkaException) as error:
            raise QuanyuError(f"no backup was made: {_line(error)}") from None
        finally:
            with contextlib.suppress(ClickHouseError, OSError):
                client.command(f"DROP DATABASE IF EXISTS `{beside}` SYNC")
            if not whole and settings.clickhouse is None:
                shutil.rmtree(written, ignore_errors=True)
                shutil.rmtree(folder, ignore_errors=True)
    size = sum(file.bytes for file in files.values()) if files else 0
    return Made(str(folder), sum(rows.values()), size, held_s, round(time.monotonic() - began, 1))


def _cut(
    client: Client,
    settings: Settings,
    kafka: Positions,
    sink_routes: Sequence[Route] | None,
    group: str,
    beside: str,
    say: Say,
) -> tuple[dict[Place, int], float]:
    """Link the parts of every table into the database ``beside``; for each partition the offset reached."""
    database = settings.clickhouse_database
    client.command(f"DROP DATABASE IF EXISTS `{beside}` SYNC")
    client.command(f"CREATE DATABASE `{beside}`")
    known = tables.columns(tables.load_migrations())
    for table in known:
        # Before anything is held: what holds it is a setting of the table, and would be copied.
        client.command(f"CREATE TABLE `{beside}`.`{table}` AS `{database}`.`{table}`")
    fed: dict[str, list[str]] = {}
    for counter in counters(client, database).values():
        fed.setdefault(counter.facts, []).append(counter.name)
    topics: dict[str, list[str]] = {}
    for route in routes() if sink_routes is None else sink_routes:
        topics.setdefault(route.table, []).append(route.topic)
    found: dict[Place, int] = {}
    longest = 0.0
    with contextlib.closing(
        Consumer({**consumer_config(settings, group), "log_level": 0})
    ) as member:
        for facts in sorted(known.keys() - {name for names in fed.values() for name in names}):
            extents = kafka.extents(kafka.partitions(topics.get(facts, ())))
            for _ in range(ATTEMPTS):
                places, seconds = _cut_one(
                    client, member, database, beside, facts, fed.get(facts, []), extents
                )
                longest = max(longest, seconds)
                if places is not None:
                    break
                time.sleep(1.0)
            else:
                raise QuanyuError(
                    f"the sink has a block of {facts} in doubt; is it running (quanyu status)? "
                    "Repeat the command when it is"
                )
            say(f"{facts}: cut")
            found |= places
    return found, round(longest, 3)


def _cut_one(
    client: Client,
    member: Consumer,
    database: str,
    beside: str,
    facts: str,
    fed: Sequence[str],
    extents: Mapping[Place, Extent],
) -> tuple[dict[Place, int] | None, float]:
    """The offsets reached, None when a block is in doubt; and for how long inserts were refused."""
    for table in (*fed, facts):
        client.command(f"TRUNCATE TABLE `{beside}`.`{table}`")
    began = time.monotonic()
    with inserts_held(client, database, facts):
        reached = _reached(client, database, facts)
        end = time.monotonic() + SETTLE_S
        while (places := next_offsets(_committed(member, list(extents)), reached, extents)) is None:
            if time.monotonic() > end:
                return None, time.monotonic() - began
            time.sleep(POLL_S)
        # The facts last: an empty table takes inserts, and then has rows at its turn.
        for table in (*fed, facts):
            client.command(
                f"ALTER TABLE `{beside}`.`{table}` ATTACH PARTITION ALL FROM `{database}`.`{table}`"
            )
    seconds = time.monotonic() - began
    return (places if _reached(client, beside, facts) == reached else None), seconds


def next_offsets(
    committed: Mapping[Place, tuple[int, str]],
    reached: Mapping[Place, int],
    extents: Mapping[Place, Extent],
) -> dict[Place, int] | None:
    """For each partition the first offset that the table does not hold; None when a block is in doubt.

    ``committed``: offset and metadata of the sink's group; ``reached``: greatest offset in the table, while
    nothing is inserted. A recorded block of which no row is there was not inserted; one with rows may lack
    some, or what views count of it, until the sink says that it is done.
    """
    found = {}
    for place, extent in extents.items():
        offset, metadata = committed.get(place, (extent.first, ""))
        after = reached.get(place, -1) + 1
        pending = PENDING.fullmatch(metadata)
        if pending and int(pending[1]) < after <= int(pending[2]) + 1:
            return None
        found[place] = max(int(pending[1]) if pending else offset, after)
    return found


def _reached(client: Client, database: str, facts: str) -> dict[Place, int]:
    rows = client.query(
        f"SELECT _topic, _partition, max(_offset) FROM `{database}`.`{facts}` GROUP BY ALL"
    ).result_rows
    return {(str(topic), int(partition)): int(last) for topic, partition, last in rows}


def _committed(member: Consumer, places: Sequence[Place]) -> dict[Place, tuple[int, str]]:
    if not places:
        return {}
    end = time.monotonic() + ANSWER_S
    while True:
        try:
            answer = member.committed([TopicPartition(*place) for place in places], 10.0)
            break
        except KafkaException:
            # A broker that was just started is still reading the groups.
            if time.monotonic() > end:
                raise
            time.sleep(POLL_S)
    return {
        (at.topic, at.partition): (at.offset, at.metadata or "") for at in answer if at.offset >= 0
    }


# Restore --------------------------------------------------------------------------------------


def restore(
    settings: Settings,
    folder: Path,
    *,
    replace: bool = False,
    accept_loss: bool = False,
    group: str = SINK_GROUP,
    say: Say = print,
) -> Restored:
    """Bring the tables back and let the sink go on from where they end; the sink must not run.

    Everything is read and counted before anything of the database is replaced. Raises :class:`QuanyuError`
    for a damaged backup (naming the file), one of newer tables, a database with rows unless ``replace``, and
    when Kafka no longer holds all records that came since, unless ``accept_loss``.
    """
    _refuse_cluster(settings)
    began = time.monotonic()
    manifest = read_manifest(folder)
    known = hold_schema(manifest)
    if manifest.files is not None:
        say(f"checking {len(manifest.files)} files")
        hold_files(folder, manifest.files)
    database = settings.clickhouse_database
    beside = f"{database}_restore"
    with tables.connect(settings, answer_s=LONG_S) as client, Positions(settings) as kafka:
        _need_disk(client)
        filled = _filled(client, database)
        if filled and not replace:
            raise QuanyuError(
                f"database {database} has rows ({filled[0]}); restore into another one "
                "(QUANYU_CLICKHOUSE_DATABASE), or say --replace: then they are gone"
            )
        places, lost, waiting = _where_to_go_on(settings, kafka, manifest)
        if lost and not accept_loss:
            raise QuanyuError(
                "RECORDS WOULD BE LOST, Kafka no longer holds what came after the backup:\n  "
                + "\n  ".join(lost)
                + "\nTake a newer backup, or say --accept-loss"
            )
        try:
            client.command(f"DROP DATABASE IF EXISTS `{beside}` SYNC")
            with _within_reach(settings, folder, manifest) as name:
                client.command(
                    f"RESTORE DATABASE `{manifest.database}_backup` AS `{beside}` "
                    f"FROM Disk('{BACKUP_DISK}', '{name}/{DATA}')"
                )
            _hold_rows(client, beside, manifest)
            # First the offsets: with the old rows still there the sink would know that they are behind.
            _give_back(settings, group, places)
            client.command(f"DROP DATABASE IF EXISTS `{database}` SYNC")
            tables.apply(settings, up_to=len(known))
            for table in manifest.rows:
                client.command(
                    f"ALTER TABLE `{database}`.`{table}` ATTACH PARTITION ALL FROM `{beside}`.`{table}`"
                )
                say(f"{table}: {manifest.rows[table]} rows")
            _hold_rows(client, database, manifest)
            for line in tables.apply(settings):
                say(line)
            if _has_retention(client, beside):
                retention(settings, apply=True)
        except (ClickHouseError, OSError, KafkaException) as error:
            raise QuanyuError(f"the restore is not finished, repeat it: {_line(error)}") from None
        finally:
            with contextlib.suppress(ClickHouseError, OSError):
                client.command(f"DROP DATABASE IF EXISTS `{beside}` SYNC")
    return Restored(
        database,
        sum(manifest.rows.values()),
        waiting,
        tuple(lost),
        round(time.monotonic() - began, 1),
    )


def _has_retention(client: Client, database: str) -> bool:
    """Whether the tables that were backed up let go of old months."""
    found = client.query(
        "SELECT count() FROM system.tables WHERE database = {d:String} "
        "AND position(create_table_query, ' TTL ') > 0",
        parameters={"d": database},
    ).result_rows
    return bool(found[0][0])


def _filled(client: Client, database: str) -> list[str]:
    rows = client.query(
        "SELECT name FROM system.tables WHERE database = {d:String} AND total_rows > 0 "
        "AND name != 'schema_migrations' ORDER BY name",
        parameters={"d": database},
    ).result_rows
    return [str(name) for (name,) in rows]


def _where_to_go_on(
    settings: Settings, kafka: Positions, manifest: Manifest
) -> tuple[dict[Place, int], list[str], int]:
    """The offset for each partition, what is lost, and how many offsets the sink has still to read."""
    at = {(p.topic, p.partition): p.next for p in manifest.positions}
    extents = kafka.extents(kafka.partitions(manifest.topics))
    ids = _topic_ids(settings, {topic for topic, _ in extents})
    lost: list[str] = []
    places: dict[Place, int] = {}
    for topic, former in manifest.topics.items():
        if topic not in ids:
            lost.append(f"{topic}: Kafka has no such topic")
        elif ids[topic] != former:
            lost.append(
                f"{topic}: was made anew since; the sink does not go on in it, its rows can only be read"
            )
    for (topic, partition), extent in extents.items():
        if ids[topic] != manifest.topics[topic]:
            continue
        # A partition that came since has no row in the backup.
        wanted = at.get((topic, partition), extent.first)
        if wanted < extent.first:
            lost.append(f"{topic}/{partition}: offsets {wanted} to {extent.first - 1} are deleted")
        elif wanted > extent.end:
            lost.append(
                f"{topic}/{partition}: it ends at {extent.end}, the backup at {wanted}: it was cut off"
            )
            continue
        places[topic, partition] = max(wanted, extent.first)
    waiting = sum(extents[place].end - offset for place, offset in places.items())
    return places, lost, waiting


def _give_back(settings: Settings, group: str, places: Mapping[Place, int]) -> None:
    """Set the group's offsets; the broker refuses it while the group has a member."""
    if not places:
        return
    member = Consumer({**consumer_config(settings, group), "log_level": 0})
    end = time.monotonic() + GROUP_EMPTY_S
    try:
        while True:
            try:
                answer = member.commit(
                    offsets=[TopicPartition(t, p, offset) for (t, p), offset in places.items()],
                    asynchronous=False,
                )
                refused = next((at.error for at in answer or () if at.error), None)
                if refused is None:
                    return
            except KafkaException as error:
                refused = error.args[0]
            if time.monotonic() > end:
                raise QuanyuError(
                    f"the sink's group {group} does not take the offsets back ({refused}): "
                    "stop the sink (quanyu down) and repeat; nothing was changed"
                )
            time.sleep(0.5)
    finally:
        member.close()


def _hold_rows(client: Client, database: str, manifest: Manifest) -> None:
    found = _rows(client, database)
    for table, rows in manifest.rows.items():
        if found.get(table) != rows:
            raise QuanyuError(
                f"{database}.{table} has {found.get(table)} rows after the restore, the backup {rows}"
            )


def _rows(client: Client, database: str) -> dict[str, int]:
    """What merges do not change of each table: rows of facts, newest versions of entities, sums of counters."""
    counted = {
        "ReplacingMergeTree": "count() FROM {} FINAL",
        "AggregatingMergeTree": "sum(n) FROM {}",
        "SummingMergeTree": "sum(n) FROM {}",
    }
    rows = {}
    for table, engine in client.query(
        "SELECT name, engine FROM system.tables WHERE database = {d:String} AND endsWith(engine, 'MergeTree') "
        "AND name != 'schema_migrations' ORDER BY name",
        parameters={"d": database},
    ).result_rows:
        select = counted.get(engine, "count() FROM {}").format(f"`{database}`.`{table}`")
        rows[str(table)] = int(client.query(f"SELECT {select}").result_rows[0][0])
    return rows


@contextlib.contextmanager
def _within_reach(settings: Settings, folder: Path, manifest: Manifest) -> Iterator[str]:
    """The backup's name on the engine's disk, where the data lies while this lasts."""
    place = _disk(settings) / manifest.name
    if manifest.files is None or folder.resolve() == place.resolve():
        yield manifest.name
        return
    if settings.clickhouse is not None:
        raise QuanyuError(
            f"{folder}: a backup of the embedded engine; to restore it on a server, copy the folder to the "
            f"server's disk {BACKUP_DISK} and use RESTORE there"
        )
    name = f"{manifest.name}-restore"
    copy = _disk(settings) / name
    shutil.rmtree(copy, ignore_errors=True)
    try:
        shutil.copytree(folder / DATA, copy / DATA)
        yield name
    finally:
        shutil.rmtree(copy, ignore_errors=True)


# The manifest and the files -------------------------------------------------------------------


def read_manifest(folder: Path) -> Manifest:
    """The manifest of a backup; :class:`QuanyuError` names the file and what is wrong with it."""
    path = folder / MANIFEST
    try:
        document = json.loads(path.read_text(encoding="utf-8"))
        sealed = document.pop("sha256", None)
        if sealed != _seal(document):
            raise QuanyuError(f"{path}: damaged or changed by hand; use another backup")
        return Manifest.model_validate(document)
    except FileNotFoundError:
        raise QuanyuError(f"{folder}: no whole backup, {MANIFEST} is missing") from None
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(str(part) for part in first["loc"])
        raise QuanyuError(
            f"{path}: {where}: {first['msg']}; it may be of another version"
        ) from None
    except (OSError, ValueError, AttributeError) as error:
        raise QuanyuError(f"{path}: {_line(error)}; use another backup") from None


def _write(path: Path, manifest: Manifest) -> None:
    document = manifest.model_dump(mode="json")
    homes.write_json(path, {**document, "sha256": _seal(document)}, 0o600)


def _seal(document: Any) -> str:
    plain = json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return hashlib.sha256(plain.encode()).hexdigest()


def hold_schema(manifest: Manifest) -> tuple[Applied, ...]:
    """The backup's migrations; :class:`QuanyuError` when they are not ours or newer than ours."""
    ours = {m.number: m for m in tables.load_migrations()}
    for applied in manifest.migrations:
        if applied.number not in ours:
            raise QuanyuError(
                f"the backup has migration {applied.name}, which this version of quanyu does not know: "
                "upgrade quanyu, then restore"
            )
        if ours[applied.number].checksum != applied.checksum:
            raise QuanyuError(
                f"the backup's migration {applied.name} is not the one of this version: its tables are others"
            )
    return manifest.migrations


def hold_files(folder: Path, files: Mapping[str, File]) -> None:
    """:class:`QuanyuError` names the first file that is missing, too much or not as it was written."""
    there = {str(p.relative_to(folder / DATA)) for p in _files(folder / DATA)}
    for name, file in files.items():
        path = folder / DATA / name
        if name not in there:
            raise QuanyuError(f"{path}: is missing; the backup is damaged, use another one")
        if path.stat().st_size != file.bytes or _sha256(path) != file.sha256:
            raise QuanyuError(
                f"{path}: is not as it was written; the backup is damaged, use another one"
            )
    if more := sorted(there - files.keys()):
        raise QuanyuError(f"{folder / DATA / more[0]}: is no file of this backup; remove it")


def _sums(folder: Path) -> dict[str, File]:
    return {
        str(path.relative_to(folder)): File(bytes=path.stat().st_size, sha256=_sha256(path))
        for path in sorted(_files(folder))
    }


def _files(folder: Path) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() or path.is_symlink()]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _move(data: Path, to: Path) -> None:
    if data.resolve() == to.resolve():
        return
    to.parent.mkdir(parents=True, exist_ok=True)
    shutil.move(data, to)
    data.parent.rmdir()


# Shared ---------------------------------------------------------------------------------------


def _refuse_cluster(settings: Settings) -> None:
    if settings.clickhouse_cluster:
        raise QuanyuError(
            "a cluster is not backed up by this command: stop the sink and use BACKUP DATABASE … ON CLUSTER "
            "with its group's offsets (kafka-consumer-groups --describe); see schemas/README.md"
        )


def _disk(settings: Settings) -> Path:
    return settings.home.resolve() / BACKUP_DISK


def _need_disk(client: Client) -> None:
    if not client.query(
        "SELECT name FROM system.disks WHERE name = {n:String}", parameters={"n": BACKUP_DISK}
    ).result_rows:
        raise QuanyuError(
            f"the server has no disk {BACKUP_DISK!r}: declare one in its storage_configuration and name it in "
            "backups.allowed_disk; see schemas/README.md"
        )


def _topic_ids(settings: Settings, topics: set[str]) -> dict[str, str]:
    if not topics:
        return {}
    admin = AdminClient(admin_config(settings))
    answers = admin.describe_topics(TopicCollection(sorted(topics)), request_timeout=30)
    return {topic: str(answer.result(30).topic_id) for topic, answer in answers.items()}


def _line(error: BaseException) -> str:
    text = error.args[0].str() if isinstance(error, KafkaException) else str(error)
    return re.sub(r"\s+", " ", text or type(error).__name__)[:300]


@contextlib.contextmanager
def storage(settings: Settings) -> Iterator[None]:
    """Within, the embedded broker and engine of a home answer: those of the running stack, or started for it.

    Raises :class:`QuanyuError` when one does not start.
    """
    if homes.owner(settings.home) is not None:
        yield
        return
    with homes.owned(settings.home):
        homes.prepare(settings)
        parts = [part for part in storage_parts(settings) if part.name in ("kafka", "clickhouse")]
        processes = []
        try:
            for part in parts:
                with (settings.home / "logs" / f"{part.name}.log").open("ab") as log:
                    processes.append(
                        subprocess.Popen(  # noqa: S603 # our own module
                            part.argv,
                            env=child_environment(settings, part.env),
                            stdin=subprocess.DEVNULL,
                            stdout=log,
                            stderr=log,
                            start_new_session=True,
                            preexec_fn=die_with_parent(),
                        )
                    )
            end = time.monotonic() + READY_LIMIT_S
            for part, process in zip(parts, processes, strict=True):
                while not part.answers():
                    if process.poll() is not None or time.monotonic() > end:
                        log_file = settings.home / "logs" / f"{part.name}.log"
                        raise QuanyuError(
                            f"{part.name} does not start; the end of {log_file}:\n{tail(log_file)}"
                        )
                    time.sleep(POLL_S)
            yield
        finally:
            for process in processes:
                process.terminate()
            for process in processes:
                try:
                    process.wait(30)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
