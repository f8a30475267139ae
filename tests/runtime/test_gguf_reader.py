"""Valid files are accepted, and their headers say what was written."""

from __future__ import annotations

import ctypes
import os
import re
import time
import tracemalloc
from pathlib import Path

import pytest

from runtime.errors import GgufError
from runtime.gguf import ArrayRef, TensorInfo, open_gguf, reader
from runtime.gguf.ggml_types import GGML_TYPES, GGML_TYPES_BY_NAME, REMOVED_TYPES
from runtime.gguf.source import Source, open_source
from runtime.gguf.tensors import read_tensors
from runtime.gguf.values import ValueType
from tests.hostile import gguf_bytes as g


def write(folder: Path, data: bytes, name: str = "model.gguf") -> Path:
    path = folder / name
    path.write_bytes(data)
    return path


def test_every_type_of_value_is_read_as_it_was_written(tmp_path: Path) -> None:
    written = {
        "u8": (g.value(g.U8, 255), 255),
        "i8": (g.value(g.I8, -128), -128),
        "u16": (g.value(g.U16, 65_535), 65_535),
        "i16": (g.value(g.I16, -1), -1),
        "u32": (g.u32(1 << 31), 1 << 31),
        "i32": (g.value(g.I32, -7), -7),
        "f32": (g.f32(0.5), 0.5),
        "bool": (g.flag(True), True),
        "string": (g.string("Grüße 😀"), "Grüße 😀"),
        "u64": (g.value(g.U64, (1 << 64) - 1), (1 << 64) - 1),
        "i64": (g.value(g.I64, -(1 << 63)), -(1 << 63)),
        "f64": (g.value(g.F64, 0.1), 0.1),
    }
    header = open_gguf(write(tmp_path, g.build({key: data for key, (data, _) in written.items()})))
    assert dict(header.metadata) == {key: content for key, (_, content) in written.items()}
    assert header.role == "vocab" and header.version == 3 and header.alignment == 32


@pytest.mark.parametrize("count", [0, 1, 3, 5_000])
@pytest.mark.parametrize(
    ("kind", "content"),
    [
        (g.U8, 7),
        (g.I16, -2),
        (g.I32, -3),
        (g.U64, 1 << 63),
        (g.I64, -1),
        (g.F32, 0.5),
        (g.F64, 0.1),
        (g.BOOL, 1),
    ],
)
def test_arrays_of_numbers_are_read_back(kind: int, content: float, count: int, tmp_path: Path) -> None:
    header = open_gguf(write(tmp_path, g.build({"x": g.numbers(kind, [content] * count), "y": g.u32(1)})))
    ref = header.metadata["x"]
    assert isinstance(ref, ArrayRef) and ref.type == kind and ref.count == count
    assert header.read_array(ref) == [content] * count
    assert (ref.data is not None) == (ref.nbytes <= 4096)


def test_an_array_of_texts_is_read_as_bytes(tmp_path: Path) -> None:
    texts = [b"a", b"", b"\xff\x00", b"x" * 3_000_000, *(b"%d" % number for number in range(1000))]
    header = open_gguf(write(tmp_path, g.build({"x": g.strings(texts), "y": g.u32(1)})))
    ref = header.metadata["x"]
    assert isinstance(ref, ArrayRef) and ref.nbytes == sum(8 + len(text) for text in texts)
    assert header.read_array(ref) == texts
    assert header.get("y", int, 0) == 1


def test_a_long_text_stays_in_the_file(tmp_path: Path) -> None:
    text = '{"é": 1}' * 300_000
    header = open_gguf(write(tmp_path, g.model(tokenizer__huggingface__json=g.string(text))))
    ref = header.metadata["tokenizer.huggingface.json"]
    assert isinstance(ref, ArrayRef) and ref.type is ValueType.STRING and ref.count == 1
    assert header.read_array(ref) == [text.encode()]
    assert header.role == "model"


def test_opening_keeps_no_array_in_memory(tmp_path: Path) -> None:
    path = write(tmp_path, g.build({"x": g.numbers(g.U8, [1] * (8 << 20))}))
    tracemalloc.start()
    try:
        header = open_gguf(path)
        assert tracemalloc.get_traced_memory()[0] < 200_000
    finally:
        tracemalloc.stop()
    assert header.file_size > 8 << 20


def test_get_checks_the_type_and_takes_an_int_for_a_float(tmp_path: Path) -> None:
    header = open_gguf(write(tmp_path, g.model()))
    assert header.get("general.name", str, "") == "tiny"
    assert header.get("absent", str, "default") == "default"
    assert header.get("llama.block_count", float, 0.0) == 1.0
    assert header.get("tokenizer.ggml.add_bos_token", bool, False) is True
    with pytest.raises(GgufError, match=r"general\.name is of type str, expected int") as caught:
        header.get("general.name", int, 0)
    assert caught.value.rule == "wrong-type"
    with pytest.raises(GgufError):
        header.get("tokenizer.ggml.add_bos_token", int, 0)


