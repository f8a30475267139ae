from __future__ import annotations

import os
from pathlib import Path

import pytest

from app.errors import StoreDamaged, UnsuitableFile
from app.store import Store
from tests.app.store_kit import (
    files_in,
    gguf_bytes,
    mmproj_bytes,
    write_gguf,
)


class TestLink:
    def test_nothing_is_copied_and_removing_leaves_the_file(self, store: Store, model: Path) -> None:
        manifest = store.import_file(model, "tiny", link=True)
        assert files_in(store.home) == {"manifests/tiny.json"}
        assert store.paths(manifest) == (model,)
        assert manifest.blobs == frozenset()
        assert store.verify() == []
        store.remove("tiny")
        assert model.read_bytes() == gguf_bytes()

    def test_the_link_leads_to_the_file_itself(self, store: Store, model: Path, tmp_path: Path) -> None:
        (tmp_path / "alias.gguf").symlink_to(model)
        manifest = store.import_file(tmp_path / "alias.gguf", "tiny", link=True)
        assert store.paths(manifest) == (model,)
        assert manifest.files[0].filename == "alias.gguf"

    @pytest.mark.parametrize("change", ["touch", "flip", "grow", "remove", "replace-by-folder"])
    def test_a_change_is_noticed_before_use_and_by_verify(
        self, change: str, store: Store, model: Path
    ) -> None:
        manifest = store.import_file(model, "tiny", link=True)
        status = model.stat()
        data = bytearray(model.read_bytes())
        if change == "touch":
            os.utime(model, ns=(0, status.st_mtime_ns + 1))
        elif change == "flip":
            data[-1] ^= 1
            model.write_bytes(data)
            os.utime(model, ns=(0, status.st_mtime_ns))
        elif change == "grow":
            model.write_bytes(data + b"x")
        else:
            model.unlink()
            if change == "replace-by-folder":
                model.mkdir()
        (problem,) = store.verify()
        assert problem.kind == ("missing" if change == "remove" else "changed-link")
        assert problem.models == ("tiny",)
        assert not problem.harmless
        if change == "flip":  # only reading all of it shows that
            assert store.paths(manifest) == (model,)
            return
        with pytest.raises(StoreDamaged) as error:
            store.paths(manifest)
        again = f" && localq import --link {model} --name tiny" if change in ("touch", "grow") else ""
        assert error.value.next_command == problem.next_command == f"localq rm tiny{again}"

    def test_the_command_that_links_again_names_what_holds_all_files(
        self, store: Store, tmp_path: Path
    ) -> None:
        folder = tmp_path / "my models"
        write_gguf(folder / "model.gguf")
        (folder / "mmproj.gguf").write_bytes(mmproj_bytes())
        manifest = store.import_file(folder, "eyes", link=True)
        os.utime(folder / "mmproj.gguf", ns=(0, 1))
        with pytest.raises(StoreDamaged) as error:
            store.paths(manifest)
        again = f"localq rm eyes && localq import --link '{folder}' --name eyes"
        assert error.value.next_command == again

    def test_linking_a_touched_file_again_makes_it_usable(self, store: Store, model: Path) -> None:
        store.import_file(model, "tiny", link=True)
        os.utime(model, ns=(0, 5_000_000_000))
        store.import_file(model, "tiny", link=True)
        assert store.verify() == []

    def test_a_link_becomes_a_copy_and_a_copy_a_link(self, store: Store, model: Path) -> None:
        store.import_file(model, "tiny", link=True)
        store.import_file(model, "tiny")
        assert store.paths(store.get("tiny"))[0].parent == store.home / "blobs"
        store.import_file(model, "tiny", link=True)
        assert store.paths(store.get("tiny")) == (model,)
        assert [problem.kind for problem in store.verify()] == ["orphan"]
        assert store.gc() == model.stat().st_size

    def test_a_blob_is_not_linked(self, store: Store, model: Path) -> None:
        (blob,) = store.paths(store.import_file(model, "tiny"))
        with pytest.raises(UnsuitableFile, match="localq cp"):
            store.import_file(blob, "again", link=True)

    def test_a_file_that_changes_while_it_is_hashed_is_not_linked(self, store: Store, model: Path) -> None:
        with pytest.raises(UnsuitableFile, match="was changed"):
            store.import_file(model, "tiny", link=True, progress=lambda *_: os.utime(model, ns=(0, 0)))
        assert store.list() == []
