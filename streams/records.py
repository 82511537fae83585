"""A batch's records: decoded, and what is none put aside with its reason; as every agent does it."""

from collections.abc import Mapping, Sequence
from typing import Any

from schemas import metrics
from schemas.codec import Codec, DecodeError
from schemas.dead_letter import DeadLetterLimit, dead_letter_headers
from schemas.topics import dlq_topic
from streams.batch import Batch, Decision, Output


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

    def of(self, record: str, batch: Batch, decision: Decision) -> list[Mapping[str, Any]]:
        """The batch's good records; the others go to the dead letters."""
        records, errors = self.decode(record, batch)
        decision.outputs += [self.put_aside(batch, i, error) for i, error in errors.items()]
        return [found for found in records if found is not None]
