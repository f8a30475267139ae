from __future__ import annotations

from pathlib import Path

import pytest

from app.errors import ModelNotFound, StoreDamaged, UnsuitableFile
from app.models import resolve
from app.store import Manifest, Store
from tests.app.tiny_model import write_tiny_model


def never(store: Store) -> Manifest:
    raise AssertionError("nothing may be fetched")


def test_a_stored_name_is_its_blob(store: Store, tmp_path: Path) -> None:
    store.import_file(write_tiny_model(tmp_path / "a.gguf"), "org/tiny:v1")
    model = resolve("org/tiny:v1", store, never)
    assert model.name == "org/tiny:v1"
    assert model.manifest is not None
    assert [path.parent.name for path in model.paths] == ["blobs"]


@pytest.mark.parametrize("form", ["a.gguf", "./a.gguf", "{folder}/a.gguf", "../{name}/a.gguf"])
def test_a_path_may_be_written_in_any_way(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, form: str
) -> None:
    write_tiny_model(tmp_path / "a.gguf")
    monkeypatch.chdir(tmp_path)
    model = resolve(form.format(folder=tmp_path, name=tmp_path.name), store, never)
    assert model.name == "a.gguf"
    assert model.manifest is None
    assert model.paths[0].resolve() == tmp_path / "a.gguf"


def test_the_folder_of_nobody_is_a_path_that_is_not_there(store: Store) -> None:
    with pytest.raises(ModelNotFound):
        resolve("~nobody-of-this-name/a.gguf", store, never)


def test_the_persons_own_folder_may_be_written_with_a_tilde(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_tiny_model(tmp_path / "a.gguf")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert resolve("~/a.gguf", store, never).paths == (tmp_path / "a.gguf",)


def test_a_stored_name_goes_before_a_file_of_that_name(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store.import_file(write_tiny_model(tmp_path / "tiny"), "tiny")
    monkeypatch.chdir(tmp_path)
    assert resolve("tiny", store, never).manifest is not None
    assert resolve("./tiny", store, never).manifest is None


def test_a_folder_is_the_model_in_it(store: Store, tmp_path: Path) -> None:
    folder = tmp_path / "folder"
    folder.mkdir()
    path = write_tiny_model(folder / "weights.gguf")
    assert resolve(str(folder), store, never).paths == (path,)
    path.unlink()
    with pytest.raises(UnsuitableFile):
        resolve(str(folder), store, never)


def test_demo_is_fetched_once_and_only_when_it_is_missing(store: Store, tmp_path: Path) -> None:
    fetched: list[Store] = []

    def fetch(into: Store) -> Manifest:
        fetched.append(into)
        return into.import_file(write_tiny_model(tmp_path / "d.gguf"), "demo")

    assert resolve("demo", store, fetch).name == "demo"
    assert resolve("demo", store, fetch).name == "demo"
    assert fetched == [store]


@pytest.mark.parametrize(
    "reference",
    ["nonesuch", "Not A Name", "", "./nonesuch", "/dev/null/x", "a\0b", "../..\x1b[2J", "a" * 300],
)
def test_what_is_neither_is_not_found(store: Store, reference: str) -> None:
    with pytest.raises(ModelNotFound) as caught:
        resolve(reference, store, never)
    assert caught.value.reference == reference


def test_a_name_that_is_nearly_right_is_proposed(store: Store, tmp_path: Path) -> None:
    store.import_file(write_tiny_model(tmp_path / "a.gguf"), "smollm")
    with pytest.raises(ModelNotFound, match="did you mean 'smollm'"):
        resolve("smolm", store, never)


def test_a_model_whose_file_is_gone_is_damaged_and_not_missing(store: Store, tmp_path: Path) -> None:
    store.import_file(write_tiny_model(tmp_path / "a.gguf"), "tiny")
    for blob in (store.home / "blobs").iterdir():
        blob.unlink()
    with pytest.raises(StoreDamaged):
        resolve("tiny", store, never)
