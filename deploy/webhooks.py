"""Webhooks as a person looks at them: how each endpoint is, what was given up, and sending that again."""

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass

import httpx
from confluent_kafka import Message
from prometheus_client.parser import text_string_to_metric_families

from connectors.webhook_schedule import Step
from connectors.webhooks import LETTERS, Letters, Sender, send_step
from deploy.dead_letters import headers, origin
from deploy.positions import Positions
from schemas.codec import Codec, DecodeError, default_codec
from schemas.dead_letter import PREFIX
from schemas.errors import QuanyuError
from schemas.settings import PartName, Settings
from schemas.webhooks import Endpoint, read_webhooks, unit_entry

#: Processes that may run the webhooks, by the name of their metrics port.
PROCESSES: tuple[PartName, ...] = ("connectors", "webhooks")
METRIC = "quanyu_webhook_"
ANSWER_S = 3.0
#: An endpoint that fails so often in a row is left alone for this time.
FAILURES = 3


@dataclass(frozen=True, slots=True)
class State:
    """One entry of the file; numbers are None when no process that runs the webhooks answers.

    ``delivered`` and ``dead`` count since that process began; ``failing_since`` is unix time, 0 when it
    does not fail; ``status`` is the last HTTP status, 0 when there was no answer.
    """

    unit: str
    host: str
    actions: list[str]
    delivered: int | None = None
    dead: int | None = None
    waiting: int | None = None
    oldest_seconds: float | None = None
    failing_since: float | None = None
    status: int | None = None


@dataclass(frozen=True, slots=True)
class Letter:
    """A step that a unit's system did not take; ``transition_id`` is its id and its idempotency key."""

    transition_id: str
    unit_code: str
    order_id: str
    action: str
    to_state: str
    given_up_ms: int
    reason: str
    message: str
    partition: int
    offset: int
    value: bytes


@dataclass(frozen=True, slots=True)
class Resent:
    """What came of sending a letter again."""

    transition_id: str
    unit_code: str
    delivered: bool
    reason: str


def states(settings: Settings) -> list[State]:
    """Every entry of the file. Raises :class:`QuanyuError` when the file is wrong."""
    endpoints = read_webhooks(settings.webhooks_path)
    measured = _measured(settings)
    found = []
    for unit, endpoint in sorted(endpoints.items()):
        actions = sorted(endpoint.actions or ())
        if measured is None:
            found.append(State(unit, endpoint.host, actions))
            continue

        def value(name: str, result: str = "", unit: str = unit) -> float:
            return measured.get((METRIC + name, unit, result), 0.0)

        found.append(
            State(
                unit,
                endpoint.host,
                actions,
                delivered=int(value("deliveries_total", "delivered")),
                dead=int(value("deliveries_total", "dead")),
                waiting=int(value("waiting")),
                oldest_seconds=value("oldest_seconds"),
                failing_since=value("failing_timestamp_seconds"),
                status=int(value("status")),
            )
        )
    return found


def _measured(settings: Settings) -> dict[tuple[str, str, str], float] | None:
    """The webhooks' metrics by name, unit and result; None when nobody who runs them answers."""
    for url in (url for process in PROCESSES for url in settings.part_urls(process)):
        try:
            text = httpx.get(f"{url}/metrics", timeout=ANSWER_S, trust_env=False).text
        except httpx.HTTPError:
            continue
        found = {
            (s.name, s.labels["unit"], s.labels.get("result", "")): s.value
            for family in text_string_to_metric_families(text)
            for s in family.samples
            if s.name.startswith(METRIC)
        }
        if found:
            return found
    return None


def letters(settings: Settings) -> list[Letter]:
    """What was given up and not delivered since, the oldest first, each step once."""
    codec = default_codec(settings)
    found: dict[str, Letter] = {}
    with Positions(settings) as positions:
        partitions = positions.partitions([LETTERS])
        if not partitions:
            raise QuanyuError(f"Kafka has no topic {LETTERS}; run quanyu topics apply")
        for _, messages in positions.records(positions.extents(partitions)):
            for message in messages:
                key = (message.key() or b"").decode("utf-8", "replace")
                found.pop(key, None)
                if (value := message.value()) is not None:
                    found[key] = _letter(codec, key, message, value)
    return list(found.values())


def _letter(codec: Codec, key: str, message: Message, value: bytes) -> Letter:
    try:
        record = codec.decode(value)[1]
    except DecodeError:
        record = {}
    came = origin(message)
    return Letter(
        transition_id=key,
        **{
            name: str(record.get(name, ""))
            for name in ("unit_code", "order_id", "action", "to_state")
        },
        given_up_ms=message.timestamp()[1],
        reason=came.reason if came else "unknown",
        message=headers(message).get(f"{PREFIX}exception.message", ""),
        partition=came.partition if came else 0,
        offset=came.offset if came else 0,
        value=value,
    )


def resend(settings: Settings, chosen: Sequence[Letter]) -> list[Resent]:
    """Send letters to the endpoints that the file names now; who took one is not asked to again.

    Endpoints are asked at once, each for one step after the other. Raises :class:`QuanyuError` when Kafka
    does not take note of what was delivered: that is sent again the next time, with the same key.
    """
    endpoints = read_webhooks(settings.webhooks_path)
    entries = {letter: unit_entry(endpoints, letter.unit_code) for letter in chosen}
    done = [
        Resent(letter.transition_id, letter.unit_code, False, "no endpoint in webhooks.json")
        for letter, entry in entries.items()
        if entry is None
    ]

    async def everything() -> list[list[Resent]]:
        sender, codec = Sender(), default_codec(settings)
        try:
            return await asyncio.gather(
                *(
                    _resend(sender, codec, endpoint, [le for le, e in entries.items() if e == unit])
                    for unit, endpoint in endpoints.items()
                )
            )
        finally:
            await sender.close()

    for results in asyncio.run(everything()):
        done += results
    notes = Letters(settings)
    for result in done:
        if result.delivered:
            notes.settle(result.transition_id)
    notes.flush()
    return done


async def _resend(
    sender: Sender, codec: Codec, endpoint: Endpoint, chosen: list[Letter]
) -> list[Resent]:
    done: list[Resent] = []
    failures, behind = 0, set[str]()
    for letter in sorted(chosen, key=lambda le: (le.partition, le.offset)):
        delivered = False
        if failures >= FAILURES:
            reason = f"not tried: {endpoint.host} failed {FAILURES} times in a row"
        elif letter.order_id in behind:
            reason = "not tried: an earlier step of its order was not delivered"
        else:
            step = Step(
                letter.partition,
                letter.offset,
                0.0,
                letter.order_id,
                letter.transition_id,
                letter.value,
            )
            answer = await send_step(sender, codec, endpoint, step)
            delivered, reason = answer.verdict == "delivered", answer.reason
            failures = 0 if delivered else failures + 1
        if not delivered:
            behind.add(letter.order_id)
        done.append(Resent(letter.transition_id, letter.unit_code, delivered, reason))
    return done
