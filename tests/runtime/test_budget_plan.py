"""Plans, refusals, and what is suggested instead."""

from __future__ import annotations

from typing import ClassVar

import pytest

from runtime.budget import (
    MemoryPlan,
    auto_gpu_layers,
    plan_memory,
    suggest_config,
    suggest_context,
)
from runtime.budget.device import DEVICE_MARGIN, split_layers
from runtime.budget.suggest import SHORTEST_CONTEXT, context_steps
from runtime.errors import DoesNotFit
from runtime.gguf import GgufHeader, GgufModel
from runtime.hardware import Device
from runtime.units import format_bytes
from tests.runtime.budget_fixtures import (
    GIB,
    MIB,
    config,
    dense_tensors,
    header,
    machine,
    strings,
)


@pytest.fixture
def model() -> GgufHeader:
    """30 MB of weights, 4 KiB of cache a token, trained for 8192 tokens."""
    return header(tensors=dense_tensors())


def needed(model: GgufHeader, **changes: object) -> int:
    return plan_memory(model, config(**changes), machine()).total


class TestPlan:
    def test_the_parts_add_up_to_the_total(self, model: GgufHeader) -> None:
        plan = plan_memory(model, config(), machine())
        assert plan.total == sum(size for _, size in plan.breakdown())
        assert all(size > 0 for _, size in plan.breakdown())

    @pytest.mark.parametrize(
        ("less", "more"),
        [
            ({"context_tokens": 4096}, {"context_tokens": 8192}),
            ({"slots": 1}, {"slots": 2}),
            ({"kv_type": "q4_0"}, {"kv_type": "q8_0"}),
            ({"kv_type": "q8_0"}, {"kv_type": "f16"}),
            ({"ubatch_tokens": 128}, {"ubatch_tokens": 512}),
            ({"mmap": False}, {"mmap": True}),
            ({"threads": 2}, {"threads": 64}),
        ],
    )
    def test_more_of_anything_takes_more(
        self, model: GgufHeader, less: dict[str, object], more: dict[str, object]
    ) -> None:
        assert needed(model, **less) < needed(model, **more)

    def test_only_mapped_weights_are_reclaimable(self) -> None:
        model = header(tensors=dense_tensors(kind="Q8_0"))
        mapped = plan_memory(model, config(), machine())
        assert mapped.reclaimable == mapped.weights
        assert plan_memory(model, config(mmap=False), machine()).reclaimable == 0

    def test_a_vocabulary_takes_memory(self, model: GgufHeader) -> None:
        def process(kind: str, merges: int) -> int:
            full = header(
                tensors=dense_tensors(),
                tokenizer__ggml__tokens=strings(100_000),
                tokenizer__ggml__merges=strings(merges),
                tokenizer__ggml__model=kind,
            )
            return plan_memory(full, config(), machine()).process

        bare = plan_memory(model, config(), machine()).process
        assert bare + 10 * MIB < process("llama", 0) < process("gpt2", 100_000) < process("t5", 100_000)

    def test_a_model_in_parts_is_planned_whole(self, model: GgufHeader) -> None:
        parts = (
            header(tensors=dense_tensors()[:8]),
            header(tensors=dense_tensors()[8:]),
        )
        whole = plan_memory(model, config(mmap=False), machine())
        assert plan_memory(GgufModel(parts), config(mmap=False), machine()).weights == whole.weights
        assert plan_memory(parts, config(mmap=False), machine()).weights == whole.weights

    def test_the_bytes_that_are_needed_are_enough(self, model: GgufHeader) -> None:
        total = needed(model)
        plan_memory(model, config(), machine(total)).check()
        assert not plan_memory(model, config(), machine(total - 1)).fits


