"""The C++ of block formats at the edges of memory. What it computes is tested in ``tests/quant``."""

from __future__ import annotations

import signal
import subprocess
import sys

import numpy as np
import pytest

from runtime.errors import KernelError
from runtime.kernels import packing
from runtime.kernels.packing import block_layout, dequantize_blocks, pack_blocks

TYPES = [2, 3, 6, 7, 8, 10, 11, 12, 13, 14, 20, 23, 34, 35, 41, 42]

AT_THE_EDGE = """
import ctypes, mmap, sys
import numpy as np
from runtime.kernels import packing

PAGE, PAGES = mmap.PAGESIZE, 8
libc = ctypes.CDLL(None)
libc.mprotect.argtypes = (ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int)
keep = []

def guarded(count, dtype, at_end):
    "An array of `count` that ends (or begins) at a page that faults."
    memory = mmap.mmap(-1, (PAGES + 2) * PAGE)
    keep.append(memory)
    base = ctypes.addressof(ctypes.c_char.from_buffer(memory))
    for guard in (base, base + (PAGES + 1) * PAGE):
        assert libc.mprotect(guard, PAGE, 0) == 0
    inside = np.frombuffer(memory, dtype=np.uint8, offset=PAGE, count=PAGES * PAGE)
    size = count * np.dtype(dtype).itemsize
    return (inside[inside.size - size:] if at_end else inside[:size]).view(dtype)

library = packing._library()
rng = np.random.default_rng(5)

def run(number, at_end, excess):
    layout = packing.block_layout(number)
    count = 3
    def filled(size, dtype):
        array = guarded(size, dtype, at_end)
        array[:] = rng.integers(0, 2, size)
        return array
    fields = [filled(count * layout.weights, np.uint8), filled(count, np.uint16)]
    fields.append(filled(count, np.uint16) if layout.minimum else None)
    fields.append(filled(count * layout.groups, np.int8) if layout.scales else None)
    fields.append(filled(count * layout.groups, np.uint8) if layout.minima else None)
    blocks = packing.BlocksData(*(None if field is None else field.ctypes.data for field in fields))
    data = guarded(count * layout.nbytes, np.uint8, at_end)
    values = guarded(count * layout.weights, np.float32, at_end)
    assert library.localq_pack_blocks(number, ctypes.byref(blocks), count + excess, data.ctypes.data)
    assert library.localq_dequantize_blocks(number, data.ctypes.data, count + excess, values.ctypes.data)
    shaped = data.reshape(count, -1)
    assert np.array_equal(packing.dequantize_blocks(number, shaped), values.reshape(count, -1))
"""


def run_at_the_edge(code: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", AT_THE_EDGE + code], capture_output=True, text=True, timeout=60
    )


def test_packing_stays_inside_buffers_that_touch_a_forbidden_page() -> None:
    ran = run_at_the_edge(
        f"for number in {TYPES}: run(number, True, 0); run(number, False, 0)\nprint('inside')"
    )
    assert (ran.returncode, ran.stdout) == (0, "inside\n"), ran.stderr


def test_a_block_more_than_there_is_runs_into_the_page() -> None:
    assert run_at_the_edge("run(12, True, 1)").returncode == -signal.SIGSEGV


@pytest.mark.parametrize("number", TYPES)
def test_no_blocks_are_packed_into_no_bytes(number: int) -> None:
    layout = block_layout(number)
    empty = pack_blocks(
        number,
        np.empty((0, layout.weights), np.uint8),
        np.empty(0, np.float16),
        np.empty(0, np.float16) if layout.minimum else None,
        np.empty((0, layout.groups), np.int8) if layout.scales else None,
        np.empty((0, layout.groups), np.uint8) if layout.minima else None,
    )
    assert empty.shape == (0, layout.nbytes)
    assert dequantize_blocks(number, empty).shape == (0, layout.weights)


def test_bytes_of_another_shape_or_type_are_refused() -> None:
    data = np.zeros((2, 144), np.uint8)
    wrong = (data[:, :143], data.reshape(-1), data.view(np.int8), data[::-1])
    for array in wrong:
        with pytest.raises(ValueError, match="must be contiguous uint8"):
            dequantize_blocks(12, array)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="ggml type 0 are not packed"):
        dequantize_blocks(0, data)


def test_a_library_that_is_older_than_the_bindings_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    packing._library.cache_clear()
    monkeypatch.setattr(packing, "load", object)
    with pytest.raises(KernelError, match=r"older than these bindings.*make rebuild"):
        packing.block_layout.__wrapped__(12)
    monkeypatch.undo()
    packing._library.cache_clear()
    assert block_layout(12).weights == 256
