"""Small random llamas with matrices in LT formats, and the same model with those weights in F32."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from benchmarks.random_packed import write_packed
from runtime.gguf import open_gguf
from runtime.gguf.header import GgufHeader
from runtime.gguf.packed import PackedSection, PackedTensor
from runtime.gguf.packed_data import PackedData, read_packed_data
from runtime.kernels.lt import LtMatrix
from runtime.kernels.products import aligned
from tests.runtime.lt_cases import hadamard, weights
from tests.runtime.watched_model import WatchedLlama


def write_pair(folder: Path, llama: WatchedLlama, form: str, states: int) -> tuple[Path, Path]:
    """The packed file, and one in F32 whose matrices are what the packed ones stand for."""
    own = write_packed(llama.write(folder / "source.gguf"), folder / "own.gguf", form, states, output=form)
    header = open_gguf(own)
    assert header.packed is not None
    data = read_packed_data(header, header.packed)
    llama.tied = False
    for tensor in header.packed.tensors:
        name = tensor.name.removesuffix(".weight")
        shape = tensor.shape[::-1]
        llama.weights[name] = plain_weights(header, header.packed, data, tensor).reshape(shape)
    return own, llama.write(folder / "plain.gguf")


def plain_weights(
    header: GgufHeader, section: PackedSection, data: PackedData, tensor: PackedTensor
) -> NDArray[np.float64]:
    """[experts, rows, columns] for inputs as they are: the transform is taken into the matrix."""
    columns, rows = tensor.shape[:2]
    packed = aligned(tensor.nbytes)
    with header.path.open("rb") as file:
        file.seek(section.offset + tensor.offset)
        packed[:] = np.frombuffer(file.read(tensor.nbytes), np.uint8)
    signs, order = data.inputs[tensor.input]
    found = np.zeros((tensor.experts, rows, columns))
    each = tensor.nbytes // tensor.experts
    for expert in range(tensor.experts):
        strips = packed[expert * each : (expert + 1) * each]
        table = data.tables[tensor.table]
        found[expert][:, order] = weights(LtMatrix(tensor.bits, tensor.states, rows, columns, table, strips))
    block = tensor.input.block
    turned = found.reshape(tensor.experts, rows, -1, block) @ hadamard(block) / np.sqrt(block)
    minus = np.unpackbits(signs, bitorder="little").astype(np.float64)
    plain: NDArray[np.float64] = turned.reshape(found.shape) * (1 - 2 * minus)
    return plain
