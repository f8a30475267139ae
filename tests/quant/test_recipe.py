from __future__ import annotations

from dataclasses import dataclass

import pytest

from quant.allocation.recipe import (
    FILE_TYPES,
    KEEP,
    MIXTURES,
    Override,
    assign,
    is_encoded,
    parse_override,
    role_of,
)
from quant.errors import CannotEncode
from quant.formats.registry import BY_NAME, FORMATS
from runtime.gguf.ggml_types import FILE_TYPES as FILE_TYPE_NAMES
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME, GgmlType


@dataclass(frozen=True)
class Tensor:
    """Name, shape and type: what a recipe looks at."""

    name: str
    shape: tuple[int, ...] = (4096, 4096)
    type: GgmlType = GGML_TYPES_BY_NAME["F16"]


def llama(layers: int = 8, columns: int = 4096, *, tied: bool = False) -> list[Tensor]:
    tensors = [Tensor("token_embd.weight", (columns, 32000)), Tensor("output_norm.weight", (columns,))]
    for layer in range(layers):
        tensors += [
            Tensor(f"blk.{layer}.attn_norm.weight", (columns,)),
            Tensor(f"blk.{layer}.attn_q.weight", (columns, columns)),
            Tensor(f"blk.{layer}.attn_v.weight", (columns, columns // 4)),
            Tensor(f"blk.{layer}.attn_output.weight", (columns, columns)),
            Tensor(f"blk.{layer}.ffn_down.weight", (columns * 2, columns)),
            Tensor(f"blk.{layer}.ffn_up.weight", (columns, columns * 2)),
        ]
    return tensors if tied else [*tensors, Tensor("output.weight", (columns, 32000))]


def names(tensors: list[Tensor], target: str, *overrides: Override) -> dict[str, str]:
    return {name: fmt.name for name, fmt in assign(tensors, target, overrides).items()}


class TestWhatIsEncoded:
    @pytest.mark.parametrize(
        "name",
        [
            "blk.0.attn_q.weight",
            "blk.12.ffn_down_exps.weight",
            "token_embd.weight",
            "output.weight",
            "per_layer_token_embd.weight",
            "blk.3.attn_kv_b.weight",
            "blk.0.ssm_in.weight",
        ],
    )
    def test_matrices_of_weights_are(self, name: str) -> None:
        assert is_encoded(Tensor(name))

    @pytest.mark.parametrize(
        "name",
        [
            "blk.0.attn_q.bias",
            "blk.0.attn_q_norm.weight",
            "blk.0.ffn_gate_inp.weight",
            "blk.0.ffn_gate_inp_shexp.weight",
            "rope_freqs.weight",
            "blk.0.ssm_conv1d.weight",
            "blk.0.shortconv.conv.weight",
            "blk.0.time_mix_w1.weight",
            "blk.0.laurel_l.weight",
            "altup_proj.weight",
            "position_embd.weight",
        ],
    )
    def test_norms_biases_routers_and_delicate_tensors_are_not(self, name: str) -> None:
        assert not is_encoded(Tensor(name))

    @pytest.mark.parametrize("shape", [(4096,), (4096, 1), (16, 4096), (32, 16)])
    def test_vectors_and_tiny_matrices_are_not(self, shape: tuple[int, ...]) -> None:
        assert not is_encoded(Tensor("blk.0.attn_q.weight", shape))

    def test_tables_of_numbers_are_not(self) -> None:
        assert not is_encoded(Tensor("blk.0.table.weight", type=GGML_TYPES_BY_NAME["I32"]))

    def test_roles_are_the_same_for_experts(self) -> None:
        assert role_of("blk.7.ffn_down_exps.weight") == role_of("blk.7.ffn_down.weight") == "ffn_down"
        assert role_of("output.weight") == "output"


class TestMixtures:
    @pytest.mark.parametrize("target", sorted(MIXTURES.keys() - {KEEP}))
    @pytest.mark.parametrize("columns", [4096, 576, 96])
    def test_every_target_gives_every_matrix_a_format_that_fits(self, target: str, columns: int) -> None:
        tensors = llama(columns=columns)
        plan = assign(tensors, target)
        assert list(plan) == [tensor.name for tensor in tensors if is_encoded(tensor)]
        assert all(plan[tensor.name].fits(tensor.shape[0]) for tensor in tensors if tensor.name in plan)

    def test_keep_gives_formats_to_what_is_named_only(self) -> None:
        assert names(llama(), KEEP) == {}
        assert set(names(llama(), KEEP, Override("attn_q", "lt3")).values()) == {"lt3"}

    def test_words_are_for_matrices_of_layers_whose_inputs_have_a_hessian(self) -> None:
        plan = names(llama(), "lt2")
        assert (plan.pop("output.weight"), plan.pop("token_embd.weight")) == ("q6_k", "q4_k")
        assert set(plan.values()) == {"lt2"}
        known = assign(llama(), "lt4", inputs=["blk.0.attn_q.weight"])
        assert [name for name, fmt in known.items() if fmt.name == "lt4"] == ["blk.0.attn_q.weight"]
        assert known["blk.0.attn_v.weight"].name == "q4_k"

    def test_a_uniform_target_is_uniform_but_for_the_output(self) -> None:
        plan = names(llama(), "q4_k")
        assert plan.pop("output.weight") == "q6_k"
        assert set(plan.values()) == {"q4_k"}

    def test_embeddings_that_serve_as_the_output_get_its_format(self) -> None:
        assert names(llama(tied=True), "q4_k")["token_embd.weight"] == "q6_k"
        assert names(llama(tied=False), "q4_k")["token_embd.weight"] == "q4_k"

    def test_embeddings_are_never_coarser_than_four_bits(self) -> None:
        assert names(llama(), "tq2_0")["token_embd.weight"] == "q4_k"
        assert names(llama(), "q8_0")["token_embd.weight"] == "q8_0"

    def test_the_medium_mixture_gives_more_to_values_and_down_projections_of_some_layers(self) -> None:
        plan = names(llama(16), "q4_k_m")
        finer = {layer for layer in range(16) if plan[f"blk.{layer}.ffn_down.weight"] == "q6_k"}
        assert finer == {0, 1, 4, 7, 10, 13, 14, 15}
        assert {plan[f"blk.{layer}.attn_q.weight"] for layer in range(16)} == {"q4_k"}

    def test_where_rows_do_not_fit_the_nearest_format_stands_in(self) -> None:
        plan = names(llama(columns=576), "q4_k")
        assert plan["blk.0.attn_q.weight"] == "iq4_nl"
        assert plan["output.weight"] == "q8_0"

    def test_an_unknown_target_is_an_error_that_lists_all(self) -> None:
        with pytest.raises(CannotEncode, match=r"'q4_x'.*q4_k_m"):
            assign(llama(), "q4_x")

    def test_what_the_source_stores_in_as_few_bits_is_copied(self) -> None:
        already = [
            Tensor(tensor.name, tensor.shape, GGML_TYPES_BY_NAME["Q4_1"])
            if tensor.name.endswith(("attn_q.weight", "output.weight"))
            else tensor
            for tensor in llama()
        ]
        plan = names(already, "q4_k")
        assert plan["blk.0.attn_q.weight"] == "q4_k"  # 4.5 bits after 5
        assert "output.weight" not in plan  # 6.6 bits after 5
        assert not any("attn_q" in name for name in names(already, "q8_0"))

    def test_every_mixture_has_llama_cpps_number_for_its_name(self) -> None:
        for target, number in FILE_TYPES.items():
            name = FILE_TYPE_NAMES[number].lower()
            assert name in (target, f"{target}_s"), target
        assert {fmt.name for fmt in FORMATS} <= set(FILE_TYPES)


class TestOverrides:
    def test_a_pattern_without_signs_matches_anywhere(self) -> None:
        plan = names(llama(2), "q4_k", Override("ffn_down", "q5_k"))
        assert [name for name, fmt in plan.items() if fmt == "q5_k"] == [
            "blk.0.ffn_down.weight",
            "blk.1.ffn_down.weight",
        ]

    def test_a_shell_pattern_matches_the_whole_name(self) -> None:
        assert Override("blk.[01].*", "q8_0").matches("blk.1.attn_q.weight")
        assert not Override("blk.?", "q8_0").matches("blk.1.attn_q.weight")

    def test_the_last_override_counts(self) -> None:
        plan = names(llama(2), "q4_k", Override("attn_q", "q5_k"), Override("blk.0.attn_q", "q8_0"))
        assert plan["blk.0.attn_q.weight"] == "q8_0"
        assert plan["blk.1.attn_q.weight"] == "q5_k"

    def test_keep_leaves_a_tensor_as_it_is(self) -> None:
        assert "output.weight" not in names(llama(), "q4_k", Override("output.weight", "keep"))

    def test_an_override_holds_whatever_the_source_has(self) -> None:
        source = [Tensor("blk.0.attn_q.weight", type=GGML_TYPES_BY_NAME["Q4_0"])]
        assert names(source, "q4_k", Override("attn_q", "q8_0")) == {"blk.0.attn_q.weight": "q8_0"}

    def test_an_override_that_matches_nothing_is_an_error(self) -> None:
        with pytest.raises(CannotEncode, match="no tensor matches 'ffn_dwon'"):
            assign(llama(), "q4_k", [Override("ffn_dwon", "q5_k")])

    def test_a_format_that_does_not_fit_is_an_error_that_names_one_that_does(self) -> None:
        with pytest.raises(
            CannotEncode, match=r"rows of 576 weights, q4_k stores blocks of 256; iq4_nl fits"
        ):
            assign(llama(columns=576), "q8_0", [Override("attn_q", "q4_k")])

    @pytest.mark.parametrize("text", ["ffn_down", "=q4_k", "ffn_down=", "ffn_down=q9"])
    def test_what_is_no_override_is_refused(self, text: str) -> None:
        with pytest.raises(ValueError, match=r"is not PATTERN=FORMAT|is no format"):
            parse_override(text)

    def test_an_override_is_read(self) -> None:
        assert parse_override("blk.*=Q4_K") == Override("blk.*", "q4_k")
        assert parse_override("a=b=keep") == Override("a=b", "keep")
        assert all(parse_override(f"x={name}").format == name for name in BY_NAME)
