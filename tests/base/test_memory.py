"""Blocks that are freed stay with the process, where its C library lets it choose."""

import subprocess
import sys
from types import SimpleNamespace

import pytest

from xmoe.base import memory

MEASURE = """
import resource, numpy
from xmoe.base.memory import keep_blocks
kept = keep_blocks() if {keep} else None
for _ in range(50):
    numpy.ones(6 << 20, numpy.float32)
print(kept, resource.getrusage(resource.RUSAGE_SELF).ru_minflt)
"""


def count_faults(keep):
    ran = subprocess.run(
        [sys.executable, "-c", MEASURE.format(keep=keep)],
        env={"MALLOC_MMAP_THRESHOLD_": str(1 << 20)},  # so that glibc never changes its mind
        capture_output=True,
        text=True,
        check=True,
    )
    kept, faults = ran.stdout.split()
    return kept, int(faults)


@pytest.mark.skipif(not memory.keep_blocks(), reason="needs the memory of glibc")
def test_blocks_that_are_kept_are_not_fetched_anew():
    given_back, kept = count_faults(False), count_faults(True)
    assert kept[0] == "True"
    assert given_back[1] > 3 * kept[1]


@pytest.mark.parametrize(
    ("platform", "library"), [("darwin", SimpleNamespace()), ("linux", SimpleNamespace())]
)
def test_another_library_is_left_alone(platform, library, monkeypatch):
    monkeypatch.setattr(memory.sys, "platform", platform)
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    assert memory.keep_blocks.__wrapped__() is False


def test_a_library_that_refuses_is_told_of(monkeypatch):
    asked = []
    library = SimpleNamespace(mallopt=lambda what, size: asked.append((what, size)) or 0)
    monkeypatch.setattr(memory.sys, "platform", "linux")
    monkeypatch.setattr(memory.ctypes, "CDLL", lambda _: library)
    assert memory.keep_blocks.__wrapped__() is False
    assert asked == [(-3, memory.KEPT_BLOCK_BYTES), (-1, memory.KEPT_BYTES)]
