"""Signed webhooks: a unit's own system is told of every step of its orders, at least once.

``python -m connectors`` runs them beside the channels; ``python -m connectors.webhooks`` runs them alone, for
deployments whose connectors are limited to some channels. Endpoints: ``schemas/webhooks.py``; when which step
is sent: :mod:`connectors.webhook_schedule`.

A request is a POST of :func:`step_body`, signed by :func:`connectors.signature.sign` as what partners send to
us is, with the transition's id as ``Idempotency-Key``: a step that comes again, after an answer that got lost
or a crash, has the same key. The consumer group's offset passes no step that is neither delivered nor in
``webhooks.dlq``. It is the only state: after a start the time that a step may take begins anew.
"""

import asyncio
import json
import os
import random
import re
import signal
import sys
import threading
import time
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from typing import Any

import httpx
import structlog
from confluent_kafka import Consumer, KafkaException, Message, Producer, TopicPartition

from connectors.leave import leave, leave_in_time
from connectors.signature import sign
from connectors.webhook_schedule import Answer, Delivery, Schedule, Step
from schemas import metrics, probes
from schemas.codec import Codec, DecodeError, default_codec
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.errors import QuanyuError
from schemas.kafka import consumer_config, producer_config
from schemas.settings import Settings, load_settings
from schemas.webhooks import Endpoint, Webhooks, readable_by_others, unit_entry

log = structlog.get_logger("webhooks")

TOPIC, LETTERS, GROUP = "order.transitions", "webhooks.dlq", "quanyu-webhooks"
STAGE = "webhooks"
CONNECT_S, WHOLE_S = 3.0, 10.0
#: Bytes of an answer's body that are read, and thrown away, to use its connection again.
ANSWER_LIMIT = 64 * 1024
#: 4xx that may be answered otherwise the next time: timeout, conflict, locked, too early, too many.
TRANSIENT = {408, 409, 423, 425, 429}
#: Records taken from Kafka at once, and how long is waited for the first.
CHUNK, FETCH_S = 500, 0.2
COMMIT_S = 1.0
PAUSE_FIRST_S, PAUSE_LAST_S = 0.5, 30.0
#: How long requests that are on their way may take when the process is told to stop.
STOP_S = 5.0
#: Fields of a transition that are sent as they are: none is about a citizen or a member of staff, and none is
#: free text, in which both may be named.
FIELDS = (
    *("transition_id", "order_id", "event_id", "version", "sequence", "unit_code"),
    *(
        "from_state",
        "to_state",
        "action",
        "class_code",
        "district_code",
        "street_code",
        "grid_code",
    ),
    *(
        "level",
        "priority",
        "rule",
        "deadline_value",
        "deadline_unit",
        "returns",
        "reworks",
        "reopens",
    ),
    *("extensions", "supervised", "near_due", "overdue"),
)
INSTANTS = (
    *("at", "opened_at", "dispatched_at", "due_at", "sign_due_at", "handle_due_at", "check_due_at"),
    *("signed_at", "handled_at", "closed_at", "paused_at"),
)


def step_body(record: Mapping[str, Any]) -> bytes:
    """A transition as it is sent: JSON with the record's names, instants as ISO 8601 in UTC, null for none.

    ``link`` is where the API of this installation has the order.
    """
    body = {name: record[name] for name in FIELDS}
    body |= {name: _iso(record[name]) for name in INSTANTS}
    return json.dumps(body | {"link": f"/orders/{record['order_id']}"}, ensure_ascii=False).encode()


def _iso(ms: int | None) -> str | None:
    if not ms:
        return None
    text = datetime.fromtimestamp(ms / 1000, UTC).isoformat(timespec="milliseconds")
    return text.replace("+00:00", "Z")


def meaning(status: int, retry_after: str = "") -> Answer:
    """What an HTTP status means: only 2xx is a yes, 410 a no for good, other 4xx mostly a no to this step.

    ``retry_after`` counts in seconds; the header's other form, a date, needs both clocks to agree.
    """
    if 200 <= status < 300:
        return Answer("delivered", f"http_{status}", status)
    if status == 410:
        return Answer("gone", "http_410", status)
    forever = 400 <= status < 500 and status not in TRANSIENT
    if forever:
        return Answer("refused", f"http_{status}", status)
    pause = float(retry_after) if re.fullmatch(r"\d{1,9}", retry_after) else 0.0
    return Answer("failed", f"http_{status}", status, pause)


