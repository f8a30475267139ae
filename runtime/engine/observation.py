"""What the observing job is asked, and what it answers; the front imports nothing else of it."""

from __future__ import annotations

import msgspec

from runtime.engine.messages import Prompt

MODULE = "runtime.engine.observe"


class Passage(msgspec.Struct, frozen=True):
    """A text of a domain. Control tokens are read only where the prompt says so (a rendered template)."""

    domain: str
    prompt: Prompt


class ObserveRequest(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """Run the passages through a model, and sum what its matrices multiply."""

    model_paths: tuple[str, ...]
    """The GGUF, or the parts of a split one in their order; validated before."""
    passages: tuple[Passage, ...]
    folder: str
    """An empty directory that the files of :class:`ObservedInput` are written to."""
    tokens: int
    """To read in all, in whole chunks, the same number from each domain."""
    chunk_tokens: int = 512
    """A chunk is a sequence of its own, and begins as the model wants one to begin."""
    threads: int
    seed: int = 0
    hessian: bool = True
    """Keep second moments of columns with each other, not only of each column."""
    expert_hessian: bool = False
    """Also for each expert of a mixture."""
    memory_bytes: int
    """For the sums of one pass; it decides between full matrices, blocks, and several passes."""
    mapped_bytes: int = 512 << 20
    """Of the model's file that may stay in memory; not a hard limit, since pages in use come back."""


class ObserveProgress(msgspec.Struct, frozen=True, tag=True):
    """``fraction`` of the work is done, which takes ``passes`` through the texts."""

    fraction: float
    passes: int


class ObservedInput(msgspec.Struct, frozen=True, kw_only=True):
    """An input that one or more matrices share.

    ``file`` holds float32, little endian: mean squares [matrices, columns], then, where ``block`` is not 0,
    second moments [matrices, columns / block, block, block], then, for blocks of 32 and of 256 where these
    divide a row, mean squared peaks [matrices, columns / 32 or 256], then, where 32 divides a row, the
    largest magnitudes of blocks in each batch, of all matrices together [batches, columns / 32].
    """

    file: str
    sha256: str
    tensors: tuple[str, ...]
    columns: int
    block: int
    batches: int
    """Passes, each of some chunks."""
    tokens: tuple[int, ...]
    """Of each matrix: one, or one for each expert."""


class Observed(msgspec.Struct, frozen=True, kw_only=True, tag=True):
    """What was seen, and what it took."""

    inputs: tuple[ObservedInput, ...]
    unseen: tuple[str, ...]
    """Matrices of the file that no pass multiplied with: embeddings, experts that never got a token stay in
    ``inputs``."""
    tokens: int
    domain_tokens: dict[str, int]
    batch_tokens: int
    passes: int
    seconds: float
    moment_seconds: float
    """Of ``seconds``: spent on sums and moments."""
    peak_anonymous_bytes: int
    peak_mapped_bytes: int
