"""``python -m streams.worker``: the Faust worker with the agents intake, merge and dispatch.

``--agents`` runs only some of them, so that a deployment scales each by itself.
"""

import argparse
import asyncio
import gc
import logging
from collections.abc import Callable
from typing import Any, cast

import structlog

from schemas import metrics, probes
from schemas.access import hold_kafka
from schemas.channels import channel_names
from schemas.city import CityPack, load_city
from schemas.codec import Codec, default_codec
from schemas.errors import QuanyuError
from schemas.secrets import load_hash_key
from schemas.settings import Settings, load_settings
from schemas.topics import raw_topic
from schemas.tracing import Spans, spans_of
from streams.agent import batch_agent
from streams.app import FailFastApp, create_app, run_worker
from streams.batch import Decision, Step
from streams.dispatch.decide import DispatchStep
from streams.intake.decide import ANSWERS, IntakeStep
from streams.merge.decide import MergeStep
from streams.renew import LOOK_S, Renewal
from streams.spans import traced

AGENTS = ("intake", "merge", "dispatch")


def _answer(app: FailFastApp, settings: Settings) -> None:
    """Serve metrics and probes; the worker is ready once its first assignment's state is read."""
    waiting = ["its group has given it no partitions yet"]
    settling: list[asyncio.Task[None]] = []

    async def assigned(*_: Any, **__: Any) -> None:
        if not settling:
            waiting[:] = ["it reads the state of its partitions"]
            settling.append(asyncio.create_task(settle()))

    async def settle() -> None:
        for ledger in app.ledgers:
            await ledger.ready()
        waiting.clear()

    app.on_partitions_assigned.connect(cast(Any, assigned), weak=False)
    probes.serve(settings, "worker", stuck=app.pulse.stuck, starting=lambda: "".join(waiting))


def make_steps(
    agents: list[str], city: CityPack, codec: Codec, hash_key: bytes
) -> dict[str, Step[Any]]:
    """The agents' steps under a pack. Raises :class:`QuanyuError` when it cannot be decided by."""
    kinds: dict[str, Callable[[], Step[Any]]] = {
        "intake": lambda: IntakeStep(city, codec, hash_key),
        "merge": lambda: MergeStep(city, codec),
        "dispatch": lambda: DispatchStep(city, codec),
    }
    return {name: make() for name, make in kinds.items() if name in agents}


def _renew(
    app: FailFastApp,
    settings: Settings,
    city: CityPack,
    codec: Codec,
    steps: dict[str, Step[Any]],
    spans: Spans | None,
) -> None:
    """Take up a changed pack between batches; ``steps`` are those in service."""

    def build(city: CityPack) -> Callable[[], None]:
        made = make_steps(list(steps), city, codec, load_hash_key(settings))

        def put() -> None:
            for ledger, (name, step) in zip(app.ledgers, made.items(), strict=True):
                steps[name] = step
                ledger.renew(traced(step, spans))

        return put

    renewal = Renewal(settings, city, build)

    async def look(*_: Any) -> None:
        await renewal.look()

    app.timer(LOOK_S)(look)


def main() -> None:
    """Start the worker; exit 2 with one sentence when it cannot run, 70 when a batch failed."""
    parser = argparse.ArgumentParser(prog="streams.worker", description=__doc__)
    parser.add_argument(
        "--agents", default=",".join(AGENTS), help="comma-separated: intake,merge,dispatch"
    )
    agents = parser.parse_args().agents.split(",")
    unknown = set(agents) - set(AGENTS)
    if unknown:
        parser.error(f"no agent {sorted(unknown)}; known: {', '.join(AGENTS)}")
    try:
        settings = load_settings()
        structlog.configure(
            processors=[
                structlog.processors.add_log_level,
                structlog.processors.TimeStamper(fmt="iso", utc=True),
                structlog.processors.dict_tracebacks,
                structlog.processors.JSONRenderer(ensure_ascii=False),
            ],
            wrapper_class=structlog.make_filtering_bound_logger(
                logging.getLevelName(settings.log_level)
            ),
        )
        hold_kafka(settings)
        city, codec = load_city(settings.city), default_codec(settings)
        app = create_app(settings)
        steps = make_steps(agents, city, codec, load_hash_key(settings))
        spans = spans_of(settings, "worker")
        inputs = {
            "intake": [*(raw_topic(name) for name in channel_names()), ANSWERS],
            "merge": ["reports"],
            "dispatch": ["events"],
        }

        def tick(state: Any, now_ms: int) -> Decision:
            return cast(DispatchStep, steps["dispatch"]).tick(state, now_ms)

        for name, step in steps.items():
            timers = tick if name == "dispatch" else None
            batch_agent(app, settings, traced(step, spans), inputs[name], timers=timers)
        _renew(app, settings, city, codec, steps, spans)
        metrics.describe_process(settings)
        _answer(app, settings)
    except QuanyuError as error:
        raise SystemExit(f"streams.worker: {error}") from None
    except OSError as error:
        raise SystemExit(f"streams.worker: the metrics port is not free: {error}") from None
    # Batches make no cycles, but hundreds of thousands of open events are live: looking through them for
    # garbage at Python's default rate costs several per cent of all time.
    gc.collect()
    gc.freeze()
    gc.set_threshold(200_000, 50, 100)
    try:
        run_worker(app)
    finally:
        if spans is not None:
            spans.close()


if __name__ == "__main__":
    main()
