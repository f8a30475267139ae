"""A model that is watched: chunks of tokens in, sums over its matrices' inputs out."""

from __future__ import annotations

import ctypes
import sys
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime.engine.accumulator import Accumulator
from runtime.engine.chunks import batch_chunks
from runtime.engine.config import EngineConfig
from runtime.engine.llama.graph import check_layout
from runtime.engine.llama.model import PROGRESS_STEP, open_weights
from runtime.engine.llama.observer import Observer
from runtime.engine.llama.survey import Survey
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.engine.messages import Prompt
from runtime.engine.residency import drop
from runtime.errors import EngineError, ModelLoadFailed
from runtime.kernels import abort_callback_address

DONE, ABORTED = 0, 2
ERROR_LEVEL = 4
"""ggml's log levels from error on."""

Chunk = NDArray[np.int32]


class WatchedModel:
    """A loaded model, weights as the file has them, with room for a batch of chunks. Raises ModelLoadFailed.

    Flash attention is off and every batch but the last has the same form, so that the values do not depend
    on the number of threads.
    """

    def __init__(
        self, paths: tuple[str, ...], names: frozenset[str], *, chunk_tokens: int, threads: int
    ) -> None:
        check_layout()
        self._abort_flag = ctypes.c_int32(0)
        self._log = native.llama_log_callback(self._log_error)
        native.llama_log_set(self._log, None)
        native.llama_backend_init()
        self.path = paths[0]
        self._model = open_weights(EngineConfig(model_paths=paths), lambda fraction: None, repack=False)
        if native.llama_model_has_encoder(self._model) or not native.llama_model_has_decoder(self._model):
            raise ModelLoadFailed(
                f"{self.path} does not predict a text's next token: it cannot be calibrated; "
                "quantize it without calibration"
            )
        self.vocabulary = Vocabulary(self._model)
        self._chunk_tokens = chunk_tokens
        self._threads = threads
        self._observer = Observer(names, self._abort_flag)
        self._context = 0
        self._open_context(batch_chunks(self.vocabulary.size, chunk_tokens))

    @property
    def first_token(self) -> int | None:
        """The token that every sequence begins with, where the model wants one."""
        handle = self.vocabulary.handle
        return int(native.llama_vocab_bos(handle)) if native.llama_vocab_get_add_bos(handle) else None

    @property
    def moment_seconds(self) -> float:
        """Spent on sums and moments."""
        return self._observer.moment_seconds

    @property
    def batch_tokens(self) -> int:
        """In a full batch."""
        return self.batch_chunks * self._chunk_tokens

    def tokens(self, prompt: Prompt) -> Chunk:
        """The tokens of a prompt, without the one that every sequence begins with."""
        found = self.vocabulary.tokens(prompt)
        if found and found[0] == self.first_token:
            del found[0]
        return np.array(found, dtype=np.int32)

    def survey(self, chunks: Sequence[Chunk]) -> Survey:
        """What the graph of a batch multiplies. Where llama.cpp cuts such batches, they become smaller.

        Raises EngineError where the graph cannot be read, or multiplies with no matrix of the file.
        """
        while True:
            surveyor = self._observer.look()
            batch = chunks[: self.batch_chunks]
            self._decode(batch)
            if self._observer.error is not None:
                raise self._observer.error
            survey = surveyor.survey()
            if not survey.inputs:
                raise EngineError(
                    f"llama.cpp multiplies with no matrix of {self.path} where it could be watched: "
                    "quantize it without calibration"
                )
            if self.batch_chunks == 1 or survey.rows >= sum(map(len, batch)):
                self._forget_logits(sum(map(len, batch)))
                return survey
            self._open_context(1)

    def watch(
        self,
        survey: Survey,
        accumulators: Mapping[int, Accumulator],
        chunks: Sequence[Chunk],
        on_share: Callable[[float], None],
    ) -> None:
        """One pass of all chunks, which adds the inputs of a window to their accumulators.

        ``on_share`` gets the share of the pass that is done. Raises EngineError when llama.cpp fails.
        """
        batches = -(-len(chunks) // self.batch_chunks)
        number, shown = 0, 0.0

        def on_input(share: float) -> None:
            nonlocal shown
            done = (number + share) / batches
            if done >= min(1.0, shown + PROGRESS_STEP):
                shown = done
                on_share(done)

        self._observer.watch(survey, accumulators, on_input)
        for number in range(batches):
            self._observer.begin()
            self._decode(chunks[number * self.batch_chunks : (number + 1) * self.batch_chunks])
            self._observer.finish()
            if self._observer.error is not None:
                raise self._observer.error

    def _open_context(self, chunks: int) -> None:
        if self._context:
            native.llama_free(self._context)
        self.batch_chunks = chunks
        params = native.llama_context_default_params()
        params.n_ctx = params.n_batch = params.n_ubatch = params.n_outputs_max = self.batch_tokens
        params.n_seq_max = chunks
        params.n_threads = params.n_threads_batch = self._threads
        params.flash_attn_type = native.LLAMA_FLASH_ATTN_TYPE_DISABLED
        params.kv_unified = False
        params.swa_full = False
        params.op_offload = False
        params.offload_kqv = False
        params.no_perf = True
        params.abort_callback = native.ggml_abort_callback(abort_callback_address())
        params.abort_callback_data = ctypes.addressof(self._abort_flag)
        params.cb_eval = self._observer.callback
        context = native.llama_init_from_model(self._model, params)
        if not context:
            raise ModelLoadFailed(f"llama.cpp could not make a context of {self.batch_tokens} tokens")
        self._context = context
        self._batch = native.llama_batch_init(self.batch_tokens, 0, 1)

    def _decode(self, chunks: Sequence[Chunk]) -> None:
        """One pass with all outputs wanted: otherwise the last layer would see one token of each chunk."""
        native.llama_memory_clear(native.llama_get_memory(self._context), True)
        count = 0
        for sequence, chunk in enumerate(chunks):
            for position, token in enumerate(chunk.tolist()):
                self._batch.token[count] = token
                self._batch.pos[count] = position
                self._batch.n_seq_id[count] = 1
                self._batch.seq_id[count][0] = sequence
                self._batch.logits[count] = 1
                count += 1
        self._batch.n_tokens = count
        code = native.llama_decode(self._context, self._batch)
        if code not in (DONE, ABORTED):
            raise EngineError(f"llama.cpp could not compute a batch of {count} tokens (code {code})")

    def _forget_logits(self, rows: int) -> None:
        """Give back the pages that llama.cpp cleared for logits."""
        logits = native.llama_get_logits(self._context)
        if logits:
            address = ctypes.addressof(logits.contents)
            drop(address, address + 4 * rows * self.vocabulary.size)

    def _log_error(self, level: int, text: bytes, _: object) -> None:
        """What is worth reading behind a failure: not that a pass was ended early, as nearly all are."""
        if level >= ERROR_LEVEL and not self._abort_flag.value:
            sys.stderr.write(text.decode("utf-8", "replace"))
            sys.stderr.flush()
