"""Whatever the reference writer makes is accepted, and read as the reference reader reads it."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import gguf
import numpy as np
import pytest
from gguf import GGUFWriter as Writer

from runtime.gguf import ArrayRef, GgufModel, open_gguf, open_model, summarize
from tests.hostile import gguf_bytes as g

EMBEDDING = 64
BLOCKS = 2


def _common(writer: Writer, *, heads: int | list[int] = 4, kv_heads: int | list[int] = 2) -> None:
    writer.add_name("tiny")
    writer.add_license("mit")
    writer.add_context_length(512)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(BLOCKS)
    writer.add_feed_forward_length(128)
    writer.add_head_count(heads)
    writer.add_head_count_kv(kv_heads)
    writer.add_layer_norm_rms_eps(1e-6)
    writer.add_rope_freq_base(10_000.0)


def _sentencepiece(writer: Writer, kind: str = "llama") -> None:
    writer.add_tokenizer_model(kind)
    writer.add_token_list(list(g.SPM_TOKENS))
    writer.add_token_scores([-float(token) for token in range(len(g.SPM_TOKENS))])
    writer.add_token_types(list(g.SPM_TYPES))
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_unk_token_id(0)


def _byte_pairs(writer: Writer) -> None:
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("qwen2")
    writer.add_token_list(list(g.BPE_TOKENS))
    writer.add_token_types(
        [gguf.TokenType.NORMAL] * 11 + [gguf.TokenType.CONTROL] + [gguf.TokenType.NORMAL] * 2
    )
    writer.add_token_merges(["a b", "a c"])
    writer.add_bos_token_id(11)
    writer.add_eos_token_id(11)
    writer.add_chat_template([{"name": "default", "template": "x"}, {"name": "tool_use", "template": "y"}])


def llama(writer: Writer) -> None:
    _common(writer)
    writer.add_rope_dimension_count(16)
    writer.add_vocab_size(len(g.SPM_TOKENS))
    _sentencepiece(writer)


def qwen2(writer: Writer) -> None:
    _common(writer)
    _byte_pairs(writer)


def gemma3(writer: Writer) -> None:
    _common(writer, heads=[4, 4], kv_heads=[2, 1])
    writer.add_key_length(16)
    writer.add_value_length(16)
    writer.add_sliding_window(512)
    writer.add_sliding_window_pattern([True, False])
    writer.add_final_logit_softcapping(30.0)
    _sentencepiece(writer)


def deepseek2(writer: Writer) -> None:
    _common(writer, kv_heads=4)
    writer.add_expert_count(8)
    writer.add_expert_used_count(2)
    writer.add_expert_shared_count(1)
    writer.add_expert_group_count(2)
    writer.add_expert_group_used_count(1)
    writer.add_expert_weights_scale(1.0)
    writer.add_leading_dense_block_count(1)
    writer.add_q_lora_rank(8)
    writer.add_kv_lora_rank(8)
    writer.add_key_length(40)
    writer.add_value_length(16)
    writer.add_rope_dimension_count(16)
    writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
    writer.add_rope_scaling_factor(40.0)
    writer.add_rope_scaling_orig_ctx_len(4096)
    _byte_pairs(writer)


def mamba(writer: Writer) -> None:
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(EMBEDDING)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_block_count(BLOCKS)
    writer.add_ssm_conv_kernel(4)
    writer.add_ssm_inner_size(128)
    writer.add_ssm_state_size(16)
    writer.add_ssm_time_step_rank(4)
    writer.add_layer_norm_rms_eps(1e-5)
    _byte_pairs(writer)


def rwkv7(writer: Writer) -> None:
    writer.add_context_length(1 << 20)
    writer.add_embedding_length(EMBEDDING)
    writer.add_block_count(BLOCKS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_wkv_head_size(32)
    writer.add_feed_forward_length(128)
    writer.add_head_count(0)
    writer.add_tokenizer_model("rwkv")
    writer.add_token_list(["<s>", "\\n", "\\x00", "a", "b"])
    writer.add_token_types([3, 1, 1, 1, 1])


def bert(writer: Writer) -> None:
    _common(writer, kv_heads=4)
    writer.add_layer_norm_eps(1e-12)
    writer.add_causal_attention(False)
    writer.add_pooling_type(gguf.PoolingType.CLS)
    writer.add_tokenizer_model("bert")
    writer.add_token_list([f"t{token}" for token in range(104)])
    writer.add_token_type_count(2)


def lfm2(writer: Writer) -> None:
    _common(writer, kv_heads=[0, 2])
    writer.add_shortconv_l_cache(3)
    _byte_pairs(writer)


ARCHITECTURES: tuple[Callable[[Writer], None], ...] = (
    *(llama, qwen2, gemma3, deepseek2, mamba, rwkv7, bert, lfm2),
)

QUANTIZED = (
    *(gguf.GGMLQuantizationType.Q4_0, gguf.GGMLQuantizationType.Q4_1, gguf.GGMLQuantizationType.Q5_0),
    *(gguf.GGMLQuantizationType.Q8_0, gguf.GGMLQuantizationType.BF16),
)


def _add_tensors(writer: Writer) -> None:
    rows = np.linspace(-1, 1, 32 * EMBEDDING, dtype=np.float32).reshape(32, EMBEDDING)
    writer.add_tensor("token_embd.weight", rows)
    writer.add_tensor("output_norm.weight", np.ones(EMBEDDING + 3, np.float32))
    writer.add_tensor("rope_freqs.weight", np.ones(5, np.float16))
    writer.add_tensor("a_scalar", np.float32(1.0).reshape(()))
    writer.add_tensor("blk.0.ffn_gate_exps.weight", np.zeros((2, 3, EMBEDDING), np.float32))
    for kind in QUANTIZED:
        writer.add_tensor(f"blk.0.{kind.name}.weight", gguf.quants.quantize(rows, kind), raw_dtype=kind)


def write(path: Path, fill: Callable[[Writer], None], **options: int) -> None:
    writer = Writer(path, fill.__name__, **options)
    fill(writer)
    _add_tensors(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


@pytest.mark.parametrize("fill", ARCHITECTURES, ids=lambda fill: fill.__name__)
@pytest.mark.parametrize("alignment", [32, 256])
def test_the_writers_model_is_read_as_the_reference_reads_it(
    fill: Callable[[Writer], None], alignment: int, tmp_path: Path
) -> None:
    path = tmp_path / "model.gguf"

    def aligned(writer: Writer) -> None:
        writer.add_custom_alignment(alignment)
        fill(writer)

    aligned.__name__ = fill.__name__
    write(path, aligned)
    header = open_gguf(path)
    reference = gguf.GGUFReader(path)
    assert header.architecture == fill.__name__ and header.role == "model"
    assert header.data_offset == reference.data_offset and header.alignment == alignment
    assert [
        (tensor.name, tensor.type.id, tensor.shape, header.data_offset + tensor.offset, tensor.nbytes)
        for tensor in header.tensors
    ] == [
        (
            tensor.name,
            int(tensor.tensor_type),
            tuple(int(side) for side in tensor.shape) or (1,),
            tensor.data_offset,
            tensor.n_bytes,
        )
        for tensor in reference.tensors
    ]
    for key, value in header.metadata.items():
        expected = reference.fields[key].contents()
        if isinstance(value, ArrayRef):
            found = [
                element.decode() if isinstance(element, bytes) else element
                for element in header.read_array(value)
            ]
            assert found == list(expected), key
        else:
            assert value == expected, key
    model = open_model(path)
    assert summarize(model).parameters == sum(int(tensor.n_elements) for tensor in reference.tensors)


def test_the_writers_split_model_is_found_from_any_part(tmp_path: Path) -> None:
    write(tmp_path / "model.gguf", llama, split_max_tensors=4)
    parts = sorted(tmp_path.iterdir())
    assert [part.name for part in parts] == [f"model-0000{number}-of-00003.gguf" for number in (1, 2, 3)]
    models = [open_model(part) for part in parts] + [open_model(parts[::-1])]
    for model in models:
        assert isinstance(model, GgufModel) and model.paths == tuple(parts)
        assert len(list(model.tensors)) == 10
        assert model.size_bytes == sum(part.stat().st_size for part in parts)
    summary = summarize(models[0])
    assert summary.size_bytes == models[0].size_bytes and sum(summary.tensor_types.values()) == 10


def test_the_writers_metadata_alone_is_a_vocabulary(tmp_path: Path) -> None:
    path = tmp_path / "vocab.gguf"
    writer = Writer(path, "qwen2")
    qwen2(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    assert open_gguf(path).role == "vocab"


def test_a_big_endian_file_of_the_writer_is_named_as_such(tmp_path: Path) -> None:
    path = tmp_path / "big.gguf"
    writer = Writer(path, "llama", endianess=gguf.GGUFEndian.BIG)
    _common(writer)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.close()
    with pytest.raises(Exception, match="big-endian GGUF"):
        open_gguf(path)
