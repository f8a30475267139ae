"""Files whose bytes lie: counts, lengths, names, places (G01 to G22, G28 to G30)."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from functools import partial

from tests.hostile import gguf_bytes as g
from tests.hostile.gguf_bytes import (
    Tensor,
    build,
    llama_keys,
    model,
    numbers,
    string,
    strings,
    u32,
)
from tests.hostile.gguf_case import Hostile, raw

HUGE = 1 << 63


def cases() -> Iterator[Hostile]:
    yield from _counts()
    yield from _alignment()
    yield from _names()
    yield from _tensors()
    yield from _magics()


def tensor_file(*tensors: Tensor, **options: int) -> bytes:
    return build(llama_keys(), tensors, **options)  # type: ignore[arg-type]  # ints only, by this signature


def _counts() -> Iterator[Hostile]:
    a = g.text("a")
    huge_array = struct.pack("<IIQ", g.ARRAY, g.U8, HUGE)
    yield Hostile("g01_array_of_2_63_bytes", "truncated", lambda: raw(a, huge_array))
    many_strings = struct.pack("<IIQ", g.ARRAY, g.STRING, 1 << 62)
    yield Hostile("g02_array_of_2_62_strings", "truncated", lambda: raw(a, many_strings))
    yield Hostile("g03_string_of_2_63_bytes", "truncated", lambda: raw(a, struct.pack("<IQ", g.STRING, HUGE)))
    yield Hostile("g04_2_63_keys", "too-many-keys", lambda: raw(keys=HUGE))
    yield Hostile("g04_more_keys_than_bytes", "truncated", lambda: raw(keys=16_000))
    yield Hostile("g05_2_63_tensors", "too-many-tensors", lambda: raw(keys=0, tensors=HUGE))
    yield Hostile("g05_more_tensors_than_bytes", "truncated", lambda: raw(keys=0, tensors=100_000))
    yield Hostile("g06_key_of_2_48_bytes", "truncated", lambda: raw(struct.pack("<Q", (1 << 48) - 1)))
    yield Hostile("g06_and_more", "bad-key", lambda: raw(struct.pack("<Q", (1 << 48) - 1), bytes(64)))
    nested = struct.pack("<IQ", g.ARRAY, 1) * 5_000
    yield Hostile("g07_nested_arrays", "nested-array", lambda: raw(a, struct.pack("<I", g.ARRAY), nested))
    yield Hostile("g07_value_type_13", "bad-value-type", lambda: raw(a, struct.pack("<IQ", 13, 0)))
    yield Hostile(
        "g07_element_type_99", "bad-value-type", lambda: raw(a, struct.pack("<IIQ", g.ARRAY, 99, 1), bytes(8))
    )
    yield Hostile("g07_bool_of_2", "bad-bool", lambda: model(x=struct.pack("<IB", g.BOOL, 2)))
    yield Hostile(
        "g01_array_of_129_mib",
        "metadata-too-long",
        lambda: raw(a, numbers(g.U8, [], count=129 << 20)),
        size=130 << 20,
    )
    half = numbers(g.U8, [], count=64 << 20)
    yield Hostile(
        "g01_two_arrays_of_64_mib",
        "metadata-too-long",
        lambda: raw(a, half, bytes(64 << 20), g.text("b"), half, keys=2),
        size=130 << 20,
    )
    yield Hostile(
        "g02_2_million_empty_strings",
        "array-too-long",
        lambda: raw(a, strings([], count=(1 << 21) + 1)),
        size=34 << 20,
    )
    yield Hostile("g02_one_string_of_5_mib", "string-too-long", lambda: raw(a, strings(["x" * (5 << 20)])))
    yield Hostile(
        "g03_text_of_129_mib",
        "metadata-too-long",
        lambda: raw(a, struct.pack("<IQ", g.STRING, 129 << 20)),
        size=130 << 20,
    )
    one = string("x" * (1 << 20))
    yield Hostile(
        "g03_nine_texts_of_1_mib", "string-too-long", lambda: build(dict.fromkeys("abcdefghi", one))
    )
    yield Hostile(
        "g03_name_of_2_mib", "string-too-long", lambda: model(general__name=string("x" * (2 << 20)))
    )
    yield Hostile("g33_sparse_1_tb_behind_a_header", "bad-key", lambda: raw(keys=16_000), size=1 << 40)


def _alignment() -> Iterator[Hostile]:
    for case, content in (
        ("g08_alignment_0", u32(0)),
        ("g09_alignment_3", u32(3)),
        ("g09_alignment_4", u32(4)),
        ("g10_alignment_2_30", u32(1 << 30)),
        ("g11_alignment_i32", g.value(g.I32, 32)),
        ("g11_alignment_text", string("32")),
        ("g11_alignment_array", numbers(g.U32, [32])),
    ):
        yield Hostile(case, "bad-alignment", partial(model, general__alignment=content))


def _names() -> Iterator[Hostile]:
    twice = [("a", u32(1)), ("a", u32(2))]
    yield Hostile("g12_duplicate_key", "duplicate-key", lambda: build(twice))
    pair = (Tensor("a"), Tensor("a"))
    yield Hostile("g13_duplicate_tensor", "duplicate-tensor", lambda: tensor_file(*pair))
    for case, name in (
        ("empty", ""),
        ("of_64_bytes", "x" * 64),
        ("with_escape", "a\x1b[2J"),
        ("not_ascii", "é"),
    ):
        yield Hostile(f"g13_tensor_name_{case}", "bad-tensor-name", partial(tensor_file, Tensor(name)))
    for case, key in (
        ("osc_52", "a\x1b]52;c;ZXZpbA==\x07"),
        ("bidi", "a\u202egfub"),
        ("marks", "a" + "\u0301" * 100),
        ("long", "a" * 257),
        ("empty", ""),
        ("space", "a b"),
    ):
        yield Hostile(f"g28_key_{case}", "bad-key", partial(build, [(key, u32(1))]))
    combining = "a" + "\u0301" * (32 << 10)
    yield Hostile("g28_key_of_64_kib_of_marks", "bad-key", lambda: build([(combining, u32(1))]))


def _tensors() -> Iterator[Hostile]:
    def one(**options: object) -> bytes:
        return tensor_file(Tensor("a", **{"nbytes": 128, **options}))  # type: ignore[arg-type]

    yield Hostile("g14_2_31_dimensions", "bad-shape", lambda: one(dimensions=(1 << 31) - 1))
    yield Hostile("g14_5_dimensions", "bad-shape", lambda: one(shape=(1,) * 5))
    yield Hostile("g15_shape_of_2_64", "bad-shape", lambda: one(shape=(1 << 32, 1 << 32, 1, 1)))
    yield Hostile(
        "g15_bytes_wrap_by_padding", "truncated", lambda: one(shape=(4, (1 << 30) - 1, (1 << 30) + 1))
    )
    yield Hostile("g15_bytes_wrap", "truncated", lambda: one(shape=((1 << 61) - 32,)))
    yield Hostile("g16_negative_dimension", "bad-shape", lambda: one(shape=(-32,)))
    yield Hostile("g16_two_negative_dimensions", "bad-shape", lambda: one(shape=(-32, -1)))
    yield Hostile("g17_dimension_0", "bad-shape", lambda: one(shape=(32, 0)))
    yield Hostile("g18_offset_past_the_end", "bad-offset", lambda: one(offset=1 << 40))
    yield Hostile("g18_data_past_the_end", "truncated", lambda: one(shape=(64,)))
    yield Hostile("g18_last_32_bytes", "bad-offset", lambda: one(offset=96))
    pair = (Tensor("a", nbytes=128), Tensor("b", nbytes=128))
    yield Hostile(
        "g19_offset_and_size_wrap",
        "bad-offset",
        lambda: tensor_file(pair[0], Tensor("b", offset=(1 << 64) - 128)),
    )
    yield Hostile("g20_overlap", "bad-offset", lambda: tensor_file(pair[0], Tensor("b", offset=0)))
    yield Hostile("g20_gap", "bad-offset", lambda: tensor_file(pair[0], Tensor("b", offset=160)))
    yield Hostile("g21_unaligned", "bad-offset", lambda: tensor_file(pair[0], Tensor("b", offset=129)))
    yield Hostile("g22_type_255", "bad-tensor-type", lambda: one(kind=255))
    yield Hostile("g22_type_43", "bad-tensor-type", lambda: one(kind=43))
    for removed in (4, 5, 31, 32, 33, 36, 37, 38):
        yield Hostile(f"g22_removed_{removed}", "removed-type", partial(one, kind=removed))
    yield Hostile("g22_half_a_block", "bad-shape", lambda: one(kind=2, shape=(48,)))
    yield Hostile("g30_trailing_byte", "trailing-bytes", lambda: model() + b"\0")
    yield Hostile("g30_trailing_zip", "trailing-bytes", lambda: model() + b"PK\x05\x06" + bytes(18))
    yield Hostile("g30_bytes_and_no_tensors", "trailing-bytes", lambda: build(llama_keys()) + bytes(33))


def _magics() -> Iterator[Hostile]:
    body = model()[4:]
    for case, start, rule in (
        ("ggml", b"lmgg", "old-format"),
        ("ggjt", b"tjgg", "old-format"),
        ("ggmf", b"fmgg", "old-format"),
        ("ggla", b"algg", "old-format"),
        ("zip", b"PK\x03\x04", "other-format"),
        ("elf", b"\x7fELF", "other-format"),
        ("mz", b"MZqFpD='\n", "other-format"),
        ("pickle", b"\x80\x04\x95\x00", "other-format"),
        ("gzip", b"\x1f\x8b\x08\x00", "other-format"),
        ("lfs_pointer", b"version https://git-lfs.github.com/spec/v1\n", "other-format"),
        ("web_page", b"<!DOCTYPE html>", "other-format"),
        ("reversed", b"FUGG", "big-endian"),
        ("unknown", b"GGUT", "bad-magic"),
        ("zeros", bytes(4), "bad-magic"),
    ):
        yield Hostile(f"g29_{case}", rule, partial(bytes, start + body))
    yield Hostile("g29_big_endian", "big-endian", lambda: b"GGUF" + struct.pack(">IQQ", 3, 0, 0))
    for version in (0, 1, 4, 65_540):
        yield Hostile(f"g29_version_{version}", "version", partial(build, version=version))
    yield Hostile("g29_empty", "truncated", lambda: b"")
    yield Hostile("g33_sparse_1_tb", "bad-magic", lambda: b"", size=1 << 40)
