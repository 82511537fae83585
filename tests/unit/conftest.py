"""What unit tests share: the tiny city and the codec of the repository's own schemas."""

import pytest

from schemas.city import CityPack
from schemas.codec import Codec
from schemas.registry import SchemaIds, load_lock, load_schemas
from tests.unit.tiny_city import tiny_city


@pytest.fixture(scope="session")
def city(tmp_path_factory: pytest.TempPathFactory) -> CityPack:
    """The tiny city."""
    return tiny_city(tmp_path_factory.mktemp("city"))


@pytest.fixture(scope="session")
def codec() -> Codec:
    """The codec with the ids of the lock file."""
    return Codec(SchemaIds(load_schemas(), {v: number for v, (number, _) in load_lock().items()}))
