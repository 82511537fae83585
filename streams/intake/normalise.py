"""Which instants can be when a matter occurred. Pure; what cannot be read is said, not guessed."""

from datetime import UTC, datetime

from schemas.instants import Instant

#: A report cannot be about what lies further ahead than a clock may be wrong.
FUTURE_LIMIT_MS = 24 * 3600 * 1000
#: Before this a date is a default of some software (1900, 1970, 2000), not an observation.
EARLIEST_MS = int(datetime(2001, 1, 1, tzinfo=UTC).timestamp() * 1000)


def plausible(instant: Instant, received_ms: int) -> bool:
    """Whether an instant can be when something occurred that was received at ``received_ms``."""
    return EARLIEST_MS <= instant.ms <= received_ms + FUTURE_LIMIT_MS