def test_hyperparameters_are_found_by_their_short_name(tmp_path: Path) -> None:
    header = open_gguf(
        write(
            tmp_path,
            g.model(
                llama__block_count=g.u32(3),
                llama__attention__head_count_kv=g.numbers(g.I32, [2, 0, 4]),
                llama__attention__sliding_window_pattern=g.numbers(g.BOOL, [1, 1, 0]),
                llama__feed_forward_length=g.numbers(g.U32, [8, 16]),
                llama__rope__scaling__type=g.string("yarn"),
            ),
        )
    )
    assert header.hyper("embedding_length") == 32 and header.hyper("absent", 5) == 5
    assert header.hyper_int("attention.head_count_kv") == 4
    assert header.hyper_int("absent") is None and header.hyper_int("rope.scaling.type", 9) == 9
    assert header.per_layer("attention.head_count_kv") == (2, 0, 4)
    assert header.per_layer("attention.head_count") == (4, 4, 4)
    assert header.per_layer("attention.sliding_window_pattern") == (1, 1, 0)
    assert header.per_layer("absent") is None and header.per_layer("absent", 7) == (7, 7, 7)
    with pytest.raises(GgufError, match="2 elements for 3 layers"):
        header.per_layer("feed_forward_length")


def test_text_that_could_drive_a_terminal_is_accepted_and_named(tmp_path: Path) -> None:
    header = open_gguf(
        write(
            tmp_path,
            g.model(
                general__name=g.string("a\x1b]52;c;ZXZpbA==\x07"),
                general__author=g.string("\u202egfub"),
                general__description=g.string("two\nlines\tof text, é 😀 العربية"),
                general__url=g.string("x" + "\u0301" * 32_768),
            ),
        )
    )
    assert header.unsafe_keys == {"general.name", "general.author"}


def test_an_array_of_a_file_that_was_changed_is_not_read(tmp_path: Path) -> None:
    path = write(tmp_path, g.model())
    header = open_gguf(path)
    ref = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(ref, ArrayRef)
    os.utime(path, ns=(0, 0))
    with pytest.raises(GgufError, match="was changed") as caught:
        header.read_array(ref)
    assert caught.value.rule == "changed"
    path.unlink()
    with pytest.raises(GgufError) as caught:
        header.read_array(ref)
    assert caught.value.rule == "not-found"


def test_a_file_that_is_written_while_it_is_read_is_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, g.model())

    def read_slowly(source: Source, count: int) -> tuple[TensorInfo, ...]:
        os.utime(path, ns=(0, 0))
        return read_tensors(source, count)

    monkeypatch.setattr(reader, "read_tensors", read_slowly)
    with pytest.raises(GgufError, match="was changed while it was read") as caught:
        open_gguf(path)
    assert caught.value.rule == "changed"


def test_a_file_that_shrinks_under_the_reader_is_a_typed_error(tmp_path: Path) -> None:
    path = write(tmp_path, bytes(3 << 20))
    with pytest.raises(GgufError) as caught, open_source(path) as source:
        source.take(1 << 20, "the start")
        os.truncate(path, 2 << 20)
        source.take(1 << 20, "the middle")
        source.take(1 << 20, "the end")
    assert caught.value.rule == "shrunk"


def test_moving_inside_the_buffer_reads_nothing_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write(tmp_path, bytes(range(256)))
    with open_source(path) as source:
        assert source.take(4, "x") == b"\0\1\2\3"
        monkeypatch.setattr(os, "pread", None)
        source.seek(200)
        assert source.take(1, "x") == b"\xc8" and source.position == 201 and source.remaining == 55


@pytest.mark.parametrize(
    "changes", [{}, {"general__alignment": g.u32(64)}, {"general__alignment": g.u32(4096)}]
)
def test_places_of_tensors_are_those_written(changes: dict[str, bytes], tmp_path: Path) -> None:
    alignment = int.from_bytes(changes["general__alignment"][4:], "little") if changes else 32
    tensors = (
        g.Tensor("a", (32, 3)),
        g.Tensor("b", (64, 2), kind=2, nbytes=4 * 18),
        g.Tensor("scalar", (), nbytes=4),
        g.Tensor("c", (256, 2, 3, 4), kind=12, nbytes=24 * 144),
    )
    header = open_gguf(write(tmp_path, g.build(g.llama_keys(**changes), tensors, alignment=alignment)))
    assert header.alignment == alignment and header.data_offset % alignment == 0
    assert [tensor.shape for tensor in header.tensors] == [(32, 3), (64, 2), (1,), (256, 2, 3, 4)]
    assert [tensor.type.name for tensor in header.tensors] == ["F32", "Q4_0", "F32", "Q4_K"]
    assert [tensor.nbytes for tensor in header.tensors] == [384, 72, 4, 3456]
    assert header.tensors[3].elements == 6144
    assert all(tensor.offset % alignment == 0 for tensor in header.tensors)


