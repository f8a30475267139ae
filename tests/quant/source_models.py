"""Small models to quantize: llama's tensors and keys, random weights, any width, or damaged."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

VOCABULARY = 96
Change = Callable[[str, NDArray[np.float32]], NDArray[np.float32]]


@dataclass(frozen=True)
class Shape:
    """A small llama."""

    hidden: int = 256
    width: int = 256
    layers: int = 2
    tied: bool = True
    experts: int = 0

    def matrices(self) -> Mapping[str, tuple[int, ...]]:
        """Names, and shapes in NumPy's order."""
        shapes: dict[str, tuple[int, ...]] = {"token_embd.weight": (VOCABULARY, self.hidden)}
        stack = (self.experts,) if self.experts else ()
        suffix = "_exps" if self.experts else ""
        for layer in range(self.layers):
            at = f"blk.{layer}."
            shapes[f"{at}attn_norm.weight"] = shapes[f"{at}ffn_norm.weight"] = (self.hidden,)
            shapes[f"{at}attn_q.weight"] = shapes[f"{at}attn_output.weight"] = (self.hidden, self.hidden)
            shapes[f"{at}attn_k.weight"] = shapes[f"{at}attn_v.weight"] = (64, self.hidden)
            if self.experts:
                shapes[f"{at}ffn_gate_inp.weight"] = (self.experts, self.hidden)
            shapes[f"{at}ffn_gate{suffix}.weight"] = (*stack, self.width, self.hidden)
            shapes[f"{at}ffn_up{suffix}.weight"] = (*stack, self.width, self.hidden)
            shapes[f"{at}ffn_down{suffix}.weight"] = (*stack, self.hidden, self.width)
        shapes["output_norm.weight"] = (self.hidden,)
        if not self.tied:
            shapes["output.weight"] = (VOCABULARY, self.hidden)
        return shapes


def write_source(
    path: Path,
    shape: Shape = Shape(),
    *,
    plain: type[np.float16] | type[np.float32] = np.float16,
    change: Change = lambda _name, values: values,
    seed: int = 0,
) -> Path:
    """Writes the model: matrices as ``plain``, norms as F32; ``change`` may damage a tensor's values."""
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_name("Small model")
    writer.add_license("mit")
    writer.add_context_length(512)
    writer.add_embedding_length(shape.hidden)
    writer.add_block_count(shape.layers)
    writer.add_feed_forward_length(shape.width)
    writer.add_head_count(shape.hidden // 64)
    writer.add_head_count_kv(1)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(64)
    writer.add_vocab_size(VOCABULARY)
    writer.add_file_type(1)
    if shape.experts:
        writer.add_expert_count(shape.experts)
        writer.add_expert_used_count(2)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("default")
    writer.add_token_list([f"t{index}" for index in range(VOCABULARY)])
    writer.add_token_types([1] * VOCABULARY)
    writer.add_token_merges(["t 1"])
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_array("test.numbers", [1, 2, 3])
    writer.add_string("test.words", "ünïcode \x1b[31m")
    random = np.random.default_rng(seed)
    for name, dimensions in shape.matrices().items():
        values = change(name, (random.standard_normal(dimensions) * 0.05).astype(np.float32))
        writer.add_tensor(name, values if len(dimensions) == 1 else values.astype(plain))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def put(tensor: str, row: int, value: float) -> Change:
    """Puts one value into the first column of a row of a tensor."""

    def change(name: str, values: NDArray[np.float32]) -> NDArray[np.float32]:
        if name == tensor:
            values.reshape(-1, values.shape[-1])[row, 0] = value
        return values

    return change
