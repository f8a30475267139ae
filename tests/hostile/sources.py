"""Models to quantize, damaged: each must be refused with its tensor named, and nothing be published.

    good = write_source(folder / "good.gguf")
    for case in damaged_sources(good):
        path = case.write(folder)

What the header shows is refused by its reader (``GgufError`` of the ``rule``); NaN and infinities among the
weights only by who reads these (``SourceDamaged`` with the ``tensor``). Both messages name the tensor.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from math import prod
from pathlib import Path

import numpy as np

from runtime.gguf import GgufHeader, TensorInfo, open_gguf
from runtime.gguf.ggml_types import GGML_TYPES_BY_NAME
from tests.hostile.gguf_bytes import SPM_TOKENS, Tensor, build, llama_keys, u32

HIDDEN = 256
"""Super-blocks of 256 fit, so that every format does."""

MATRICES = {
    "token_embd.weight": ("F16", len(SPM_TOKENS)),
    "blk.0.attn_q.weight": ("F32", HIDDEN),
    "blk.0.attn_k.weight": ("BF16", HIDDEN),
    "blk.0.attn_v.weight": ("Q8_0", HIDDEN),
    "blk.0.attn_output.weight": ("Q4_K", HIDDEN),
    "blk.0.ffn_gate.weight": ("F16", HIDDEN),
    "blk.0.ffn_up.weight": ("F16", HIDDEN),
    "blk.0.ffn_down.weight": ("F16", HIDDEN),
}
"""Name -> type and rows: a model of one layer whose matrices have every type that is damaged here."""

NORMS = ("output_norm.weight", "blk.0.attn_norm.weight", "blk.0.ffn_norm.weight")

HALF = {"nan": 0x7E00, "signalling-nan": 0x7C01, "inf": 0x7C00, "minus-inf": 0xFC00}
BRAIN = {"nan": 0x7FC0, "signalling-nan": 0x7F81, "inf": 0x7F80, "minus-inf": 0xFF80}
SINGLE = {"nan": 0x7FC00000, "signalling-nan": 0x7F800001, "inf": 0x7F800000, "minus-inf": 0xFF800000}


@dataclass(frozen=True)
class Numbers:
    """Where a type keeps the numbers of a block that may not be finite, and what such numbers look like."""

    places: tuple[int, ...]
    """Bytes from the block's begin."""
    size: int
    bad: dict[str, int]


NUMBERS = {
    "F32": Numbers((0,), 4, SINGLE),
    "F16": Numbers((0,), 2, HALF),
    "BF16": Numbers((0,), 2, BRAIN),
    "Q8_0": Numbers((0,), 2, HALF),
    "Q4_K": Numbers((0, 2), 2, HALF),
}


@dataclass(frozen=True)
class Edit:
    """Bytes that replace those at ``position``."""

    position: int
    data: bytes


@dataclass(frozen=True)
class DamagedSource:
    """A good file with one damage."""

    name: str
    tensor: str
    """Which must be named."""
    good: Path
    rule: str | None = None
    """Of the ``GgufError``; None where only the weights show the damage."""
    element: int | None = None
    """Index of the first weight that is not finite, row by row, where the damage is one."""
    edits: tuple[Edit, ...] = ()
    length: int | None = None
    """Where the file is cut off."""

    def write(self, folder: Path) -> Path:
        """The damaged file, in ``folder``."""
        data = bytearray(self.good.read_bytes()[: self.length])
        for edit in self.edits:
            data[edit.position : edit.position + len(edit.data)] = edit.data
        path = folder / f"{self.name}.gguf"
        path.write_bytes(data)
        return path


