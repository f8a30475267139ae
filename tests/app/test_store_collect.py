from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app.errors import DiskFailed, NameTaken, NoSuchModel, StoreDamaged
from app.store import Manifest, ModelUsage, Store, disk
from app.store.collect import remove
from app.store.publish import publish
from app.store.temporary import PREFIX, scratch_folder
from tests.app.store_kit import contents, files_in, gguf_bytes, memory_folder, overwrite, write_gguf

SIZE = len(gguf_bytes())


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "home")
    for seed, name in enumerate(("a", "b")):
        store.import_file(write_gguf(tmp_path / f"{name}.gguf", seed), name)
    return store


class TestRemove:
    def test_the_manifest_and_its_blobs_go_and_their_bytes_are_counted(self, store: Store) -> None:
        manifest = (store.home / "manifests" / "a.json").stat().st_size
        assert store.remove("a") == SIZE + manifest
        assert contents(store) == {"b": gguf_bytes(1)}
        assert store.verify() == []

    def test_a_shared_blob_stays_until_its_last_model_goes(self, store: Store) -> None:
        store.copy("a", "a:copy")
        assert store.remove("a") < SIZE
        assert contents(store)["a:copy"] == gguf_bytes(0)
        assert store.remove("a:copy") > SIZE

    def test_a_model_that_is_not_there_cannot_be_removed(self, store: Store) -> None:
        store.remove("a")
        with pytest.raises(NoSuchModel):
            store.remove("a")

    def test_one_that_another_process_removes_first_is_not_there(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late(*args: Any) -> int:
            monkeypatch.undo()
            Store(store.home).remove("a")
            return remove(*args)

        monkeypatch.setattr("app.store.store.remove", late)
        with pytest.raises(NoSuchModel):
            store.remove("a")

    def test_a_damaged_model_can_be_removed_and_gc_gets_its_blobs(self, store: Store) -> None:
        overwrite(store.home / "manifests" / "a.json", b"12")
        assert store.remove("a") == 2
        assert store.gc() == SIZE
        assert store.verify() == []

    def test_beside_a_damaged_model_no_blob_is_removed(self, store: Store) -> None:
        overwrite(store.home / "manifests" / "b.json", b"")
        assert store.remove("a") < SIZE
        assert len(list((store.home / "blobs").iterdir())) == 2

    def test_nothing_is_written(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        for name in ("make_directory", "create", "write", "rename", "protect", "clone"):
            monkeypatch.setattr(disk, name, None)
        store.remove("a")
        assert store.gc() == 0

    def test_a_blob_in_use_can_be_read_to_its_end(self, store: Store) -> None:
        with store.paths(store.get("a"))[0].open("rb") as file:
            store.remove("a")
            assert file.read() == gguf_bytes(0)


class TestCopy:
    def test_a_copy_has_its_own_name_and_the_same_bytes(self, store: Store) -> None:
        copied = store.copy("a", "c")
        assert copied == store.get("c")
        assert copied.files == store.get("a").files
        assert contents(store)["c"] == gguf_bytes(0)
        store.remove("a")
        assert contents(store)["c"] == gguf_bytes(0)

    def test_a_taken_name_is_refused_unless_it_is_the_same_model(self, store: Store) -> None:
        with pytest.raises(NameTaken):
            store.copy("a", "b")
        store.copy("a", "c")
        assert store.copy("a", "c") == store.get("c")
        assert store.copy("a", "a") == store.get("a")

    def test_what_is_not_there_cannot_be_copied(self, store: Store) -> None:
        with pytest.raises(NoSuchModel):
            store.copy("absent", "c")

    def test_a_damaged_model_is_not_copied(self, store: Store) -> None:
        store.paths(store.get("a"))[0].unlink()
        with pytest.raises(StoreDamaged, match="is missing"):
            store.copy("a", "c")

    def test_a_model_that_is_removed_meanwhile_is_not_there(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def late(*args: Any) -> Manifest:
            if (store.home / "manifests" / "a.json").exists():
                Store(store.home).remove("a")
            return publish(*args)

        monkeypatch.setattr("app.store.store.publish", late)
        with pytest.raises(NoSuchModel):
            store.copy("a", "c")
        assert [model.name for model in store.list()] == ["b"]

    def test_a_copy_of_a_link_is_a_link(self, store: Store, tmp_path: Path) -> None:
        store.import_file(tmp_path / "a.gguf", "linked", link=True)
        assert store.paths(store.copy("linked", "c")) == (tmp_path / "a.gguf",)


class TestCollect:
    def test_gc_keeps_everything_that_a_model_needs(self, store: Store) -> None:
        before = contents(store)
        assert store.gc() == 0
        assert contents(store) == before

    def test_gc_keeps_what_a_living_process_writes(self, store: Store, tmp_path: Path) -> None:
        other = Store(store.home)
        freed: list[int] = []
        store.import_file(
            write_gguf(tmp_path / "c.gguf", 2), "c", progress=lambda *_: freed.append(other.gc())
        )
        assert freed
        assert sum(freed) == 0
        with store.scratch() as folder:
            (folder / "kept").write_text("x")
            assert other.gc() == 0
            assert other.verify() == []
            assert other.usage().reclaimable_bytes == 0
            assert (folder / "kept").exists()
        assert files_in(store.home / "tmp") == set()
        assert store.verify() == []

    def test_gc_takes_no_blob_while_a_manifest_is_unreadable(self, store: Store) -> None:
        store.remove("b")
        (store.home / "blobs" / f"sha256-{'0' * 64}").write_bytes(b"needed?")
        (store.home / "blobs" / f"{PREFIX}1-dead").write_bytes(b"dead")
        path = store.home / "manifests" / "a.json"
        overwrite(path, b"broken")
        with pytest.raises(StoreDamaged, match="no blob was removed") as error:
            store.gc()
        assert error.value.path == path
        assert len(list((store.home / "blobs").iterdir())) == 2
        store.remove("a")
        assert store.gc() == SIZE + len(b"needed?")

    def test_gc_of_half_a_store_frees_nothing(self, tmp_path: Path) -> None:
        assert Store(tmp_path / "absent").gc() == 0
        (tmp_path / "home").mkdir()
        assert Store(tmp_path / "home").gc() == 0

    def test_the_folder_of_a_dead_process_goes_with_what_is_in_it(self, store: Store) -> None:
        folder = store.home / "tmp" / f"{PREFIX}1-x.d"
        (folder / "sub").mkdir(parents=True)
        (folder / "sub" / "wheel").write_bytes(b"12345")
        claim = folder.with_name(f"{PREFIX}1-x")
        assert [problem.kind for problem in store.verify()] == ["temporary"]
        assert store.usage().reclaimable_bytes == 5
        assert store.gc() == 5
        folder.mkdir()
        claim.touch()
        assert [problem.kind for problem in store.verify()] == ["temporary", "temporary"]
        assert store.gc() == 0
        assert list((store.home / "tmp").iterdir()) == []

    def test_a_scratch_folder_goes_when_its_block_fails(self, store: Store) -> None:
        with pytest.raises(ZeroDivisionError), store.scratch() as folder:
            (folder / "file").write_text("x")
            raise ZeroDivisionError
        assert list((store.home / "tmp").iterdir()) == []

    def test_a_scratch_folder_that_cannot_be_made_leaves_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        make = disk.make_directory

        def fail_inside(path: Path) -> None:
            if path.name.startswith(PREFIX):
                raise DiskFailed("make the folder", path, OSError(5, "Input/output error"))
            make(path)

        monkeypatch.setattr(disk, "make_directory", fail_inside)
        with pytest.raises(DiskFailed), scratch_folder(tmp_path / "tmp"):
            raise AssertionError("the block must not run")
        assert files_in(tmp_path) == set()


class TestUsage:
    def test_a_shared_blob_counts_once_and_a_link_apart(self, store: Store, tmp_path: Path) -> None:
        store.copy("a", "c")
        store.import_file(tmp_path / "a.gguf", "linked", link=True)
        store.copy("linked", "linked:again")
        usage = store.usage()
        assert usage.models == (
            ModelUsage(name="a", size_bytes=SIZE, shared_bytes=SIZE, linked_bytes=0),
            ModelUsage(name="b", size_bytes=SIZE, shared_bytes=0, linked_bytes=0),
            ModelUsage(name="c", size_bytes=SIZE, shared_bytes=SIZE, linked_bytes=0),
            ModelUsage(name="linked", size_bytes=SIZE, shared_bytes=0, linked_bytes=SIZE),
            ModelUsage(name="linked:again", size_bytes=SIZE, shared_bytes=0, linked_bytes=SIZE),
        )
        assert [model.freed_by_removing for model in usage.models] == [0, SIZE, 0, 0, 0]
        assert (usage.stored_bytes, usage.linked_bytes, usage.reclaimable_bytes) == (2 * SIZE, SIZE, 0)
        assert usage.free_bytes > 0

    def test_what_the_system_refuses_is_a_typed_error(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "statvfs", refuse)
        with pytest.raises(DiskFailed, match="free space"):
            store.usage()
        monkeypatch.undo()
        monkeypatch.setattr(Path, "iterdir", refuse)
        for attempt in (store.list, store.usage, store.gc, store.verify):
            with pytest.raises(DiskFailed, match="Permission denied"):
                attempt()
