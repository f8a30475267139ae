"""What a run will take, known before it: enough, and not absurdly much."""

from __future__ import annotations

import tracemalloc
from dataclasses import replace
from pathlib import Path

import pytest

from quant.allocation.recipe import Override
from quant.calibration.imatrix import ImatrixFile
from quant.files.source import open_source
from quant.pipeline import quantize
from quant.preflight import PROCESS_BYTES, WEIGHT_BYTES, needed_memory, sum_bytes, written_bytes
from quant.request import QuantizeRequest, Target
from runtime.gguf import open_gguf
from tests.quant.source_models import Shape, write_source
from tests.quant.stand_ins import request, stand_ins


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


def needed(source: Path, wanted: QuantizeRequest) -> int:
    with open_source(source) as opened:
        return needed_memory(opened, wanted)


@pytest.mark.parametrize("jobs", [1, 3])
def test_the_memory_is_enough_and_not_ten_times_as_much(tmp_path: Path, jobs: int) -> None:
    source = write_source(tmp_path / "wide.gguf", Shape(hidden=1536, width=1536, layers=1))
    wanted = request(source, tmp_path / "out.gguf", jobs=jobs, evaluation=())
    quantize(wanted, steps=stand_ins())  # once, so that what stand-ins keep is there
    tracemalloc.start()
    try:
        quantize(replace(wanted, replace=True), steps=stand_ins())
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < needed(source, wanted) - PROCESS_BYTES < 10 * peak


def test_every_job_takes_a_chunk_and_feedback_its_moments(source: Path, tmp_path: Path) -> None:
    wanted = request(source, tmp_path / "out.gguf", calibration=())
    chunk = (1 << 21) * WEIGHT_BYTES
    assert needed(source, wanted) == PROCESS_BYTES + 2 * chunk
    assert needed(source, replace(wanted, jobs=5)) == PROCESS_BYTES + 6 * chunk
    fed = request(source, tmp_path / "out.gguf")
    assert needed(source, fed) == needed(source, wanted) + 3 * 4 * 256 * 256
    assert needed(source, replace(fed, feedback=False)) == needed(source, wanted)
    matrix = ImatrixFile(Path("m.gguf"), 1000, "0" * 64, 1, ())
    assert needed(source, replace(wanted, imatrix=matrix)) == needed(source, wanted) + 2000


def test_sums_are_those_of_all_inputs_within_what_they_may_take(source: Path, tmp_path: Path) -> None:
    wanted = request(source, tmp_path / "out.gguf")
    with open_source(source) as opened:
        assert sum_bytes(opened, wanted) == 15 * 256 * (8 + 4 * 256)
        assert sum_bytes(opened, replace(wanted, moment_bytes=1000)) == 1000


def test_experts_have_squares_alone(tmp_path: Path) -> None:
    path = write_source(tmp_path / "experts.gguf", Shape(experts=3, layers=1))
    with open_source(path) as opened:
        found = sum_bytes(opened, request(path, tmp_path / "out.gguf"))
    assert found == 5 * 256 * (8 + 4 * 256) + 3 * 3 * 256 * 8


@pytest.mark.parametrize(
    "target", [Target("q4_k_m"), Target(bits_per_weight=4.5), Target(size_bytes=450_000)]
)
def test_what_will_be_written_is_known_before(source: Path, tmp_path: Path, target: Target) -> None:
    out = tmp_path / "out.gguf"
    wanted = replace(
        request(source, out, calibration=(), overrides=(Override("ffn_up", "q8_0"),)), target=target
    )
    with open_source(source) as opened:
        foreseen = written_bytes(opened, wanted)
    certificate = quantize(wanted, steps=stand_ins()).certificate
    if target.mixture is not None:
        assert foreseen == certificate.nbytes == sum(tensor.nbytes for tensor in open_gguf(out).tensors)
    else:
        assert certificate.nbytes <= foreseen < 1.1 * certificate.nbytes
