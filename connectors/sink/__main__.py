"""``python -m connectors.sink [--instance NAME]``: run the sink until SIGTERM."""

import argparse
import gc
import logging
import os
import signal
import sys

import structlog

from connectors.leave import leave, leave_in_time
from connectors.sink.runner import Sink, routes
from schemas import metrics, probes
from schemas.access import hold_kafka
from schemas.errors import QuanyuError
from schemas.settings import load_settings


def main() -> int:
    """0 after SIGTERM, 70 when a person or a restart is needed, 2 when it cannot start."""
    parser = argparse.ArgumentParser(prog="python -m connectors.sink", description=__doc__)
    parser.add_argument(
        "--instance",
        default=os.environ.get("QUANYU_INSTANCE"),
        help="name of this sink in its group, unique and stable (a StatefulSet's pod name): after "
        "a crash it takes its partitions over without waiting for the session to end",
    )
    arguments = parser.parse_args()
    try:
        settings = load_settings()
        _configure_logs(settings.log_level)
        hold_kafka(settings)
        sink = Sink(settings, routes(), instance=arguments.instance)
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: leave_in_time(sink.stop))
        metrics.describe_process(settings)
        # Who sees metrics may ask it to end.
        probes.serve(settings, "sink", stuck=sink.pulse.stuck, starting=sink.starting)
        # Rows come and go by the hundred thousand and make no cycles: looking through them for garbage
        # at Python's default rate costs several per cent of all time.
        gc.collect()
        gc.freeze()
        gc.set_threshold(200_000, 50, 100)
        return sink.run()
    except QuanyuError as error:
        print(error, file=sys.stderr)
        return 2
    except OSError as error:
        print(f"the metrics port is not free: {error}", file=sys.stderr)
        return 2


def _configure_logs(level: str) -> None:
    shared: list[structlog.typing.Processor] = [
        structlog.stdlib.add_log_level,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            processor=structlog.processors.JSONRenderer(ensure_ascii=False),
            foreign_pre_chain=shared,
        )
    )
    logging.basicConfig(level=level, handlers=[handler])
    structlog.configure(
        processors=[*shared, structlog.stdlib.ProcessorFormatter.wrap_for_formatter],
        logger_factory=structlog.stdlib.LoggerFactory(),
        wrapper_class=structlog.stdlib.BoundLogger,
    )


if __name__ == "__main__":
    leave(main())
