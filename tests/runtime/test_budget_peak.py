"""The forecast against a real worker with the demo model."""

from __future__ import annotations

from pathlib import Path

import psutil
import pytest

from runtime.budget import plan_memory
from runtime.engine.client import Engine
from runtime.gguf import open_model
from runtime.hardware import this_machine
from tests.runtime.budget_fixtures import MIB, config

MOST_OVER = 0.05
MOST_OVER_BYTES = 16 * MIB
MOST_UNDER = 0.02


@pytest.mark.model
@pytest.mark.parametrize(
    "changes",
    [
        {"context_tokens": 1024},
        {"context_tokens": 1024, "mmap": False, "kv_type": "q8_0"},
        {"context_tokens": 512, "slots": 4, "ubatch_tokens": 128},
    ],
)
def test_the_workers_peak_is_as_forecast(demo_path: Path, changes: dict[str, object]) -> None:
    chosen = config(model_paths=(str(demo_path),), threads=1, **changes)
    forecast = plan_memory(open_model(demo_path), chosen, this_machine()).total
    with Engine(chosen) as engine:
        prompt = [5 + token % 1000 for token in range(chosen.context_tokens - 16)]
        running = [
            engine.submit(prompt, max_tokens=4, ignore_eos=True, cache_prompt=False)
            for _ in range(chosen.slots)
        ]
        for each in running:
            each.result()
        measured = engine.peak_memory_bytes()
    assert measured * (1 - MOST_UNDER) <= forecast
    assert forecast <= measured + max(measured * MOST_OVER, MOST_OVER_BYTES)


@pytest.mark.model
def test_nothing_of_a_packed_file_stays_mapped(demo_path: Path) -> None:
    if "Q4_1" not in this_machine().packs or not Path("/proc/self/smaps").exists():
        pytest.skip("localq's kernels do not run here, or the system does not say what is mapped")
    others = psutil.Process().children()
    with Engine(config(model_paths=(str(demo_path),), context_tokens=512, threads=1)) as engine:
        engine.submit([5, 6, 7], max_tokens=4, ignore_eos=True).result()
        started = [each for each in psutil.Process().children() if each not in others]
        maps = [found for each in started for found in each.memory_maps()]
    assert any("libllama" in each.path for each in maps)
    assert sum(each.rss for each in maps if each.path == str(demo_path)) < MIB
