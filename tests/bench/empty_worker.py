"""The batch transport with an agent that does nothing: ``python -m tests.bench.empty_worker TOPIC COUNT MODE``.

MODE ``transport`` only moves batches; ``ledger`` adds the transaction with the position.
"""

import sys
import time
from typing import Any

from schemas.settings import load_settings
from streams.agent import batch_agent
from streams.app import create_app, run_worker
from streams.batch import Batch, Decision
from streams.transport import BatchSchema, Limits


class Nothing:
    """Decides nothing; says how far it came."""

    name = "empty"

    def __init__(self) -> None:
        self.count = 0

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> None:
        """No state."""

    def decide(self, state: None, batch: Batch, now_ms: int) -> Decision:
        """Nothing."""
        self.count += len(batch)
        print(self.count, time.time(), flush=True)
        return Decision()

    def entries(self, state: None) -> int:
        """None."""
        return 0


def main() -> None:
    """Run until SIGTERM."""
    topic, _, mode = sys.argv[1:4]
    settings = load_settings()
    app = create_app(settings, f"empty-{mode}")
    step = Nothing()
    if mode == "ledger":
        batch_agent(app, settings, step, [topic])
    else:
        app.batch_topics[topic] = Limits()

        async def nothing(stream: Any) -> None:
            async for batch in stream:
                step.decide(None, batch, 0)
                batch.finished = True

        app.agent(app.topic(topic, schema=BatchSchema()), name="empty", concurrency=1)(nothing)
    run_worker(app)


if __name__ == "__main__":
    main()
