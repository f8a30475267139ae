"""Cache and state of architectures, from headers; sizes worked out by hand from llama.cpp's rules."""

from __future__ import annotations

from collections.abc import Mapping

import pytest

from runtime.budget.kv import cache_size, slot_cells
from runtime.budget.shape import read_shape
from runtime.budget.windows import windowed_layers
from runtime.errors import GgufError, InvalidRequest
from runtime.gguf.values import Value
from tests.runtime.budget_fixtures import MIB, array, config, flags, header, strings


def cache_bytes(architecture: str, hyper: Mapping[str, Value], **changes: object) -> int:
    return cache_size(read_shape(header(architecture, hyper)), config(**changes)).bytes


class TestAttention:
    def test_grouped_queries_keep_the_key_heads_only(self) -> None:
        # 4 layers x 4096 cells x (4 heads x 64) x (key + value) x 2 bytes
        assert cache_bytes("llama", {}) == 16 * MIB

    def test_without_key_heads_every_head_has_its_own(self) -> None:
        assert cache_bytes("llama", {"attention.head_count_kv": 16}) == 64 * MIB
        assert cache_bytes("gpt2", {"attention.head_count_kv": array([16] * 4)}) == 64 * MIB

    def test_heads_may_differ_between_layers(self) -> None:
        assert cache_bytes("llama", {"attention.head_count_kv": array([1, 2, 4, 1])}) == 8 * MIB

    def test_key_and_value_lengths_may_differ(self) -> None:
        hyper: dict[str, Value] = {"attention.key_length": 192, "attention.value_length": 128}
        assert cache_bytes("llama", hyper) == 4 * 4096 * 4 * (192 + 128) * 2

    @pytest.mark.parametrize(("kind", "per_block"), [("q8_0", 34), ("q4_0", 18)])
    def test_quantized_types_store_blocks_of_32(self, kind: str, per_block: int) -> None:
        assert cache_bytes("llama", {}, kv_type=kind) == 4 * 4096 * 2 * (256 // 32) * per_block

    def test_a_type_that_does_not_divide_the_heads_is_refused_with_both_numbers(self) -> None:
        with pytest.raises(InvalidRequest, match=r"q8_0 .* 32.*80.*--kv f16") as refused:
            cache_bytes("llama", {"attention.key_length": 80, "attention.value_length": 80}, kv_type="q8_0")
        assert refused.value.field == "kv_type"

    def test_latent_attention_keeps_one_compressed_key(self) -> None:
        hyper: dict[str, Value] = {
            "attention.head_count_kv": 1,
            "attention.key_length": 576,
            "attention.value_length": 512,
            "attention.key_length_mla": 192,
            "attention.value_length_mla": 128,
        }
        assert cache_bytes("deepseek2", hyper) == 4 * 4096 * 576 * 2
        assert read_shape(header("deepseek2", hyper)).latent

    def test_a_sparse_indexer_keeps_a_key_of_its_own(self) -> None:
        plain = cache_bytes("llama", {})
        assert cache_bytes("llama", {"attention.indexer.key_length": 128}) == plain + 4 * 4096 * 128 * 2

    def test_models_that_see_the_whole_text_at_once_keep_nothing(self) -> None:
        assert cache_bytes("bert", {}) == 0

    def test_draft_layers_are_not_cached(self) -> None:
        assert cache_bytes("llama", {"block_count": 5, "nextn_predict_layers": 1}) == 16 * MIB

    def test_layers_that_reuse_another_layers_keys_have_none(self) -> None:
        assert cache_bytes("gemma4", {"attention.shared_kv_layers": 2}) == 8 * MIB
        many: dict[str, Value] = {"block_count": 30, "attention.sliding_window": 0}
        assert cache_bytes("gemma3n", many) == 20 * 4 * MIB


class TestCells:
    @pytest.mark.parametrize(
        ("context", "slots", "cells"),
        [(4096, 1, 4096), (1000, 1, 1024), (1, 1, 256), (100, 3, 256), (1000, 2, 1024), (1500, 4, 1536)],
    )
    def test_a_slot_has_its_context_rounded_up(self, context: int, slots: int, cells: int) -> None:
        assert slot_cells(config(context_tokens=context, slots=slots)) == cells

    def test_every_slot_has_its_own(self) -> None:
        assert cache_bytes("llama", {}, slots=3) == 3 * cache_bytes("llama", {})


def windows(architecture: str, hyper: Mapping[str, Value], layers: int = 8) -> str:
    """``w`` for a layer with a window, ``-`` for one without."""
    found = windowed_layers(header(architecture, {"block_count": layers} | dict(hyper)), layers)[1]
    return "".join("w" if each else "-" for each in found)


class TestWindows:
    @pytest.mark.parametrize(
        ("architecture", "pattern"),
        [
            ("gemma2", "w-w-w-w-"),
            ("gemma3", "wwwww-ww"),
            ("gemma3n", "wwww-www"),
            ("gpt-oss", "w-w-w-w-"),
            ("cohere2", "www-www-"),
            ("olmo2", "www-www-"),
            ("plamo3", "wwwwwww-"),
            ("smallthinker", "-www-www"),
            ("cohere2moe", "-www-www"),
            ("llama", "--------"),
            ("phi3", "--------"),
            ("exaone4", "--------"),
        ],
    )
    def test_an_architecture_has_its_pattern(self, architecture: str, pattern: str) -> None:
        assert windows(architecture, {"attention.sliding_window": 512}) == pattern

    def test_a_period_in_the_file_replaces_the_architectures(self) -> None:
        hyper: dict[str, Value] = {"attention.sliding_window": 512, "attention.sliding_window_pattern": 2}
        assert windows("gemma3", hyper) == "w-w-w-w-"

    def test_a_period_of_zero_means_every_layer(self) -> None:
        hyper: dict[str, Value] = {"attention.sliding_window": 512, "attention.sliding_window_pattern": 0}
        assert windows("gemma3", hyper) == "wwwwwwww"

    @pytest.mark.parametrize("architecture", ["gemma4", "mimo2", "gemma3"])
    def test_a_list_in_the_file_is_followed(self, architecture: str) -> None:
        listed = flags([True, False, False, True])
        hyper: dict[str, Value] = {
            "attention.sliding_window": 512,
            "attention.sliding_window_pattern": listed,
        }
        assert windows(architecture, hyper, layers=4) == "w--w"

    def test_a_list_that_is_missing_means_whole_caches(self) -> None:
        assert windows("gemma4", {"attention.sliding_window": 512}) == "--------"

    def test_without_a_window_every_layer_is_whole(self) -> None:
        assert windows("gemma3", {}) == "--------"

    def test_llama4_has_its_own_window_unless_the_file_says_none(self) -> None:
        assert windowed_layers(header("llama4"), 4) == (8192, (True, True, True, False))
        assert windowed_layers(header("llama4", {"attention.sliding_window": 0}), 4)[0] == 0

    def test_the_large_exaone_alone_has_windows(self) -> None:
        assert windowed_layers(header("exaone4", {"block_count": 64}), 64)[0] == 4096

    def test_lfm2_has_windows_where_it_attends(self) -> None:
        hyper: dict[str, Value] = {
            "attention.sliding_window": 512,
            "attention.head_count_kv": array([0, 4, 0, 4]),
        }
        assert windows("lfm2", hyper, layers=4) == "-w-w"

    def test_a_window_keeps_itself_and_one_batch(self) -> None:
        hyper: dict[str, Value] = {"attention.sliding_window": 1000, "block_count": 6}
        shape = read_shape(header("gemma3", hyper))
        found = cache_size(shape, config(context_tokens=8192))
        assert (found.cells, found.window_cells) == (8192, 1536)  # 1000 + 512, rounded up
        assert found.bytes == (8192 + 5 * 1536) * 512 * 2

    def test_a_window_is_no_longer_than_the_context(self) -> None:
        shape = read_shape(header("gemma2", {"attention.sliding_window": 4096}))
        assert cache_size(shape, config(context_tokens=2048)).window_cells == 2048

    def test_heads_may_be_shorter_where_there_is_a_window(self) -> None:
        hyper: dict[str, Value] = {
            "attention.sliding_window": 512,
            "attention.sliding_window_pattern": flags([True, False, True, True]),
            "attention.key_length": 512,
            "attention.value_length": 512,
            "attention.key_length_swa": 256,
            "attention.value_length_swa": 256,
        }
        layers = cache_size(read_shape(header("gemma4", hyper)), config(context_tokens=512)).layers
        assert layers[0] * 2 == layers[1]


SSM: dict[str, Value] = {
    "ssm.conv_kernel": 4,
    "ssm.inner_size": 2048,
    "ssm.state_size": 16,
    "ssm.time_step_rank": 64,
}


class TestRecurrence:
    def test_mamba_keeps_a_state_a_sequence_and_no_cells(self) -> None:
        one = cache_bytes("mamba", SSM, context_tokens=4096)
        assert one == 4 * (3 * 2048 + 16 * 2048) * 4
        assert cache_bytes("mamba", SSM, context_tokens=65536) == one
        assert cache_bytes("mamba", SSM, slots=4) == 4 * one

    def test_mamba2_convolves_its_groups_too(self) -> None:
        assert cache_bytes("mamba2", SSM | {"ssm.group_count": 2}) == 4 * (3 * (2048 + 64) + 16 * 2048) * 4

    @pytest.mark.parametrize("architecture", ["rwkv6", "rwkv7"])
    def test_rwkv_keeps_a_matrix_for_each_head(self, architecture: str) -> None:
        hyper: dict[str, Value] = {"wkv.head_size": 64, "attention.head_count": 0}
        assert cache_bytes(architecture, hyper) == 4 * (2 * 1024 + 1024 * 64) * 4

    def test_a_hybrid_keeps_cells_where_it_has_key_heads(self) -> None:
        hyper = SSM | {"attention.head_count_kv": array([0, 4, 0, 0])}
        assert cache_bytes("jamba", hyper) == 4 * MIB + 3 * (3 * 2048 + 16 * 2048) * 4

    def test_falcon_h1_keeps_both_in_every_layer(self) -> None:
        assert cache_bytes("falcon-h1", SSM) == 16 * MIB + 4 * (3 * 2048 + 16 * 2048) * 4

    def test_nemotron_keeps_nothing_in_feed_forward_layers(self) -> None:
        hyper = SSM | {
            "attention.head_count_kv": array([0, 0, 4, 0]),
            "feed_forward_length": array([0, 4096, 0, 4096]),
        }
        assert cache_bytes("nemotron_h", hyper) == 4 * MIB + (3 * 2048 + 16 * 2048) * 4

    def test_one_layer_in_four_attends_in_qwen3_next(self) -> None:
        state = (3 * 2048 + 16 * 2048) * 4
        assert cache_bytes("qwen3next", SSM) == 4 * MIB + 3 * state
        assert cache_bytes("qwen3next", SSM | {"full_attention_interval": 2}) == 8 * MIB + 2 * state
        listed = SSM | {"attention.recurrent_layers": array([0, 0, 1, 0])}
        assert cache_bytes("qwen35", listed) == 12 * MIB + state

    def test_short_convolutions_keep_their_last_inputs(self) -> None:
        hyper: dict[str, Value] = {
            "shortconv.l_cache": 3,
            "attention.head_count_kv": array([0, 4, 0, 4]),
        }
        assert cache_bytes("lfm2", hyper) == 8 * MIB + 2 * 2 * 1024 * 4

    def test_delta_attention_keeps_a_square_for_each_head(self) -> None:
        hyper: dict[str, Value] = {
            "kda.head_dim": 128,
            "ssm.conv_kernel": 4,
            "attention.head_count_kv": array([0, 0, 0, 1]),
        }
        state = 3 * 3 * 16 * 128 + 128 * 128 * 16
        assert cache_bytes("kimi-linear", hyper) == MIB + 3 * state * 4

    def test_linear_attention_keeps_a_square_for_each_head(self) -> None:
        assert cache_bytes("minimax-01", {"block_count": 8}) == 4 * MIB + 7 * 64 * 64 * 16 * 4


class TestHeaders:
    @pytest.mark.parametrize("key", ["block_count", "embedding_length"])
    def test_a_missing_hyperparameter_is_named(self, key: str) -> None:
        with pytest.raises(GgufError, match=f"llama.{key} is missing"):
            read_shape(header("llama", {key: 0}))

    def test_the_vocabulary_is_counted_where_the_file_has_one(self) -> None:
        found = read_shape(header(tokenizer__ggml__tokens=strings(5000)))
        assert found.vocabulary == 5000
        assert read_shape(header()).vocabulary == 1000
