"""A batch's records: decoded, and what is none put aside with its reason; as every agent does it."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas import metrics, tracing
from schemas.codec import Codec, DecodeError
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.topics import dlq_topic
from streams.batch import Batch, Decision, Headers, Output


class Records:
    """Decodes one agent's batches; too many dead letters stop it, see :class:`DeadLetterLimit`."""

    def __init__(self, codec: Codec, agent: str) -> None:
        self._codec = codec
        self._agent = agent
        self._limit = DeadLetterLimit()

    def decode(
        self, record: str, batch: Batch
    ) -> tuple[Sequence[Mapping[str, Any] | None], Mapping[int, DecodeError]]:
        """The batch's records in order, None where one is none, and what is wrong with those."""
        records, errors = self._codec.decode_batch(record, batch.values)
        self._limit.count(len(batch), len(errors))
        return records, errors

    def put_aside(self, batch: Batch, index: int, error: DecodeError) -> Output:
        """The dead letter of a record: its bytes untouched, where it lay and why."""
        metrics.STREAM_DLQ.labels(batch.topic, error.code).inc()
        headers = dead_letter_headers(
            batch.topic,
            batch.partition,
            batch.offsets[index],
            self._agent,
            error.code,
            error.detail,
            batch.headers[index],
        )
        return Output(dlq_topic(batch.topic), batch.keys[index], batch.values[index], headers)

    def of(
        self, record: str, batch: Batch, decision: Decision
    ) -> list[tuple[Mapping[str, Any], Headers | None]]:
        """The good records, each with the headers of what it causes; the others go to the dead letters."""
        records, errors = self.decode(record, batch)
        decision.outputs += [self.put_aside(batch, i, error) for i, error in errors.items()]
        return [
            (found, headers)
            for found, headers in zip(records, self.headers(batch), strict=True)
            if found is not None
        ]

    def headers(self, batch: Batch) -> list[Headers | None]:
        """The headers of what each of the batch's records causes: its trace, if it has one, goes on."""
        if not any(batch.headers):
            return [None] * len(batch)
        return [
            span.headers if (span := stage_span(self._agent, batch, i)) is not None else None
            for i in range(len(batch))
        ]


def stage_span(agent: str, batch: Batch, index: int) -> tracing.Context | None:
    """The span in which an agent decides a record; None for one that is not traced."""
    came = tracing.carried(batch.headers[index])
    return came and came.child(agent, batch.topic, batch.partition, batch.offsets[index])


def hand_on(decision: Decision, start: int, headers: Headers | None) -> None:
    """Give the outputs from ``start`` on the headers of what caused them."""
    if headers is not None:
        outputs = decision.outputs
        outputs[start:] = [output._replace(headers=headers) for output in outputs[start:]]
