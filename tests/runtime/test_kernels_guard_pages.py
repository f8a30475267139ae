"""No kernel touches a byte outside its input: buffers between pages that fault, in a process of their own."""

from __future__ import annotations

import signal
import subprocess
import sys

import pytest

from runtime.kernels import available_isas

PREPARE = """
import ctypes, mmap, sys
import numpy as np
from runtime.kernels import Kernels

PAGE, PAGES = mmap.PAGESIZE, 40
memory = mmap.mmap(-1, (PAGES + 2) * PAGE)
base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
for guard in (base, base + (PAGES + 1) * PAGE):
    assert libc.mprotect(guard, PAGE, 0) == 0
inside = np.frombuffer(memory, dtype=np.int8, offset=PAGE, count=PAGES * PAGE)
inside[:] = np.random.default_rng(3).integers(-128, 128, inside.size)
kernels = Kernels(sys.argv[1])
"""

STAY_INSIDE = """
def at_both_ends(length, dtype):
    row = inside.view(dtype)
    return row[:length], row[row.size - length:]

for length in [*range(0, 300), 575, 1023, 1025, 4096, 32767, 32768, 32769]:
    for a in at_both_ends(length, np.int8):
        for b in at_both_ends(length, np.int8):
            assert kernels.dot_i8(a, b) == int(a.astype(np.int64) @ b.astype(np.int64))
for length in [*range(1, 300), 1023, 1024, 1025, 2047, 2048, 2049, 8193]:
    for values in at_both_ends(length, np.float32):
        assert kernels.argmax_f32(values) == (-1 if np.isnan(values).all() else np.nanargmax(values))
for length in (1, 2, 3, 16):
    for words in at_both_ends(length * 128, np.uint64):
        assert kernels.read_stream(words) == sum(words.tolist()) % 2**64
print("every byte stayed inside")
"""

STEP_OUTSIDE = """
last = inside[inside.size - 64:]
too_long = np.lib.stride_tricks.as_strided(last, shape=(65,))
kernels.dot_i8(too_long, too_long)
"""


def run(isa: str, code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", PREPARE + code, isa], capture_output=True, text=True, timeout=120
    )


@pytest.mark.parametrize("isa", available_isas())
def test_a_kernel_stays_inside_buffers_that_touch_a_forbidden_page(isa: str) -> None:
    ran = run(isa, STAY_INSIDE)
    assert (ran.returncode, ran.stdout) == (0, "every byte stayed inside\n"), ran.stderr


@pytest.mark.parametrize("isa", available_isas())
def test_a_row_said_to_be_one_byte_longer_runs_into_the_page(isa: str) -> None:
    assert run(isa, STEP_OUTSIDE).returncode == -signal.SIGSEGV