class Sender:
    """Sends steps; goes to the configured address and nowhere else. One event loop's."""

    def __init__(self) -> None:
        self._client = httpx.AsyncClient(
            headers={"User-Agent": "quanyu"},
            follow_redirects=False,
            trust_env=False,
            timeout=httpx.Timeout(None, connect=CONNECT_S),
            # Who hangs must not use up the connections of the others.
            limits=httpx.Limits(max_connections=None, max_keepalive_connections=100),
        )

    async def send(self, endpoint: Endpoint, transition_id: str, body: bytes) -> Answer:
        """One attempt, over within :data:`WHOLE_S`; whatever comes back is an answer, never an exception."""
        headers = {
            "Content-Type": "application/json",
            "Idempotency-Key": transition_id,
            **sign(endpoint.secret.get_secret_value(), int(time.time()), body),
        }
        answer: Answer | None = None
        try:
            async with (
                asyncio.timeout(WHOLE_S),
                self._client.stream("POST", endpoint.url, content=body, headers=headers) as given,
            ):
                answer = meaning(given.status_code, given.headers.get("retry-after", ""))
                size = 0
                async for part in given.aiter_raw():
                    size += len(part)
                    if size > ANSWER_LIMIT:
                        break
        except (TimeoutError, httpx.TimeoutException):
            return answer or Answer("failed", "timeout")
        except (httpx.ConnectError, OSError):
            return answer or Answer("failed", "no_connection")
        except (httpx.HTTPError, httpx.InvalidURL, ValueError):
            return answer or Answer("failed", "no_http_answer")
        finally:
            self._client.cookies.clear()
        return answer

    async def close(self) -> None:
        """Release the connections."""
        await self._client.aclose()


async def send_step(sender: Sender, codec: Codec, endpoint: Endpoint, step: Step) -> Answer:
    """One attempt to send a record of ``order.transitions``."""
    try:
        body = step_body(codec.decode(step.value)[1])
    except (DecodeError, ValueError, OverflowError):  # an instant beyond the calendar
        return Answer("refused", "malformed")
    return await sender.send(endpoint, step.transition_id, body)


class Letters:
    """The dead-letter topic; what :meth:`put` returned from is on every in-sync replica."""

    def __init__(self, settings: Settings) -> None:
        self._producer = Producer({**producer_config(settings), "log_level": 0})
        self._failure: str | None = None

    def put(self, step: Step, reason: str, endpoint: str) -> None:
        """Hand over one letter; ``endpoint`` names unit and host, never the secret."""
        message = f"{endpoint}: {reason}"
        headers = dead_letter_headers(
            TOPIC, step.partition, step.offset, STAGE, reason.split(",")[0], message
        )
        self._produce(step.transition_id, step.value, headers)

    def settle(self, transition_id: str) -> None:
        """Hand over the word that a letter was delivered after all: its key without a value."""
        self._produce(transition_id, None, [])

    def flush(self, timeout_s: float = 30.0) -> None:
        """Wait for the broker; :class:`QuanyuError` when it did not confirm everything."""
        left = self._producer.flush(timeout_s)
        if left or self._failure:
            raise QuanyuError(f"topic {LETTERS}: {self._failure or 'the broker does not confirm'}")

    def _produce(self, key: str, value: bytes | None, headers: list[tuple[str, Any]]) -> None:
        def confirmed(error: Any, _: Message) -> None:
            if error is not None:
                self._failure = error.str()

        self._producer.produce(
            LETTERS, key=key.encode(), value=value, headers=headers, on_delivery=confirmed
        )


#: What a look at Kafka brings, in order: a record, or a partition that is ours no more.
Event = Message | int


