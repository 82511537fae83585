"""`quanyu doctor`: what is wrong from the configuration to the data, and the command that mends it.

:func:`examine` is a function of :class:`deploy.doctor_facts.Facts`: what was looked at goes in, findings
come out. A promise about records is the audit's; this looks for what stands in a pipeline's way.
"""

import re
import shlex
from collections.abc import Callable, Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Literal

from deploy.doctor_facts import ClickHouse, Facts, Kafka, Place
from deploy.flows import STREAMS_GROUP
from schemas.tables import DEDUPLICATION_WINDOW

#: ``unknown``: could not be looked at.
Severity = Literal["ok", "info", "warning", "error", "unknown"]

#: Brokers, engine and five Python processes together; below it the machine starts to swap.
MEMORY_GB = 2.0
#: A day of a busy city and its indexes; both stores refuse work on a full disk.
DISK_GB = 5.0
#: Below this share of a server's disk there is time to act, below the other there is none.
DISK_LOW, DISK_FULL = 0.15, 0.05
#: Freshness aims at one second and promises sixty: a clock off by more falsifies the one or the other.
SKEW_S, SKEW_MUCH_S = 2.0, 60.0
#: A record that waits longer breaks the freshness level; ten minutes are no hiccup.
WAITS_S, WAITS_LONG_S = 60.0, 600.0
#: Offsets behind the last record that only a transaction's marker takes.
MARKERS = 2
#: Half of the parts at which ClickHouse slows inserts down.
PARTS_SHARE = 0.5
#: A state topic is read whole at a take-over; compaction keeps it near what it holds.
STATE_OFFSETS = 20_000_000


@dataclass(frozen=True, slots=True)
class Finding:
    """What was found in an area, how bad it is, and the command that mends it (empty when none is needed)."""

    area: str
    severity: Severity
    what: str
    mend: str = ""

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def examine(facts: Facts) -> list[Finding]:
    """Every finding; an area in which all is well has one that says so."""
    found: list[Finding] = []
    checks: tuple[tuple[str, Callable[[Facts], Iterable[Finding]]], ...] = (
        ("settings", settings),
        ("machine", machine),
        ("permissions", permissions),
        ("parts", parts),
        ("kafka", kafka),
        ("topics", topics),
        ("offsets", offsets),
        ("lag", lag),
        ("state", state),
        ("dead letters", letters),
        ("clickhouse", clickhouse),
        ("tables", tables),
        ("disk", disk),
        ("clocks", clocks),
        ("schemas", schemas),
    )
    for area, check in checks:
        for finding in check(facts):
            found.append(finding)
        if not any(f.area == area for f in found):
            found.append(_silent(facts, area))
    return found


def _silent(facts: Facts, area: str) -> Finding:
    """Of an area in which nothing was found: all is well, or nobody could look."""
    for areas, looked, server in (
        (("topics", "offsets", "lag", "state", "dead letters", "kafka"), facts.kafka, "Kafka"),
        (("tables", "clocks", "clickhouse"), facts.clickhouse, "ClickHouse"),
    ):
        if area in areas and looked is None:
            return Finding(area, "info", f"not looked at: {server} does not run")
        if area in areas and looked is not None and looked.error:
            return Finding(area, "unknown", f"not looked at: {server} does not answer")
    return Finding(area, "ok", "nothing is wrong")


def exit_code(findings: Iterable[Finding]) -> int:
    """0: fine; 1: an error was found; 2: no error, but not everything could be looked at."""
    severities = {finding.severity for finding in findings}
    return 1 if "error" in severities else 2 if "unknown" in severities else 0


def settings(facts: Facts) -> Iterator[Finding]:
    for problem in facts.settings_problems:
        yield Finding("settings", "warning", problem, "quanyu config check")
    if facts.machine.city_error:
        yield Finding(
            "settings",
            "error",
            facts.machine.city_error,
            f"quanyu city check {facts.settings.city}",
        )
    else:
        yield Finding("settings", "ok", f"city {facts.machine.city}, home {facts.settings.home}")


