"""llama.cpp as the scheduler's backend: batches, the KV cache, logits."""

from __future__ import annotations

import ctypes
from collections.abc import Sequence

import numpy as np
from llama_cpp import llama_cpp as native
from numpy.typing import NDArray

from runtime.engine.backend import Chunk, Constraint, Decoded, Sampler
from runtime.engine.config import EngineConfig
from runtime.engine.llama.batch import Batch
from runtime.engine.llama.model import LoadedModel
from runtime.engine.llama.samplers import ConstrainedSampler, logits_of, make_sampler
from runtime.engine.messages import SamplingParams, TokenLogprob
from runtime.engine.prefixes import PrefixStore
from runtime.errors import EngineError

DONE, ABORTED = 0, 2
WORTH_RECALLING = 128
"""What a kept beginning must have more than the cache has, in tokens."""
SHARE_DIVISOR = 256
"""A copy moves a slot's whole stream: 1/256 of the context computes about as long as all of it copies."""


class LlamaBackend:
    """See :class:`runtime.engine.backend.Backend`. All calls but ``request_abort`` from one thread."""

    def __init__(
        self, loaded: LoadedModel, config: EngineConfig, prefixes: PrefixStore | None = None
    ) -> None:
        self.context_tokens = config.context_tokens
        self.slots = config.slots
        self.batch_tokens = config.ubatch_tokens
        self.share_minimum = max(1, config.context_tokens // SHARE_DIVISOR)
        self._context = loaded.context
        self._vocabulary = loaded.vocabulary
        self._abort_flag = loaded.abort_flag
        self._memory = native.llama_get_memory(loaded.context)
        self._batch = Batch(config.ubatch_tokens)
        self._window: int = native.llama_model_n_swa(loaded.model)
        self.rewinds = not (
            native.llama_model_is_recurrent(loaded.model) or native.llama_model_is_hybrid(loaded.model)
        )
        self.copies = self.rewinds and self._window <= 0
        self._prefixes = prefixes if self.copies else None
        self._kept: dict[int, NDArray[np.float32]] = {}
        """Rows of the last pass as they were before a grammar masked them."""
        self.piece = loaded.vocabulary.piece
        self.ends = loaded.vocabulary.ends

    def decode(self, batch: Sequence[Chunk]) -> Decoded:
        """One pass; see the protocol."""
        self._kept.clear()
        code = native.llama_decode(self._context, self._batch.fill(batch))
        if code == DONE:
            return Decoded.DONE
        if code == ABORTED:
            return Decoded.ABORTED
        raise EngineError(f"llama.cpp could not compute a batch of {len(batch)} sequences (code {code})")

    def request_abort(self, wanted: bool) -> None:
        """Set or clear the flag that llama.cpp reads between two graph nodes."""
        self._abort_flag.value = int(wanted)

    def truncate(self, sequence: int, length: int) -> int:
        """Keep the first ``length`` tokens, or none where the cache cannot go back to them."""
        if length > 0 and self.reaches(sequence, length):
            if self._held(sequence) == length:
                return length
            if native.llama_memory_seq_rm(self._memory, sequence, length, -1):
                return length
        native.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        return 0

    def share(self, source: int, target: int, length: int) -> int:
        """Copy the stream of one sequence to another; recurrent states are copied whole or not at all."""
        if length <= 0 or not self.reaches(source, length):
            return 0
        native.llama_memory_seq_cp(self._memory, source, target, -1, -1)
        return self.truncate(target, length)

    def recall(self, sequence: int, prompt: Sequence[int], held: int) -> int:
        """From the disk; see the protocol."""
        store = self._prefixes
        kept = store.longest(prompt, held + WORTH_RECALLING) if store is not None else None
        state = store.load(kept) if store is not None and kept is not None else None
        if kept is None or state is None:
            return held
        native.llama_memory_seq_rm(self._memory, sequence, -1, -1)
        buffer = np.frombuffer(state, np.uint8)
        pointer = buffer.ctypes.data_as(ctypes.POINTER(ctypes.c_uint8))
        read = native.llama_state_seq_set_data(self._context, pointer, len(buffer), sequence)
        if read and self._held(sequence) == len(kept.tokens):
            return len(kept.tokens)
        return self.truncate(sequence, 0)

    def keeps(self, head: Sequence[int]) -> bool:
        """Where there is a folder for it, and it is not there yet."""
        return self._prefixes is not None and not self._prefixes.knows(head)

    def keep(self, sequence: int, head: Sequence[int]) -> None:
        """On the disk; see the protocol."""
        if self._prefixes is None:
            return
        size = native.llama_state_seq_get_size(self._context, sequence)
        buffer = (ctypes.c_uint8 * size)()
        if native.llama_state_seq_get_data(self._context, buffer, size, sequence) == size:
            self._prefixes.keep(head, bytearray(buffer))

    def reaches(self, sequence: int, length: int) -> bool:
        """Whether all that attention would look at from position ``length`` on is still in the cache."""
        held = self._held(sequence)
        if length >= held:
            return length == held
        if not self.rewinds:
            return False
        if self._window <= 0:
            return True
        oldest: int = native.llama_memory_seq_pos_min(self._memory, sequence)
        return 0 <= oldest <= max(0, length - self._window)

    def _held(self, sequence: int) -> int:
        return int(native.llama_memory_seq_pos_max(self._memory, sequence)) + 1

    def sampler(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        ignore_end: bool,
        constraint: Constraint | None = None,
        keeps_logits: bool = False,
    ) -> Sampler:
        """A sampler in C; see ``samplers``."""
        sampler = make_sampler(
            self._context,
            self._vocabulary,
            params,
            prompt,
            context_tokens=self.context_tokens,
            ignore_end=ignore_end,
        )
        if constraint is None:
            return sampler
        kept = self._kept if keeps_logits else None
        return ConstrainedSampler(self._context, self._vocabulary.size, sampler, constraint, kept)

    def logprobs(self, row: int, token: int, count: int) -> tuple[TokenLogprob, ...]:
        """Natural-log probabilities by a softmax over the whole vocabulary, in float64."""
        kept = self._kept.get(row)
        logits = self._logits(row) if kept is None else kept
        logits = logits.astype(np.float64)
        peak = logits.max()
        logprobs = logits - (peak + np.log(np.exp(logits - peak).sum()))
        count = min(count, len(logprobs))
        likeliest = np.argpartition(-logprobs, count - 1)[:count] if count else np.empty(0, np.intp)
        ordered = likeliest[np.lexsort((likeliest, -logprobs[likeliest]))]
        return tuple(
            TokenLogprob(token=int(each), text=self.piece(int(each)), logprob=float(logprobs[each]))
            for each in (token, *ordered)
        )

    def _logits(self, row: int) -> NDArray[np.float32]:
        return logits_of(self._context, row, self._vocabulary.size)
