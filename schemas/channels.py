"""Channel specs: how each channel sends, and which of its fields is which of ours.

A channel is one YAML file in ``connectors/channels``; its stem is the channel's name. The spec only
says *where* a value stands; what it means is decided at intake, from the text as received. Addresses
and secrets of a source (database URLs, broker passwords) are no part of it: see ``schemas/sources.py``.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, field_validator, model_validator

from schemas.documents import read_document
from schemas.errors import QuanyuError
from schemas.instants import known_zone

CHANNELS_DIR = Path(__file__).parent.parent / "connectors" / "channels"

#: RawReport fields that a channel may fill.
MappedField = Literal[
    "occurred_at",
    "submitted_at",
    "title",
    "text",
    "category",
    "lon",
    "lat",
    "crs",
    "address",
    "district",
    "street",
    "reporter",
    "forwarded_from",
    "media",
    "device",
    "alarm_state",
    "self_handled",
]
#: CITY: metres in the plane of the city's own grid (城市独立坐标系), defined in its pack.
Crs = Literal["WGS84", "CGCS2000", "GCJ02", "BD09", "CITY"]
#: A native field, as ``name``, ``path.to.it`` or ``list.0.it``; a text with such fields in braces, as
#: ``{device}/{seq}``, which counts only when each of them is filled; or several, of which the first counts.
Source = Annotated[str | list[str], Field(min_length=1)]


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class HttpTransport(_Model):
    """HTTP push: ``POST /channels/<name>/reports`` of one report or an array, as JSON or a form."""

    signed: bool = Field(
        default=False,
        description="A signed webhook: HMAC-SHA256 of time and body instead of the key itself.",
    )
    form: bool = Field(default=False, description="Forms are taken too, attachments as hashes.")
    media_limit: int = Field(default=9, ge=0, le=50, description="Photos or files of one report.")


class SqlTransport(_Model):
    """SQL poll of one table or view of another system's database."""

    table: str = Field(pattern=r"^[A-Za-z_][A-Za-z0-9_.]{0,120}$", description="Table or view.")
    watermark: str = Field(
        description="Column that never decreases from one committed row to the next: time or number."
    )
    overlap: float = Field(
        default=120.0,
        ge=0,
        description="So far below the watermark rows are read again (seconds of a time, else units): "
        "those that were committed late. Repetitions are recognised.",
    )
    interval_s: float = Field(
        default=2.0, gt=0, description="Between two polls that found nothing."
    )


class FileTransport(_Model):
    """File drop: a folder in which another system leaves whole files."""

    patterns: list[str] = Field(
        default=["*.csv", "*.jsonl", "*.ndjson", "*.xlsx", "*.geojson", "*.xml"],
        min_length=1,
        description="Names of files to take; any other is left alone.",
    )
    settle_s: float = Field(
        default=2.0, ge=0, description="A file that changed less than so long ago is half written."
    )
    interval_s: float = Field(default=2.0, gt=0, description="Between two looks into the folder.")


class MqttTransport(_Model):
    """MQTT subscription with QoS 1 and a persistent session."""

    topics: list[str] = Field(min_length=1, description="Topic filters, as city/iot/+/alarm.")


class Open311Transport(_Model):
    """Open311 GeoReport v2 pull of another city's requests."""

    jurisdiction_id: str | None = None
    interval_s: float = Field(default=60.0, gt=0, description="Between two pulls.")
    overlap_s: float = Field(
        default=3600.0, ge=0, description="So far before the newest request is asked for again."
    )


class KafkaTransport(_Model):
    """Bridge from a topic of another Kafka cluster; values are JSON objects."""

    topic: str = Field(min_length=1)
    group: str = Field(default="quanyu-bridge", description="Consumer group on that cluster.")


class Transports(_Model):
    """How a channel arrives; at least one. A list of names takes each with its defaults."""

    http: HttpTransport | None = None
    sql: SqlTransport | None = None
    file: FileTransport | None = None
    mqtt: MqttTransport | None = None
    open311: Open311Transport | None = None
    kafka: KafkaTransport | None = None

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, given: Any) -> Any:
        if isinstance(given, list) and all(isinstance(name, str) for name in given):
            return {name: {} for name in given}
        if isinstance(given, dict):  # `http:` alone is an empty value
            return {name: {} if options is None else options for name, options in given.items()}
        return given

    @model_validator(mode="after")
    def _some(self) -> "Transports":
        if not self.names:
            raise ValueError("name at least one transport: " + ", ".join(type(self).model_fields))
        return self

    @property
    def names(self) -> list[str]:
        """Names of the transports that the channel has."""
        return [name for name in type(self).model_fields if getattr(self, name) is not None]


class Point(_Model):
    """Where a point of a channel stands; ``crs`` holds unless the message says another."""

    lon: str
    lat: str
    crs: Crs


class ChannelSpec(_Model):
    """How one channel's messages become raw reports."""

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,40}$", description="Stem of the file.")
    title: str = Field(description="Name on the screen.")
    kind: Literal["human", "sensing", "foreign"] = "human"
    transports: Transports = Field(description="How it arrives.")
    native_id: Source = Field(description="Native field with the id; unique inside the channel.")
    revision: str | None = Field(default=None, description="Native field with the revision number.")
    time_zone: str = Field(
        default="Asia/Shanghai", description="IANA zone of times without an offset."
    )
    crs: Crs | None = Field(
        default=None,
        description="CRS of every point of the channel, unless a native field says it.",
    )
    fields: dict[MappedField, Source] = Field(description="Field of the raw report → native field.")
    points: list[Point] = Field(
        default_factory=list,
        description="Points that count before fields.lon and lat, the best first: the one that is filled.",
    )
    time_format: str | None = Field(
        default=None, description="strptime format, only where the times are ambiguous without it."
    )
    categories: dict[str, str] = Field(
        default_factory=dict,
        description="Native category → taxonomy code, where the channel knows it.",
    )
    alarm_states: dict[str, Literal["open", "cleared"]] = Field(
        default_factory=dict, description="Native state of an alarm → ours."
    )
    usual_gap_s: float | None = Field(
        default=None,
        gt=0,
        description="Silence longer than three times this is an alarm; unset: learned from the channel.",
    )

    @field_validator("time_zone")
    @classmethod
    def _known_zone(cls, name: str) -> str:
        return known_zone(name)

    @model_validator(mode="after")
    def _says_what(self) -> "ChannelSpec":
        if not {"title", "text", "category"} & set(self.fields):
            raise ValueError("fields: map at least one of title, text, category")
        if ("lon" in self.fields) != ("lat" in self.fields):
            raise ValueError("fields: lon and lat come together")
        return self


def channel_names() -> list[str]:
    """Names of every channel, sorted."""
    return sorted(path.stem for path in CHANNELS_DIR.glob("*.yaml"))


@cache
def load_channel(name: str) -> ChannelSpec:
    """The spec of a channel; :class:`QuanyuError` lists the known ones or names the line at fault."""
    path = CHANNELS_DIR / f"{name}.yaml"
    if name not in channel_names():
        raise QuanyuError(f"no channel {name!r}; known: {', '.join(channel_names())}")
    return read_channel(path)


def load_channels() -> dict[str, ChannelSpec]:
    """Every channel's spec by name."""
    return {name: load_channel(name) for name in channel_names()}


def read_channel(path: Path) -> ChannelSpec:
    """Read and validate one spec file; errors name file, line and field."""
    return read_document(path, ChannelSpec, name=path.stem)