def machine(facts: Facts) -> Iterator[Finding]:
    found = facts.machine
    if found.java_error:
        yield Finding(
            "machine", "error", f"no Java for the brokers: {found.java_error}",
            "export QUANYU_KAFKA=…  # a broker that runs elsewhere",
        )  # fmt: skip
    if found.engine_error:
        yield Finding(
            "machine", "error", f"no ClickHouse engine: {found.engine_error}",
            "export QUANYU_CLICKHOUSE=…  # a server that runs elsewhere",
        )  # fmt: skip
    if found.to_fetch:
        what = " and ".join(found.to_fetch)
        yield Finding("machine", "info", f"the first start fetches {what} from Maven Central")
    if found.memory_gb < MEMORY_GB and not facts.owner and not facts.elsewhere:
        yield Finding(
            "machine", "error",
            f"{found.memory_gb:.1f} GB of memory free, {MEMORY_GB:.0f} GB needed",
            "ps -eo pid,rss,comm --sort=-rss | head  # what takes it",
        )  # fmt: skip
    if found.disk_gb < DISK_GB:
        yield Finding(
            "disk", "error",
            f"{found.disk_gb:.1f} GB free in {found.disk}, {DISK_GB:.0f} GB advised",
            f"quanyu up --home …  # on a larger disk; or free some: du -sh {found.disk}/*",
        )  # fmt: skip
    if found.ports_in_use and not facts.elsewhere:
        yield Finding(
            "machine", "error", f"ports in use by other programs: {found.ports_in_use}",
            f"quanyu up --port {facts.settings.port + 100}",
        )  # fmt: skip
    yield Finding(
        "machine", "ok",
        ", ".join(filter(None, [found.java, found.engine, f"{found.memory_gb:.1f} GB free"])),
    )  # fmt: skip


def permissions(facts: Facts) -> Iterator[Finding]:
    """A secret is its owner's alone; what others may write in the home, they decide."""
    for file in facts.files:
        name = shlex.quote(file.path)
        if not file.own:
            yield Finding(
                "permissions", "warning", f"{file.path} belongs to somebody else",
                f"sudo chown $(id -u) {name}",
            )  # fmt: skip
        elif file.secret and file.mode & 0o077:
            yield Finding(
                "permissions", "error",
                f"{file.path} holds secrets, and others may read or write it (mode {file.mode:04o})",
                f"chmod 600 {name}",
            )  # fmt: skip
        elif not file.secret and file.mode & 0o022:
            yield Finding(
                "permissions", "error",
                f"{file.path}: others may write into the home (mode {file.mode:04o})",
                f"chmod go-w {name}",
            )  # fmt: skip


def parts(facts: Facts) -> Iterator[Finding]:
    if not facts.owner and not facts.elsewhere:
        yield Finding("parts", "info", f"no stack runs in {facts.settings.home}", "quanyu up")
    elif not facts.parts:
        yield Finding(
            "parts", "info", "no stack of this home runs; where parts run elsewhere, QUANYU_PARTS names them"
        )  # fmt: skip
    for part in facts.parts:
        if not part.answers:
            log = f"tail -n 50 {facts.settings.home}/logs/{part.name}.log"
            mend = (
                log if facts.owner else f"curl -sS {part.where}/healthz  # it says why, if it can"
            )
            yield Finding("parts", "error", f"{part.name} does not answer at {part.where}", mend)


def kafka(facts: Facts) -> Iterator[Finding]:
    found = facts.kafka
    if found is None:
        return
    if found.error:
        yield Finding("kafka", "error", found.error, _start(facts, "QUANYU_KAFKA"))
        return
    for what in found.unseen:
        yield Finding("kafka", "unknown", f"could not look at {what}", "quanyu status")
    for partitions, what in (
        (found.leaderless, "without a leader: nothing can be written or read"),
        (found.under_replicated, "with fewer replicas in sync than they have"),
    ):
        if partitions:
            some = ", ".join(f"{topic}[{number}]" for topic, number in sorted(partitions)[:3])
            yield Finding(
                "kafka", "error", f"{len(partitions)} partitions {what}: {some} …",
                f"kafka-topics.sh --bootstrap-server {found.address} --describe --under-replicated-partitions",
            )  # fmt: skip
    yield Finding("kafka", "ok", f"{found.address}: {found.brokers} brokers")


def _seen(facts: Facts) -> Kafka | None:
    return facts.kafka if facts.kafka and not facts.kafka.error else None


def topics(facts: Facts) -> Iterator[Finding]:
    found = _seen(facts)
    for difference in found.differences if found else ():
        if difference.kind == "stray":
            yield Finding(
                "topics", "info", difference.text,
                f"kafka-topics.sh --bootstrap-server {facts.settings.bootstrap} --delete "
                f"--topic {difference.topic}  # when nothing reads it",
            )  # fmt: skip
        else:
            severity: Severity = "warning" if difference.kind == "config" else "error"
            mend = "quanyu topics apply" if difference.mended else ""
            yield Finding("topics", severity, difference.text, mend or "quanyu topics diff")


