"""Client settings that every Kafka client of quanyu shares."""

from schemas.access import Config, kafka_options
from schemas.settings import Settings

#: A dead letter is the refused record, which may be as large as its topic takes (8 MiB), and the headers
#: that say why: one that did not fit could never be committed and would stop its partition for good.
DEAD_LETTER_BYTES = 9 * 1024 * 1024

#: The Java default, so that a key lands on the same partition whichever client wrote it:
#: the exact-duplicate state of a raw topic lives with the partition of its key.
PARTITIONER = "murmur2_random"


def producer_config(settings: Settings) -> Config:
    """Durable and idempotent: a delivery report means that every in-sync replica has the record."""
    return {
        "bootstrap.servers": settings.bootstrap,
        **kafka_options(settings),
        "acks": "all",
        "enable.idempotence": True,
        "partitioner": PARTITIONER,
        "compression.type": "lz4",
        "linger.ms": 5,
        "message.max.bytes": 8 * 1024 * 1024,
    }


def consumer_config(settings: Settings, group: str) -> Config:
    """Committed records only, offsets under the caller's control."""
    return {
        "bootstrap.servers": settings.bootstrap,
        **kafka_options(settings),
        "group.id": group,
        "isolation.level": "read_committed",
        "enable.auto.commit": False,
        "enable.auto.offset.store": False,
        "auto.offset.reset": "earliest",
        "partition.assignment.strategy": "cooperative-sticky",
        "fetch.message.max.bytes": 8 * 1024 * 1024,
        # With 100,000 records waiting in its queue a client would not look again for a whole second.
        "fetch.queue.backoff.ms": 50,
    }


def admin_config(settings: Settings) -> Config:
    """For AdminClient."""
    # Errors come back as exceptions; the client's own lines on stderr would only repeat them.
    return {"bootstrap.servers": settings.bootstrap, **kafka_options(settings), "log_level": 0}
