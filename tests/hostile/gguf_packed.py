"""Packed sections that lie: directories that contradict themselves or the file (G34)."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_bytes import Value, build, llama_keys, numbers, strings, u32, value
from tests.hostile.gguf_case import Hostile

COLUMNS, ROWS, STATES = 64, 100, 4
MATRIX_BYTES = 2 * (128 + 8 * 2 * COLUMNS)
INPUT_AT, TABLE_AT = 0, 64 + 128
FIRST_AT, SECOND_AT = TABLE_AT + 64, TABLE_AT + 64 + MATRIX_BYTES
SECTION_BYTES = SECOND_AT + MATRIX_BYTES
PREFIX = "localq.packed."


def directory(**changes: Value | None) -> dict[str, Value]:
    """Two matrices in LT2 that share an input and a table; ``tensors__rows=...`` changes a key."""
    keys: dict[str, Value] = {
        "version": u32(1),
        "bytes": value(g.U64, SECTION_BYTES),
        "tensors.name": strings(["blk.0.attn_q.weight", "blk.0.attn_k.weight"]),
        "tensors.format": strings(["lt2", "lt2"]),
        "tensors.states": numbers(g.U32, [STATES] * 2),
        "tensors.rows": numbers(g.U64, [ROWS] * 2),
        "tensors.columns": numbers(g.U64, [COLUMNS] * 2),
        "tensors.experts": numbers(g.U64, [1] * 2),
        "tensors.offset": numbers(g.U64, [FIRST_AT, SECOND_AT]),
        "tensors.size": numbers(g.U64, [MATRIX_BYTES] * 2),
        "tensors.input": numbers(g.U32, [0, 0]),
        "tensors.table": numbers(g.U32, [0, 0]),
        "inputs.columns": numbers(g.U64, [COLUMNS]),
        "inputs.block": numbers(g.U32, [64]),
        "inputs.offset": numbers(g.U64, [INPUT_AT]),
        "tables.states": numbers(g.U32, [STATES]),
        "tables.offset": numbers(g.U64, [TABLE_AT]),
    }
    for key, content in changes.items():
        if content is None:
            del keys[key.replace("__", ".")]
        else:
            keys[key.replace("__", ".")] = content
    return {PREFIX + key: content for key, content in keys.items()}


def section(*, order: list[int] | None = None, table: list[int] | None = None) -> bytes:
    """Its bytes; codes are zeros."""
    places = list(range(COLUMNS)) if order is None else order
    values = [0] * (1 << STATES) if table is None else table
    return (
        bytes(64)
        + b"".join(place.to_bytes(2, "little") for place in places)
        + b"".join(each.to_bytes(1, "little", signed=True) for each in values)
        + bytes(64 - len(values) + 2 * MATRIX_BYTES)
    )


def packed_model(
    *, more: int = 0, order: list[int] | None = None, table: list[int] | None = None, **changes: Value | None
) -> bytes:
    """A model with a packed section, and ``more`` bytes behind it (or fewer)."""
    rest = tuple(
        tensor for tensor in g.WEIGHTS if tensor.name not in ("blk.0.attn_q.weight", "blk.0.attn_k.weight")
    )
    plain = build({**llama_keys(), **directory(**changes)}, rest)
    whole = plain + bytes(-len(plain) % 4096) + section(order=order, table=table) + bytes(max(more, 0))
    return whole[: len(whole) + min(more, 0)]


def cases() -> Iterator[Hostile]:
    def case(name: str, rule: str = "bad-packed", **changes: Value | int | None) -> Hostile:
        return Hostile(f"g34_{name}", rule, partial(packed_model, **changes))  # type: ignore[arg-type]

    yield case("bytes_behind_it", "trailing-bytes", more=1)
    yield case("cut", "truncated", more=-1)
    yield case("version_2", "packed-version", version=u32(2))
    yield case("no_version", "packed-version", version=None)
    yield case("no_size", bytes=None)
    yield case("size_2_63", "truncated", bytes=value(g.U64, 1 << 63))
    yield case("other_format", "packed-format", tensors__format=strings(["lt2", "lt9"]))
    yield case("other_states", "packed-format", tensors__states=numbers(g.U32, [5, 5]))
    yield case("table_of_others", tables__states=numbers(g.U32, [6]))
    yield case("table_of_5", tables__states=numbers(g.U32, [5]))
    yield case("no_names", tensors__name=None)
    yield case("names_are_numbers", tensors__name=numbers(g.U32, [0, 0]))
    yield case("rows_are_floats", "wrong-type", tensors__rows=numbers(g.F32, [ROWS, ROWS]))
    yield case("rows_are_one", tensors__rows=value(g.U64, ROWS))
    yield case("one_row_too_few", tensors__rows=numbers(g.U64, [ROWS]))
    yield case("no_rows", tensors__rows=numbers(g.U64, [0, ROWS]))
    yield case("many_rows", tensors__rows=numbers(g.U64, [1 << 60, ROWS]))
    yield case("other_size", tensors__size=numbers(g.U64, [MATRIX_BYTES - 64, MATRIX_BYTES]))
    yield case("many_experts", tensors__experts=numbers(g.U64, [1 << 60, 1]))
    yield case("input_2", tensors__input=numbers(g.U32, [0, 1]))
    yield case("table_2", tensors__table=numbers(g.U32, [0, 1]))
    yield case("other_columns", tensors__columns=numbers(g.U64, [128, 64]))
    yield case("columns_63", inputs__columns=numbers(g.U64, [63]), tensors__columns=numbers(g.U64, [63, 63]))
    yield case("columns_2_17", inputs__columns=numbers(g.U64, [1 << 17]))
    yield case("block_128", inputs__block=numbers(g.U32, [128]))
    yield case("overlap", tensors__offset=numbers(g.U64, [FIRST_AT, FIRST_AT + 64]))
    yield case("outside", tensors__offset=numbers(g.U64, [FIRST_AT, SECOND_AT + 64]))
    yield case("offset_2_63", tensors__offset=numbers(g.U64, [FIRST_AT, 1 << 63]))
    yield case("not_aligned", tensors__offset=numbers(g.U64, [FIRST_AT + 32, SECOND_AT + 64]))
    yield case("input_over_table", inputs__offset=numbers(g.U64, [64]))
    yield case("twice", "duplicate-tensor", tensors__name=strings(["blk.0.attn_q.weight"] * 2))
    yield case(
        "as_a_tensor",
        "duplicate-tensor",
        tensors__name=strings(["blk.0.attn_q.weight", "output_norm.weight"]),
    )
    yield case("name_of_64", "string-too-long", tensors__name=strings(["a" * 64, "b"]))
    yield case("name_with_newline", tensors__name=strings(["a\nb", "b"]))
    yield case("looked_up", tensors__name=strings(["per_layer_token_embd.weight", "b"]))
    yield case("array_of_2_40", "array-too-long", tensors__rows=numbers(g.U64, [], count=1 << 40))
