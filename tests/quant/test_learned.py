from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path

import pytest

from quant.allocation.fit import Fit, plan_fit
from quant.allocation.learned import FILE_NAME, Learned, keep_learned, read_learned
from quant.allocation.planner import Planner
from tests.quant.test_planner import model
from tests.runtime.budget_fixtures import MIB, machine


def test_a_run_counts_for_half(tmp_path: Path) -> None:
    learned = Learned().with_run(nats=1.44, peak=1.0, speed=0.81)
    assert learned.nats == pytest.approx(1.2)
    assert learned.speed == pytest.approx(0.9)
    assert learned.peak == 1.0
    keep_learned(tmp_path, "llama", learned)
    keep_learned(tmp_path, "gemma3", Learned(peak=1.1))
    assert read_learned(tmp_path, "llama") == learned
    assert read_learned(tmp_path, "qwen3") == Learned()


@pytest.mark.parametrize("ratio", [0.0, -1.0, math.inf, math.nan, None])
def test_what_is_no_ratio_teaches_nothing(ratio: float | None) -> None:
    assert Learned().with_run(nats=ratio) == Learned()


def test_one_strange_run_does_not_spoil_the_next_plans() -> None:
    assert Learned().with_run(nats=1e9).nats == 2.0
    assert Learned().with_run(speed=1e-9).speed == 0.5


@pytest.mark.parametrize("raw", [b"", b"[]", b'{"llama": {"nats": 7}}', b"\xff"])
def test_a_damaged_file_corrects_nothing(tmp_path: Path, raw: bytes) -> None:
    (tmp_path / FILE_NAME).write_bytes(raw)
    assert read_learned(tmp_path, "llama") == Learned()


def test_what_took_too_much_is_given_less_the_next_time() -> None:
    plan = plan_fit(model(), Fit(context=2048, learned=Learned(peak=1.1)), machine(220 * MIB))
    assert plan.memory.total <= 200 * MIB


def test_a_divergence_that_was_foreseen_too_small_is_foreseen_larger() -> None:
    fit = Fit(context=2048, kv_type="f16", prefer="quality")
    plain = plan_fit(model(), fit, machine(110 * MIB))
    taught = plan_fit(model(), replace(fit, learned=Learned(nats=1.5)), machine(110 * MIB))
    assert taught.weight_nats == pytest.approx(1.5 * plain.weight_nats, rel=0.02)
    assert isinstance(Planner(model(), machine(110 * MIB)).best(), type(plain))
