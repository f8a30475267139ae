"""Calibration and evaluation without a running model: made-up statistics and figures, always the same."""

from __future__ import annotations

import zlib
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path

import numpy as np

from quant.calibration.statistics import InputStatistics
from quant.calibration.text import CalibrationText
from quant.encoders.rotation import rotates
from quant.encoders.rows import EncoderMaker
from quant.evaluation.result import Evaluation, EvaluationText, TextFigures
from quant.files.source import open_source
from quant.request import QuantizeRequest, Target
from quant.steps import Calibrated, Steps

TEXTS = (CalibrationText("a", "prose", "to calibrate"), CalibrationText("b", "code", "x = 1"))
JUDGED = (EvaluationText("prose", "to judge"), EvaluationText("unseen", "by"))


def request(source: Path, out: Path, target: str | float = "q4_k", **more: object) -> QuantizeRequest:
    """A small request with both kinds of texts."""
    wanted = Target(target) if isinstance(target, str) else Target(bits_per_weight=target)
    fields: dict[str, object] = {"calibration": TEXTS, "evaluation": JUDGED, **more}
    return QuantizeRequest(source=(source,), target=wanted, out=out, tool="0.1.0", **fields)  # type: ignore[arg-type]


def stand_ins(on_call: Callable[[str], None] = lambda _name: None) -> Steps:
    """Steps that need no model; ``on_call`` hears the name of each one that really does something."""

    def calibrate(
        wanted: QuantizeRequest, _digests: Sequence[str], folder: Path, report: Callable[[float], None]
    ) -> Calibrated:
        if not folder.exists():
            on_call("calibrate")
            folder.mkdir()
        report(1.0)
        with open_source(wanted.source) as source:
            shapes = {tensor.name: (tensor.experts, tensor.columns) for tensor in source.tensors}

        def statistics(name: str) -> InputStatistics | None:
            if name == "token_embd.weight":
                return None
            return made_up(*shapes[name], seed=seed_of(name))

        inputs = {
            name: f"{experts}.{columns}.{seed_of(name)}"
            for name, (experts, columns) in shapes.items()
            if name != "token_embd.weight" and rotates(columns, columns)
        }
        return Calibrated(statistics, "5" * 64, {"prose": 100, "code": 200}, inputs)

    def evaluate(wanted: QuantizeRequest, path: Path, report: Callable[[float], None]) -> Evaluation:
        on_call("evaluate")
        assert path.stat().st_size > 0
        report(1.0)
        figures = {
            "tokens": 510,
            "chunks": 2,
            "perplexity": 12.5,
            "perplexity_stderr": 0.5,
            "original_perplexity": 12.0,
            "original_perplexity_stderr": 0.5,
            "perplexity_ratio": 1.04,
            "perplexity_ratio_stderr": 0.01,
            "kl_mean": 0.03,
            "kl_stderr": 0.002,
            "kl_median": 0.01,
            "kl_p99": 0.4,
            "kl_max": 1.0,
            "top1_agreement": 0.9,
            "top1_stderr": 0.01,
        }
        texts = tuple(
            TextFigures(name=text.name, sha256=text.sha256, **figures)  # type: ignore[arg-type]
            for text in wanted.evaluation
        )
        return Evaluation(**figures, context=512, texts=texts)  # type: ignore[arg-type]

    return Steps(
        calibrate=calibrate,
        evaluate=evaluate,
        make_encoder=lambda wanted: EncoderMaker(feedback=wanted.feedback, threads=wanted.jobs),
    )


def seed_of(name: str) -> int:
    """One of a few inputs, which tensors share as those of a layer do."""
    return zlib.crc32(name.encode()) % 3


@cache
def made_up(experts: int, columns: int, *, seed: int) -> InputStatistics:
    """Second moments of random inputs; columns differ in size by orders of magnitude."""
    random = np.random.default_rng(seed)
    sizes = np.exp(random.standard_normal(columns))
    mixing = np.eye(columns) + 0.2 * random.standard_normal((columns, columns)) / np.sqrt(columns)
    inputs = random.standard_normal((experts, 2 * columns, columns)) @ mixing * sizes
    gram = (inputs.transpose(0, 2, 1) @ inputs / (2 * columns)).astype(np.float32)
    return InputStatistics(
        tokens=np.full(experts, 2 * columns, np.int64),
        mean_square=np.ascontiguousarray(np.diagonal(gram, axis1=1, axis2=2)),
        gram=gram[:, None],
    )
