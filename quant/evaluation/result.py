"""What an evaluation says: perplexity, divergence from the original, agreement, each with a standard error.

Scores of neighbouring tokens hang together: they share a context and a subject. So a standard error comes
from the spread of *chunk* means, not of tokens (clustered standard errors: Miller 2024, arXiv:2411.00640),
and within each text, whose share of the whole is given (stratified sampling: Cochran 1977, chapter 5):

    se^2 = sum over texts (n_t / n)^2 s_t^2 / n_t,  n_t chunks of text t, s_t^2 the variance of their means.

It says how far the figures would move with other chunks of the same kinds of text; of other kinds it says
nothing. Perplexity's comes from that of its logarithm by the delta method.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from runtime.engine.score_messages import DivergenceKind

F64: TypeAlias = NDArray[np.float64]

LEAST_CHUNKS = 2
"""Of a text: fewer have no spread."""
MOST_NATS = 600.0
"""A model that is as good as broken gets exp(600) for its perplexity, a number that fits everywhere."""


@dataclass(frozen=True, slots=True)
class EvaluationText:
    """A text that a model is judged on; ``name`` is its domain, or a file's name."""

    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Of the UTF-8 bytes."""
        return sha256(self.text.encode("utf-8", "replace")).hexdigest()


@dataclass(frozen=True, slots=True)
class Figures:
    """A model on some chunks of text. ``..._stderr`` are standard errors; divergences are in nats.

    What compares it with an original is None without one.
    """

    tokens: int
    """Scored tokens."""
    chunks: int
    perplexity: float
    perplexity_stderr: float
    original_perplexity: float | None = None
    original_perplexity_stderr: float | None = None
    perplexity_ratio: float | None = None
    """The model's over the original's; its error is smaller than either's, for both read the same tokens."""
    perplexity_ratio_stderr: float | None = None
    kl_mean: float | None = None
    """Mean of KL(original || model) over the scored tokens."""
    kl_stderr: float | None = None
    kl_median: float | None = None
    kl_p99: float | None = None
    kl_max: float | None = None
    top1_agreement: float | None = None
    """Share of tokens where both hold the same one for the likeliest, 0 to 1."""
    top1_stderr: float | None = None


@dataclass(frozen=True, slots=True)
class TextFigures(Figures):
    """The figures of one text."""

    name: str = ""
    sha256: str = ""


@dataclass(frozen=True, slots=True)
class Evaluation(Figures):
    """The figures of all texts together, and of each."""

    context: int = 0
    """Tokens of a chunk; its second half is scored."""
    kl_kind: DivergenceKind = "full"
    """``"top-256"`` is a lower bound, where two models do not fit into memory side by side: it is over the
    original's 256 likeliest tokens at each position, and all others as one. Of SmolLM2-135M in 4 bits it is
    9 % below the full one; figures of different kinds are not to be compared."""
    texts: tuple[TextFigures, ...] = ()


@dataclass(frozen=True, slots=True)
class Compared:
    """What an original adds to the scores of tokens, each [chunks, positions]."""

    log_probability: F64
    """The original's, of the text's next token."""
    divergence: F64
    agrees: F64
    """1 where both hold the same token for the likeliest, else 0."""


@dataclass(frozen=True, slots=True)
class Scores:
    """Scores of tokens, [chunks, positions], text after text."""

    text_chunks: tuple[int, ...]
    """Chunks of each text."""
    log_probability: F64
    compared: Compared | None = None

    def of_text(self, index: int) -> Scores:
        """Those of one text."""
        begin = sum(self.text_chunks[:index])
        part = slice(begin, begin + self.text_chunks[index])
        both = self.compared
        mine = both and Compared(both.log_probability[part], both.divergence[part], both.agrees[part])
        return Scores((self.text_chunks[index],), self.log_probability[part], mine)


def figures(scores: Scores) -> dict[str, Any]:
    """The fields of :class:`Figures` that the scores give. Each text has two chunks or more."""
    surprise, chunks = -scores.log_probability, scores.text_chunks
    found: dict[str, Any] = {"tokens": surprise.size, "chunks": len(surprise)}
    found["perplexity"], found["perplexity_stderr"] = _exponential(surprise, chunks)
    both = scores.compared
    if both is None:
        return found
    found["original_perplexity"], found["original_perplexity_stderr"] = _exponential(
        -both.log_probability, chunks
    )
    found["perplexity_ratio"], found["perplexity_ratio_stderr"] = _exponential(
        surprise + both.log_probability, chunks
    )
    found["kl_mean"] = float(both.divergence.mean())
    found["kl_stderr"] = standard_error(both.divergence, chunks)
    found["kl_median"] = float(np.median(both.divergence))
    found["kl_p99"] = float(np.percentile(both.divergence, 99))
    found["kl_max"] = float(both.divergence.max())
    found["top1_agreement"] = float(both.agrees.mean())
    found["top1_stderr"] = standard_error(both.agrees, chunks)
    return found


def standard_error(scores: F64, text_chunks: Sequence[int]) -> float:
    """Of the mean of ``scores`` [chunks, positions]; NaN where a text has fewer than two chunks."""
    means = scores.mean(axis=1)
    squared, begin = 0.0, 0
    for count in text_chunks:
        if count < LEAST_CHUNKS:
            return math.nan
        variance = float(means[begin : begin + count].var(ddof=1))
        squared += (count / len(means)) ** 2 * variance / count
        begin += count
    return math.sqrt(squared)


def _exponential(logarithms: F64, text_chunks: Sequence[int]) -> tuple[float, float]:
    """exp of the mean, and its standard error by the delta method."""
    value = math.exp(min(float(logarithms.mean()), MOST_NATS))
    return value, value * standard_error(logarithms, text_chunks)
