"""Vectors of texts, by a context of their own beside the one that answers.

A decoder's text is read in short pieces, whose token vectors are summed here: llama.cpp reserves a row of
logits for every token whose vector it gives. An encoder, or a reranker, has to see the whole text in one
pass, and pools by itself.
"""

from __future__ import annotations

import ctypes
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime.engine.backend import Chunk
from runtime.engine.config import EngineConfig
from runtime.engine.llama.batch import Batch
from runtime.engine.messages import Pooling
from runtime.errors import EngineError, InvalidRequest, PromptTooLong

PIECE_TOKENS = 64
MAX_WHOLE_TOKENS = 2048
ENCODERS = frozenset(
    {
        "bert", "nomic-bert", "nomic-bert-moe", "neo-bert", "modern-bert", "eurobert", "jina-bert-v2",
        "jina-bert-v3", "gemma-embedding", "t5encoder",
    }
)  # fmt: skip
"""Architectures that predict no next token."""
POOLINGS: dict[int, Pooling] = {
    native.LLAMA_POOLING_TYPE_MEAN: "mean",
    native.LLAMA_POOLING_TYPE_CLS: "cls",
    native.LLAMA_POOLING_TYPE_LAST: "last",
    native.LLAMA_POOLING_TYPE_RANK: "rank",
}


@dataclass(slots=True)
class Reading:
    """A text of which ``done`` tokens have been read; ``total`` is the sum of their vectors."""

    tokens: Sequence[int]
    done: int
    total: NDArray[np.float64]


class Embedder:
    """Makes vectors with a loaded model; the context is made by the first use.

    One text at a time: :meth:`begin`, then :meth:`step` until it gives the vector. ``whole``: a text is read
    in one pass. From one thread.
    """

    def __init__(self, model: int, config: EngineConfig, pooling: Pooling, *, whole: bool) -> None:
        self.size: int = (
            int(native.llama_model_n_cls_out(model))
            if pooling == "rank"
            else int(native.llama_model_n_embd_out(model))
        )
        self.limit = embedding_tokens(config, int(native.llama_model_n_ctx_train(model)), whole=whole)
        self.pooling = pooling
        self._model = model
        self._threads = config.threads
        self._whole = whole
        self._context: int | None = None
        self._piece = self.limit if whole else min(PIECE_TOKENS, self.limit)
        self._batch: Batch | None = None
        self._reading: Reading | None = None

    def begin(self, tokens: Sequence[int]) -> None:
        """Take a text. Raises PromptTooLong, InvalidRequest for no tokens, EngineError for want of memory."""
        if not tokens:
            raise InvalidRequest("the text has no tokens; give at least one", field="input")
        if len(tokens) > self.limit:
            raise PromptTooLong(
                f"the text has {len(tokens)} tokens, and {self.limit} can be made one vector; shorten it",
                prompt_tokens=len(tokens),
                context_tokens=self.limit,
            )
        if self._context is None:
            self._context = self._open()
            self._batch = Batch(self._piece)
        memory = native.llama_get_memory(self._context)
        if memory:
            native.llama_memory_clear(memory, True)
        self._reading = Reading(tokens, 0, np.zeros(self.size))

    def step(self) -> NDArray[np.float32] | None:
        """Read the next piece; the vector when it was the last. Raises EngineError."""
        reading, context, batch = self._reading, self._context, self._batch
        if reading is None or context is None or batch is None:
            raise EngineError("no text was given")
        piece = reading.tokens[reading.done : reading.done + self._piece]
        code = native.llama_decode(
            context, batch.fill([Chunk(0, reading.done, piece, wants_logits=True)], every=True)
        )
        if code != 0:
            self._reading = None
            raise EngineError(
                f"llama.cpp could not read a text of {len(reading.tokens)} tokens (code {code})"
            )
        reading.done += len(piece)
        if self._whole:
            pooled = native.llama_get_embeddings_seq(context, 0)
        elif self.pooling == "mean":
            for index in range(len(piece)):
                reading.total += self._row(native.llama_get_embeddings_ith(context, index))
        if reading.done < len(reading.tokens):
            return None
        self._reading = None
        if self._whole:
            vector = self._row(pooled).copy()
        elif self.pooling == "mean":
            vector = (reading.total / len(reading.tokens)).astype(np.float32)
        else:
            index = len(piece) - 1 if self.pooling == "last" else 0
            vector = self._row(native.llama_get_embeddings_ith(context, index)).copy()
        if not np.isfinite(vector).all():
            raise EngineError("the model gave no numbers (its vectors are NaN); verify its file")
        return vector

    def _row(self, pointer: ctypes._Pointer[ctypes.c_float]) -> NDArray[np.float32]:
        if not pointer:
            raise EngineError("llama.cpp gave no vector for the text")
        return np.ctypeslib.as_array(pointer, shape=(self.size,))

    def _open(self) -> int:
        params = native.llama_context_default_params()
        params.n_ctx = self.limit
        params.n_batch = params.n_ubatch = self._piece
        params.n_seq_max = 1
        params.n_outputs_max = params.n_outputs_max_per_seq = self._piece
        params.n_threads = params.n_threads_batch = self._threads
        params.embeddings = True
        params.pooling_type = pooling_type(self.pooling) if self._whole else native.LLAMA_POOLING_TYPE_NONE
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_AUTO
        params.no_perf = True
        context = native.llama_init_from_model(self._model, params)
        if not context:
            raise EngineError(
                f"llama.cpp could not make a context of {self.limit} tokens for vectors; "
                "the system may be out of memory"
            )
        return int(context)


def pooling_of(metadata: str) -> Pooling:
    """How a model pools, by the number in its file; mean where it does not say."""
    return POOLINGS.get(int(metadata), "mean") if metadata.lstrip("-").isdigit() else "mean"


def pooling_type(pooling: Pooling) -> int:
    """llama.cpp's number of a way to pool."""
    return next(number for number, name in POOLINGS.items() if name == pooling)


def embedding_tokens(config: EngineConfig, trained: int, *, whole: bool) -> int:
    """The longest text that becomes a vector."""
    longest = min(config.context_tokens, trained or config.context_tokens)
    return min(longest, MAX_WHOLE_TOKENS) if whole else longest
