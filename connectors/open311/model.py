"""What the façade answers: GeoReport v2 documents, field for field as the specification names them.

JSON and XML are the same document: a list is an array, or a plural element of singulars; None is null, or
an empty element.
"""

import json
import re
from collections.abc import Sequence
from typing import Any, Literal
from xml.etree import ElementTree

from pydantic import BaseModel, ConfigDict, Field, model_validator

Format = Literal["xml", "json"]
MEDIA_TYPES: dict[Format, str] = {
    "xml": "text/xml; charset=utf-8",
    "json": "application/json; charset=utf-8",
}
#: Plural element → the element of each.
SINGULAR = {
    "services": "service",
    "service_requests": "request",
    "attributes": "attribute",
    "values": "value",
    "errors": "error",
    "endpoints": "endpoint",
    "formats": "format",
    "trail": "step",
}
#: What XML 1.0 cannot hold, escaped or not.
_NO_XML = re.compile("[^\t\n\r\u0020-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


class Refused(Exception):
    """A request that cannot be fulfilled: the HTTP status, and a sentence for each reason."""

    def __init__(self, status: int, *reasons: str, retry_after_s: int | None = None) -> None:
        super().__init__("; ".join(reasons))
        self.status, self.reasons, self.retry_after_s = status, reasons, retry_after_s


class _Model(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Service(_Model):
    """A type of service request."""

    service_code: str
    service_name: str
    description: str
    metadata: bool = Field(description="Whether the service has a definition with attributes.")
    type: Literal["realtime"] = "realtime"
    keywords: str = Field(description="Comma separated.")
    group: str


class Value(_Model):
    """One choice of an attribute."""

    key: str
    name: str


class Attribute(_Model):
    """What a sender may add to a request of a service."""

    variable: bool = True
    code: str
    datatype: Literal["string", "number", "datetime", "text", "singlevaluelist", "multivaluelist"]
    required: bool = False
    datatype_description: str | None = None
    order: int = Field(ge=1)
    description: str
    values: list[Value] | None = None

    @model_validator(mode="after")
    def _choices(self) -> "Attribute":
        if (self.values is not None) != self.datatype.endswith("valuelist"):
            raise ValueError("values: a list of choices has them, nothing else does")
        return self


class ServiceDefinition(_Model):
    """The attributes of a service."""

    service_code: str
    attributes: list[Attribute]


class TrailStep(_Model):
    """One step of a request's way."""

    datetime: str = Field(description="ISO 8601 with the city's offset.")
    what: Literal["received", "decided", "linked", "moved", "order"]
    state: str = Field(description="Channel, outcome, relation, or the order's state.")
    agency: str | None = Field(description="The unit's name.")
    notes: str | None = Field(description="What the unit told the citizen.")


class ExtendedAttributes(_Model):
    """What the specification has no field for; only when ``extensions=true`` or the secret was given."""

    channel: str = Field(description="The channel that the report came through.")
    duplicate_of: str | None = Field(description="The request that opened the matter it joined.")
    trail: list[TrailStep] | None = Field(
        None, description="Every step, oldest first; only for who gives the request's secret."
    )


class ServiceRequest(_Model):
    """A service request and what became of it."""

    service_request_id: str
    status: Literal["open", "closed"]
    status_notes: str | None
    service_name: str
    service_code: str
    description: str | None
    agency_responsible: str | None
    service_notice: str | None = None
    requested_datetime: str = Field(description="ISO 8601 with the city's offset.")
    updated_datetime: str
    expected_datetime: str | None
    address: str | None
    address_id: str | None = None
    zipcode: str | None = None
    lat: float | None
    long: float | None
    media_url: str | None
    extended_attributes: ExtendedAttributes | None = None


class Posted(_Model):
    """A request that was taken."""

    service_request_id: str
    service_notice: str | None = None
    account_id: str | None = None


class Token(_Model):
    """A token and the request that it stands for."""

    service_request_id: str
    token: str


class Error(_Model):
    """Why a request was refused."""

    code: int = Field(description="The HTTP status.")
    description: str


class Endpoint(_Model):
    """One interface of ours."""

    specification: str = "http://wiki.open311.org/GeoReport_v2"
    url: str
    changeset: str
    type: Literal["production", "test"]
    formats: list[str] = ["text/xml", "application/json"]


class Discovery(_Model):
    """Which interfaces there are, and whom to ask for a key."""

    changeset: str
    contact: str
    key_service: str
    endpoints: list[Endpoint]


def render(root: str, document: BaseModel | Sequence[BaseModel], form: Format) -> bytes:
    """The document's bytes; ``root`` names its outermost element in XML."""
    plain = _plain(document) if isinstance(document, BaseModel) else [_plain(m) for m in document]
    if form == "json":
        # Half a surrogate pair is no character, in whichever text it came.
        return json.dumps(plain, ensure_ascii=False).encode("utf-8", "replace")
    found: bytes = ElementTree.tostring(_element(root, plain), "utf-8", xml_declaration=True)
    return found


def _plain(model: BaseModel) -> dict[str, Any]:
    found = model.model_dump()
    if found.get("extended_attributes", found) is None:
        del found["extended_attributes"]
    elif (found.get("extended_attributes") or {"trail": ()})["trail"] is None:
        del found["extended_attributes"]["trail"]
    return found


def _element(name: str, value: Any) -> ElementTree.Element:
    element = ElementTree.Element(name)
    if isinstance(value, dict):
        element.extend(_element(key, item) for key, item in value.items())
    elif isinstance(value, list):
        element.extend(_element(SINGULAR[name], item) for item in value)
    elif isinstance(value, bool):
        element.text = "true" if value else "false"
    elif value is not None:
        element.text = _NO_XML.sub("", str(value))
    return element
