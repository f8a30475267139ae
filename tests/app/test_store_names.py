from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from app.errors import InvalidName, NoSuchModel
from app.store import Store
from app.store.names import MAX_NAME_LENGTH, check_name, manifest_filename, name_of
from tests.app.store_kit import files_in, memory_folder, write_gguf

HOSTILE = [
    *("../../../etc/passwd", "folder/../../../etc/passwd", "..\\..\\Windows\\evil", "/etc/passwd"),
    *("C:\\evil", "C:/evil", "D:relative", "\\\\server\\share\\evil", "\\evil", "a/../b", "a/./b", "./a"),
    *("..", ".", "", " ", "a\0b", "a\nb", "a\x1b]52;c;ZXZpbA==\x07", "a\u202egguf.exe", "a\U000e0041"),
    *("trailing.", "trailing ", "a/trailing./b", "con", "aux.gguf", "nul", "com1", "lpt9.bin", "x/prn:q4"),
    *("a" * 300, "/".join(["a" * 90] * 45), "cafe\u0301", "caf\u00e9", "Demo", "DEMO", "a/Demo", "-rf", "~"),
    *("~root", ".incomplete", ".lock", "refs/../../blobs", "a//b", "a/", "/a", "a:", ":a", "a:b:c", "a:b/c"),
    *("a@b", "a+b", "*", "a?b", "%2e%2e", "a;b", "$(id)", "`id`", "a b", "\ud800", "_a", "a/.b", "a/-b"),
]
GOOD = ["demo", "a", "0", "smollm2-135m", "a.b_c-d", "org/model", "org/model:q4_k_m", "a:latest", "a/b/c/d"]

segments = st.from_regex(r"\A[a-z0-9][a-z0-9._-]{0,20}\Z")
names = st.builds(
    lambda parts, tag: "/".join(parts) + (f":{tag}" if tag else ""),
    st.lists(segments, min_size=1, max_size=4),
    st.none() | segments,
)


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as folder:
        yield folder


@pytest.mark.parametrize("name", HOSTILE, ids=ascii)
def test_a_hostile_name_is_refused_everywhere_and_makes_no_file(name: str, tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    model = write_gguf(tmp_path / "m.gguf")
    store.import_file(model, "good")
    before = files_in(tmp_path)
    for attempt in (
        lambda: store.import_file(model, name),
        lambda: store.copy("good", name),
        lambda: store.get(name),
        lambda: store.remove(name),
        lambda: store.copy(name, "other"),
        lambda: store.verify([name]),
    ):
        with pytest.raises(InvalidName) as error:
            attempt()
        assert str(error.value).isprintable()
        assert len(str(error.value)) < 400
    assert files_in(tmp_path) == before


def test_the_list_of_hostile_names_is_long_enough() -> None:
    assert len(set(HOSTILE)) >= 40


@pytest.mark.parametrize("name", GOOD)
def test_a_good_name_is_kept_as_it_is(name: str) -> None:
    assert check_name(name) == name


def test_a_refused_name_comes_with_one_that_is_allowed() -> None:
    with pytest.raises(InvalidName) as error:
        check_name("HuggingFaceTB/SmolLM2 (135M):Q4_K")
    assert error.value.suggestion == "huggingfacetb/smollm2-135m:q4_k"
    assert "'huggingfacetb/smollm2-135m:q4_k'" in str(error.value)


def test_where_nothing_can_be_suggested_nothing_is() -> None:
    with pytest.raises(InvalidName) as error:
        check_name("\u65e5\u672c")
    assert error.value.suggestion is None


@given(names, names)
def test_a_name_and_its_file_name_map_to_each_other(name: str, other: str) -> None:
    try:
        check_name(name)
        check_name(other)
    except InvalidName:
        return
    filename = manifest_filename(name)
    assert name_of(filename) == name
    assert Path(filename).name == filename
    assert len(os.fsencode(filename)) <= MAX_NAME_LENGTH + 5
    assert (filename == manifest_filename(other)) == (name == other)


@given(st.text(max_size=300))
def test_any_text_is_either_refused_or_stays_in_its_folder(text: str) -> None:
    try:
        check_name(text)
    except InvalidName as error:
        if error.suggestion is not None:
            assert check_name(error.suggestion) == error.suggestion
        return
    assert (Path("/store") / manifest_filename(text)).parent == Path("/store")
    assert text.isascii()


@pytest.mark.parametrize("filename", ["demo", "demo.txt", "a:b.json", "Demo.json", "..json", ".json"])
def test_a_foreign_file_name_is_no_models(filename: str) -> None:
    with pytest.raises(InvalidName):
        name_of(filename)


def test_a_missing_model_is_told_with_the_names_that_look_like_it(tmp_path: Path) -> None:
    store = Store(tmp_path / "home")
    model = write_gguf(tmp_path / "m.gguf")
    for name in ("smollm2-135m", "smollm2-360m", "gemma"):
        store.import_file(model, name)
    for attempt in (store.get, store.remove, lambda name: store.verify([name])):
        with pytest.raises(NoSuchModel) as error:
            attempt("smollm2")
        assert set(error.value.nearest) == {"smollm2-135m", "smollm2-360m"}
    with pytest.raises(NoSuchModel) as error:
        store.get("zzz")
    assert error.value.nearest == ()