class Delivering:
    """One run over one consumer: read, send, commit. Whatever it raises, the next run repeats safely."""

    def __init__(self, settings: Settings, webhooks: Webhooks) -> None:
        self._settings, self._webhooks = settings, webhooks
        self._codec = default_codec(settings)
        self._limit = DeadLetterLimit(run=100, window=2_000)
        self._schedule = Schedule(random.random)
        self._sender = Sender()
        self._letters: Letters | None = None
        self._events: list[Event] = []
        self._paused: set[int] = set()
        self._committed: dict[int, int] = {}
        self._commit_at = 0.0
        self._tasks: set[asyncio.Task[None]] = set()
        self._known: dict[str, Endpoint] = {}
        self._stopping = False
        # Not the loop's own threads: there a name server that hangs would hold up Kafka.
        self._kafka = ThreadPoolExecutor(1, "webhooks-kafka")
        instance = os.environ.get("QUANYU_INSTANCE")
        self._consumer = Consumer(
            {
                **consumer_config(settings, GROUP),
                "session.timeout.ms": 10_000,
                "queued.max.messages.kbytes": 4096,
                "log_level": 0,
                **({"group.instance.id": f"{instance}-webhooks"} if instance else {}),
            }
        )

    async def run(self, stop: threading.Event) -> None:
        """Until told to stop; then requests on their way are waited for, and the position is committed."""
        asyncio.get_running_loop().set_default_executor(ThreadPoolExecutor(32, "webhooks-names"))
        self._consumer.subscribe([TOPIC], on_revoke=self._revoked, on_lost=self._revoked)
        try:
            while not stop.is_set():
                self.look()
                await self._turn()
            self._stopping = True
            end = time.monotonic() + STOP_S
            while self._schedule.sending() and time.monotonic() < end:
                await asyncio.sleep(0.05)
            self._commit_at = 0.0
            await self._commit()
        finally:
            for task in self._tasks:
                task.cancel()
            await self._sender.close()
            await self._in_kafka(self._consumer.close)
            self._kafka.shutdown(wait=False)

    def look(self) -> None:
        """Take over what changed in the file."""
        _refresh(self._webhooks, self._settings)
        endpoints = self._webhooks.endpoints or {}
        if endpoints is self._known:
            return
        for unit in self._known.keys() - endpoints.keys():
            if dropped := self._schedule.drop(unit):
                log.warning(
                    "steps for an entry that is gone are not sent", unit=unit, steps=dropped
                )
            for gauge in (metrics.WEBHOOK_WAITING, metrics.WEBHOOK_OLDEST):
                gauge.labels(unit).set(0)
            metrics.WEBHOOK_FAILING_SINCE.labels(unit).set(0)
        for unit, endpoint in endpoints.items():
            if self._known.get(unit) != endpoint:
                self._schedule.reset(unit)
            for result in ("delivered", "failed", "dead"):  # so that the first one is an increase
                metrics.WEBHOOK_DELIVERIES.labels(unit, result)
        self._known = endpoints

    async def _turn(self) -> None:
        for event in await self._in_kafka(partial(self._fetch, self._schedule.full())):
            if isinstance(event, int):
                self._schedule.forget(event)
                self._committed.pop(event, None)
                self._paused.discard(event)
            else:
                self._take(event)
        self._schedule.expire(time.time())
        await self._bury()
        self._start()
        await self._commit()
        self._measure()

    # --- Kafka

    def _fetch(self, full: set[int]) -> list[Event]:
        """Records and revocations in their order: each poll returns at most one record."""
        self._hold(full)
        self._events = []
        end = time.monotonic() + FETCH_S
        while len(self._events) < CHUNK:
            message = self._consumer.poll(0.0 if self._events else max(0.0, end - time.monotonic()))
            if message is None:
                break
            error = message.error()
            if error is not None:
                raise KafkaException(error)
            self._events.append(message)
        return self._events

    def _hold(self, full: set[int]) -> None:
        """Read nothing more of partitions of which too much waits, and of the others again."""
        if filled := full - self._paused:
            self._consumer.pause([TopicPartition(TOPIC, p) for p in filled])
        if emptied := self._paused - full:
            self._consumer.resume([TopicPartition(TOPIC, p) for p in emptied])
        self._paused = full

    def _revoked(self, _: Consumer, places: list[TopicPartition]) -> None:
        self._events.extend(place.partition for place in places)

    def _take(self, message: Message) -> None:
        place, offset, value = message.partition(), message.offset(), message.value()
        assert place is not None
        assert offset is not None
        if not self._known:
            self._schedule.skip(place, offset)
            return
        now, at = time.time(), message.timestamp()[1] / 1000
        try:
            name, record = self._codec.decode(value)
            if name != "OrderTransition":
                raise DecodeError("wrong_record", name)
        except DecodeError as error:
            self._limit.count(1, 1)
            step = Step(place, offset, at, "", f"{TOPIC}/{place}/{offset}", value or b"")
            self._schedule.take(step, "", now, dead=error.code)
            return
        self._limit.count(1, 0)
        unit = unit_entry(self._known, record["unit_code"])
        endpoint = self._known[unit] if unit is not None else None
        if endpoint is None or unit is None or not wanted(endpoint, record):
            self._schedule.skip(place, offset)
            return
        ids = record["order_id"], record["transition_id"]
        self._schedule.take(Step(place, offset, at, *ids, value or b""), unit, now)

    async def _commit(self) -> None:
        now = time.monotonic()
        if now < self._commit_at:
            return
        self._commit_at = now + COMMIT_S
        offsets = {
            p: o for p, o in self._schedule.committable().items() if self._committed.get(p) != o
        }
        if not offsets:
            return
        places = [TopicPartition(TOPIC, p, o) for p, o in offsets.items()]
        try:
            done = await self._in_kafka(
                partial(self._consumer.commit, offsets=places, asynchronous=False)
            )
            failed = [p.error.str() for p in done or [] if p.error]
        except KafkaException as error:
            failed = [error.args[0].str()]
        if failed:
            # Somebody else has the partition, or the broker is away; the next turns will say which.
            log.warning("position not committed", error=failed[0])
        else:
            self._committed |= offsets

    async def _bury(self) -> None:
        dead = self._schedule.dead()
        if not dead:
            return
        if self._letters is None:
            self._letters = Letters(self._settings)
        for delivery in dead:
            unit, endpoint = delivery.unit, self._known.get(delivery.unit)
            where = f"{unit} at {endpoint.host}" if endpoint else unit
            self._letters.put(delivery.step, delivery.reason, where)
        await self._in_kafka(self._letters.flush)
        for delivery in dead:
            self._schedule.buried(delivery)
            metrics.WEBHOOK_DELIVERIES.labels(delivery.unit, "dead").inc()
            log.warning(
                "step not delivered",
                unit=delivery.unit,
                transition_id=delivery.step.transition_id,
                attempts=delivery.attempts,
                reason=delivery.reason,
            )

    async def _in_kafka(self, work: Any) -> Any:
        return await asyncio.get_running_loop().run_in_executor(self._kafka, work)

    # --- endpoints

    def _start(self) -> None:
        if self._stopping:
            return
        for delivery in self._schedule.ready(time.time()):
            task = asyncio.create_task(self._deliver(delivery))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _deliver(self, delivery: Delivery) -> None:
        endpoint = self._known.get(delivery.unit)
        if endpoint is None:  # taken out of the file this moment
            answer = Answer("failed", "no_endpoint")
        else:
            step = delivery.step
            answer = await send_step(self._sender, self._codec, endpoint, step)
        self._schedule.answered(delivery, answer, time.time())
        if answer.verdict in ("delivered", "failed"):
            metrics.WEBHOOK_DELIVERIES.labels(delivery.unit, answer.verdict).inc()
        # The next one goes at once, not only when Kafka has been asked again.
        self._start()

    def _measure(self) -> None:
        for unit in self._known:
            health = self._schedule.health(unit)
            age = max(0.0, time.time() - health.oldest_at) if health.waiting else 0.0
            metrics.WEBHOOK_WAITING.labels(unit).set(health.waiting)
            metrics.WEBHOOK_OLDEST.labels(unit).set(age)
            metrics.WEBHOOK_FAILING_SINCE.labels(unit).set(health.failing_since)
            metrics.WEBHOOK_STATUS.labels(unit).set(health.status)


