"""What the scheduler asks of a model: llama.cpp behind it in life, a scripted one in tests."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import TYPE_CHECKING, Protocol

from runtime.engine.messages import SamplingParams, TokenLogprob

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Chunk:
    """Consecutive tokens of one sequence in a batch; ``wants_logits`` after the last of them."""

    sequence: int
    start: int
    tokens: Sequence[int]
    wants_logits: bool


class Decoded(Enum):
    """How a pass through the model ended."""

    DONE = "done"
    ABORTED = "aborted"
    """``request_abort`` was heard: the cache may hold a part of the batch, to be truncated away."""


class Constraint(Protocol):
    """What a grammar lets one answer be. Its backend knows how to use it; the scheduler only hands it on."""

    def allowed(self) -> NDArray[np.uint32]:
        """One bit a token: whether it may come next; bit i of word w is token 32 w + i.

        Ends of generation are allowed where the answer may end. Raises EngineError when the grammar needs
        more work than it may cost.
        """

    def accept(self, token: int) -> None:
        """``token`` was chosen. Raises EngineError where it is not allowed."""


class Sampler(Protocol):
    """One request's choice of tokens; it remembers what it chose (penalties, random state)."""

    def sample(self, row: int) -> int:
        """Choose the next token from the logits of batch row ``row`` of the last pass.

        Raises EngineError when there is nothing to choose from.
        """

    def close(self) -> None:
        """Free native memory."""


class Backend(Protocol):
    """A loaded model with a KV cache of ``slots`` sequences of ``context_tokens`` each."""

    context_tokens: int
    slots: int
    batch_tokens: int
    """The most tokens of one pass."""
    share_minimum: int
    """The shortest beginning that is cheaper to copy from another slot than to compute."""
    rewinds: bool
    """Whether a sequence can go back to an earlier token; a recurrent state cannot."""
    copies: bool
    """Whether any beginning of a sequence can be shared, however far the sequence has gone on."""

    def decode(self, batch: Sequence[Chunk]) -> Decoded:
        """One pass. The row of a chunk's logits is the index of its last token in the batch.

        Raises EngineError when the graph fails; what the sequences then hold is unknown.
        """

    def request_abort(self, wanted: bool) -> None:
        """Stop (or no longer stop) the pass under way; callable from another thread."""

    def reaches(self, sequence: int, length: int) -> bool:
        """Whether the cache can go back to the first ``length`` tokens of a sequence."""

    def recall(self, sequence: int, prompt: Sequence[int], held: int) -> int:
        """Bring a kept beginning of ``prompt`` that is longer than the ``held`` tokens which a sequence has.

        Answers how many the sequence has then: none where that went wrong.
        """

    def keeps(self, head: Sequence[int]) -> bool:
        """Whether :meth:`keep` would do anything for this beginning of a prompt."""

    def keep(self, sequence: int, head: Sequence[int]) -> None:
        """Keep the state of a sequence, which holds ``head`` and nothing else, for other processes."""

    def truncate(self, sequence: int, length: int) -> int:
        """Keep the first ``length`` tokens of a sequence; answers how many could be kept (or 0)."""

    def share(self, source: int, target: int, length: int) -> int:
        """Copy the first ``length`` tokens of ``source`` to the empty ``target``; answers how many it got."""

    def sampler(
        self,
        params: SamplingParams,
        prompt: Sequence[int],
        *,
        ignore_end: bool,
        constraint: Constraint | None = None,
        keeps_logits: bool = False,
    ) -> Sampler:
        """A sampler that has seen ``prompt``; with ``ignore_end`` no end-of-generation token is chosen.

        It chooses what ``constraint`` allows; ``keeps_logits``: :meth:`logprobs` will be asked for.
        """

    def logprobs(self, row: int, token: int, count: int) -> tuple[TokenLogprob, ...]:
        """``token`` first, then the ``count`` likeliest, before any sampling filter."""

    def piece(self, token: int, shown: Sequence[str] = ()) -> bytes:
        """The bytes of a token; empty for control tokens but those of the texts ``shown``."""

    def ends(self, token: int) -> bool:
        """Whether ``token`` ends a generation."""
