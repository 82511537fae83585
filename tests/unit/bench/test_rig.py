"""The bench's own tools: what they say when a part is not there."""

from pathlib import Path

import pytest

from schemas.settings import Settings
from tests.bench.rig import process, wait_answers
from tests.conftest import Stack, free_base_port


def test_a_part_that_dies_at_its_start_is_said_with_its_last_words(tmp_path: Path) -> None:
    stack = Stack(Settings(home=tmp_path, port=free_base_port()), {})
    with (
        process(stack, "streams.worker", env={"QUANYU_CITY": "atlantis"}) as worker,
        pytest.raises(RuntimeError, match=r"streams.worker ended with exit code .*atlantis"),
    ):
        wait_answers(stack.settings.metrics_port("worker"), worker)
