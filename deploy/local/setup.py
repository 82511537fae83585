"""``python -m deploy.local.setup``: the city's grids, topics and tables up to date, at each start."""

import sys

from deploy import city_build
from schemas import tables, topics
from schemas.city import load_city
from schemas.errors import QuanyuError
from schemas.settings import load_settings


def main() -> None:
    """Build and apply what is not yet; exit 2 with one sentence when that cannot be done."""
    settings = load_settings()
    try:
        city = load_city(settings.city)
        if city.synthesis:
            built = city_build.build(city, say=lambda line: print(line, flush=True))
            print(f"grids of {city.name}: {built.folder}", flush=True)
        for line in (*topics.apply(settings), *tables.apply(settings)):
            print(line)
    except QuanyuError as error:
        print(error, file=sys.stderr)
        raise SystemExit(2) from None


if __name__ == "__main__":
    main()
