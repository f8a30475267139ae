"""llama.cpp's batch, filled from chunks without a Python loop over tokens."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as native

from runtime.engine.backend import Chunk


class Batch:
    """Arrays for up to ``capacity`` tokens, one sequence each; reused for every pass."""

    def __init__(self, capacity: int) -> None:
        self._token_slots = (ctypes.c_int32 * capacity)()
        self._position_slots = (ctypes.c_int32 * capacity)()
        self._sequence_slots = (ctypes.c_int32 * capacity)()
        self._logits_slots = (ctypes.c_int8 * capacity)()
        # Two views of the same memory: NumPy fills a long chunk fast, ctypes a single token.
        self._tokens = np.ctypeslib.as_array(self._token_slots)
        self._positions = np.ctypeslib.as_array(self._position_slots)
        self._sequences = np.ctypeslib.as_array(self._sequence_slots)
        self._wants_logits = np.ctypeslib.as_array(self._logits_slots)
        self._ones = (ctypes.c_int32 * capacity)(*[1] * capacity)
        step, base = ctypes.sizeof(ctypes.c_int32), ctypes.addressof(self._sequence_slots)
        pointer = ctypes.POINTER(native.llama_seq_id)
        self._sequence_pointers = (pointer * capacity)(
            *(ctypes.cast(base + step * index, pointer) for index in range(capacity))
        )
        self._struct = native.llama_batch(
            0,
            ctypes.cast(self._token_slots, ctypes.POINTER(native.llama_token)),
            None,
            ctypes.cast(self._position_slots, ctypes.POINTER(native.llama_pos)),
            ctypes.cast(self._ones, ctypes.POINTER(ctypes.c_int32)),
            self._sequence_pointers,
            self._logits_slots,
        )

    def fill(self, chunks: Sequence[Chunk], *, every: bool = False) -> native.llama_batch:
        """Lay the chunks one after the other; the struct is valid until the next call.

        ``every`` token has an output, not only the last of a chunk that wants it.
        """
        begin = 0
        for chunk in chunks:
            count = len(chunk.tokens)
            last = begin + count - 1
            if count == 1:
                self._token_slots[begin] = chunk.tokens[0]
                self._position_slots[begin] = chunk.start
                self._sequence_slots[begin] = chunk.sequence
            else:
                self._tokens[begin : last + 1] = chunk.tokens
                self._positions[begin : last + 1] = np.arange(chunk.start, chunk.start + count)
                self._sequences[begin : last + 1] = chunk.sequence
                self._wants_logits[begin:last] = every
            self._logits_slots[last] = chunk.wants_logits
            begin += count
        self._struct.n_tokens = begin
        return self._struct
