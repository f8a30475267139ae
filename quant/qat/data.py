"""Texts as chunks of tokens: what is learned from, and what is held out to see whether it helps."""

from __future__ import annotations

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


@dataclass(frozen=True)
class TrainingData:
    """Sequences that begin as the model wants them to begin."""

    training: Chunks
    domain_tokens: dict[str, int]
    """Of the training texts."""
    held_out: Chunks


def read_data(
    model: GgufModel,
    training: Sequence[CalibrationText],
    held_out: Sequence[EvaluationText],
    context: int,
    scratch: Path,
    on_progress: Callable[[float], None] = lambda share: None,
) -> TrainingData:
    """All whole chunks of both. ``scratch`` is a file that is made and removed.

    Raises TextTooShort where the texts give fewer than four chunks, TemplateError, JobFailed.
    """
    passages, _ = make_passages(training, model.header, WHOLE)
    others = tuple(Passage(text.name, Prompt(text.text, parse_special=False)) for text in held_out)
    learned = _chunks(model, passages, context, scratch, on_progress)
    judged = _chunks(model, others, context, scratch, lambda _share: None)
    for chunks, what in ((learned, "learn from"), (judged, "hold out")):
        count = sum(map(len, chunks.values()))
        if count < LEAST_CHUNKS:
            raise _too_short(what, count, context)
    return TrainingData(
        np.concatenate(list(learned.values())),
        {domain: found.size for domain, found in learned.items()},
        np.concatenate(list(judged.values())),
    )


def require_enough(
    training: Sequence[CalibrationText], held_out: Sequence[EvaluationText], context: int
) -> None:
    """Raises TextTooShort for texts that certainly give fewer than four chunks.

    A token of a plain text has a byte or more; what a template adds to conversations is not known yet.
    """
    for texts, what in ((training, "learn from"), (held_out, "hold out")):
        if not any(getattr(text, "messages", ()) for text in texts):
            size = sum(len(text.text.encode("utf-8", "replace")) for text in texts)
            if size < LEAST_CHUNKS * context:
                raise _too_short(what, size // context, context)


def _too_short(what: str, count: int, context: int) -> TextTooShort:
    return TextTooShort(
        f"the texts to {what} give {count} chunks of {context} tokens, {LEAST_CHUNKS} are the least; "
        "give more text with --data",
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
        tokens = np.fromfile(scratch, dtype="<i4").astype(np.int64)
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


def order(seed: int, chunks: int, count: int) -> NDArray[np.int64]:
    """[count]: which chunk comes when. Every chunk comes once before any comes again."""
    rounds = -(-count // chunks)
    orders = [np.random.default_rng([seed, number]).permutation(chunks) for number in range(rounds)]
    return np.concatenate(orders)[:count]
