from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import time
from pathlib import Path

import msgspec
import pytest

from app.errors import NotEnoughDisk, UnsuitableFile
from app.store import Manifest, Source, Store, disk, importing
from app.store.store import default_home
from tests.app.store_kit import (
    contents,
    files_in,
    write_gguf,
    write_split,
)


class Recorder:
    """Progress, for a test to look at."""

    def __init__(self, seen: list[tuple[int, int]]) -> None:
        self.seen = seen

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


class TestOneFile:
    def test_its_bytes_lie_under_their_hash(self, store: Store, model: Path) -> None:
        manifest = store.import_file(model, "tiny")
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        assert files_in(store.home) == {f"blobs/sha256-{digest}", "manifests/tiny.json"}
        assert store.paths(manifest) == (store.home / f"blobs/sha256-{digest}",)
        assert store.paths(manifest)[0].read_bytes() == model.read_bytes()
        assert store.paths(manifest)[0].stat().st_mode & 0o222 == 0
        assert store.verify() == []

    def test_its_manifest_says_what_a_list_needs(self, store: Store, model: Path) -> None:
        manifest = store.import_file(model, "org/tiny:v1")
        assert manifest == store.get("org/tiny:v1")
        assert list(store.list()) == [manifest]
        assert manifest.summary.architecture == "llama"
        assert manifest.summary.name == "Tiny"
        assert manifest.summary.size_bytes == manifest.size_bytes == model.stat().st_size
        assert manifest.files[0].filename == "Tiny.gguf"
        assert manifest.files[0].role == "model"
        assert manifest.source == Source(kind="file", origin=str(model), license="mit")
        assert store.mmproj(manifest) is None

    def test_its_manifest_is_text_that_a_person_can_read(self, store: Store, model: Path) -> None:
        store.import_file(model, "tiny")
        text = (store.home / "manifests" / "tiny.json").read_text()
        assert '\n  "name": "tiny",\n' in text
        assert text.endswith("\n")

    def test_its_source_is_kept(self, store: Store, model: Path) -> None:
        source = Source(kind="hub", origin="org/repo", url="https://example.org", version="abc")
        store.import_file(str(model), "tiny", source=source)
        assert store.get("tiny").source == source

    def test_a_file_without_a_name_inside_is_named_after_its_own(self, store: Store, tmp_path: Path) -> None:
        named = store.import_file(write_gguf(tmp_path / "Own Name.gguf", name=""), "copied")
        assert named.summary.name == "Own Name"
        (tmp_path / "link.gguf").symlink_to(tmp_path / "Own Name.gguf")
        assert store.import_file(tmp_path / "link.gguf", "other").summary.name == "link"
        assert store.import_file(tmp_path / "link.gguf", "third", link=True).summary.name == "link"

    def test_progress_ends_with_every_byte_done(self, store: Store, model: Path) -> None:
        for name in ("first", "second"):
            seen: list[tuple[int, int]] = []
            store.import_file(model, name, progress=Recorder(seen))
            assert seen[-1][0] == seen[-1][1] >= model.stat().st_size
            assert seen == sorted(seen)

    def test_a_name_in_other_bytes_than_utf8_does_not_hinder_a_copy(
        self, store: Store, tmp_path: Path
    ) -> None:
        path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/caf\xe9.gguf"))
        manifest = store.import_file(write_gguf(path), "latin")
        assert manifest.files[0].filename == "caf?.gguf"
        with pytest.raises(UnsuitableFile, match="UTF-8"):
            store.import_file(path, "linked", link=True)


class TestDisk:
    def test_too_little_space_is_told_at_once_with_both_numbers(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(disk, "free_bytes", lambda path: 1000)
        started = time.monotonic()
        with pytest.raises(NotEnoughDisk) as error:
            store.import_file(model, "tiny")
        assert time.monotonic() - started < 1.0
        assert error.value.free_bytes == 1000
        assert error.value.needed_bytes == model.stat().st_size + importing.RESERVE_BYTES
        assert "0.98 KiB free" in str(error.value)
        assert "1.00 MiB needed" in str(error.value)
        assert files_in(store.home) == set()

    def test_the_space_of_all_parts_is_asked_for_before_the_first_is_copied(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paths = write_split(tmp_path / "split")
        total = sum(path.stat().st_size for path in paths) + importing.RESERVE_BYTES
        monkeypatch.setattr(disk, "free_bytes", lambda path: total - 1)
        with pytest.raises(NotEnoughDisk) as error:
            store.import_file(paths[0], "big")
        assert error.value.needed_bytes == total
        monkeypatch.setattr(disk, "free_bytes", lambda path: total)
        store.import_file(paths[0], "big")

    def test_a_clone_needs_no_space_and_is_hashed_all_the_same(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def clone(source: int, target: int) -> bool:
            os.pwrite(target, os.pread(source, 1 << 20, 0), 0)
            return True

        monkeypatch.setattr(disk, "clone", clone)
        monkeypatch.setattr(disk, "free_bytes", lambda path: 0)
        store.import_file(model, "tiny")
        assert store.verify() == []
        assert contents(store) == {"tiny": model.read_bytes()}

    def test_an_interrupt_leaves_nothing(self, store: Store, model: Path) -> None:
        def interrupt(*_: int) -> None:
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            store.import_file(model, "tiny", progress=interrupt)
        assert files_in(store.home) == set()


class TestHome:
    def test_importing_and_opening_touch_no_disk(self, tmp_path: Path) -> None:
        code = (
            "import sys, app.store, app.hub.demo; s = app.store.Store.default();"
            "assert s.list() == [] and s.gc() == 0 and s.verify() == [] and s.usage().stored_bytes == 0;"
            "heavy = {'numpy', 'rich', 'llama_cpp', 'jinja2', 'platformdirs'} & set(sys.modules);"
            "assert not heavy, heavy; print(s.home)"
        )
        home = tmp_path / "not" / "yet"
        environment = {**os.environ, "LOCALQ_HOME": str(home)}
        ran = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True)
        assert (ran.returncode, ran.stdout.strip(), ran.stderr) == (0, str(home), "")
        assert not home.parent.exists()

    def test_the_environment_overrides_the_platforms_folder(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LOCALQ_HOME", "~/models")
        assert default_home() == Path.home() / "models"
        monkeypatch.setenv("LOCALQ_HOME", "")
        assert default_home().name == "localq"
        assert Store.default().home == default_home()

    def test_the_manifest_format_is_stable(self, store: Store, model: Path) -> None:
        store.import_file(model, "tiny")
        document = msgspec.json.decode((store.home / "manifests/tiny.json").read_bytes())
        assert set(document) == {"version", "name", "files", "created", "source", "summary", "defaults"}
        assert document["version"] == 1
        assert document["defaults"] == {}
        assert set(document["files"][0]) == {"digest", "size", "filename", "role"}
        assert msgspec.convert(document, Manifest) == store.get("tiny")
        del document["defaults"]
        assert msgspec.convert(document, Manifest) == store.get("tiny")
