"""Wires a step to the stream: the Faust agent only moves batches between transport and ledger."""

from collections.abc import Callable
from typing import Any, TypeVar, cast

from schemas.settings import Settings
from schemas.topics import beside_topics
from streams.app import FailFastApp
from streams.batch import Decision, Step
from streams.ledger import Ledger
from streams.transport import BatchSchema, Limits

S = TypeVar("S")

TICK_S = 1.0


def batch_agent(
    app: FailFastApp,
    settings: Settings,
    step: Step[S],
    topics: list[str],
    *,
    timers: Callable[[S, int], Decision] | None = None,
    max_records: int = 4000,
    max_bytes: int = 4_000_000,
) -> Any:
    """Register the agent that decides ``topics`` with ``step``; returns the Faust agent.

    Each topic needs its state topic (:func:`schemas.topics.state_topic`) with as many partitions. What stands
    beside one of them in ``topics.yaml`` is decided too, with the same state. ``timers`` is asked every
    :data:`TICK_S` seconds for each partition what time alone causes.
    """
    beside = {name: home for name, home in beside_topics().items() if home in topics}
    topics = [*topics, *beside]
    for topic in topics:
        app.batch_topics[topic] = Limits(max_records, max_bytes)
    ledger: Ledger[S] = Ledger(settings, app.conf.id, step, topics, beside)

    async def decide(stream: Any) -> None:
        async for batch in stream:
            await ledger.handle(batch)

    async def assigned(_: Any, *given: Any, **__: Any) -> None:
        ledger.assigned((tp.topic, tp.partition) for tp in given[0] if tp.topic in topics)

    app.on_partitions_assigned.connect(cast(Any, assigned), weak=False)
    if timers is not None:

        async def tick(*_: Any) -> None:
            await ledger.tick(timers)

        app.timer(TICK_S)(tick)

    channel = app.topic(*topics, schema=BatchSchema())
    app.ledgers.append(ledger)
    return app.agent(channel, name=step.name, concurrency=1)(decide)
