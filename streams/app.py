"""The Faust app: fails fast, reads committed records, leaves topics to topics.yaml."""

import asyncio
import os
import threading
from typing import Any

import faust
from faust.auth import SASLCredentials, SSLCredentials

from schemas.access import kafka_tls, kafka_user
from schemas.probes import Pulse
from schemas.settings import Settings
from streams.ledger import Ledger, fail_fast
from streams.transport import SCHEME, Limits

APP_ID = "quanyu-streams"
#: After SIGTERM: finish or abandon the batch at hand, leave the group.
STOP_LIMIT_S = 9.0
#: An event loop that did not turn for so long will not; a batch holds it for a second at most.
STUCK_S = 60.0


class FailFastApp(faust.App):
    """A Faust app that dies on an agent's exception.

    Faust acknowledges the message whose agent raised and goes on with the next: the batch would be
    lost. The process ends instead, and what is not committed is read again.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        #: Topics whose messages are batches, and how large those may become.
        self.batch_topics: dict[str, Limits] = {}
        #: The ledgers of its batch agents.
        self.ledgers: list[Ledger[Any]] = []
        self.pulse = Pulse(STUCK_S)
        super().__init__(*args, **kwargs)

    async def on_first_start(self) -> None:
        """Begin to prove that the event loop turns."""
        self.add_future(self._beat())
        await super().on_first_start()

    async def _beat(self) -> None:
        while not self.should_stop:
            self.pulse.beat()
            await asyncio.sleep(1.0)

    async def _on_agent_error(self, agent: Any, exc: BaseException) -> None:
        fail_fast("agent_failed", agent=str(agent.name), error=repr(exc), exc_info=exc)


def credentials(settings: Settings) -> SASLCredentials | SSLCredentials | None:
    """What Faust's own clients prove themselves with; :class:`QuanyuError` names a setting at fault."""
    context, user = kafka_tls(settings), kafka_user(settings)
    if user is not None:
        return SASLCredentials(
            username=user[0], password=user[1], ssl_context=context,
            mechanism=settings.kafka_sasl_mechanism,
        )  # fmt: skip
    return SSLCredentials(context) if context else None


def create_app(
    settings: Settings, app_id: str = APP_ID, session_timeout_s: float = 10.0
) -> FailFastApp:
    """An app without tables, web server or topic declarations of its own.

    ``session_timeout_s`` bounds how long the partitions of a killed worker wait for a new owner; with
    ``QUANYU_INSTANCE`` set, a restarted worker is the same static member and waits for nothing.
    """
    return FailFastApp(
        app_id,
        broker=f"{SCHEME}://{settings.bootstrap}",
        broker_consumer=f"{SCHEME}://{settings.bootstrap}",
        broker_producer=f"aiokafka://{settings.bootstrap}",
        broker_credentials=credentials(settings),
        consumer_group_instance_id=os.environ.get("QUANYU_INSTANCE"),
        broker_session_timeout=session_timeout_s,
        broker_heartbeat_interval=session_timeout_s / 4,
        broker_request_timeout=max(30.0, session_timeout_s + 5.0),
        # A position of ours passes no unfinished work; Faust's committed offset is only a hint for
        # where to fetch from after a restart.
        broker_commit_interval=1.0,
        # Messages are batches of up to 4 MB: a long queue of them would only hold memory.
        stream_buffer_maxsize=8,
        consumer_auto_offset_reset="earliest",
        consumer_max_fetch_size=8 * 1024 * 1024,
        topic_allow_declare=False,
        topic_disable_leader=True,
        web_enabled=False,
        web_tables_enabled=False,
        table_standby_replicas=0,
        processing_guarantee="at_least_once",
        store="memory://",
        datadir=str(settings.home / "faust"),
    )


class BoundedWorker(faust.Worker):
    """A worker whose stop is bounded: what is not committed by then is read again."""

    def _on_sigterm(self) -> None:
        timer = threading.Timer(STOP_LIMIT_S, os._exit, args=(0,))
        timer.daemon = True
        timer.start()
        super()._on_sigterm()


def run_worker(app: FailFastApp) -> None:
    """Run until SIGTERM, then leave the group and exit 0 within ``STOP_LIMIT_S``."""
    BoundedWorker(
        app, loglevel="WARNING", redirect_stdouts=False, logging_config=_quiet()
    ).execute_from_commandline()


def _quiet() -> dict[str, Any]:
    """Faust's own logging stays off the console but for warnings; ours is structlog's."""
    return {
        "version": 1,
        "disable_existing_loggers": False,
        "formatters": {"plain": {"format": "%(asctime)s %(levelname)s %(name)s %(message)s"}},
        "handlers": {"out": {"class": "logging.StreamHandler", "formatter": "plain"}},
        "root": {"level": "WARNING", "handlers": ["out"]},
    }