def write_source(path: Path, seed: int = 0) -> Path:
    """A small whole model with random weights of :data:`MATRICES`; its header and its data are sound."""
    random = np.random.default_rng(seed)
    keys = llama_keys(
        llama__embedding_length=u32(HIDDEN),
        llama__feed_forward_length=u32(HIDDEN),
        llama__attention__head_count_kv=u32(4),
        llama__rope__dimension_count=u32(HIDDEN // 4),
    )
    contents = {name: _weights(kind, rows, random) for name, (kind, rows) in MATRICES.items()}
    tensors = [
        Tensor(name, (HIDDEN, rows), GGML_TYPES_BY_NAME[kind].id, nbytes=len(contents[name]))
        for name, (kind, rows) in MATRICES.items()
    ]
    norms = [Tensor(name, (HIDDEN,)) for name in NORMS]
    path.write_bytes(build(keys, [*norms, *tensors]))
    header = open_gguf(path)
    data = bytearray(path.read_bytes())
    for tensor in header.tensors:
        content = contents.get(tensor.name, np.ones(HIDDEN, np.float32).tobytes())
        begin = header.data_offset + tensor.offset
        data[begin : begin + len(content)] = content
    path.write_bytes(data)
    return path


def damaged_sources(good: Path) -> list[DamagedSource]:
    """Every damage to ``good``, each to a tensor of its own choice; names are unique."""
    header = open_gguf(good)
    return [
        *_not_finite(good, header),
        *_cut_off(good, header),
        *_misplaced(good, header),
        *_misshapen(good, header),
    ]


def _not_finite(good: Path, header: GgufHeader) -> Iterator[DamagedSource]:
    """NaN and infinities as first, middle and last weight of a matrix and a vector of each type."""
    seen = set()
    for tensor in header.tensors:
        kind = tensor.type.name
        form = kind.lower() if len(tensor.shape) > 1 else f"{kind.lower()}-vector"
        if form in seen or kind not in NUMBERS:
            continue
        seen.add(form)
        for where, element in _elements(tensor):
            block = element // tensor.type.block_size
            begin = header.data_offset + tensor.offset + block * tensor.type.block_bytes
            numbers = NUMBERS[kind]
            for place in numbers.places:
                for what, bits in numbers.bad.items():
                    at = f"-{place}" if len(numbers.places) > 1 else ""
                    yield DamagedSource(
                        f"{form}-{what}-{where}{at}",
                        tensor.name,
                        good,
                        element=block * tensor.type.block_size,
                        edits=(Edit(begin + place, bits.to_bytes(numbers.size, "little")),),
                    )


def _elements(tensor: TensorInfo) -> Sequence[tuple[str, int]]:
    count = prod(tensor.shape)
    return ("first", 0), ("middle", count // 2), ("last", count - 1)


def _cut_off(good: Path, header: GgufHeader) -> Iterator[DamagedSource]:
    first, last = header.tensors[0], header.tensors[-1]
    middle = header.tensors[len(header.tensors) // 2]
    for where, tensor, inside in (
        ("in-the-first-tensor", first, first.nbytes // 2),
        ("in-a-middle-tensor", middle, middle.nbytes // 2),
        ("before-a-middle-tensor", middle, 0),
        ("before-the-last-tensor", last, 0),
        ("in-the-last-tensor", last, last.nbytes // 2),
        ("by-one-byte", last, last.nbytes - 1),
    ):
        length = header.data_offset + tensor.offset + inside
        yield DamagedSource(f"cut-off-{where}", tensor.name, good, "truncated", length=length)
    yield DamagedSource("cut-off-before-all-data", first.name, good, "truncated", length=header.data_offset)


def _misplaced(good: Path, header: GgufHeader) -> Iterator[DamagedSource]:
    """Wrong offsets: into other tensors, out of the file, and where reading would leak what lies beyond."""
    last = header.tensors[-1]
    middle = header.tensors[len(header.tensors) // 2]
    data_bytes = header.file_size - header.data_offset
    for what, tensor, offset in (
        ("32-bytes-before-the-end", last, data_bytes - 32),
        ("at-the-end", last, data_bytes),
        ("far-beyond-the-end", last, 1 << 40),
        ("where-the-sum-wraps-around", last, (1 << 64) - 32),
        ("over-another-tensor", middle, 0),
        ("unaligned", middle, middle.offset + 1),
        ("after-a-gap", middle, middle.offset + 32),
    ):
        edit = Edit(_entry(good, header, tensor) + 4, struct.pack("<Q", offset))
        yield DamagedSource(f"offset-{what}", tensor.name, good, "bad-offset", edits=(edit,))


def _misshapen(good: Path, header: GgufHeader) -> Iterator[DamagedSource]:
    """Shapes and types that say another length than the data has."""
    last = header.tensors[-1]
    middle = header.tensors[len(header.tensors) // 2]
    for what, tensor, dimension, size, rule in (
        ("no-rows", middle, 1, 0, "bad-shape"),
        ("no-columns", middle, 0, 0, "bad-shape"),
        ("negative-rows", middle, 1, (1 << 64) - 1, "bad-shape"),
        ("more-rows-than-data", last, 1, last.shape[1] + 1, "truncated"),
        ("2-40-rows", last, 1, 1 << 40, "truncated"),
    ):
        entry = _entry(good, header, tensor)
        edit = Edit(entry - 8 * (len(tensor.shape) - dimension), struct.pack("<Q", size))
        yield DamagedSource(f"shape-of-{what}", tensor.name, good, rule, edits=(edit,))
    for what, number, rule in (
        ("that-is-wider", GGML_TYPES_BY_NAME["F32"].id, "truncated"),
        ("that-was-removed", 4, "removed-type"),
        ("that-is-unknown", 255, "bad-tensor-type"),
    ):
        edit = Edit(_entry(good, header, last), struct.pack("<I", number))
        yield DamagedSource(f"type-{what}", last.name, good, rule, edits=(edit,))


def _entry(good: Path, header: GgufHeader, tensor: TensorInfo) -> int:
    """Position of the type of ``tensor`` in the table; its shape lies before it, its offset behind."""
    name = tensor.name.encode()
    marked = struct.pack("<Q", len(name)) + name + struct.pack("<I", len(tensor.shape))
    begin = good.read_bytes()[: header.data_offset].index(marked)
    return begin + len(marked) + 8 * len(tensor.shape)


def _weights(kind: str, rows: int, random: np.random.Generator) -> bytes:
    """Random weights of a type, all finite."""
    values = (random.standard_normal((rows, HIDDEN)) * 0.05).astype(np.float32)
    if kind == "F32":
        return values.tobytes()
    if kind == "F16":
        return values.astype(np.float16).tobytes()
    if kind == "BF16":
        return (values.view(np.uint32) >> 16).astype(np.uint16).tobytes()
    # any codes and small scales will do
    info = GGML_TYPES_BY_NAME[kind]
    blocks = random.integers(0, 256, (rows * HIDDEN // info.block_size, info.block_bytes), np.uint8)
    for place in NUMBERS[kind].places:
        scales = random.uniform(0.0001, 0.001, len(blocks)).astype(np.float16)
        blocks[:, place : place + 2] = scales.view(np.uint8).reshape(-1, 2)
    return blocks.tobytes()
