"""Safetensors repositories for the tests, written without torch: small ones of every architecture, and
damaged ones.

``checkpoints/NAME.json`` has what transformers says of each: its config.json, the names and shapes of its
tensors, and what it computes of the weights that are made here. ``convert_reference.py`` writes those files.
"""

from __future__ import annotations

import json
import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

FOLDER = Path(__file__).with_name("checkpoints")
PROMPT = tuple((7 * index * index + 3 * index + 5) % 317 + 3 for index in range(40))
"""Ids of the 320 that the vocabularies have, without the three special ones."""
GREEDY_PROMPT, GREEDY_TOKENS = PROMPT[:8], 64
TOKENIZER = FOLDER / "tokenizer.json"


@dataclass(frozen=True)
class Described:
    """What transformers says of a checkpoint."""

    name: str
    config: Mapping[str, Any]
    tensors: Mapping[str, Sequence[int]]
    """Shapes by name."""
    last: Sequence[float] = ()
    """Logits behind PROMPT, or of an embedder the last token's vector."""
    span: float = 0.0
    """The largest of all logits behind PROMPT's tokens minus the smallest."""
    greedy: Sequence[int] = ()
    """Answer to GREEDY_PROMPT."""
    converted: Mapping[str, str] | None = None
    """Digest of all tensors as llama.cpp's converter writes them, by type."""

    @property
    def embedder(self) -> bool:
        return not self.greedy


@cache
def described() -> Mapping[str, Described]:
    """All of them, by name."""
    return {
        path.stem: Described(path.stem, **json.loads(path.read_text()))
        for path in sorted(FOLDER.glob("*.json"))
        if path != TOKENIZER
    }


def weights(name: str, tensors: Mapping[str, Sequence[int]]) -> dict[str, NDArray[np.float32]]:
    """Random weights, those of norms and biases too, so that none can be mistaken for another."""
    found = {}
    for tensor, shape in tensors.items():
        # The legacy generator: NumPy promises that its numbers stay the same.
        random = np.random.RandomState(zlib.crc32(f"{name}/{tensor}".encode()))
        values = random.standard_normal(math.prod(shape)).reshape(shape)
        if len(shape) == 1:
            norm = "norm" in tensor.lower() and tensor.endswith("weight") and "gemma" not in name
            values = values * 0.1 + norm
        else:
            values = values * 0.12
        found[tensor] = values.astype(np.float32)
    return found


def write_checkpoint(
    folder: Path, described: Described, *, dtype: str = "F32", shards: int = 1, changed: Any = None
) -> Path:
    """The repository in ``folder``: config.json, weights as ``dtype``, and a byte-level BPE of 320 tokens."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "config.json").write_text(json.dumps({**described.config, **(changed or {})}))
    (folder / "tokenizer.json").write_bytes(TOKENIZER.read_bytes())
    special = {"bos_token": "<|begin|>", "eos_token": "<|end|>", "pad_token": "<|pad|>"}
    (folder / "tokenizer_config.json").write_text(json.dumps(special))
    arrays = {
        name: (dtype, values.shape, as_bytes(dtype, values))
        for name, values in weights(described.name, described.tensors).items()
    }
    write_shards(folder, arrays, shards)
    return folder


Stored = tuple[str, Sequence[int], bytes]
"""Type, shape and bytes of a tensor."""


def write_shards(folder: Path, tensors: Mapping[str, Stored], shards: int = 1) -> None:
    """``tensors`` as one file, or as ``shards`` with an index."""
    if shards == 1:
        write_safetensors(folder / "model.safetensors", tensors)
        return
    names = list(tensors)
    where: dict[str, str] = {}
    for number in range(shards):
        file = f"model-{number + 1:05}-of-{shards:05}.safetensors"
        mine = names[number::shards]
        write_safetensors(folder / file, {name: tensors[name] for name in mine})
        where |= dict.fromkeys(mine, file)
    index = {"metadata": {}, "weight_map": where}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index))


def write_safetensors(path: Path, tensors: Mapping[str, Stored]) -> None:
    """A file as the format's description has it."""
    entries: dict[str, Any] = {"__metadata__": {"format": "pt"}}
    position = 0
    for name, (dtype, shape, data) in tensors.items():
        entries[name] = {
            "dtype": dtype,
            "shape": list(shape),
            "data_offsets": [position, position + len(data)],
        }
        position += len(data)
    write_raw(path, json.dumps(entries).encode(), b"".join(data for _, _, data in tensors.values()))


def write_raw(path: Path, header: bytes, data: bytes = b"", *, length: int | None = None) -> None:
    """A header as it is, with its length or another before it, and data behind it."""
    claimed = len(header) if length is None else length
    path.write_bytes(claimed.to_bytes(8, "little") + header + data)


def as_bytes(dtype: str, values: NDArray[np.float32]) -> bytes:
    """``values`` in a type of safetensors, rounded to nearest where it is BF16 or F16."""
    if dtype == "F32":
        return values.astype("<f4").tobytes()
    if dtype == "F16":
        return values.astype("<f2").tobytes()
    assert dtype == "BF16"
    bits = values.astype("<f4").view(np.uint32)
    return (((bits + 0x7FFF + ((bits >> 16) & 1)) >> 16).astype("<u2")).tobytes()
