from __future__ import annotations

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from app.errors import NameTaken, StoreDamaged, UnsuitableFile
from app.store import Manifest, Store, disk, importing
from app.store.hashing import hash_file
from app.store.publish import publish
from runtime.errors import GgufError
from runtime.gguf import GgufHeader, open_gguf
from tests.app.store_kit import (
    contents,
    files_in,
    gguf_bytes,
    overwrite,
    write_gguf,
)


class TestSameContent:
    def test_two_names_share_one_blob_and_need_no_space(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        first = store.import_file(model, "first")
        monkeypatch.setattr(disk, "free_bytes", lambda path: 0)
        second = store.import_file(model, "second")
        assert first.blobs == second.blobs
        assert len(list((store.home / "blobs").iterdir())) == 1

    def test_the_same_name_again_succeeds_and_changes_nothing(self, store: Store, model: Path) -> None:
        first = store.import_file(model, "tiny")
        before = (store.home / "manifests/tiny.json").read_bytes()
        assert store.import_file(model, "tiny") == first
        assert (store.home / "manifests/tiny.json").read_bytes() == before
        assert store.gc() == 0

    def test_a_rotten_blob_is_not_shared_but_replaced(self, store: Store, model: Path) -> None:
        (blob,) = store.paths(store.import_file(model, "tiny"))
        rotten = bytearray(model.read_bytes())
        rotten[len(rotten) // 3] ^= 1
        blob.chmod(0o600)
        blob.write_bytes(rotten)
        assert [problem.kind for problem in store.verify()] == ["hash"]
        store.import_file(model, "other")
        assert store.verify() == []
        assert blob.read_bytes() == model.read_bytes()

    def test_a_missing_blob_comes_back_with_the_same_name(self, store: Store, model: Path) -> None:
        manifest = store.import_file(model, "tiny")
        store.paths(manifest)[0].unlink()
        assert store.import_file(model, "tiny") == manifest
        assert store.verify() == []

    def test_an_unreadable_twin_is_not_shared(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (blob,) = store.paths(store.import_file(model, "tiny"))
        opened = os.open

        refused: set[str] = set()

        def refuse(path: Path, *args: int) -> int:
            if Path(path) == blob and sys._getframe(1).f_code.co_name in refused:
                raise PermissionError(13, "Permission denied", str(path))
            return opened(path, *args)

        monkeypatch.setattr(os, "open", refuse)
        for name, reader in (("a", "_alike"), ("b", "_blob_digest")):
            refused = {reader}
            store.import_file(model, name)
        monkeypatch.undo()
        assert store.verify() == []

    def test_a_twin_that_cannot_be_read_to_its_end_is_replaced(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.import_file(model, "tiny")
        pread = os.pread

        def bad_sample(fd: int, count: int, at: int) -> bytes:
            if sys._getframe(2).f_code.co_name == "_alike":
                raise OSError(5, "Input/output error")
            return pread(fd, count, at)

        monkeypatch.setattr(os, "pread", bad_sample)
        store.import_file(model, "a")
        monkeypatch.setattr(os, "pread", pread)

        def bad_hash(fd: int, on_bytes: Callable[[int], None]) -> tuple[str, int]:
            if sys._getframe(1).f_code.co_name == "_blob_digest":
                raise OSError(5, "Input/output error")
            return hash_file(fd, on_bytes)

        monkeypatch.setattr(importing, "hash_file", bad_hash)
        store.import_file(model, "b")
        assert store.verify() == []

    def test_equal_size_and_samples_are_not_equal_content(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(importing, "_SAMPLE_BYTES", 16)
        data = gguf_bytes(rows=64)
        other = bytearray(data)
        other[-1000] ^= 1
        for name, content in (("a", data), ("b", bytes(other))):
            (tmp_path / f"{name}.gguf").write_bytes(content)
            store.import_file(tmp_path / f"{name}.gguf", name)
        assert contents(store) == {"a": data, "b": bytes(other)}

    @pytest.mark.parametrize("moment", ["while it is compared", "before publishing"])
    def test_a_shared_blob_that_is_collected_meanwhile_is_copied_after_all(
        self, moment: str, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.import_file(model, "first")
        removed: list[int] = []

        def remove_first() -> None:
            if not removed:
                removed.append(Store(store.home).remove("first"))

        def publish_late(*args: Any) -> Manifest:
            if moment == "before publishing":
                remove_first()
            return publish(*args)

        def report(done: int, total: int) -> None:
            if moment == "while it is compared" and done == total:
                remove_first()

        monkeypatch.setattr(importing, "publish", publish_late)
        store.import_file(model, "second", progress=report)
        assert len(removed) == 1
        assert contents(store) == {"second": model.read_bytes()}
        assert store.verify() == []

    def test_a_twin_that_is_valid_no_more_is_not_shared(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.import_file(model, "first")

        def stricter(path: Path) -> GgufHeader:
            if path.parent.name == "blobs":
                raise GgufError(path, "new-rule", "is refused since today")
            return open_gguf(path)

        monkeypatch.setattr(importing, "open_gguf", stricter)
        with pytest.raises(UnsuitableFile):
            store.import_file(model, "second")

    def test_other_content_under_a_taken_name_is_refused_before_it_is_copied(
        self, store: Store, model: Path, tmp_path: Path
    ) -> None:
        store.import_file(model, "tiny")
        before = files_in(store.home)
        for other in (write_gguf(tmp_path / "b.gguf", 1), write_gguf(tmp_path / "c.gguf", 1, rows=9)):
            with pytest.raises(NameTaken, match="'tiny'") as error:
                store.import_file(other, "tiny")
            assert error.value.next_command == "localq rm tiny"
        assert files_in(store.home) == before

    def test_a_twin_in_another_case_is_refused(self, store: Store, model: Path) -> None:
        store.import_file(model, "first")
        (store.home / "manifests" / "Tiny.json").write_text("{}")
        with pytest.raises(NameTaken) as error:
            store.import_file(model, "tiny")
        assert error.value.holder == "Tiny.json"
        with pytest.raises(NameTaken) as error:
            store.copy("first", "tiny")
        assert error.value.holder == "Tiny.json"

    def test_a_name_with_a_damaged_manifest_must_be_removed_first(self, store: Store, model: Path) -> None:
        store.import_file(model, "tiny")
        overwrite(store.home / "manifests/tiny.json", b"{")
        with pytest.raises(StoreDamaged, match="not a manifest"):
            store.import_file(model, "tiny")
        store.remove("tiny")
        store.import_file(model, "tiny")
        assert store.verify() == []
