"""Stand-ins for full-precision originals, made of quantized packages; they are references of their own.

    python -m benchmarks.originals SOURCE.gguf OUT.gguf [--dither SEED]

Without dither every weight keeps the value that the package holds, so formats whose grid is the package's own
look better on it than on a real original. ``--dither`` undoes the rounding: each weight moves by a uniform
amount within half a step of its group's grid, which gives a slightly different, continuous model in the same
basis (Lipshitz, Wannamaker and Vanderkooy 1992 on dither; a rotation would change which channels stand out).
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from quant.files.layout import Key, TensorEntry, inherited_pairs, lay_out
from quant.files.source import Source, SourceTensor, open_source
from quant.files.writer import PartFile
from quant.formats.format import Format
from quant.formats.registry import BY_GGML_TYPE
from runtime.gguf.values import ValueType

F32_TYPE, F16_TYPE = 0, 1
MOSTLY_F16 = 1
"""``general.file_type``"""
CHUNK_ROWS = 4096


def steps(fmt: Format, data: NDArray[np.uint8]) -> NDArray[np.float32]:
    """[n, block]: the distance between neighbouring levels, at each weight of ``data`` [n, block bytes]."""
    if not fmt.uniform:
        raise SystemExit(f"{fmt.name} has no even step; take a package in another format")
    blocks = fmt.unpack(data)
    scale = blocks.scale.astype(np.float32)[:, None]
    if blocks.scales is not None:
        scale = scale * blocks.scales.astype(np.float32)
    return np.repeat(np.abs(scale), fmt.block // scale.shape[1], axis=1)


def weights(
    source: Source, tensor: SourceTensor, start: int, stop: int, rng: np.random.Generator | None
) -> NDArray[np.float32]:
    """Rows of a tensor, dithered if there is a generator and the tensor is quantized."""
    rows = source.rows(tensor, start, stop)
    fmt = BY_GGML_TYPE.get(tensor.type.id)
    if rng is None or fmt is None:
        return rows
    data = np.frombuffer(source.raw(tensor, start, stop), np.uint8).reshape(-1, fmt.block_bytes)
    step = steps(fmt, data).reshape(rows.shape)
    moved: NDArray[np.float32] = rows + (rng.random(rows.shape, dtype=np.float32) - np.float32(0.5)) * step
    return moved


def make_original(package: Path, out: Path, dither: int | None = None) -> None:
    """Writes ``package`` with matrices in F16 and everything else in F32. ``out`` must not exist."""
    rng = None if dither is None else np.random.default_rng(dither)
    with open_source((package,)) as source:
        wide = {tensor.name: len(tensor.shape) < 2 for tensor in source.tensors}
        layout = lay_out(
            inherited_pairs(source.header),
            [Key("general.file_type", ValueType.U32, MOSTLY_F16)],
            [
                TensorEntry(
                    tensor.name,
                    F32_TYPE if wide[tensor.name] else F16_TYPE,
                    tensor.shape,
                    tensor.elements * (4 if wide[tensor.name] else 2),
                )
                for tensor in source.tensors
            ],
            source.header.alignment,
        )
        with PartFile(out, layout) as file:
            for tensor, placed in zip(source.tensors, layout.tensors, strict=True):
                kind = np.float32 if wide[tensor.name] else np.float16
                position = placed.position
                for start in range(0, tensor.rows, CHUNK_ROWS):
                    stop = min(start + CHUNK_ROWS, tensor.rows)
                    data = weights(source, tensor, start, stop, rng).astype(kind).tobytes()
                    file.write(position, data)
                    position += len(data)
            file.zero_padding()


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("source", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--dither", type=int, metavar="SEED")
    arguments = parser.parse_args()
    make_original(arguments.source, arguments.out, arguments.dither)


if __name__ == "__main__":
    main()
