"""How good a model is: perplexity, and KL divergence and agreement with the original that it was made of.

    evaluation = evaluate(Path("q4.gguf"), against=Path("f16.gguf"), texts=[EvaluationText("prose", text)])
    print(evaluation.kl_mean, evaluation.kl_stderr)

Texts are cut as llama.cpp's perplexity tool cuts them (``runtime.engine.score_chunks``), so figures can be
compared with its own. The models run in a process of their own.
"""

from __future__ import annotations

import tempfile
import threading
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import TypeAlias

import msgspec
import numpy as np
from numpy.typing import NDArray

from quant.calibration.text import CHARACTERS_A_TOKEN
from quant.errors import JobFailed, TextTooShort
from quant.evaluation.memory import fit_together, plan_scoring
from quant.evaluation.result import (
    LEAST_CHUNKS,
    Compared,
    Evaluation,
    EvaluationText,
    Scores,
    TextFigures,
    figures,
)
from runtime.engine.config import EngineConfig, KvType
from runtime.engine.job import run_job
from runtime.engine.score_messages import Scored, ScoreProgress, ScoreRequest, ScoreText
from runtime.errors import (
    EngineError,
    InvalidRequest,
    JobCancelled,
    ModelLoadFailed,
    TooFewTokens,
    VocabulariesDiffer,
    WorkerDied,
)
from runtime.gguf import open_model
from runtime.hardware.machine import this_machine

__all__ = ["Evaluation", "EvaluationText", "TextFigures", "evaluate"]

JOB = "runtime.engine.score"
LEAST_CONTEXT = 16
DEFAULT_CONTEXT = 512
Run: TypeAlias = Callable[[ScoreRequest, Callable[[float], None]], Scored]


def evaluate(
    model: Path | Sequence[Path],
    *,
    against: Path | Sequence[Path] | None = None,
    texts: Sequence[EvaluationText],
    context: int = DEFAULT_CONTEXT,
    chunks: int | None = None,
    threads: int = 0,
    memory_bytes: int | None = None,
    kv_type: KvType = "f16",
    on_progress: Callable[[float], None] = lambda fraction: None,
    stop: threading.Event | None = None,
) -> Evaluation:
    """Score ``model`` on ``texts``, and compare it with the original ``against``; each a file or its parts.

    ``chunks`` in all are taken, as evenly from the beginning of every text as their lengths allow; None takes
    all. The same texts, files and llama.cpp give the same figures for any ``threads`` (0 = one for each
    physical core). Where both models do not fit into ``memory_bytes`` (None = what is available now), they
    are loaded one after the other, and ``kl_kind`` is ``"top-256"``. ``kv_type`` is how ``model`` keeps keys
    and values; the original always keeps them in f16. ``on_progress`` hears the share done.

    Raises GgufError for a file that is no sound model, DoesNotFit where not even one model fits,
    ModelLoadFailed, VocabulariesDiffer, TextTooShort, InvalidRequest for a context or number of chunks out of
    range, JobCancelled after ``stop``, and JobFailed.
    """
    _check(context, chunks, texts)
    machine = this_machine()
    available = machine.memory.available if memory_bytes is None else memory_bytes
    plans = [plan_scoring(open_model(model), context, threads, machine, kv_type)]
    if against is not None:
        plans.append(plan_scoring(open_model(against), context, threads, machine))
    slice_tokens = min(plan.slice_tokens for plan in plans)
    needed = None if chunks is None else chunks * context * CHARACTERS_A_TOKEN
    request = ScoreRequest(
        config=plans[0].config,
        texts=tuple(ScoreText(text.name, text.text[:needed]) for text in texts),
        chunks=chunks,
        slice_tokens=slice_tokens,
    )
    run = partial(_run, stop=stop)
    both_fit = fit_together(plans, available)
    if len(plans) == 1:
        scored = run(request, on_progress)
    elif both_fit:
        scored = run(msgspec.structs.replace(request, original=plans[1].config), on_progress)
    else:
        scored = _one_after_the_other(request, plans[1].config, run, on_progress)
    return _evaluation(scored, texts, context)


def _check(context: int, chunks: int | None, texts: Sequence[EvaluationText]) -> None:
    if not texts:
        raise InvalidRequest("an evaluation needs at least one text", field="texts")
    if context < LEAST_CONTEXT:
        raise InvalidRequest(
            f"a context of {context} tokens is too short to judge a model in: {LEAST_CONTEXT} are the least",
            field="context",
        )
    least = LEAST_CHUNKS * len(texts)
    if chunks is not None and chunks < least:
        raise InvalidRequest(
            f"{chunks} chunks of {len(texts)} texts have no error bars: {least} are the least, "
            f"{LEAST_CHUNKS} of each text",
            field="chunks",
        )


def _one_after_the_other(
    request: ScoreRequest, original: EngineConfig, run: Run, on_progress: Callable[[float], None]
) -> Scored:
    """The original's likeliest tokens go to a scratch file, which the judged model is compared with."""
    with tempfile.TemporaryDirectory(prefix="localq-evaluate-") as folder:
        record = str(Path(folder) / "original")
        change = msgspec.structs.replace
        run(change(request, config=original, record=record), lambda done: on_progress(done / 2))
        return run(change(request, recorded=record), lambda done: on_progress(0.5 + done / 2))


def _run(
    request: ScoreRequest, on_progress: Callable[[float], None], *, stop: threading.Event | None
) -> Scored:
    """One scoring job; the runtime's errors become those that :func:`evaluate` promises."""
    try:
        return run_job(
            JOB,
            request,
            progress=ScoreProgress,
            result=Scored,
            on_progress=lambda progress: on_progress(progress.done / progress.chunks),
            stop=stop,
        )
    except TooFewTokens as error:
        raise TextTooShort(
            str(error), step="evaluation", tokens=error.tokens, needed_tokens=error.needed_tokens
        ) from error
    except (ModelLoadFailed, VocabulariesDiffer, JobCancelled):
        raise
    except WorkerDied as error:
        raise JobFailed(f"the evaluation failed: {error}", step="evaluation", log=error.log) from error
    except EngineError as error:
        raise JobFailed(f"the evaluation failed: {error}", step="evaluation") from error


def _evaluation(scored: Scored, texts: Sequence[EvaluationText], context: int) -> Evaluation:
    shape = sum(scored.text_chunks), scored.positions

    def read(data: bytes) -> NDArray[np.float64]:
        return np.frombuffer(data, dtype=np.float64).reshape(shape)

    compared = None
    if scored.divergence:
        agrees = np.frombuffer(scored.agrees, dtype=np.uint8).reshape(shape).astype(np.float64)
        compared = Compared(read(scored.original_log_probability), read(scored.divergence), agrees)
    scores = Scores(scored.text_chunks, read(scored.log_probability), compared)
    by_text = tuple(
        TextFigures(name=text.name, sha256=text.sha256, **figures(scores.of_text(index)))
        for index, text in enumerate(texts)
    )
    return Evaluation(context=context, kl_kind=scored.kind, texts=by_text, **figures(scores))