def offsets(facts: Facts) -> Iterator[Finding]:
    """Where groups stand against what is kept: what was deleted unread is lost here."""
    found = _seen(facts)
    started = {p.group for p in found.places if p.committed is not None} if found else set()
    for place in found.places if found else ():
        where = f"{place.topic}[{place.partition}]"
        lost = unread(place, place.group in started)
        if lost:
            yield Finding(
                "offsets", "error",
                f"RETENTION OVERTOOK {place.group} in {where}: it stands at {place.committed or 0}, "
                f"the log begins at {place.first}; up to {lost} records were deleted unread",
                _again(facts, place),
            )  # fmt: skip
        if place.committed is not None and place.committed > place.end:
            yield Finding(
                "offsets", "error",
                f"{place.group} stands at {place.committed} in {where}, beyond its end {place.end}: the "
                "topic was made anew, and what comes up to there would be skipped",
                f"kafka-consumer-groups.sh --bootstrap-server {facts.settings.bootstrap} --group "
                f"{place.group} --topic {place.topic}:{place.partition} --reset-offsets --to-earliest "
                "--execute  # its parts stopped",
            )  # fmt: skip


def unread(place: Place, started: bool) -> int:
    """Offsets that retention deleted before the group read them; ``started``: it has read anything at all."""
    stood = 0 if place.committed is None else place.committed
    gap = place.first - stood
    if gap <= 0 or (place.committed is None and not started):
        return 0
    # All is deleted, and it had read the last record: what is between is a transaction's marker.
    if place.committed is not None and place.first == place.end and gap <= MARKERS:
        return 0
    return gap


def _again(facts: Facts, place: Place) -> str:
    """How to go on without what is lost, and how to bring it again."""
    channel = place.topic.removeprefix("reports.raw.") if "reports.raw." in place.topic else "…"
    replay = (
        f"quanyu replay FILE --channel {channel}  # of that time, from the source; ids are equal"
    )
    if place.group != STREAMS_GROUP:
        return replay
    # The worker stands still until somebody has looked.
    log = f"{facts.settings.home}/logs/worker.log"
    return f"grep retention_overtook {log}  # the setting with which it goes on; then: {replay}"


def lag(facts: Facts) -> Iterator[Finding]:
    found = _seen(facts)
    by_group: dict[str, list[Place]] = {}
    for place in found.places if found else ():
        if place.lag and place.oldest_ms is not None:
            by_group.setdefault(place.group, []).append(place)
    for group, places in by_group.items():
        oldest = min(places, key=lambda p: p.oldest_ms or 0)
        age = (facts.now_ms - (oldest.oldest_ms or 0)) / 1000
        if age < WAITS_S:
            continue
        records = sum(place.lag for place in places)
        severity: Severity = "error" if age >= WAITS_LONG_S else "warning"
        yield Finding(
            "lag", severity,
            f"{group} is {records} records behind in {len(places)} partitions; the oldest waits for "
            f"{age:.0f} s in {oldest.topic}[{oldest.partition}]",
            "quanyu status  # is its part running? then quanyu up",
        )  # fmt: skip


def state(facts: Facts) -> Iterator[Finding]:
    found = _seen(facts)
    for topic, size in (found.state if found else {}).items():
        if size > STATE_OFFSETS:
            yield Finding(
                "state", "warning",
                f"{topic} spans {size} offsets: a take-over reads them all; is it compacted?",
                f"kafka-configs.sh --bootstrap-server {facts.settings.bootstrap} --describe "
                f"--entity-type topics --entity-name {topic}",
            )  # fmt: skip
    if found and found.state:
        yield Finding("state", "ok", f"{sum(found.state.values())} offsets in state topics")


def letters(facts: Facts) -> Iterator[Finding]:
    found = _seen(facts)
    for topic, number in (found.open_letters if found else {}).items():
        yield Finding(
            "dead letters", "warning", f"{number} records in {topic} wait for a person",
            f"quanyu dlq show {topic}",
        )  # fmt: skip


def clickhouse(facts: Facts) -> Iterator[Finding]:
    found = facts.clickhouse
    if found is None:
        return
    if found.error:
        yield Finding("clickhouse", "error", found.error, _start(facts, "QUANYU_CLICKHOUSE"))
        return
    for table, number in found.parts.items():
        if number > found.parts_limit * PARTS_SHARE:
            yield Finding(
                "clickhouse", "error" if number >= found.parts_limit else "warning",
                f"{table} has {number} parts in one partition; from {found.parts_limit} inserts are slowed",
                _sql(facts, f"OPTIMIZE TABLE {table}"),
            )  # fmt: skip
    yield Finding(
        "clickhouse", "ok",
        f"{found.address}: version {found.version}, {found.bytes / 2**20:.0f} MB of rows",
    )  # fmt: skip


def _there(facts: Facts) -> ClickHouse | None:
    return facts.clickhouse if facts.clickhouse and not facts.clickhouse.error else None


