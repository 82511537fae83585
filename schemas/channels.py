"""Channel specs: what each channel sends and which of its fields is which of ours.

A channel is one YAML file in ``connectors/channels``; its stem is the channel's name. The spec only
says *where* a value stands; what it means is decided at intake, from the text as received.
"""

from functools import cache
from pathlib import Path
from typing import Annotated, Literal

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
]
Crs = Literal["WGS84", "CGCS2000", "GCJ02", "BD09"]
#: One native field, several of which the first that is filled counts, or a constant.
Source = Annotated[str | list[str], Field(min_length=1)]


class ChannelSpec(BaseModel):
    """How one channel's messages become raw reports."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z][a-z0-9_]{1,40}$", description="Stem of the file.")
    title: str = Field(description="Name on the screen.")
    kind: Literal["human", "sensing", "foreign"] = "human"
    transports: list[str] = Field(description="How it arrives: http, file.", min_length=1)
    native_id: str = Field(description="Native field with the id; unique inside the channel.")
    revision: str | None = Field(default=None, description="Native field with the revision number.")
    time_zone: str = Field(
        default="Asia/Shanghai", description="IANA zone of times without an offset."
    )
    crs: Crs | None = Field(
        default=None,
        description="CRS of every point of the channel, unless a native field says it.",
    )
    fields: dict[MappedField, Source] = Field(description="Field of the raw report → native field.")
    time_format: str | None = Field(
        default=None, description="strptime format, only where the times are ambiguous without it."
    )
    categories: dict[str, str] = Field(
        default_factory=dict,
        description="Native category → taxonomy code, where the channel knows it.",
    )
    usual_gap_s: float = Field(
        default=600.0, gt=0, description="Silence longer than three times this is worth a look."
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
