"""Texts as chunks of tokens: what is learned from, and what is held out to see whether it helps."""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

from quant.calibration.passages import make_passages
from quant.calibration.text import CalibrationText
from quant.errors import JobFailed, TextTooShort
from quant.evaluation.result import EvaluationText
from runtime.engine.job import run_job
from runtime.engine.messages import Prompt
from runtime.engine.observation import Passage
from runtime.engine.tokens import MODULE, Tokenized, TokenizeProgress, TokenizeRequest
from runtime.errors import EngineError, JobCancelled
from runtime.gguf import GgufModel

Chunks: TypeAlias = NDArray[np.int64]
"""[chunks, context]"""

LEAST_CHUNKS = 4
WHOLE = 1 << 22
"""Tokens: all of a text is taken, but for those of more than 256 MiB of characters."""
LEARN = ("learn from", "give more text with --data")
HOLD_OUT = ("hold out", "hold out more, or take shorter chunks")
"""What texts are for, and what to do where there is too little."""


@dataclass(frozen=True)
class TrainingData:
    """Sequences that begin as the model wants them to begin."""

    training: Chunks
    """One domain behind the other."""
    domains: dict[str, int]
    """Chunks of each domain of the training texts."""
    held_out: Chunks

    def domain_tokens(self, chunks: NDArray[np.int64]) -> dict[str, int]:
        """Of each domain, those in ``chunks``: different numbers of training chunks."""
        ends = np.cumsum(list(self.domains.values()))
        found = np.bincount(np.searchsorted(ends, chunks, side="right"), minlength=len(ends))
        context = self.training.shape[1]
        return {domain: int(count) * context for domain, count in zip(self.domains, found, strict=True)}


def read_data(
    model: GgufModel,
    training: Sequence[CalibrationText],
    held_out: Sequence[EvaluationText],
    context: int,
    scratch: Path,
    on_progress: Callable[[float], None] = lambda share: None,
    *,
    needed_tokens: int = WHOLE,
) -> TrainingData:
    """All whole chunks of both, and of very long training texts no more than excerpts to draw
    ``needed_tokens`` from. ``scratch`` is a file that is made and removed.

    Raises TextTooShort where the texts give fewer than four chunks, TemplateError, JobFailed.
    """
    passages, _ = make_passages(training, model.header, min(WHOLE, needed_tokens))
    others = tuple(Passage(text.name, Prompt(text.text, parse_special=False)) for text in held_out)
    learned = _chunks(model, passages, context, scratch, on_progress)
    judged = _chunks(model, others, context, scratch, lambda _share: None)
    for chunks, use in ((learned, LEARN), (judged, HOLD_OUT)):
        count = sum(map(len, chunks.values()))
        if count < LEAST_CHUNKS:
            raise _too_short(use, count, context)
    return TrainingData(
        np.concatenate(list(learned.values())),
        {domain: len(found) for domain, found in learned.items()},
        np.concatenate(list(judged.values())),
    )


def require_enough(
    training: Sequence[CalibrationText], held_out: Sequence[EvaluationText], context: int
) -> None:
    """Raises TextTooShort for texts that certainly give fewer than four chunks.

    A token of a plain text has a byte or more; what a template adds to conversations is not known yet.
    """
    for texts, use in ((training, LEARN), (held_out, HOLD_OUT)):
        if not any(getattr(text, "messages", ()) for text in texts):
            size = sum(len(text.text.encode("utf-8", "replace")) for text in texts)
            if size < LEAST_CHUNKS * context:
                raise _too_short(use, size // context, context)


def _too_short(use: tuple[str, str], count: int, context: int) -> TextTooShort:
    what, advice = use
    return TextTooShort(
        f"the texts to {what} give {count} chunks of {context} tokens, {LEAST_CHUNKS} are the least; "
        f"{advice}",
        step="calibration",
        tokens=count * context,
        needed_tokens=LEAST_CHUNKS * context,
    )


def _chunks(
    model: GgufModel,
    passages: Sequence[Passage],
    context: int,
    scratch: Path,
    on_progress: Callable[[float], None],
) -> dict[str, Chunks]:
    """By domain."""
    request = TokenizeRequest(model_path=str(model.paths[0]), passages=tuple(passages), file=str(scratch))
    try:
        read = run_job(
            MODULE,
            request,
            progress=TokenizeProgress,
            result=Tokenized,
            on_progress=lambda progress: on_progress(progress.done / progress.total),
        )
        tokens = np.fromfile(scratch, dtype="<i4")
    except JobCancelled:
        raise
    except EngineError as error:
        log = getattr(error, "log", "")
        raise JobFailed(f"the texts could not be read: {error}", step="calibration", log=log) from error
    finally:
        scratch.unlink(missing_ok=True)
    head = [] if read.first_token is None else [read.first_token]
    body, begin = context - len(head), 0
    found: dict[str, Chunks] = {}
    for domain, count in read.domains.items():
        whole = count // body
        stream = tokens[begin : begin + whole * body].reshape(whole, body)
        found[domain] = np.concatenate((np.tile(np.array(head, np.int64), (whole, 1)), stream), axis=1)
        begin += count
    return found


def first_round(seed: int, chunks: int, count: int) -> NDArray[np.int64]:
    """Which of ``chunks`` come at the first ``count`` places, each once, in their order."""
    return _permutation(seed, chunks, 0)[:count]


def order(seed: int, chunks: int, begin: int, count: int) -> list[int]:
    """Which chunks come at the places from ``begin`` on. Every chunk comes once before any comes again.

    Chunks are counted as they come in the first round, which is the order that they lie in.
    """
    found = []
    for place in range(begin, begin + count):
        number, at = divmod(place, chunks)
        found.append(at if number == 0 else int(_later_round(seed, chunks, number)[at]))
    return found


@functools.lru_cache(maxsize=2)
def _later_round(seed: int, chunks: int, number: int) -> NDArray[np.int64]:
    places = np.argsort(_permutation(seed, chunks, 0))  # at which of the first round a chunk comes
    found: NDArray[np.int64] = places[_permutation(seed, chunks, number)]
    return found


def _permutation(seed: int, chunks: int, number: int) -> NDArray[np.int64]:
    return np.random.default_rng([seed, number]).permutation(chunks)
