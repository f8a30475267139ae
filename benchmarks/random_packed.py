"""Models with random weights in formats of localq's own, or codebooks of ggml's, to measure memory and speed.

    python -m benchmarks.random_packed SOURCE.gguf OUT.gguf --format lt2 --states 6 [--output lt4]
    python -m benchmarks.random_packed SOURCE.gguf OUT.gguf --format iq2_xxs

SOURCE is a model of one file: its metadata, its vocabulary and what is no matrix are taken over. Every byte
string is some matrix, so codes are drawn; scales keep a result as large as its input. Their text is noise.
"""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import gguf
import numpy as np
from numpy.typing import NDArray

from runtime.gguf.packed import FORMATS, LOOKED_UP, STRIP_ROWS, input_block, matrix_bytes
from runtime.gguf.tensors import pad

PREFIX = "localq.packed."
SAME_INPUT = {"attn_k": "attn_q", "attn_v": "attn_q", "ffn_up": "ffn_gate"}
DRAWN = 1 << 22
CODEBOOKS = ("iq2_xxs", "iq3_xxs")
"""Of ggml's types, those whose every byte string is a block: a scale in half precision, then codes."""


class Section:
    """The packed section under way: pieces by their offset, and the directory."""

    def __init__(self, seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.pieces: list[tuple[int, NDArray[np.uint8]]] = []
        self.end = 0
        self.tensors: list[dict[str, int | str]] = []
        self.inputs: list[dict[str, int]] = []
        self.tables: list[dict[str, int]] = []
        self._inputs: dict[str, int] = {}
        self._tables: dict[tuple[str, int], int] = {}

    def place(self, data: NDArray[np.uint8]) -> int:
        offset = self.end
        self.pieces.append((offset, data))
        self.end = pad(offset + data.nbytes, 64)
        return offset

    def add(self, name: str, shape: tuple[int, ...], form: str, states: int) -> None:
        """A matrix of ``shape`` (ggml's order: columns, rows, experts)."""
        columns, rows, *more = shape
        experts = more[0] if more else 1
        bits = FORMATS[form]
        drawn = self.rng.integers(0, 256, DRAWN, dtype=np.uint8)
        strips = np.resize(drawn, (experts * -(-rows // STRIP_ROWS), 2 * STRIP_ROWS + 8 * bits * columns))
        scale = np.float16(1 / (30 * np.sqrt(columns)))
        strips[:, : 2 * STRIP_ROWS] = np.frombuffer(np.full(STRIP_ROWS, scale).tobytes(), np.uint8)
        if rows % STRIP_ROWS:
            strips[-(-rows // STRIP_ROWS) - 1 :: -(-rows // STRIP_ROWS), 2 * (rows % STRIP_ROWS) : 128] = 0
        size = experts * matrix_bytes(bits, rows, columns)
        assert strips.nbytes == size
        self.tensors.append(
            {
                "name": name,
                "format": form,
                "states": states,
                "rows": rows,
                "columns": columns,
                "experts": experts,
                "offset": self.place(strips.reshape(-1)),
                "size": size,
                "input": self._input(name, columns),
                "table": self._table(form, states),
            }
        )

    def _input(self, name: str, columns: int) -> int:
        for same, first in SAME_INPUT.items():
            name = name.replace(f".{same}.", f".{first}.")
        if name not in self._inputs:
            signs = np.zeros(pad(columns // 8, 64), np.uint8)
            signs[: columns // 8] = self.rng.integers(0, 256, columns // 8)
            order = np.zeros(pad(2 * columns, 64) // 2, "<u2")
            order[:columns] = self.rng.permutation(columns)
            offset = self.place(np.concatenate([signs, order.view(np.uint8)]))
            self._inputs[name] = len(self.inputs)
            self.inputs.append({"columns": columns, "block": input_block(columns), "offset": offset})
        return self._inputs[name]

    def _table(self, form: str, states: int) -> int:
        """A normal distribution's values."""
        if (form, states) not in self._tables:
            values = self.rng.normal(0, 30, 1 << states).clip(-64, 64).round().astype(np.int8)
            offset = self.place(np.resize(values.view(np.uint8), pad(1 << states, 64)))
            self._tables[form, states] = len(self.tables)
            self.tables.append({"states": states, "offset": offset})
        return self._tables[form, states]


def write_packed(
    source: Path, target: Path, form: str, states: int, output: str | None = None, output_states: int = 6
) -> Path:
    """``source`` with its matrices drawn anew in ``form``; the output's in ``output``, where it is given."""
    reader = gguf.GGUFReader(source)
    writer = gguf.GGUFWriter(target, str(reader.fields["general.architecture"].contents()))
    section = Section()
    matrix = re.compile(r"blk\.\d+\.(attn_(q|k|v|output)|ffn_\w+)\.weight")
    for key, field in reader.fields.items():
        kind = field.types[0]
        if key.startswith(("GGUF.", "split.", "localq.")) or key == "general.architecture":
            continue
        if kind == gguf.GGUFValueType.ARRAY:
            writer.add_array(key, field.contents())
        else:
            writer.add_key_value(key, field.contents(), kind)
    tied = all(tensor.name != "output.weight" for tensor in reader.tensors)
    for tensor in reader.tensors:
        shape = tuple(int(size) for size in tensor.shape)
        if matrix.fullmatch(tensor.name) and len(shape) > 1 and form in CODEBOOKS:
            writer.add_tensor(tensor.name, *_blocks(section.rng, shape, form))
        elif matrix.fullmatch(tensor.name) and len(shape) > 1 and "gate_inp" not in tensor.name:
            section.add(tensor.name, shape, form, states)
        elif tensor.name == "output.weight" and output:
            section.add(tensor.name, shape, output, output_states)
        else:
            writer.add_tensor(tensor.name, tensor.data, raw_dtype=tensor.tensor_type)
            if LOOKED_UP.match(tensor.name) and tied and output:
                section.add("output.weight", shape, output, output_states)
    if section.tensors:
        _add_directory(writer, section)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    if section.tensors:
        start = pad(target.stat().st_size, 4096)
        with target.open("r+b") as file:
            for offset, data in section.pieces:
                file.seek(start + offset)
                file.write(data.tobytes())
            file.truncate(start + section.end)
    return target


def _blocks(
    rng: np.random.Generator, shape: tuple[int, ...], form: str
) -> tuple[NDArray[np.uint8], None, gguf.GGMLQuantizationType]:
    """What gguf's writer takes of a tensor behind its name: bytes, no shape beside theirs, and the type."""
    kind = gguf.GGMLQuantizationType[form.upper()]
    weights, size = gguf.GGML_QUANT_SIZES[kind]
    rows = np.resize(rng.integers(0, 256, DRAWN, dtype=np.uint8), (*shape[:0:-1], shape[0] // weights, size))
    rows[..., :2] = np.frombuffer(np.float16(1 / (200 * np.sqrt(shape[0]))).tobytes(), np.uint8)
    return rows.reshape(*shape[:0:-1], -1), None, kind


def _add_directory(writer: gguf.GGUFWriter, section: Section) -> None:
    writer.add_uint32(f"{PREFIX}version", 1)
    writer.add_uint64(f"{PREFIX}bytes", section.end)
    for kind, rows in (("tensors", section.tensors), ("inputs", section.inputs), ("tables", section.tables)):
        for key in rows[0]:
            # gguf writes Python's whole numbers as I32: a sized type has to be named
            _add_array(writer, f"{PREFIX}{kind}.{key}", [row[key] for row in rows])


def _add_array(writer: gguf.GGUFWriter, key: str, values: list[int | str]) -> None:
    small = ("states", "input", "table", "block")
    kind = (
        gguf.GGUFValueType.STRING
        if isinstance(values[0], str)
        else gguf.GGUFValueType.UINT32
        if key.endswith(small)
        else gguf.GGUFValueType.UINT64
    )
    writer.add_key_value(key, values, gguf.GGUFValueType.ARRAY, sub_type=kind)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("source", type=Path)
    parser.add_argument("target", type=Path)
    parser.add_argument("--format", choices=(*FORMATS, *CODEBOOKS), default="lt2")
    parser.add_argument("--states", type=int, choices=(4, 6, 8), default=6)
    parser.add_argument("--output", choices=FORMATS, help="the output's matrix too, with states of 6 bits")
    given = parser.parse_args()
    print(write_packed(given.source, given.target, given.format, given.states, given.output))


if __name__ == "__main__":
    main()