def wanted(endpoint: Endpoint, record: Mapping[str, Any]) -> bool:
    """Whether the endpoint takes steps of this kind."""
    return endpoint.actions is None or record["action"] in endpoint.actions


def _refresh(webhooks: Webhooks, settings: Settings) -> None:
    """Read the file when it changed; what is wrong with it is said once, and the last endpoints hold."""
    try:
        if webhooks.refresh():
            log.info("webhooks", endpoints=len(webhooks.endpoints or {}))
            if readable_by_others(settings.webhooks_path):
                log.warning("others can read the secrets; chmod 600", file=str(webhooks.path))
    except QuanyuError as error:
        log.error("webhooks file not understood", error=str(error))


def run(settings: Settings, stop: threading.Event) -> None:
    """Deliver until told to stop; after a failure from the committed position on."""
    webhooks = Webhooks(settings.webhooks_path)
    failures = 0
    while not stop.is_set():
        _refresh(webhooks, settings)
        if webhooks.endpoints is None:  # nobody may be passed over because of a misprint
            stop.wait(1.0)
            continue
        began = time.monotonic()
        try:
            asyncio.run(Delivering(settings, webhooks).run(stop))
        except Exception as error:  # must not end the channels beside it
            failures = 1 if time.monotonic() - began > PAUSE_LAST_S * 2 else failures + 1
            log.warning("webhooks wait", error=str(error)[:500], failures=failures)
            if not isinstance(error, KafkaException | QuanyuError):
                log.exception("webhooks failed")
            stop.wait(min(PAUSE_LAST_S, PAUSE_FIRST_S * 2.0 ** min(failures - 1, 10)))


def main() -> None:
    """Run until SIGTERM."""
    stop = threading.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, lambda *_: leave_in_time(stop.set))
    try:
        settings = load_settings()
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None
    probes.serve(settings, "webhooks", stuck=lambda: "", starting=lambda: "")
    run(settings, stop)


if __name__ == "__main__":
    main()
    leave()
