"""The observing job: texts through a model, sums over what its matrices multiply into files.

Run as ``python -m runtime.engine.observe FD`` by :func:`runtime.engine.job.run_job`.
"""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from runtime.engine.accumulator import Accumulator, sums_bytes
from runtime.engine.child import Report, serve_job
from runtime.engine.chunks import draw_chunks
from runtime.engine.llama.observing import Chunk, WatchedModel
from runtime.engine.llama.survey import Input, Survey
from runtime.engine.moment_plan import InputShape, MomentPlan, plan_moments
from runtime.engine.observation import Observed, ObservedInput, ObserveProgress, ObserveRequest
from runtime.engine.residency import Residency
from runtime.errors import DoesNotFit, EngineError, InvalidRequest
from runtime.gguf import open_model
from runtime.units import format_bytes

LEAST_CHUNK_TOKENS = 2


def observe(request: ObserveRequest, report: Report) -> Observed:
    """Load, read the texts, plan, pass through the texts once for each window of inputs, write.

    Raises ModelLoadFailed, TooFewTokens, InvalidRequest, EngineError.
    """
    started = time.perf_counter()
    if min(request.tokens, request.threads) < 1 or not request.passages:
        raise InvalidRequest("calibration needs texts, tokens and threads", field="tokens")
    if request.chunk_tokens < LEAST_CHUNK_TOKENS:
        raise InvalidRequest(
            f"chunks of {request.chunk_tokens} tokens cannot be read: {LEAST_CHUNK_TOKENS} are the least, "
            "one of which a model may want in front",
            field="chunk_tokens",
        )
    matrices = frozenset(
        tensor.name for tensor in open_model(request.model_paths).tensors if len(tensor.shape) > 1
    )
    with Residency(request.model_paths, request.mapped_bytes) as residency:
        model = WatchedModel(
            request.model_paths, matrices, chunk_tokens=request.chunk_tokens, threads=request.threads
        )
        drawn = draw(model, request)
        chunks = [chunk for domain in drawn.values() for chunk in domain]
        survey = model.survey(chunks)
        plan = plan_moments(
            [InputShape(found.columns, found.matrices) for found in survey.inputs],
            request.memory_bytes,
            hessian=request.hessian,
            expert_hessian=request.expert_hessian,
        )
        require_room(request.folder, survey, plan, -(-len(chunks) // model.batch_chunks))
        passes = len(plan.windows)
        inputs: list[ObservedInput] = []
        for number, window in enumerate(plan.windows):

            def progress(share: float, number: int = number) -> None:
                report(ObserveProgress(fraction=(number + share) / passes, passes=passes))

            progress(0.0)
            inputs += observe_window(model, survey, window, plan.blocks, chunks, request, progress)
    seen = {name for found in inputs for name in found.tensors}
    return Observed(
        inputs=tuple(inputs),
        unseen=tuple(sorted(matrices - seen)),
        tokens=sum(map(len, chunks)),
        domain_tokens={domain: sum(map(len, part)) for domain, part in drawn.items()},
        batch_tokens=model.batch_tokens,
        passes=passes,
        seconds=time.perf_counter() - started,
        moment_seconds=model.moment_seconds,
        peak_anonymous_bytes=residency.peak_anonymous_bytes,
        peak_mapped_bytes=residency.peak_mapped_bytes,
    )


def require_room(folder: str, survey: Survey, plan: MomentPlan, batches: int) -> None:
    """Raises DoesNotFit, with both numbers, where the files would not fit on the disk."""
    needed = sum(
        sums_bytes(found.matrices, found.columns, block, batches)
        for found, block in zip(survey.inputs, plan.blocks, strict=True)
    )
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise DoesNotFit(
            f"the statistics take {format_bytes(needed)} on the disk of {folder}, of which "
            f"{format_bytes(free)} are free; make room, or calibrate in less memory: they become smaller",
            needed_bytes=needed,
            available_bytes=free,
        )


def draw(model: WatchedModel, request: ObserveRequest) -> dict[str, list[Chunk]]:
    """The chunks of each domain, in the order in which the domains first appear."""
    streams: dict[str, list[Chunk]] = {}
    for passage in request.passages:
        streams.setdefault(passage.domain, []).append(model.tokens(passage.prompt))
    return draw_chunks(
        {domain: np.concatenate(parts) for domain, parts in streams.items()},
        -(-request.tokens // request.chunk_tokens),
        request.chunk_tokens,
        first=model.first_token,
        seed=request.seed,
    )


def observe_window(
    model: WatchedModel,
    survey: Survey,
    window: range,
    blocks: tuple[int, ...],
    chunks: list[Chunk],
    request: ObserveRequest,
    progress: Callable[[float], None],
) -> list[ObservedInput]:
    """One pass; its sums are written and forgotten."""
    accumulators = {
        number: Accumulator(
            survey.inputs[number].columns, survey.inputs[number].matrices, blocks[number], request.threads
        )
        for number in window
    }
    model.watch(survey, accumulators, chunks, progress)
    return [
        write_input(
            survey.inputs[number], accumulators.pop(number), f"{number:04}.f32", blocks[number], request
        )
        for number in window
    ]


def write_input(
    found: Input, sums: Accumulator, name: str, block: int, request: ObserveRequest
) -> ObservedInput:
    """One file. Raises EngineError for an input that is not finite."""
    if not sums.finite:
        raise EngineError(
            f"the input of {found.tensors[0]} is not finite: the model overflows on these texts, or a tensor "
            "before it is damaged"
        )
    tokens = tuple(int(count) for count in sums.tokens)
    batches = len(sums.extremes)
    digest = sums.write(Path(request.folder) / name)
    return ObservedInput(
        file=name,
        sha256=digest,
        tensors=tuple(found.tensors),
        columns=found.columns,
        block=block,
        batches=batches,
        tokens=tokens,
    )


if __name__ == "__main__":
    serve_job(int(sys.argv[1]), ObserveRequest, observe)
