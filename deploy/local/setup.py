"""``python -m deploy.local.setup``: bring topics and tables up to date, once at each start."""

import sys

from schemas import tables, topics
from schemas.errors import QuanyuError
from schemas.settings import load_settings


def main() -> None:
    """Apply both; exit 2 with one sentence when that cannot be done."""
    settings = load_settings()
    try:
        for line in (*topics.apply(settings), *tables.apply(settings)):
            print(line)
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
