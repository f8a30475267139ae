"""Models with random weights, for measuring memory and speed: a real vocabulary, any shape, any quantization.

    python -m benchmarks.random_model SOURCE.gguf OUT.gguf --layers 16 --embedding 2048 --width 8192 \
        --heads 32 --kv-heads 8 --type Q4_0

Their text is noise. The vocabulary and its tokenizer are those of SOURCE.
"""

from __future__ import annotations

import argparse
import ctypes
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np

SPREAD = 0.02


@dataclass(frozen=True)
class RandomShape:
    """A dense transformer of llama's kind."""

    layers: int
    embedding: int
    width: int
    heads: int
    kv_heads: int
    context: int = 8192

    def matrices(self, vocabulary: int) -> Iterator[tuple[str, tuple[int, int]]]:
        """Name and (rows, row length) of every matrix."""
        keys = self.embedding // self.heads * self.kv_heads
        yield "token_embd", (vocabulary, self.embedding)
        for layer in range(self.layers):
            at = f"blk.{layer}."
            yield at + "attn_q", (self.embedding, self.embedding)
            yield at + "attn_k", (keys, self.embedding)
            yield at + "attn_v", (keys, self.embedding)
            yield at + "attn_output", (self.embedding, self.embedding)
            yield at + "ffn_gate", (self.width, self.embedding)
            yield at + "ffn_up", (self.width, self.embedding)
            yield at + "ffn_down", (self.embedding, self.width)


def write_random(source: Path, target: Path, shape: RandomShape) -> None:
    """Write an F16 model of ``shape`` with the vocabulary of ``source``; the seed is fixed."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, "llama")
    for key, field in reader.fields.items():
        if not key.startswith("tokenizer."):
            continue
        kind = field.types[0]
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), kind)
    vocabulary = len(reader.fields["tokenizer.ggml.tokens"].data)
    writer.add_block_count(shape.layers)
    writer.add_context_length(shape.context)
    writer.add_embedding_length(shape.embedding)
    writer.add_feed_forward_length(shape.width)
    writer.add_head_count(shape.heads)
    writer.add_head_count_kv(shape.kv_heads)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(shape.embedding // shape.heads)
    writer.add_vocab_size(vocabulary)
    writer.add_file_type(1)
    rng = np.random.default_rng(0)
    for name, size in shape.matrices(vocabulary):
        values = rng.standard_normal(size, dtype=np.float32) * SPREAD
        writer.add_tensor(f"{name}.weight", values.astype(np.float16))
    ones = np.ones(shape.embedding, np.float32)
    writer.add_tensor("output_norm.weight", ones)
    for layer in range(shape.layers):
        writer.add_tensor(f"blk.{layer}.attn_norm.weight", ones)
        writer.add_tensor(f"blk.{layer}.ffn_norm.weight", ones)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()


def make_random(source: Path, target: Path, shape: RandomShape, kind: str) -> Path:
    """A random model quantized as ``kind`` (``F16`` = not at all); one that is there already is kept."""
    if target.exists():
        return target
    plain = target if kind == "F16" else target.with_suffix(".f16.tmp")
    write_random(source, plain, shape)
    if kind != "F16":
        # a process of its own: quantizing takes gigabytes that this one would keep
        command = [sys.executable, "-m", "benchmarks.random_model", "--quantize", kind]
        subprocess.run([*command, str(plain), str(target)], check=True)
        plain.unlink()
    return target


def quantize(source: Path, target: Path, kind: str) -> None:
    """Quantize by llama.cpp, in this process."""
    from llama_cpp import llama_cpp as native

    silent = native.llama_log_callback(lambda *_: None)
    native.llama_log_set(silent, None)
    params = native.llama_model_quantize_default_params()
    params.ftype = getattr(native, f"LLAMA_FTYPE_MOSTLY_{kind}")
    if native.llama_model_quantize(str(source).encode(), str(target).encode(), ctypes.byref(params)) != 0:
        raise SystemExit(f"llama.cpp could not quantize {source} to {kind}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--quantize", metavar="TYPE", help="only quantize SOURCE")
    parser.add_argument("--type", default="F16")
    for name, default in (
        ("layers", 16),
        ("embedding", 2048),
        ("width", 8192),
        ("heads", 32),
        ("kv-heads", 8),
    ):
        parser.add_argument(f"--{name}", type=int, default=default)
    given = parser.parse_args()
    if given.quantize:
        quantize(given.source, given.target, given.quantize)
        return
    shape = RandomShape(given.layers, given.embedding, given.width, given.heads, given.kv_heads)
    print(make_random(given.source, given.target, shape, given.type))


if __name__ == "__main__":
    main()
