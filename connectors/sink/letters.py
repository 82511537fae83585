"""Dead letters of the sink: the original bytes under Kafka Connect's error header names."""

from collections.abc import Sequence

from confluent_kafka import KafkaException, Message, Producer

from schemas.kafka import producer_config
from schemas.settings import Settings

CONNECTOR = "quanyu-sink"
#: A message is a few hundred bytes, a stack trace or a row's text never goes into it.
DETAIL_LIMIT = 300
CONFIRM_TIMEOUT_S = 30.0


class NotConfirmedError(Exception):
    """The broker did not confirm every dead letter; the same block is tried again."""


Letter = tuple[Message, str, str, str]
"""The record as it came, the stage (decode or insert), a reason code and the detail."""


class DeadLetters:
    """Sends dead letters and waits for the broker; safe to use from several threads."""

    def __init__(self, settings: Settings) -> None:
        # A record as large as the broker takes must fit with its headers and uncompressed.
        self._producer = Producer({**producer_config(settings), "linger.ms": 0})

    def send(self, topic: str, letters: Sequence[Letter]) -> None:
        """Returns once all are confirmed; raises :class:`NotConfirmedError`."""
        failures: list[str] = []
        confirmed = 0

        def delivered(error: object, _: Message) -> None:
            nonlocal confirmed
            if error is None:
                confirmed += 1
            else:
                failures.append(str(error))

        try:
            for message, stage, code, detail in letters:
                self._producer.produce(
                    topic,
                    value=message.value(),
                    key=message.key(),
                    headers=_headers(message, stage, code, detail),
                    on_delivery=delivered,
                )
            self._producer.flush(CONFIRM_TIMEOUT_S)
        except (KafkaException, BufferError) as error:
            raise NotConfirmedError(str(error)) from None
        if confirmed != len(letters):
            raise NotConfirmedError(failures[0] if failures else "no confirmation in time")


def _headers(
    message: Message, stage: str, code: str, detail: str
) -> list[tuple[str, bytes | str | None]]:
    prefix = "__connect.errors."
    own = {
        "topic": message.topic() or "",
        "partition": str(message.partition()),
        "offset": str(message.offset()),
        "connector.name": CONNECTOR,
        "task.id": str(message.partition()),
        "stage": stage,
        "class.name": "connectors.sink",
        "exception.class.name": code,
        "exception.message": detail[:DETAIL_LIMIT],
    }
    # A list on a consumed message; the client library also types what one may produce.
    kept = list(dict(message.headers() or []).items())
    return [
        *((name, value) for name, value in kept if not name.startswith(prefix)),
        *((prefix + name, value) for name, value in own.items()),
    ]
