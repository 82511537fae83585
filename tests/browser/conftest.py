"""The screen that the tests of a file share."""

from collections.abc import Iterator

import pytest

from tests.browser.city_screen import Screen, city_screen


@pytest.fixture(scope="module")
def screen(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Screen]:
    """A screen of the file's own; what a test inserts stays until the file's end."""
    with city_screen(tmp_path_factory.mktemp("screen")) as made:
        yield made
