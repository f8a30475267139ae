"""The plan against llama.cpp itself: 22 kinds of models, laid out by llama.cpp without their weights."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from runtime.budget.compute import compute_size, output_size
from runtime.budget.kv import cache_size
from runtime.budget.shape import read_shape
from runtime.engine.config import EngineConfig, KvType
from runtime.gguf import open_gguf
from tests.runtime.budget_models import ZOO

MIB = 1 << 20
REPOSITORY = Path(__file__).resolve().parents[2]
CONFIGS: tuple[tuple[int, int, KvType, int], ...] = (
    (4096, 1, "f16", 512),
    (4096, 3, "f16", 512),
    (8192, 1, "q8_0", 256),
    (1000, 2, "q4_0", 128),
)
MOST_OVER = 0.35
LEAST_OVER_BYTES = 8 * MIB
"""A graph of a few MiB may be overestimated by more than its share."""

Allocations = dict[tuple[str, int], dict[str, float]]


@pytest.fixture(scope="module")
def files(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("zoo")
    return {name: model.write(folder / f"{number}.gguf") for number, (name, model) in enumerate(ZOO.items())}


@pytest.fixture(scope="module")
def allocations(files: dict[str, Path]) -> Allocations:
    """(model, number of its configuration) -> MiB that llama.cpp reserves."""
    cases = [(name, number) for name in ZOO for number in range(len(CONFIGS))]
    arguments = [f"{files[name]}:{':'.join(str(part) for part in CONFIGS[number])}" for name, number in cases]
    ran = subprocess.run(
        [sys.executable, "-m", "tests.runtime.budget_allocations", *arguments],
        capture_output=True,
        text=True,
        timeout=240,
        cwd=REPOSITORY,
        check=False,
    )
    lines = [line for line in ran.stdout.splitlines() if line.startswith("{")]
    if ran.returncode != 0:
        pytest.fail(f"llama.cpp stopped at {cases[len(lines)]}: {ran.stderr[-2000:]}")
    return {case: json.loads(line) for case, line in zip(cases, lines, strict=True)}


def config_of(number: int) -> EngineConfig:
    context_tokens, slots, kv_type, batch = CONFIGS[number]
    return EngineConfig(
        model_paths=("zoo",),
        context_tokens=context_tokens,
        slots=slots,
        kv_type=kv_type,
        ubatch_tokens=batch,
        threads=1,
    )


@pytest.mark.parametrize("number", range(len(CONFIGS)))
@pytest.mark.parametrize("name", ZOO)
class TestAgainstLlama:
    def test_the_cache_is_what_llama_allocates(
        self, name: str, number: int, files: dict[str, Path], allocations: Allocations
    ) -> None:
        planned = cache_size(read_shape(open_gguf(files[name])), config_of(number)).bytes / MIB
        assert planned == pytest.approx(allocations[name, number]["cache"], abs=0.02)

    def test_the_compute_buffer_is_never_below_and_not_far_above(
        self, name: str, number: int, files: dict[str, Path], allocations: Allocations
    ) -> None:
        shape, config = read_shape(open_gguf(files[name])), config_of(number)
        planned = compute_size(shape, config, cache_size(shape, config), 1).graph
        reserved = allocations[name, number]["compute"] * MIB
        assert reserved <= planned <= max(reserved * (1 + MOST_OVER), reserved + LEAST_OVER_BYTES)

    def test_the_output_buffer_is_what_llama_allocates(
        self, name: str, number: int, files: dict[str, Path], allocations: Allocations
    ) -> None:
        shape, config = read_shape(open_gguf(files[name])), config_of(number)
        assert output_size(shape, config) / MIB == pytest.approx(
            allocations[name, number]["output"], abs=0.02
        )