def test_version_2_is_read_like_version_3(tmp_path: Path) -> None:
    assert open_gguf(write(tmp_path, g.build(g.llama_keys(), g.WEIGHTS, version=2))).version == 2


def test_what_real_files_do_is_accepted(tmp_path: Path) -> None:
    """Habits of converters that look like faults: each was seen in published files or in llama.cpp's own."""
    none = g.u32(0xFFFFFFFF)
    empty = g.strings([*g.SPM_TOKENS[:-2], "", "ab"])
    scores = [0.0] * (len(g.SPM_TOKENS) + 5)
    for changes in (
        {"tokenizer__ggml__padding_token_id": none, "tokenizer__ggml__seperator_token_id": none},
        {"tokenizer__ggml__tokens": empty},
        {"tokenizer__ggml__scores": g.numbers(g.F32, scores)},
        {"tokenizer__ggml__scores": g.numbers(g.I32, [0] * len(g.SPM_TOKENS))},
        {"tokenizer__ggml__scores": g.numbers(g.F32, [float("-inf"), float("inf"), *scores])},
        {"tokenizer__ggml__token_type": g.numbers(g.I32, [0, 5, *g.SPM_TYPES[2:]])},
        {"tokenizer__ggml__precompiled_charsmap": g.numbers(g.U8, [])},
        {"tokenizer__ggml__precompiled_charsmap": g.numbers(g.I8, [4, 0, 0, 0, 1, 2, 3, 4, 0])},
        {"tokenizer__ggml__precompiled_charsmap": g.numbers(g.U8, [16, 39, 0, 0, *[0] * 10_001])},
        {
            "tokenizer__chat_template__tool_use": g.string("x"),
            "tokenizer__chat_templates": g.strings(["tool_use"]),
        },
        {"llama__attention__head_count": g.u32(0), "llama__ssm__conv_kernel": g.u32(4)},
        {"llama__attention__head_count": g.u32(0), "llama__wkv__head_size": g.u32(64)},
        {"llama__attention__head_count": g.numbers(g.U32, [0]), "llama__attention__key_length": g.u32(8)},
        {"llama__attention__key_length": g.u32(64), "llama__rope__dimension_count": g.u32(64)},
        {"llama__expert_count": g.u32(8), "llama__expert_used_count": g.u32(2)},
        {
            "llama__expert_count": g.u32(8),
            "llama__expert_used_count": g.u32(2),
            "llama__expert_group_count": g.u32(4),
            "llama__expert_group_used_count": g.u32(2),
        },
        {
            "llama__rope__scaling__type": g.string("longrope"),
            "llama__rope__dimension_sections": g.numbers(g.I32, [1] * 4),
        },
        {"general__file_type": g.u32(1024 + 15)},
        {"general__license": g.strings(["apache-2.0"])},
        {"comfy__gguf__orig_shape": g.numbers(g.I32, [1, 2])},
    ):
        open_gguf(write(tmp_path, g.model(**changes)))
    bpe: dict[str, bytes | None] = {
        "tokenizer__ggml__tokens": g.strings([*g.BPE_TOKENS, "y" * 200, "y" * 40]),
        "tokenizer__ggml__token_type": None,
    }
    for merges in (["a b", "  b", "a b c", "y" * 200 + " " + "y" * 40, "a c"], [], ["\n \n"]):
        bpe["tokenizer__ggml__merges"] = g.strings(merges)
        open_gguf(write(tmp_path, g.bpe_model(**bpe)))


def test_a_projector_may_leave_out_what_it_does_not_use(tmp_path: Path) -> None:
    for changes in (
        {"clip__vision__feature_layer": None, "clip__vision__image_grid_pinpoints": None},
        {"clip__vision__feature_layer": g.numbers(g.I32, [])},
        {"clip__has_vision_encoder": None, "clip__has_audio_encoder": g.flag(True)},
        {"clip__vision__image_min_pixels": g.u32(4), "clip__vision__image_max_pixels": g.u32(0)},
    ):
        assert open_gguf(write(tmp_path, g.projector(**changes))).role == "mmproj"


def test_an_imatrix_may_hold_other_tensors(tmp_path: Path) -> None:
    tensors = (*g.IMATRIX_PAIR, g.Tensor("note"))
    assert open_gguf(write(tmp_path, g.imatrix(tensors))).role == "imatrix"


