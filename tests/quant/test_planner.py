"""Context, cache and weights in one budget; models are headers, machines are numbers."""

from __future__ import annotations

import itertools
from typing import get_args

import msgspec
import pytest

from quant.allocation.fit import USEFUL_NATS, Fit, plan_fit
from quant.allocation.forecast import forecast
from quant.allocation.joint import CACHE_NATS, JointPlan, Model, planned_header
from quant.allocation.measure import Measured
from quant.allocation.planner import Planner, Prefer
from quant.allocation.speed import Speeds, shares_of
from quant.formats.lt import LT_FORMATS
from quant.formats.registry import BY_NAME
from runtime.budget import best_mmap, plan_memory
from runtime.errors import DoesNotFit
from runtime.gguf import GgufHeader, TensorInfo
from runtime.gguf.packed import PackedTensor
from tests.runtime.budget_fixtures import AVX2, GIB, MIB, dense_tensors, header, machine

BUDGETS = [MIB * size for size in (*range(95, 150, 5), 180, 240, 400)]


def model(**hyper: int) -> Model:
    source = header(hyper=hyper, tensors=dense_tensors(kind="F16"))
    return Model((source,), forecast(source.tensors, source.alignment))


def planner(available: int, of: Model | None = None) -> Planner:
    return Planner(of or model(), machine(available, features=AVX2), threads=2)


def type_of(tensor: TensorInfo | PackedTensor) -> str:
    return (tensor.format if isinstance(tensor, PackedTensor) else tensor.type.name).lower()


def large(*, words: bool = True) -> Model:
    """Of 20 layers, with LT formats to choose from, or without."""
    source = header(hyper={"block_count": 20}, tensors=dense_tensors(layers=20, kind="F16"))
    return Model((source,), forecast(source.tensors, source.alignment, words=words))


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


def test_more_memory_never_gives_more_divergence_but_for_a_larger_batch() -> None:
    plans = [plan for budget in BUDGETS if (plan := planner(budget).best(context=2048))]
    for less, more in itertools.pairwise(plans):
        if more.config.ubatch_tokens == less.config.ubatch_tokens:
            assert more.predicted_kl <= less.predicted_kl
        assert more.predicted_kl <= max(less.predicted_kl * 1.02, less.predicted_kl + 0.0005)
    assert plans[0].predicted_kl > plans[-1].predicted_kl


def test_the_forecast_is_that_of_the_file_to_come() -> None:
    plan = planner(300 * MIB).best()
    assert plan is not None
    assert plan.memory.total == plan_memory(plan.header, plan.config, machine(300 * MIB, features=AVX2)).total
    assert plan.config.mmap == best_mmap(plan.header, AVX2)
    stored = {tensor.name: type_of(tensor) for tensor in plan.header.all_tensors}
    assert all(stored[name] == fmt.name for name, fmt in plan.formats.items())


def test_too_little_memory_for_the_smallest_formats_gives_no_plan() -> None:
    assert planner(73 * MIB).best() is None


def test_lt_formats_are_chosen_where_memory_is_short_and_give_less_divergence() -> None:
    for budget in (210 * MIB, 230 * MIB, 250 * MIB):
        own, plain = (planner(budget, large(words=words)).best(context=2048) for words in (True, False))
        assert own is not None and plain is not None
        kinds = {fmt.name for fmt in own.formats.values()}
        assert kinds & LT_FORMATS.keys()
        assert own.header.packed is not None and own.config.mmap
        assert own.predicted_kl < plain.predicted_kl
        assert plain.header.packed is None


def test_what_lt_matrices_share_is_in_the_bits_for_each_weight_and_in_the_file() -> None:
    plan = planner(230 * MIB, large()).best(context=2048)
    assert plan is not None and (packed := plan.header.packed) is not None
    nbytes = sum(tensor.nbytes for tensor in plan.header.all_tensors)
    elements = sum(tensor.elements for tensor in plan.header.all_tensors)
    assert plan.bits_per_weight > 8 * (nbytes + packed.shared_bytes) / elements - 1e-9
    assert plan.file_bytes == packed.offset + packed.nbytes
    assert len(packed.inputs) < len(packed.tensors)


def test_where_a_model_is_so_small_that_loading_them_takes_more_than_they_save_there_are_none() -> None:
    for budget in BUDGETS:
        own, plain = planner(budget).best(context=2048), planner(budget, small_plain()).best(context=2048)
        if own is None or plain is None:
            assert plain is None
            continue
        assert own.predicted_kl <= plain.predicted_kl


