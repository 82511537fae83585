"""A worker whose one agent counts: each record goes out once and adds one to its key's counter.

Run by the transport's tests: ``python counting_worker.py APP_ID INPUT OUTPUT [ORDINARY ORDINARY_OUT]``.
A record with the value ``boom`` raises once for the file in ``QUANYU_BOOM``.
"""

import os
import sys

from schemas.settings import load_settings
from streams.agent import batch_agent
from streams.app import create_app, run_worker
from streams.batch import Batch, Decision, Output


class Count:
    """State: key → how many records; the output carries the count after each record."""

    name = "count"

    def __init__(self, output: str) -> None:
        self.output = output

    def restore(self, topic: str, partition: int, entries: dict[bytes, bytes]) -> dict[bytes, int]:
        return {key: int(value) for key, value in entries.items()}

    def decide(self, state: dict[bytes, int], batch: Batch, now_ms: int) -> Decision:
        decision = Decision()
        changed = set()
        for key, value, offset in zip(batch.keys, batch.values, batch.offsets, strict=True):
            boom = os.environ.get("QUANYU_BOOM", "")
            if value == b"boom" and boom and not os.path.exists(boom):
                with open(boom, "w", encoding="utf-8"):
                    raise ValueError("a record that cannot be decided")
            assert key is not None
            state[key] = state.get(key, 0) + 1
            changed.add(key)
            text = b"%d/%d:%d" % (batch.partition, offset, state[key])
            decision.outputs.append(Output(self.output, key, text))
        decision.changes = [(key, b"%d" % state[key]) for key in sorted(changed)]
        return decision

    def entries(self, state: dict[bytes, int]) -> int:
        return len(state)


def main() -> None:
    app_id, source, output, *ordinary = sys.argv[1:]
    settings = load_settings()
    app = create_app(
        settings, app_id, session_timeout_s=float(os.environ.get("QUANYU_SESSION", "3"))
    )
    runs = int(os.environ.get("QUANYU_RUN", "500"))
    batch_agent(app, settings, Count(output), [source], max_records=runs)
    if ordinary:
        plain, plain_out = (
            app.topic(t, value_serializer="raw", key_serializer="raw") for t in ordinary
        )

        async def forward(stream):  # type: ignore[no-untyped-def]  # Faust's own style, for comparison
            async for event in stream.events():
                await plain_out.send(key=event.key, value=event.value)

        app.agent(plain, name="forward")(forward)
    run_worker(app)


if __name__ == "__main__":
    main()
