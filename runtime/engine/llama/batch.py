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
        self._tokens = np.zeros(capacity, np.int32)
        self._positions = np.zeros(capacity, np.int32)
        self._sequences = np.zeros(capacity, np.int32)
        self._wants_logits = np.zeros(capacity, np.int8)
        self._ones = np.ones(capacity, np.int32)
        step = self._sequences.itemsize
        base = self._sequences.ctypes.data
        self._sequence_pointers = (ctypes.POINTER(native.llama_seq_id) * capacity)(
            *(
                ctypes.cast(base + step * index, ctypes.POINTER(native.llama_seq_id))
                for index in range(capacity)
            )
        )
        self._struct = native.llama_batch(
            0,
            self._tokens.ctypes.data_as(ctypes.POINTER(native.llama_token)),
            None,
            self._positions.ctypes.data_as(ctypes.POINTER(native.llama_pos)),
            self._ones.ctypes.data_as(ctypes.POINTER(ctypes.c_int32)),
            self._sequence_pointers,
            self._wants_logits.ctypes.data_as(ctypes.POINTER(ctypes.c_int8)),
        )

    def fill(self, chunks: Sequence[Chunk]) -> native.llama_batch:
        """Lay the chunks one after the other; the struct is valid until the next call."""
        begin = 0
        for chunk in chunks:
            count = len(chunk.tokens)
            end = begin + count
            self._tokens[begin:end] = chunk.tokens
            self._positions[begin:end] = np.arange(chunk.start, chunk.start + count)
            self._sequences[begin:end] = chunk.sequence
            self._wants_logits[begin:end] = 0
            self._wants_logits[end - 1] = chunk.wants_logits
            begin = end
        self._struct.n_tokens = begin
        return self._struct
