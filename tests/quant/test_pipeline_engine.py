"""What the pipeline writes, in llama.cpp: loaded, run, calibrated and judged for real."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from quant.allocation.recipe import KEEP
from quant.calibration.texts import builtin
from quant.certificate.keys import read_certificate
from quant.evaluation.evaluate import evaluate
from quant.evaluation.result import EvaluationText
from quant.pipeline import quantize
from quant.request import QuantizeRequest, Target
from runtime.engine.client import Engine
from runtime.engine.config import EngineConfig
from runtime.engine.messages import FinishedEvent, SamplingParams
from runtime.gguf import open_gguf
from tests.quant.source_models import Shape, write_source
from tests.quant.stand_ins import request, stand_ins
from tests.runtime.watched_model import WatchedLlama


def answer(path: Path, prompt: tuple[int, ...], tokens: int = 8) -> FinishedEvent:
    """Lets the model write ``tokens`` tokens, greedily."""
    with Engine(EngineConfig(model_paths=(str(path),), context_tokens=128, threads=1)) as engine:
        engine.start()
        generation = engine.submit(
            prompt, sampling=SamplingParams(temperature=0.0), max_tokens=tokens, ignore_eos=True
        )
        *_, last = generation
    assert isinstance(last, FinishedEvent)
    return last


@pytest.mark.parametrize(
    ("target", "shape"),
    [
        ("q4_k_m", Shape()),
        ("q2_k", Shape(tied=False)),
        ("tq2_0", Shape(hidden=512, layers=1)),
        ("q3_k", Shape(experts=4, layers=1)),
        ("iq4_nl", Shape(hidden=192, width=320, layers=1)),
    ],
    ids=str,
)
def test_the_written_file_loads_and_runs_in_llama_cpp(tmp_path: Path, target: str, shape: Shape) -> None:
    source = write_source(tmp_path / "source.gguf", shape)
    wanted = request(source, tmp_path / "out.gguf", target, calibration=(), evaluation=())
    quantize(wanted, steps=stand_ins())
    assert answer(wanted.out, (0, 5, 9, 40)).usage.output_tokens == 8


def judged(text: str) -> tuple[EvaluationText, ...]:
    return (EvaluationText("prose", text),)


def real_request(source: Path, out: Path, **more: object) -> QuantizeRequest:
    """A small calibration and a small evaluation on built-in texts."""
    prose = next(text.text for text in builtin("evaluation") if text.domain == "prose")
    wanted = QuantizeRequest(
        source=(source,),
        target=Target("q4_k"),
        out=out,
        tool="0.1.0",
        calibration=builtin("calibration"),
        calibration_tokens=2048,
        evaluation=judged(prose),
        evaluation_chunks=2,
        jobs=2,
    )
    return replace(wanted, **more)  # type: ignore[arg-type]


def test_a_model_is_calibrated_encoded_and_judged(tiny_path: Path, tmp_path: Path) -> None:
    """Four chunks of text to calibrate with take a good part of the divergence that plain rounding has."""
    plain = quantize(
        real_request(
            tiny_path, tmp_path / "plain.gguf", target=Target("q2_k"), calibration=(), calibration_tokens=0
        )
    ).certificate
    fed = quantize(real_request(tiny_path, tmp_path / "fed.gguf", target=Target("q2_k"))).certificate
    assert plain.figures is not None
    assert fed.figures is not None
    assert 0 < fed.figures.kl_mean < 0.8 * plain.figures.kl_mean
    assert {tensor.encoder for tensor in fed.tensors} == {"copied", "nearest", "feedback"}
    assert all(domain.tokens >= 512 for domain in fed.calibration)
    in_file = read_certificate(open_gguf(tmp_path / "fed.gguf"))
    assert in_file is not None
    assert in_file.figures == fed.figures


def test_a_mixture_of_the_same_bytes_is_better_than_one_format(tiny_path: Path, tmp_path: Path) -> None:
    uniform = quantize(real_request(tiny_path, tmp_path / "uniform.gguf", target=Target("q2_k"))).certificate
    mixed = quantize(
        real_request(
            tiny_path, tmp_path / "mixed.gguf", target=Target(bits_per_weight=uniform.bits_per_weight + 0.001)
        )
    ).certificate
    assert mixed.nbytes <= uniform.nbytes + 1000
    assert uniform.figures is not None
    assert mixed.figures is not None
    assert mixed.figures.kl_mean < 0.9 * uniform.figures.kl_mean


def test_the_same_request_gives_the_same_bytes_with_other_threads(tiny_path: Path, tmp_path: Path) -> None:
    first = quantize(real_request(tiny_path, tmp_path / "first.gguf", jobs=1))
    second = quantize(real_request(tiny_path, tmp_path / "second.gguf", jobs=2))
    assert first.certificate.data_sha256 == second.certificate.data_sha256
    assert first.path.read_bytes() == second.path.read_bytes()


def test_words_are_better_than_a_format_of_more_bits_and_run_as_their_weights_do(
    tiny_path: Path, tmp_path: Path
) -> None:
    """Judged with inputs of 8 bits; the same weights in F16 differ from that by those inputs alone."""
    packed = quantize(real_request(tiny_path, tmp_path / "packed.gguf", target=Target("lt2"))).certificate
    blocks = quantize(real_request(tiny_path, tmp_path / "blocks.gguf", target=Target("q2_0"))).certificate
    assert packed.figures is not None
    assert blocks.figures is not None
    assert packed.bits_per_weight < blocks.bits_per_weight
    assert packed.figures.kl_mean < blocks.figures.kl_mean
    halves = real_request(
        tmp_path / "packed.gguf", tmp_path / "halves.gguf", target=Target(KEEP), calibration=()
    )
    found = quantize(halves).certificate.figures
    assert found is not None
    assert 0 < found.kl_mean < 0.05 * packed.figures.kl_mean


def test_experts_are_packed_under_hessians_of_their_own(tmp_path: Path) -> None:
    moe = WatchedLlama(width=128, layers=1, experts=4, used=2, tied=False).write(tmp_path / "moe.gguf")
    words, blocks = (
        quantize(real_request(moe, tmp_path / f"{name}.gguf", target=Target(name))).certificate
        for name in ("lt2", "q2_0")
    )
    packed = [tensor for tensor in words.tensors if "_exps" in tensor.name]
    assert [tensor.type for tensor in packed] == ["LT2"] * 3
    assert words.figures is not None
    assert blocks.figures is not None
    assert words.figures.kl_mean < 0.8 * blocks.figures.kl_mean


def test_static_scales_are_judged_as_the_file_is_run(
    tiny_path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Q8_0 little is lost but what inputs lose."""
    prose = real_request(tiny_path, tmp_path / "none.gguf").evaluation
    static, dynamic = (
        quantize(
            real_request(
                tiny_path,
                tmp_path / f"{kind}.gguf",
                target=Target("q8_0"),
                activations=kind,
            )
        ).certificate
        for kind in ("static", "dynamic")
    )
    assert static.data_sha256 == dynamic.data_sha256
    assert 6 * 5 <= static.static_inputs < 6 * 7 + 1  # of some the steps would be too coarse
    assert static.figures is not None
    assert dynamic.figures is not None
    assert 1.5 * dynamic.figures.kl_mean < static.figures.kl_mean < 0.05
    again = evaluate(tmp_path / "static.gguf", against=tiny_path, texts=prose, chunks=2, threads=1)
    assert again.kl_mean == static.figures.kl_mean
    monkeypatch.setenv("LOCALQ_GGML", "off")
    without = evaluate(tmp_path / "static.gguf", against=tiny_path, texts=prose, chunks=2, threads=1)
    assert without.kl_mean == pytest.approx(dynamic.figures.kl_mean, rel=0.2)  # llama.cpp does not read them


@pytest.mark.model
@pytest.mark.slow
def test_a_real_model_is_quantized_and_answers(demo_path: Path, tmp_path: Path) -> None:
    wanted = real_request(demo_path, tmp_path / "demo.gguf", target=Target("q4_k"))
    certificate = quantize(wanted).certificate
    assert certificate.figures is not None
    assert certificate.source.already_quantized
    assert certificate.figures.kl_mean < 0.2
    assert certificate.figures.top1_agreement > 0.75
    assert answer(wanted.out, (1, 504, 3575, 282, 4649, 314)).usage.output_tokens == 8