def test_skimming_stays_where_nothing_matches(tmp_path: Path) -> None:
    with open_source(write(tmp_path, b"aaab")) as source:
        assert source.take(1, "x") == b"a"
        assert source.skim(re.compile(b"b")) == b"" and source.position == 1
        assert source.skim(re.compile(b"a+")) == b"aa" and source.position == 3


def test_merges_end_where_their_array_does(tmp_path: Path) -> None:
    """Bytes behind the array that look like one more merge are not taken for one."""
    merges = ["a b"] * 3
    keys = list(g.bpe_keys(tokenizer__ggml__merges=None).items())
    more = g.strings(["c d", "e f"])
    data = g.build([*keys, ("tokenizer.ggml.merges", g.strings([*merges, "e f"], count=3) + b"")])
    path = write(tmp_path, data)
    with pytest.raises(GgufError) as caught:  # the fourth is behind the metadata: no merge, but stray bytes
        open_gguf(path)
    assert caught.value.rule == "trailing-bytes"
    header = open_gguf(
        write(tmp_path, g.build([*keys, ("tokenizer.ggml.merges", g.strings(merges)), ("x", more)]))
    )
    ref = header.metadata["tokenizer.ggml.merges"]
    assert isinstance(ref, ArrayRef) and header.read_array(ref) == [b"a b"] * 3


def test_reading_takes_nothing_past_the_end(tmp_path: Path) -> None:
    path = write(tmp_path, b"abcdef")
    with pytest.raises(GgufError, match="needs 7 bytes, 6 remain") as caught, open_source(path) as source:
        source.take(7, "a field")
    assert caught.value.rule == "truncated"
    with path.open("rb") as file:
        assert Source(file.fileno(), path, 6).take(6, "a field") == b"abcdef"


def _ggml_base() -> ctypes.CDLL:
    import llama_cpp

    folder = Path(llama_cpp.__file__).parent / "lib"
    library = ctypes.CDLL(str(next(folder.glob("libggml-base.so*"))))
    library.ggml_type_size.restype = ctypes.c_size_t
    library.ggml_blck_size.restype = ctypes.c_int64
    library.ggml_type_name.restype = ctypes.c_char_p
    return library


def test_the_table_of_tensor_types_is_ggmls() -> None:
    library = _ggml_base()
    for number in range(43):
        size, block = library.ggml_type_size(number), library.ggml_blck_size(number)
        if number in REMOVED_TYPES:
            assert (size, block) == (0, 0)
            continue
        kind = GGML_TYPES[number]
        assert (kind.id, kind.block_bytes, kind.block_size) == (number, size, block)
        assert kind.name.lower() == library.ggml_type_name(number).decode().lower()
        assert kind.row_bytes(block * 3) == size * 3
        assert kind.bits_per_weight == 8 * size / block
        assert GGML_TYPES_BY_NAME[kind.name] is kind
    assert max(GGML_TYPES) == 42 and set(GGML_TYPES).isdisjoint(REMOVED_TYPES)
    assert set(GGML_TYPES) | set(REMOVED_TYPES) == set(range(43))


def test_value_types_cover_the_specification() -> None:
    assert [kind.value for kind in ValueType] == list(range(13))


@pytest.mark.parametrize("merges", [0, 520_000])
def test_a_vocabulary_of_262144_tokens_opens_within_300_ms(merges: int, tmp_path: Path) -> None:
    count = 262_144
    texts = [f"token{number:x}" for number in range(count)]
    keys = g.bpe_keys if merges else g.llama_keys
    changes = {
        "tokenizer__ggml__tokens": g.strings(texts),
        "tokenizer__ggml__token_type": g.numbers(g.I32, [1] * count),
        "tokenizer__ggml__scores": g.numbers(g.F32, [-1.5] * count),
    }
    if merges:
        changes["tokenizer__ggml__merges"] = g.strings([f"a{number:x} b" for number in range(merges)])
    path = write(tmp_path, g.build(keys(**changes), g.WEIGHTS))
    seconds = []
    for _ in range(5):
        start = time.process_time()
        open_gguf(path)
        seconds.append(time.process_time() - start)
    assert min(seconds) <= 0.3, seconds


@pytest.mark.model
def test_the_demo_model_opens_within_100_ms(demo_path: Path) -> None:
    seconds = []
    for _ in range(5):
        start = time.process_time()
        header = open_gguf(demo_path)
        seconds.append(time.process_time() - start)
    assert min(seconds) <= 0.1, seconds
    assert header.architecture == "llama" and header.role == "model" and len(header.tensors) == 272
    assert header.per_layer("attention.head_count_kv") == (3,) * 30
    tokens = header.metadata["tokenizer.ggml.tokens"]
    assert isinstance(tokens, ArrayRef) and len(header.read_array(tokens)) == 49_152
