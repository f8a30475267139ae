"""Calibrating: texts through the model in a process of its own, statistics of its inputs on disk."""

from __future__ import annotations

import hashlib
import shutil
import threading
from collections.abc import Callable, Sequence
from importlib.metadata import version
from pathlib import Path

from quant.calibration.passages import make_passages
from quant.calibration.store import (
    VERSION,
    Index,
    Settings,
    Statistics,
    TextRecord,
    partial_folder,
    publish,
    reusable,
)
from quant.calibration.text import CalibrationText
from quant.errors import JobFailed, QuantError, TextTooShort
from runtime.engine.job import run_job
from runtime.engine.observation import MODULE, Observed, ObserveProgress, ObserveRequest
from runtime.errors import EngineError, JobCancelled, TooFewTokens
from runtime.gguf import GgufModel, open_model

CHUNK_TOKENS = 512


def collect(
    model: Path | Sequence[Path],
    texts: Sequence[CalibrationText],
    *,
    tokens: int,
    folder: Path,
    memory_bytes: int,
    threads: int,
    seed: int = 0,
    hessian: bool = True,
    expert_hessian: bool = False,
    chunk_tokens: int = CHUNK_TOKENS,
    model_sha256: Sequence[str] = (),
    on_progress: Callable[[float], None] = lambda fraction: None,
    stop: threading.Event | None = None,
) -> Statistics:
    """Statistics over ``tokens`` tokens, the same number from each domain, in whole chunks.

    ``folder`` is written whole or not at all; what is there already is taken if model, texts and settings are
    the same, and replaced if not. ``memory_bytes`` bounds the sums: it decides how wide the blocks of the
    Hessians are, and how many passes it takes. ``model_sha256`` of each file saves reading them for it.
    Setting ``stop`` ends the work. The same call gives the same bytes on the same machine, for any number of
    ``threads``.

    Raises GgufError for a damaged model, TextTooShort, TemplateError, DoesNotFit (disk), JobCancelled, and
    JobFailed when llama.cpp cannot run the model.
    """
    if not texts:
        raise QuantError("calibration needs at least one text")
    opened = open_model(model)
    settings = Settings(
        model_sha256=tuple(model_sha256) or file_digests(opened),
        texts=tuple(TextRecord(text.name, text.domain, text.sha256) for text in texts),
        tokens=tokens,
        chunk_tokens=chunk_tokens,
        seed=seed,
        hessian=hessian,
        expert_hessian=expert_hessian,
        memory_bytes=memory_bytes,
        engine=version("llama-cpp-python"),
    )
    known = reusable(folder, settings)
    if known is not None:
        on_progress(1.0)
        return known
    passages, template_sha256 = make_passages(texts, opened.header, tokens)
    partial = partial_folder(folder)
    try:
        observed = run_observing(
            ObserveRequest(
                model_paths=tuple(str(path) for path in opened.paths),
                passages=passages,
                folder=str(partial),
                tokens=tokens,
                chunk_tokens=chunk_tokens,
                threads=threads,
                seed=seed,
                hessian=hessian,
                expert_hessian=expert_hessian,
                memory_bytes=memory_bytes,
            ),
            on_progress,
            stop,
        )
        index = Index(
            version=VERSION,
            settings=settings,
            inputs=observed.inputs,
            unseen=observed.unseen,
            tokens=observed.tokens,
            domain_tokens=observed.domain_tokens,
            template_sha256=template_sha256,
            passes=observed.passes,
            seconds=observed.seconds,
        )
        return publish(partial, folder, index)
    except BaseException:
        shutil.rmtree(partial, ignore_errors=True)
        raise


def run_observing(
    request: ObserveRequest, on_progress: Callable[[float], None], stop: threading.Event | None
) -> Observed:
    """The job, with its failures as errors of quant."""
    try:
        return run_job(
            MODULE,
            request,
            progress=ObserveProgress,
            result=Observed,
            on_progress=lambda progress: on_progress(progress.fraction),
            stop=stop,
        )
    except TooFewTokens as error:
        raise TextTooShort(
            str(error), step="calibration", tokens=error.tokens, needed_tokens=error.needed_tokens
        ) from error
    except JobCancelled:
        raise
    except EngineError as error:
        log = getattr(error, "log", "")
        raise JobFailed(f"calibration failed: {error}", step="calibration", log=log) from error


def file_digests(model: GgufModel) -> tuple[str, ...]:
    """sha256 of each of the model's files."""
    digests = []
    for path in model.paths:
        with path.open("rb") as file:
            digests.append(hashlib.file_digest(file, "sha256").hexdigest())
    return tuple(digests)
