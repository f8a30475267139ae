"""The read-bandwidth meter: what it reads, and that it reads memory and not a cache."""

from __future__ import annotations

import subprocess
import sys

import numpy as np
import pytest
from numpy.typing import NDArray

from runtime.kernels import Kernels, available_isas, read_bandwidth

MIB = 1 << 20


def aligned_words(count: int) -> NDArray[np.uint64]:
    memory = np.random.default_rng(count).integers(0, 1 << 64, count + 8, dtype=np.uint64)
    start = -memory.ctypes.data % 64 // 8
    return memory[start : start + count]


@pytest.mark.parametrize("isa", available_isas())
@pytest.mark.parametrize("kibibytes", [1, 3, 256])
def test_every_word_is_read_exactly_once(isa: str, kibibytes: int) -> None:
    words = aligned_words(kibibytes * 128)
    assert Kernels(isa).read_stream(words) == sum(words.tolist()) % 2**64


@pytest.mark.parametrize("isa", available_isas())
def test_a_stream_that_the_wide_loads_could_not_take_is_refused(isa: str) -> None:
    with pytest.raises(ValueError, match="align to 64"):
        Kernels(isa).read_stream(aligned_words(129)[1:])
    with pytest.raises(ValueError, match="fill 1024"):
        Kernels(isa).read_stream(aligned_words(127))


@pytest.mark.parametrize("threads", [1, 2])
def test_a_measurement_is_plausible_for_memory(threads: int) -> None:
    rate = read_bandwidth(threads, seconds=0.1)
    assert 0.2e9 < rate < 4e12


def test_the_buffer_is_in_memory_while_it_is_read_and_returned_after() -> None:
    code = """
from runtime.kernels import active_isa, read_bandwidth

def kibibytes(name):
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith(name))

active_isa()
before = kibibytes("VmRSS")
read_bandwidth(2, total_bytes=128 << 20, seconds=0.05)
print(kibibytes("VmHWM") - before, kibibytes("VmRSS") - before)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    peak_growth, growth_left = map(int, shown.stdout.split())
    assert 127 * 1024 < peak_growth < 136 * 1024
    assert growth_left < 4 * 1024


def test_memory_that_cannot_be_mapped_is_an_error_that_names_it() -> None:
    code = """
import resource
from runtime.errors import KernelError
from runtime.kernels import active_isa, read_bandwidth
active_isa()
resource.setrlimit(resource.RLIMIT_AS, (1 << 30, 1 << 30))
try:
    read_bandwidth(2, total_bytes=1 << 32, seconds=0.05)
except KernelError as error:
    print(error)
"""
    shown = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60
    )
    assert "over 4294967296 bytes: cannot map that memory; ask for less" in shown.stdout


@pytest.mark.parametrize(
    ("threads", "total_bytes", "seconds"),
    [
        (0, 256 * MIB, 0.1),
        (5000, 256 * MIB, 0.1),
        (1, 1000, 0.1),
        (1, 256 * MIB, 0.0),
        (1, 256 * MIB, float("nan")),
    ],
)
def test_arguments_out_of_range_are_refused(threads: int, total_bytes: int, seconds: float) -> None:
    with pytest.raises(ValueError, match=f"threads={threads}, total_bytes={total_bytes}, seconds={seconds}"):
        read_bandwidth(threads, total_bytes=total_bytes, seconds=seconds)
