"""A model that is only read: tokens of one sequence in, the logits behind them out."""

from __future__ import annotations

import ctypes
import hashlib
from collections.abc import Iterator
from typing import TypeAlias

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime.engine.config import EngineConfig
from runtime.engine.llama.model import KV_TYPES, open_weights
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.engine.messages import Prompt
from runtime.errors import EngineError, ModelLoadFailed

Logits: TypeAlias = NDArray[np.float32]
Tokens: TypeAlias = NDArray[np.int32]


class LogitModel:
    """A loaded model with room for one sequence of ``config.context_tokens``.

    Batches are cut the same way every time and flash attention is off, so that the logits do not depend on
    the number of threads; only values that the cache keeps quantized need it. At most ``slice_tokens`` rows
    of logits are in memory. Raises ModelLoadFailed.
    """

    def __init__(self, config: EngineConfig, *, slice_tokens: int, repack: bool = True) -> None:
        native.llama_log_set(native.llama_log_callback(0), None)  # llama.cpp's own: plain writes to stderr
        native.llama_backend_init()
        self.path = config.model_paths[0]
        model = open_weights(config, lambda _fraction: None, repack=repack)
        if native.llama_model_has_encoder(model) or not native.llama_model_has_decoder(model):
            raise ModelLoadFailed(f"{self.path} does not predict a text's next token: it cannot be scored")
        self._context = native.llama_init_from_model(model, _context_params(config, slice_tokens))
        if not self._context:
            raise ModelLoadFailed(
                f"llama.cpp could not make a context of {config.context_tokens} tokens for {self.path}"
            )
        self._vocabulary = Vocabulary(model)
        self.vocabulary_size = self._vocabulary.size
        self._pass_tokens = config.ubatch_tokens
        self._slice_tokens = slice_tokens
        self._batch = native.llama_batch_init(self._pass_tokens, 0, 1)

    @property
    def first_token(self) -> int | None:
        """The token that every sequence begins with, where the model wants one."""
        handle = self._vocabulary.handle
        return int(native.llama_vocab_bos(handle)) if native.llama_vocab_get_add_bos(handle) else None

    def vocabulary_digest(self) -> str:
        """sha256 over the spelling of every token."""
        digest = hashlib.sha256()
        for token in range(self.vocabulary_size):
            digest.update(native.llama_vocab_get_text(self._vocabulary.handle, token) + b"\0")
        return digest.hexdigest()

    def tokens(self, text: str) -> Tokens:
        """The tokens of a text, behind the one that every sequence begins with; none is a control token."""
        found = self._vocabulary.tokens(Prompt(text=text, add_special=True, parse_special=False))
        if native.llama_vocab_get_add_eos(self._vocabulary.handle):
            found.pop()
        return np.array(found, dtype=np.int32)

    def read(self, tokens: Tokens, first: int) -> Iterator[tuple[int, Logits]]:
        """Reads a new sequence; the logits behind the tokens from ``first`` on, in slices.

        Yields the index of a slice's first token and [slice, vocabulary], which is valid until the next one.
        Raises EngineError when llama.cpp fails.
        """
        native.llama_memory_clear(native.llama_get_memory(self._context), True)
        for begin in range(0, first, self._pass_tokens):
            self._decode(tokens, begin, min(begin + self._pass_tokens, first), wants_logits=False)
        for begin in range(first, len(tokens), self._slice_tokens):
            end = min(begin + self._slice_tokens, len(tokens))
            self._decode(tokens, begin, end, wants_logits=True)
            rows = native.llama_get_logits(self._context)
            yield begin, np.ctypeslib.as_array(rows, shape=(end - begin, self.vocabulary_size))

    def _decode(self, tokens: Tokens, begin: int, end: int, *, wants_logits: bool) -> None:
        batch, count = self._batch, end - begin
        batch.n_tokens = count
        _array(batch.token, count)[:] = tokens[begin:end]
        _array(batch.pos, count)[:] = np.arange(begin, end)
        _array(batch.logits, count)[:] = wants_logits
        _array(batch.n_seq_id, count)[:] = 1
        for index in range(count):
            batch.seq_id[index][0] = 0
        code = native.llama_decode(self._context, batch)
        if code != 0:
            raise EngineError(
                f"llama.cpp failed on tokens {begin} to {end} of a chunk of {self.path}: {code}"
            )
        native.llama_synchronize(self._context)


def _array(pointer: ctypes._Pointer[ctypes.c_int32], count: int) -> NDArray[np.generic]:
    return np.ctypeslib.as_array(pointer, shape=(count,))


def _context_params(config: EngineConfig, slice_tokens: int) -> native.llama_context_params:
    params = native.llama_context_default_params()
    params.n_ctx = config.context_tokens
    params.n_batch = params.n_ubatch = config.ubatch_tokens
    params.n_seq_max = 1
    params.n_outputs_max = params.n_outputs_max_per_seq = slice_tokens
    params.n_threads = params.n_threads_batch = config.threads
    params.type_k = params.type_v = KV_TYPES[config.kv_type]
    params.flash_attn_type = (
        native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        if config.kv_type == "f16"
        else native.LLAMA_FLASH_ATTN_TYPE_ENABLED
    )
    params.swa_full = False
    params.no_perf = True
    return params