class TestRefusal:
    def refuse(self, plan: MemoryPlan) -> DoesNotFit:
        with pytest.raises(DoesNotFit) as refused:
            plan.check()
        return refused.value

    def test_it_has_both_numbers_and_the_whole_breakdown(self, model: GgufHeader) -> None:
        plan = plan_memory(model, config(slots=2, kv_type="q8_0"), machine(100 * MIB, margin=64 * MIB))
        error = self.refuse(plan)
        assert (error.needed_bytes, error.available_bytes) == (plan.total, 100 * MIB)
        text = str(error)
        for name, size in plan.breakdown():
            assert name in text
            assert format_bytes(size) in text
        assert "4096 tokens x 2 slots with q8_0" in text
        assert "MemAvailable, 164 MiB (of 128.00 GiB in this machine), less 64.0 MiB" in text
        assert text.splitlines()[0].endswith("are available.")

    def test_it_says_what_to_do(self, model: GgufHeader) -> None:
        total = needed(model)
        text = str(self.refuse(plan_memory(model, config(), machine(total - MIB))))
        assert "--ctx" in text
        assert "--kv q8_0" in text
        assert "--force" in text

    def test_a_shorter_context_is_not_advised_where_it_would_not_help(self, model: GgufHeader) -> None:
        text = str(self.refuse(plan_memory(model, config(), machine(135 * MIB))))
        assert "--ctx" not in text
        assert "a quantization of the model with at most 12." in text

    def test_no_quantization_is_advised_where_the_process_alone_is_too_large(self, model: GgufHeader) -> None:
        text = str(self.refuse(plan_memory(model, config(), machine(10 * MIB))))
        assert "--ctx" not in text
        assert "No quantization and no context is small enough" in text

    def test_a_kv_type_is_advised_only_from_f16(self, model: GgufHeader) -> None:
        total = needed(model, kv_type="q4_0")
        text = str(self.refuse(plan_memory(model, config(kv_type="q4_0"), machine(total - 1))))
        assert "--kv" not in text

    def test_a_crowded_device_is_named(self, model: GgufHeader) -> None:
        devices = [Device("CUDA0", GIB, DEVICE_MARGIN + 8 * MIB)]
        error = self.refuse(plan_memory(model, config(gpu_layers=-1), machine(devices=devices)))
        assert "CUDA0" in str(error)
        assert "--gpu-layers" in str(error)
        assert error.available_bytes == 8 * MIB


class TestContext:
    def test_steps_end_at_the_trained_length(self) -> None:
        assert context_steps(5000) == (512, 768, 1024, 1536, 2048, 3072, 4096, 5000)
        assert context_steps(256) == (256,)
        assert context_steps(0) == ()

    def test_all_of_the_trained_length_when_there_is_room(self, model: GgufHeader) -> None:
        assert suggest_context(model, machine()) == 8192

    def test_a_ceiling_is_kept(self, model: GgufHeader) -> None:
        assert suggest_context(model, machine(), at_most=3000) == 3000

    def test_the_suggestion_fits_and_the_next_step_would_not(self, model: GgufHeader) -> None:
        small = machine(needed(model, context_tokens=1700))
        found = suggest_context(model, small)
        assert found == 1536
        assert plan_memory(model, config(context_tokens=found), small).fits
        assert not plan_memory(model, config(context_tokens=2048), small).fits

    def test_more_memory_never_means_a_shorter_context(self, model: GgufHeader) -> None:
        lengths = [suggest_context(model, machine(size * MIB)) for size in range(50, 300, 10)]
        assert lengths == sorted(lengths)

    def test_none_fits_is_zero(self, model: GgufHeader) -> None:
        assert suggest_context(model, machine(MIB)) == 0

    def test_a_model_that_names_no_length_gets_the_default(self) -> None:
        model = header(hyper={"context_length": 0}, tensors=dense_tensors())
        assert suggest_context(model, machine()) == 4096


class TestSuggestedConfig:
    def test_a_roomy_machine_gets_the_default_context(self, model: GgufHeader) -> None:
        chosen = suggest_config(model, machine(), config())
        assert (chosen.context_tokens, chosen.ubatch_tokens) == (4096, 512)

    def test_a_short_model_is_not_stretched(self) -> None:
        model = header(hyper={"context_length": 2048}, tensors=dense_tensors())
        assert suggest_config(model, machine(), config()).context_tokens == 2048

    def test_a_model_that_would_be_repacked_is_not_mapped(self, model: GgufHeader) -> None:
        assert not suggest_config(model, machine(), config()).mmap
        stays = header(tensors=dense_tensors(kind="Q8_0"))
        assert suggest_config(stays, machine(), config()).mmap
        assert not suggest_config(stays, machine(), config(mmap=False)).mmap

    def test_the_batch_shrinks_before_the_context(self, model: GgufHeader) -> None:
        tight = machine(needed(model, mmap=False, ubatch_tokens=128))
        chosen = suggest_config(model, tight, config())
        assert (chosen.context_tokens, chosen.ubatch_tokens) == (4096, 128)

    def test_then_the_context_shrinks(self, model: GgufHeader) -> None:
        tight = machine(needed(model, mmap=False, ubatch_tokens=64, context_tokens=1024))
        chosen = suggest_config(model, tight, config())
        assert (chosen.context_tokens, chosen.ubatch_tokens) == (1024, 64)
        assert plan_memory(model, chosen, tight).fits

    def test_a_context_that_was_asked_for_is_kept_even_if_it_does_not_fit(self, model: GgufHeader) -> None:
        chosen = suggest_config(model, machine(80 * MIB), config(), context=100_000)
        assert chosen.context_tokens == 100_000
        assert not plan_memory(model, chosen, machine(80 * MIB)).fits

    def test_what_fits_in_no_form_comes_back_in_its_smallest(self, model: GgufHeader) -> None:
        chosen = suggest_config(model, machine(MIB), config())
        assert (chosen.context_tokens, chosen.ubatch_tokens) == (SHORTEST_CONTEXT, 64)


