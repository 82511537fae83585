"""Between two audits the monitor is as small as before."""

import platform

import psutil
import pytest

from deploy.monitor import give_back

BLOCKS, BYTES = 2_000, 100_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="other allocators are not asked")
def test_what_an_audit_freed_is_the_systems_again() -> None:
    process = psutil.Process()
    held = [bytearray(BYTES) for _ in range(BLOCKS)]
    most = process.memory_info().rss
    # The last one stays, so that the heap does not shrink by itself.
    del held[:-1]
    give_back()
    assert process.memory_info().rss < most - BLOCKS * BYTES // 2
