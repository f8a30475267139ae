"""Context, cache and weights in one budget; models are headers, machines are numbers."""

from __future__ import annotations

import itertools

import pytest

from quant.allocation.forecast import forecast
from quant.allocation.joint import CACHE_NATS, JointPlan, Model, Planner, planned_header
from quant.allocation.measure import Measured
from quant.formats.registry import BY_NAME
from runtime.budget import best_mmap, plan_memory
from runtime.gguf import GgufHeader
from tests.runtime.budget_fixtures import AVX2, GIB, MIB, dense_tensors, header, machine

BUDGETS = [MIB * size for size in (*range(95, 150, 5), 180, 240, 400)]


def model(**hyper: int) -> Model:
    source = header(hyper=hyper, tensors=dense_tensors(kind="F16"))
    return Model((source,), forecast(source.tensors, source.alignment))


def planner(available: int, of: Model | None = None) -> Planner:
    return Planner(of or model(), machine(available, features=AVX2), threads=2)


def test_no_plan_takes_more_than_there_is() -> None:
    for budget in BUDGETS:
        plan = planner(budget).best(context=2048)
        assert plan is None or plan.memory.total <= budget


def test_what_is_there_is_used_up_to_a_fiftieth_where_smaller_formats_bind() -> None:
    plans = [planner(budget).best(context=2048) for budget in BUDGETS]
    bound = [
        (plan, budget) for plan, budget in zip(plans, BUDGETS, strict=True) if plan and plan.weight_nats > 0
    ]
    assert len(bound) >= 3
    assert all(plan.memory.total > 0.98 * budget for plan, budget in bound)


def test_more_memory_never_gives_more_divergence() -> None:
    plans = [plan for budget in BUDGETS if (plan := planner(budget).best(context=2048))]
    assert all(a.predicted_kl >= b.predicted_kl for a, b in itertools.pairwise(plans))
    assert plans[0].predicted_kl > plans[-1].predicted_kl


def test_the_forecast_is_that_of_the_file_to_come() -> None:
    plan = planner(300 * MIB).best()
    assert plan is not None
    assert plan.memory.total == plan_memory(plan.header, plan.config, machine(300 * MIB, features=AVX2)).total
    assert plan.config.mmap == best_mmap(plan.header, AVX2)
    stored = {tensor.name: tensor.type.name.lower() for tensor in plan.header.tensors}
    assert all(stored[name] == fmt.name for name, fmt in plan.formats.items())


def test_too_little_memory_for_the_smallest_formats_gives_no_plan() -> None:
    assert planner(80 * MIB).best() is None


def test_a_longer_context_is_taken_where_it_costs_little() -> None:
    roomy, tight = planner(4 * GIB).best(), planner(105 * MIB).best()
    assert roomy is not None and tight is not None
    assert roomy.config.context_tokens == 8192
    assert tight.config.context_tokens < 8192


def test_a_context_that_was_asked_for_is_kept() -> None:
    plan = planner(300 * MIB).best(context=5000, kv_type="q8_0")
    assert plan is not None
    assert (plan.config.context_tokens, plan.config.kv_type) == (5000, "q8_0")


def test_a_smaller_cache_is_taken_where_the_weights_gain_more_than_it_costs() -> None:
    wide = model(**{"attention.head_count_kv": 16})
    kinds = [plan.config.kv_type for size in BUDGETS if (plan := planner(size, wide).best(context=8192))]
    assert kinds[-1] == "f16"
    assert "f16" not in kinds[:1]


def test_a_cache_type_that_no_head_fits_is_left_out() -> None:
    odd = model(**{"attention.head_count": 17, "embedding_length": 1020, "attention.head_count_kv": 17})
    plan = planner(2 * GIB, odd).best()
    assert plan is not None and plan.config.kv_type == "f16"
    assert planner(2 * GIB, odd).best(kv_type="q8_0") is None


def test_a_bound_for_the_file_holds_beside_that_of_the_memory() -> None:
    plan = planner(4 * GIB).best(context=2048, file_bytes=60 * MIB)
    assert plan is not None
    assert 0.98 * 60 * MIB < plan.file_bytes <= 60 * MIB


def test_a_persons_own_choices_stay() -> None:
    source = model()
    chosen = source.measured.tensors[0].name
    rest = Measured(tensors=source.measured.tensors[1:])
    plan = planner(300 * MIB, Model(source.headers, rest, {chosen: BY_NAME["q8_0"]})).best()
    assert plan is not None and plan.formats[chosen].name == "q8_0"


def test_parts_of_a_split_model_become_one_header() -> None:
    tensors = dense_tensors(kind="F16")
    parts: tuple[GgufHeader, ...] = (header(tensors=tensors[:3]), header(tensors=tensors[3:]))
    whole = planned_header(parts, {})
    assert [tensor.name for tensor in whole.tensors] == [tensor.name for tensor in tensors]
    assert whole.file_size == header(tensors=tensors).file_size


@pytest.mark.parametrize("kind", ["q8_0", "q4_0"])
def test_the_caches_cost_is_in_the_prediction(kind: str) -> None:
    plan = planner(4 * GIB).best(kv_type=kind)  # type: ignore[arg-type]
    assert isinstance(plan, JointPlan)
    assert plan.predicted_kl == plan.weight_nats + CACHE_NATS[plan.config.kv_type]