class TestSplit:
    def split(self, layers: int, devices: list[Device]) -> list[tuple[int, int, int]]:
        found = split_layers(
            layers,
            devices,
            weights=[10, 20, 30, 40],
            output=5,
            caches=[1, 2, 3, 4],
            compute=100,
            host_compute=7,
        )
        return [
            (found.weights, found.kv_cache, found.compute),
            *((each.weights, each.kv_cache, each.compute) for each in found.devices),
        ]

    ONE: ClassVar = [Device("GPU0", 8 * GIB, 8 * GIB)]

    def test_no_layers_stay_on_the_host(self) -> None:
        assert self.split(0, self.ONE) == [(105, 10, 100)]
        assert self.split(-1, []) == [(105, 10, 100)]

    def test_the_output_moves_first_then_the_last_layers(self) -> None:
        assert self.split(1, self.ONE) == [(100, 10, 100), (5, 0, 100)]
        assert self.split(3, self.ONE) == [(30, 3, 100), (75, 7, 100)]

    @pytest.mark.parametrize("layers", [-1, 5, 99])
    def test_with_all_layers_away_the_host_keeps_the_embeddings_buffers(self, layers: int) -> None:
        assert self.split(layers, self.ONE) == [(0, 0, 7), (105, 10, 100)]

    def test_two_devices_share_by_their_free_memory(self) -> None:
        devices = [Device("a", 4, 3 * GIB), Device("b", 4, 2 * GIB)]
        assert self.split(5, devices) == [(0, 0, 7), (60, 6, 100), (45, 4, 100)]

    def test_a_device_without_layers_needs_nothing(self) -> None:
        devices = [Device("a", 4, 8 * GIB), Device("b", 4, 0)]
        assert self.split(5, devices)[2] == (0, 0, 0)


class TestDevices:
    def test_what_a_device_takes_the_host_does_not_need(self, model: GgufHeader) -> None:
        gpu = machine(devices=[Device("GPU0", 8 * GIB, 8 * GIB)])
        host = plan_memory(model, config(mmap=False), gpu)
        split = plan_memory(model, config(mmap=False, gpu_layers=-1), gpu)
        assert host.devices == ()
        assert split.kv_cache == 0
        assert split.devices[0].kv_cache == host.kv_cache
        assert split.weights + split.devices[0].weights == host.weights
        assert split.total < host.total

    def test_without_devices_layers_stay_on_the_host(self, model: GgufHeader) -> None:
        asked = plan_memory(model, config(gpu_layers=-1), machine())
        assert (asked.total, asked.devices) == (needed(model), ())
        assert auto_gpu_layers(model, config(), machine()) == 0

    def test_as_many_layers_as_fit_are_chosen(self, model: GgufHeader) -> None:
        room = machine(devices=[Device("GPU0", 8 * GIB, 8 * GIB)])
        assert auto_gpu_layers(model, config(), room) == 5
        two = plan_memory(model, config(gpu_layers=2), room).devices[0].total
        tight = machine(devices=[Device("GPU0", GIB, DEVICE_MARGIN + two)])
        assert auto_gpu_layers(model, config(), tight) == 2
        none = machine(devices=[Device("GPU0", GIB, DEVICE_MARGIN)])
        assert auto_gpu_layers(model, config(), none) == 0
