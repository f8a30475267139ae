"""Conversion against a plain copy: ``python -m benchmarks.bench_convert FOLDER [--rounds N]``.

Makes a BF16 checkpoint of TinyLlama's shape (1.1B weights, random, in two shards) in FOLDER once, and
converts it: as it is stored, and to F16. Each is set beside ``cp`` of the same files followed by fsync, in
turns; the medians count. A conversion runs in a process of its own, whose peak memory (VmHWM) is all of it,
Python included; ``base`` is that of a process which imports the same and converts nothing.
"""

from __future__ import annotations

import argparse
import json
import math
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np

HIDDEN, INNER, LAYERS, VOCABULARY, KV = 2048, 5632, 22, 32000, 256
MIB = 1 << 20
CHILD = """
import re, sys, time
from pathlib import Path
from quant.convert.convert import convert
begin = time.perf_counter()
if len(sys.argv) > 2:
    convert(Path(sys.argv[1]), Path(sys.argv[2]), outtype=sys.argv[3] or None, replace=True)
took = time.perf_counter() - begin
print(took, re.search(r"VmHWM:\\s+(\\d+)", Path("/proc/self/status").read_text())[1])
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--tokenizer", type=Path, required=True, help="a tokenizer.json of at most 32000 tokens"
    )
    options = parser.parse_args()
    source = options.folder / "TinyLlama-random"
    if not (source / "config.json").exists():
        make_checkpoint(source, options.tokenizer)
    nbytes = sum(path.stat().st_size for path in source.glob("*.safetensors"))
    seconds: dict[str, list[float]] = {"copy": [], "convert": [], "convert to f16": []}
    peaks = {}
    for _ in range(options.rounds):
        seconds["copy"].append(copy(source, options.folder / "copy"))
        for name, outtype in (("convert", ""), ("convert to f16", "f16")):
            took, peaks[name] = child(str(source), str(options.folder / "made.gguf"), outtype)
            seconds[name].append(took)
            (options.folder / "made.gguf").unlink()
    base = child()[1]
    largest = max(math.prod(shape) for _, shape in shapes()) * 2
    medians = {name: statistics.median(found) for name, found in seconds.items()}
    for name, median in medians.items():
        share = medians["copy"] / median
        peak = f", peak {peaks[name] / MIB:.0f} MiB" if name in peaks else ""
        print(f"{name:16} {median:6.2f} s  {nbytes / median / 1e6:6.0f} MB/s  {share:5.0%} of copy{peak}")
    print(f"base {base / MIB:.0f} MiB; allowed {(3 * largest + 300e6) / MIB:.0f} MiB")


def copy(source: Path, folder: Path) -> float:
    """Seconds to copy all weights to ``folder``, to the disk."""
    folder.mkdir(exist_ok=True)
    begin = time.perf_counter()
    for path in sorted(source.glob("*.safetensors")):
        subprocess.run(["cp", str(path), str(folder)], check=True)
        with (folder / path.name).open("rb+") as copied:
            os.fsync(copied.fileno())
    took = time.perf_counter() - begin
    for path in folder.iterdir():
        path.unlink()
    return took


def child(*arguments: str) -> tuple[float, int]:
    """Seconds of a conversion, and the peak memory of its process in bytes."""
    done = subprocess.run(
        [sys.executable, "-c", CHILD, *arguments], capture_output=True, text=True, check=True
    )
    seconds, kibibytes = done.stdout.split()
    return float(seconds), int(kibibytes) << 10


def make_checkpoint(folder: Path, tokenizer: Path) -> None:
    """Random weights in BF16: one stream of numbers, repeated."""
    folder.mkdir(parents=True, exist_ok=True)
    normal = np.random.default_rng(0).standard_normal(1 << 22, dtype=np.float32)
    pool = memoryview((normal.view(np.uint32) >> 16).astype(np.uint16).data).cast("B")
    found = list(shapes())
    halves = (found[: len(found) // 2], found[len(found) // 2 :])
    where: dict[str, str] = {}
    for number, part in enumerate(halves, 1):
        file = f"model-{number:05}-of-{len(halves):05}.safetensors"
        entries, position = {}, 0
        for name, shape in part:
            end = position + 2 * math.prod(shape)
            entries[name] = {"dtype": "BF16", "shape": list(shape), "data_offsets": [position, end]}
            position, where[name] = end, file
        header = json.dumps(entries).encode()
        with (folder / file).open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            for start in range(0, position, len(pool)):
                out.write(pool[: min(len(pool), position - start)])
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": where}))
    (folder / "tokenizer.json").write_bytes(tokenizer.read_bytes())
    config = {
        "architectures": ["LlamaForCausalLM"],
        "hidden_size": HIDDEN,
        "intermediate_size": INNER,
        "num_hidden_layers": LAYERS,
        "num_attention_heads": 32,
        "num_key_value_heads": 4,
        "vocab_size": VOCABULARY,
        "rms_norm_eps": 1e-5,
        "max_position_embeddings": 2048,
    }
    (folder / "config.json").write_text(json.dumps(config))


def shapes() -> Iterator[tuple[str, tuple[int, ...]]]:
    """TinyLlama's tensors."""
    yield "model.embed_tokens.weight", (VOCABULARY, HIDDEN)
    for layer in range(LAYERS):
        at = f"model.layers.{layer}."
        yield f"{at}input_layernorm.weight", (HIDDEN,)
        yield f"{at}post_attention_layernorm.weight", (HIDDEN,)
        yield f"{at}mlp.down_proj.weight", (HIDDEN, INNER)
        yield f"{at}mlp.gate_proj.weight", (INNER, HIDDEN)
        yield f"{at}mlp.up_proj.weight", (INNER, HIDDEN)
        yield f"{at}self_attn.q_proj.weight", (HIDDEN, HIDDEN)
        yield f"{at}self_attn.k_proj.weight", (KV, HIDDEN)
        yield f"{at}self_attn.v_proj.weight", (KV, HIDDEN)
        yield f"{at}self_attn.o_proj.weight", (HIDDEN, HIDDEN)
    yield "model.norm.weight", (HIDDEN,)
    yield "lm_head.weight", (VOCABULARY, HIDDEN)


if __name__ == "__main__":
    main()