def small_plain() -> Model:
    source = model().headers[0]
    return Model((source,), forecast(source.tensors, source.alignment, words=False))


@pytest.mark.parametrize("prefer", ["balanced", "speed"])
def test_for_speed_they_are_never_taken_where_formats_of_ggml_are_better_and_sooner_read(
    prefer: Prefer,
) -> None:
    machine_ = machine(130 * MIB, features=AVX2)
    own, plain = (
        Planner(each, machine_, threads=2, prefer=prefer).best(context=2048)
        for each in (model(), small_plain())
    )
    assert own is not None and plain is not None
    seconds = [Speeds().weights_seconds([plan.header]) for plan in (own, plain)]
    assert own.predicted_kl <= plain.predicted_kl or seconds[0] < seconds[1]


def test_where_kernels_are_slow_speed_is_worth_less_of_them() -> None:
    def share(isa: str) -> float:
        found = Planner(
            large(), machine(300 * MIB, features=AVX2), speeds=Speeds(shares=shares_of(isa)), prefer="speed"
        ).best(context=2048)
        assert found is not None
        return sum(part for name, part in found.format_shares().items() if name in LT_FORMATS)

    assert share("avx2") < share("avx512vbmi")


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


def test_a_few_thousandths_of_a_nat_are_given_up_for_speed_and_no_more() -> None:
    plans = {
        prefer: Planner(model(), machine(GIB, features=AVX2), threads=2, prefer=prefer).best(context=2048)
        for prefer in get_args(Prefer)
    }
    quality, balanced, speed = plans["quality"], plans["balanced"], plans["speed"]
    assert quality and balanced and speed
    assert 0 < balanced.predicted_kl - quality.predicted_kl <= 0.006
    assert balanced.predicted_kl < speed.predicted_kl <= quality.predicted_kl * 1.25 + 0.01
    times = [Speeds().token_seconds([plan.header], 0) for plan in (quality, balanced, speed)]
    assert times[0] > times[1] > times[2]


def test_what_is_better_does_not_depend_on_the_bandwidth() -> None:
    def plan(bandwidth: float) -> JointPlan | None:
        found = Planner(model(), machine(200 * MIB, features=AVX2), speeds=Speeds(bandwidth), prefer="speed")
        return found.best(context=2048)

    slow, fast = plan(5e9), plan(80e9)
    assert slow and fast and slow.formats == fast.formats
    assert fast.tokens_per_second(Speeds(80e9)) > 4 * slow.tokens_per_second(Speeds(5e9))


def test_a_planner_for_less_memory_shares_what_was_solved() -> None:
    whole = planner(GIB)
    for budget in BUDGETS[::3]:
        alone, shared = planner(budget).best(context=2048), whole.within(budget).best(context=2048)
        assert (alone and alone.formats) == (shared and shared.formats)


class TestRefusal:
    def test_both_numbers_are_told_where_not_even_the_smallest_formats_fit(self) -> None:
        with pytest.raises(DoesNotFit, match=r"even in the smallest formats") as refused:
            plan_fit(model(), Fit(), machine(73 * MIB, features=AVX2))
        assert refused.value.available_bytes == 73 * MIB
        assert plan_fit(model(), Fit(context=2048), machine(refused.value.needed_bytes + 60 * MIB))

    def test_what_would_be_of_no_use_is_refused_with_the_least_that_is(self) -> None:
        source = model()
        hard = Measured(
            tensors=tuple(
                msgspec.structs.replace(tensor, sensitivity=tensor.sensitivity * 400)
                for tensor in source.measured.tensors
            )
        )
        difficult = Model(source.headers, hard)
        with pytest.raises(DoesNotFit, match=r"of no use") as refused:
            plan_fit(difficult, Fit(context=2048), machine(100 * MIB, features=AVX2))
        needed = refused.value.needed_bytes
        plan = plan_fit(difficult, Fit(context=2048), machine(needed, features=AVX2))
        assert plan.predicted_kl == pytest.approx(USEFUL_NATS, rel=0.1)

    def test_what_is_to_stay_free_stays_free(self) -> None:
        plan = plan_fit(
            model(), Fit(keep_free_bytes=50 * MIB, context=2048), machine(170 * MIB, features=AVX2)
        )
        assert plan.memory.total <= 120 * MIB


def test_what_a_file_says_of_its_run_is_what_was_planned() -> None:
    plan = planner(200 * MIB).best()
    assert plan is not None
    running = plan.running()
    assert (running.peak_bytes, running.budget_bytes) == (plan.memory.total, 200 * MIB)
    assert sum(plan.format_shares().values()) == pytest.approx(1.0)
