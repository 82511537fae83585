"""Peers of the bench: one that cannot be installed is named, and nothing else ends."""

from pathlib import Path

import pytest

from tests.bench.peers import environment


def test_a_peer_that_does_not_install_is_refused_with_the_reason(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("QUANYU_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(environment, "HERE", tmp_path)
    # pip refuses this before it asks anybody: it has no hash.
    (tmp_path / "nobody.lock").write_text("nobody==1.0\n", encoding="utf-8")
    for _ in range(2):  # nor does a half-made environment count as complete
        with pytest.raises(environment.NotInstalled, match="nobody"):
            environment.python_of("nobody")
