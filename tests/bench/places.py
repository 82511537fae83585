"""How many points and addresses one core locates, in batches, over all levels of the city."""

import numpy as np

from connectors.simulator.world import Ground
from schemas.city import load_city
from schemas.settings import Settings
from streams.intake.address import AddressBook
from tests.bench.rig import cpu_seconds

SEED = 4101
#: What the transport cuts at most.
BATCH = 4_000


def run(points: int = 100_000, addresses: int = 20_000) -> dict[str, int]:
    """Points/s into the finest grid, and addresses/s, every second as people call a place."""
    city = load_city(Settings().city)
    places = Ground(city).some(np.random.default_rng(SEED), points)
    lon, lat = np.array([place.cgcs2000 for place in places]).T
    book = AddressBook(city, city.grids.names("compound"))
    texts = [p.called if i % 2 else p.address for i, p in enumerate(places[:addresses])]

    def locate() -> None:
        for start in range(0, points, BATCH):
            city.grids.locate(lon[start : start + BATCH], lat[start : start + BATCH])

    def parse() -> None:
        for text in texts:
            book.parse(text)

    city.grids.locate(lon[:1], lat[:1])  # the layers are read when they are first asked for
    return {
        "points_per_s": round(points / cpu_seconds(locate)),
        "addresses_per_s": round(len(texts) / cpu_seconds(parse)),
    }


if __name__ == "__main__":
    print(run())
