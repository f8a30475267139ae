"""Dropping pages of mapped files: they go, and come back with the same bytes."""

from __future__ import annotations

import mmap
import os
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from runtime.engine.residency import Residency, drop, mappings, resident_bytes

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux says what is resident")
SIZE = 32 << 20


@pytest.fixture
def mapped(tmp_path: Path) -> Iterator[tuple[Path, mmap.mmap]]:
    path = tmp_path / "weights"
    path.write_bytes(os.urandom(4096) * (SIZE // 4096))
    with path.open("rb") as file, mmap.mmap(file.fileno(), 0, mmap.MAP_SHARED, mmap.PROT_READ) as memory:
        yield path, memory


def touch(memory: mmap.mmap) -> int:
    return sum(memory[::4096])


def test_dropped_pages_are_gone_and_come_back(mapped: tuple[Path, mmap.mmap]) -> None:
    path, memory = mapped
    total, content = touch(memory), memory[:8192]
    before = resident_bytes()[1]
    ranges = list(mappings(frozenset([os.path.realpath(path)])))
    assert sum(end - begin for begin, end in ranges) == SIZE
    for begin, end in ranges:
        drop(begin, end)
    assert before - resident_bytes()[1] > SIZE // 2
    assert (touch(memory), memory[:8192]) == (total, content)


def test_other_mappings_are_left_alone(mapped: tuple[Path, mmap.mmap]) -> None:
    path, memory = mapped
    touch(memory)
    assert list(mappings(frozenset([str(path) + "-other"]))) == []


def test_a_process_is_kept_below_its_bound(mapped: tuple[Path, mmap.mmap]) -> None:
    path, memory = mapped
    with Residency([str(path)], 0) as residency:
        end = time.monotonic() + 5
        touch(memory)
        before = resident_bytes()[1]
        while before - resident_bytes()[1] < SIZE // 2 and time.monotonic() < end:
            time.sleep(0.02)
        assert before - resident_bytes()[1] > SIZE // 2
    assert residency.peak_anonymous_bytes > 0


def test_what_fits_is_left_alone(mapped: tuple[Path, mmap.mmap]) -> None:
    path, memory = mapped
    with Residency([str(path)], 1 << 40) as residency:
        touch(memory)
        before = resident_bytes()[1]
        time.sleep(0.2)
        assert before - resident_bytes()[1] < SIZE // 8
    assert residency.peak_mapped_bytes >= SIZE
