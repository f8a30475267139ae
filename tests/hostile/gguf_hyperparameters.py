"""Files whose values llama.cpp would abort at, or divide by (G23, G32)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_bytes import (
    Tensor,
    f32,
    flag,
    model,
    numbers,
    string,
    u32,
)
from tests.hostile.gguf_case import Hostile


def cases() -> Iterator[Hostile]:
    yield from _hyperparameters()
    yield from _roles()


def _hyperparameters() -> Iterator[Hostile]:
    for case, rule, changes in (
        ("block_count_100000", "out-of-range", {"llama__block_count": u32(100_000)}),
        ("block_count_513", "out-of-range", {"llama__block_count": u32(513)}),
        ("block_count_0", "out-of-range", {"llama__block_count": u32(0)}),
        ("block_count_float", "wrong-type", {"llama__block_count": f32(1.0)}),
        ("block_count_string", "wrong-type", {"llama__block_count": string("1")}),
        ("block_count_array", "wrong-type", {"llama__block_count": numbers(g.U32, [1])}),
        ("head_count_0", "out-of-range", {"llama__attention__head_count": u32(0)}),
        ("head_count_negative", "wrong-type", {"llama__attention__head_count": g.value(g.I32, -4)}),
        ("head_count_array_negative", "out-of-range", {"llama__attention__head_count": numbers(g.I32, [-4])}),
        (
            "head_count_of_600_layers",
            "out-of-range",
            {"llama__attention__head_count": numbers(g.I32, [4] * 600)},
        ),
        ("head_count_over_width", "out-of-range", {"llama__attention__head_count": u32(64)}),
        ("head_count_kv_0", "out-of-range", {"llama__attention__head_count_kv": u32(0)}),
        ("head_count_kv_3_of_4", "out-of-range", {"llama__attention__head_count_kv": u32(3)}),
        (
            "experts_used_over_count",
            "out-of-range",
            {"llama__expert_count": u32(2), "llama__expert_used_count": u32(3)},
        ),
        ("experts_unused", "out-of-range", {"llama__expert_count": u32(2)}),
        (
            "experts_used_by_one_layer",
            "out-of-range",
            {"llama__expert_count": u32(2), "llama__expert_used_count": numbers(g.U32, [2, 3])},
        ),
        ("experts_2000", "out-of-range", {"llama__expert_count": u32(2000)}),
        ("expert_groups_without_experts", "out-of-range", {"llama__expert_group_count": u32(2)}),
        (
            "expert_groups_uneven",
            "out-of-range",
            {
                "llama__expert_count": u32(8),
                "llama__expert_used_count": u32(2),
                "llama__expert_group_count": u32(3),
                "llama__expert_group_used_count": u32(1),
            },
        ),
        ("rope_wider_than_head", "out-of-range", {"llama__rope__dimension_count": u32(16)}),
        ("rope_base_negative", "out-of-range", {"llama__rope__freq_base": f32(-1.0)}),
        ("rope_base_nan", "out-of-range", {"llama__rope__freq_base": f32(float("nan"))}),
        ("rope_scaling_unknown", "out-of-range", {"llama__rope__scaling__type": string("warp")}),
        ("epsilon_infinite", "out-of-range", {"llama__attention__layer_norm_rms_epsilon": f32(float("inf"))}),
        ("context_0", "out-of-range", {"llama__context_length": u32(0)}),
        ("nextn_over_blocks", "out-of-range", {"llama__nextn_predict_layers": u32(2)}),
        ("architecture_number", "bad-architecture", {"general__architecture": u32(1)}),
        ("architecture_path", "bad-architecture", {"general__architecture": string("../../llama")}),
        ("name_number", "wrong-type", {"general__name": u32(1)}),
    ):
        yield Hostile(f"g23_{case}", rule, partial(model, **changes))


def _roles() -> Iterator[Hostile]:
    for case, rule, changes in (
        ("chunk_size_65537", "out-of-range", {"clip__audio__chunk_size": u32(65_537)}),
        ("chunk_size_0", "out-of-range", {"clip__audio__chunk_size": u32(0)}),
        ("block_count_0", "out-of-range", {"clip__vision__block_count": u32(0)}),
        ("block_count_signed", "wrong-type", {"clip__vision__block_count": g.value(g.I32, 2)}),
        ("patch_size_0", "out-of-range", {"clip__vision__patch_size": u32(0)}),
        ("image_size_65536", "out-of-range", {"clip__vision__image_size": u32(65_536)}),
        ("image_mean_of_2", "out-of-range", {"clip__vision__image_mean": numbers(g.F32, [0.5] * 2)}),
        ("feature_layer_3_of_2", "out-of-range", {"clip__vision__feature_layer": numbers(g.I32, [3])}),
        ("half_a_pinpoint", "out-of-range", {"clip__vision__image_grid_pinpoints": numbers(g.I32, [336])}),
        ("no_encoder", "bad-projector", {"clip__has_vision_encoder": flag(False)}),
        ("two_activations", "bad-projector", {"clip__use_silu": flag(True)}),
        (
            "pixels_reversed",
            "out-of-range",
            {"clip__vision__image_min_pixels": u32(9), "clip__vision__image_max_pixels": u32(4)},
        ),
    ):
        yield Hostile(f"g32_mmproj_{case}", rule, partial(g.projector, **changes))
    a, b = g.ADAPTER_PAIR
    for case, rule, tensors in (
        ("alone", "bad-adapter", (a,)),
        ("stranger", "bad-adapter", (a, b, Tensor("blk.0.attn_k.weight"))),
        ("ranks_4_and_8", "bad-adapter", (a, Tensor(b.name, (8, 32)))),
        ("experts_1_and_2", "bad-adapter", (a, Tensor(b.name, (4, 32, 2)))),
    ):
        yield Hostile(f"g32_lora_{case}", rule, partial(g.adapter, tensors))
    yield Hostile("g32_lora_bad_type", "bad-adapter", lambda: g.adapter(adapter__type=string("BAD!")))
    yield Hostile("g32_lora_bad_magic", "bad-magic", lambda: b"BAD!" + g.adapter()[4:])
    yield Hostile(
        "g32_lora_alpha_double", "wrong-type", lambda: g.adapter(adapter__lora__alpha=g.value(g.F64, 1.0))
    )
    yield Hostile("g32_imatrix_alone", "bad-imatrix", lambda: g.imatrix(g.IMATRIX_PAIR[:1]))
    yield Hostile("g32_imatrix_count_text", "wrong-type", lambda: g.imatrix(imatrix__chunk_count=string("1")))
