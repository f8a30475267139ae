"""What a quantization has others do: calibrating, judging and rounding. Tests put their own in."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from quant.calibration.imatrix import ImatrixFile, read_again
from quant.calibration.statistics import InputStatistics
from quant.calibration.store import Statistics
from quant.encoders.rotation import rotates
from quant.encoders.rows import EncoderMaker, MakeEncoder
from quant.errors import QuantError
from quant.evaluation.result import Evaluation
from quant.request import QuantizeRequest
from runtime.gguf import GgufModel

LEAST_TOKENS: Final = 128
"""Of each expert, for words: a Hessian of fewer says nothing of most directions, and they rely on it."""


@dataclass(frozen=True)
class Calibrated:
    """What calibration measured."""

    statistics: Callable[[str], InputStatistics | None]
    """By the tensor's name; None for one whose input was not seen."""
    sha256: str
    """Of all statistics, or of the importance matrix that they come from."""
    domain_tokens: Mapping[str, int]
    inputs: Mapping[str, str] = field(default_factory=dict)
    """Names of matrices whose inputs can be rotated -> those of the inputs, which several may share."""


@dataclass(frozen=True)
class Steps:
    """The parts of a run that load a model, and the one that rounds."""

    calibrate: Callable[[QuantizeRequest, Sequence[str], Path, Callable[[float], None]], Calibrated]
    """(request, the source's digests, folder, on_progress) -> statistics; those that an earlier run left in
    the folder are taken."""
    evaluate: Callable[[QuantizeRequest, Path, Callable[[float], None]], Evaluation]
    """(request, the finished file, on_progress) -> figures against the source."""
    make_encoder: Callable[[QuantizeRequest], MakeEncoder]


def real_steps() -> Steps:
    """The parts that the program uses."""
    return Steps(calibrate=_calibrate, evaluate=_evaluate, make_encoder=_make_encoder)


def _calibrate(
    request: QuantizeRequest, digests: Sequence[str], folder: Path, on_progress: Callable[[float], None]
) -> Calibrated:
    from quant.calibration.collect import collect

    measured = collect(
        request.source,
        request.calibration,
        tokens=request.calibration_tokens,
        folder=folder,
        memory_bytes=request.moment_bytes,
        threads=request.jobs,
        seed=request.seed,
        hessian=request.feedback,
        expert_hessian=request.calibrates_experts,
        chunk_tokens=request.context_tokens,
        model_sha256=digests,
        on_progress=on_progress,
    )
    return from_statistics(measured)


def from_statistics(measured: Statistics) -> Calibrated:
    """What calibration left on disk, read tensor by tensor."""
    files = {name: found.file for found in measured.index.inputs for name in found.tensors}
    last: dict[str, InputStatistics] = {}

    def statistics(name: str) -> InputStatistics | None:
        """The same object for all matrices that share an input, so that its factors are made once."""
        file = files.get(name)
        if file is None:
            return None
        if file not in last:
            last.clear()
            last[file] = measured[name]
        return last[file]

    inputs = {
        name: found.file
        for found in measured.index.inputs
        if rotates(found.columns, found.block) and min(found.tokens) >= LEAST_TOKENS
        for name in found.tensors
    }
    return Calibrated(statistics, measured.digest, measured.domain_tokens, inputs)


def from_imatrix(file: ImatrixFile, model: GgufModel) -> Calibrated:
    """What llama.cpp measured of ``model``.

    Raises GgufError for a file that was changed since it was looked into, QuantError for another model's.
    """
    fitted = read_again(file).fitted(model)
    if not fitted:
        raise QuantError(
            f"{file.path} holds nothing of a matrix of {model.header.path.name}: it belongs to another model"
        )
    return Calibrated(fitted.get, file.sha256, {})


def _evaluate(request: QuantizeRequest, path: Path, on_progress: Callable[[float], None]) -> Evaluation:
    from quant.evaluation.evaluate import evaluate

    return evaluate(
        path,
        against=request.source,
        texts=request.evaluation,
        context=request.context_tokens,
        chunks=request.evaluation_chunks,
        threads=request.jobs,
        memory_bytes=request.memory_bytes,
        on_progress=on_progress,
    )


def _make_encoder(request: QuantizeRequest) -> MakeEncoder:
    return EncoderMaker(feedback=request.feedback, threads=request.jobs)
