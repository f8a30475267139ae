"""A GGUF that llama.cpp loads and runs at once: two random llama layers over a vocabulary of bytes."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

HIDDEN, HEADS, FEED_FORWARD, LAYERS, CONTEXT = 64, 2, 128, 2, 1024


def byte_tokens() -> list[str]:
    """GPT-2's spelling of the 256 bytes: printable ones as themselves, the others from U+0100 on."""
    printable = {*range(33, 127), *range(161, 173), *range(174, 256)}
    spare = iter(range(256, 512))
    return [chr(byte) if byte in printable else chr(next(spare)) for byte in range(256)]


def write_byte_model(
    path: Path,
    *,
    noise: float = 0.0,
    more_tokens: int = 1,
    first_token: bool = False,
    poison: float | None = None,
    context: int = CONTEXT,
) -> Path:
    """Writes the model: the same weights each time, but for ``noise`` on one matrix or a ``poison`` in it.

    ``more_tokens`` of no use follow the bytes, the pair "th", and the beginning and end of a text.
    """
    random = np.random.default_rng(1)
    tokens = [*byte_tokens(), "th", "<s>", "</s>", *(f"<more{index}>" for index in range(more_tokens))]
    kinds = [1] * 257 + [3] * (len(tokens) - 257)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_context_length(context)
    writer.add_embedding_length(HIDDEN)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(HIDDEN // HEADS)
    writer.add_vocab_size(len(tokens))
    writer.add_file_type(0)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types(kinds)
    writer.add_token_merges(["t h"])
    writer.add_bos_token_id(257)
    writer.add_eos_token_id(258)
    writer.add_add_bos_token(first_token)
    shapes = {"token_embd.weight": (len(tokens), HIDDEN), "output_norm.weight": (HIDDEN,)}
    for layer in range(LAYERS):
        name = f"blk.{layer}."
        shapes |= {f"{name}attn_norm.weight": (HIDDEN,), f"{name}ffn_norm.weight": (HIDDEN,)}
        shapes |= {f"{name}attn_{part}.weight": (HIDDEN, HIDDEN) for part in ("q", "k", "v", "output")}
        shapes |= {f"{name}ffn_{part}.weight": (FEED_FORWARD, HIDDEN) for part in ("gate", "up")}
        shapes[f"{name}ffn_down.weight"] = (HIDDEN, FEED_FORWARD)
    for tensor, shape in shapes.items():
        values = random.standard_normal(shape) * (0.3 if len(shape) == 2 else 0.1) + (len(shape) == 1)
        if tensor == "blk.1.ffn_up.weight":
            values += noise * np.random.default_rng(2).standard_normal(shape)
            if poison is not None:
                values[3, 5] = poison
        writer.add_tensor(tensor, values.astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