def tables(facts: Facts) -> Iterator[Finding]:
    found = _there(facts)
    if found is None:
        return
    if found.tables_error:
        yield Finding("tables", "error", found.tables_error, "quanyu tables diff")
    for line in found.differences:
        extra = line.endswith("is in no migration")
        yield Finding("tables", "warning" if extra else "error", line, mend_table(facts, line))


#: A line of `quanyu tables diff`, and the statement that mends it.
_MENDS = (
    (
        r"table (?P<t>\w+): column (?P<c>\w+) (?P<k>.+) is missing",
        "ALTER TABLE {t} ADD COLUMN {c} {k}",
    ),
    (
        r"table (?P<t>\w+): column (?P<c>\w+) is .+, not (?P<k>.+)",
        "ALTER TABLE {t} MODIFY COLUMN {c} {k}",
    ),
    (
        r"table (?P<t>\w+): column (?P<c>\w+) is in no migration",
        "ALTER TABLE {t} DROP COLUMN {c}",
    ),
    (
        r"table (?P<t>\w+): deduplication_window = .*",
        "ALTER TABLE {t} MODIFY SETTING {r}replicated_deduplication_window = {n}",
    ),
)


def mend_table(facts: Facts, line: str) -> str:
    """The command that mends a difference of a table."""
    if line.startswith("migration "):
        return "quanyu tables apply"
    kind = "" if facts.settings.clickhouse_cluster else "non_"
    for pattern, statement in _MENDS:
        if match := re.fullmatch(pattern, line):
            words = {"c": "", "k": "", **match.groupdict()}
            return _sql(facts, statement.format(**words, r=kind, n=DEDUPLICATION_WINDOW))
    return "quanyu tables diff"


def disk(facts: Facts) -> Iterator[Finding]:
    found = _there(facts)
    for name, (free, whole) in (found.disks if found else {}).items():
        if not whole or free / whole >= DISK_LOW:
            continue
        yield Finding(
            "disk", "error" if free / whole < DISK_FULL else "warning",
            f"ClickHouse's disk {name} has {free:.1f} of {whole:.0f} GB left",
            _sql(facts, "SELECT table, formatReadableSize(sum(bytes_on_disk)) FROM system.parts "
                 "WHERE active GROUP BY table ORDER BY sum(bytes_on_disk) DESC"),
        )  # fmt: skip


def clocks(facts: Facts) -> Iterator[Finding]:
    """ClickHouse's clock against ours; of a broker's is known only when it is ahead of ours."""
    found = _there(facts)
    skews = []
    if found is not None and abs(found.skew_s) - found.doubt_s > SKEW_S:
        skews.append(("ClickHouse", found.skew_s))
    ahead = facts.kafka.broker_ahead_s if facts.kafka else None
    if ahead is not None and ahead > SKEW_S:
        skews.append(("a Kafka broker", ahead))
    for who, skew in skews:
        yield Finding(
            "clocks", "error" if abs(skew) >= SKEW_MUCH_S else "warning",
            f"the clock of {who} is {abs(skew):.1f} s {'ahead of' if skew > 0 else 'behind'} this machine's",
            "sudo timedatectl set-ntp true  # there, and here",
        )  # fmt: skip


def schemas(facts: Facts) -> Iterator[Finding]:
    found = facts.schemas
    for problem in found.problems:
        yield Finding("schemas", "error", problem, "quanyu schemas check")
    if found.error:
        yield Finding("schemas", "error", found.error, "export QUANYU_SCHEMA_REGISTRY_URL=…")
    if found.lacks:
        yield Finding(
            "schemas", "warning",
            f"the registry lacks {', '.join(found.lacks)}: the next part that starts registers them, "
            "and needs the right to",
            "quanyu up",
        )  # fmt: skip
    yield Finding("schemas", "ok", found.registry or "ids of the lock file")


def _start(facts: Facts, variable: str) -> str:
    external = facts.settings.kafka if variable == "QUANYU_KAFKA" else facts.settings.clickhouse
    if external:
        return f"export {variable}=…  # is {external} right, and does it run?"
    return f"quanyu down --home {facts.settings.home} && quanyu up --home {facts.settings.home}"


def _sql(facts: Facts, statement: str) -> str:
    url = f"{facts.settings.clickhouse_url.rstrip('/')}/?database={facts.settings.clickhouse_database}"
    user = '-u "$QUANYU_CLICKHOUSE_USER:$QUANYU_CLICKHOUSE_PASSWORD" '
    known = user if facts.settings.clickhouse_user else ""
    return f"curl -sS {known}{shlex.quote(url)} --data-binary {shlex.quote(statement)}"
