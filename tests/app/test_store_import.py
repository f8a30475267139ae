from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from app.errors import NameTaken, NotEnoughDisk, StoreDamaged, UnsuitableFile
from app.store import Manifest, Source, Store, disk, importing
from app.store.hashing import hash_file
from app.store.publish import publish
from app.store.store import default_home
from runtime.errors import GgufError
from runtime.gguf import GgufHeader, open_gguf
from tests.app.store_kit import (
    contents,
    files_in,
    gguf_bytes,
    mmproj_bytes,
    overwrite,
    split_bytes,
    write_gguf,
    write_split,
)


class Recorder:
    """Progress, for a test to look at."""

    def __init__(self, seen: list[tuple[int, int]]) -> None:
        self.seen = seen

    def __call__(self, done: int, total: int) -> None:
        self.seen.append((done, total))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "home")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_gguf(tmp_path / "Tiny.gguf")


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
        assert error.value.next_command == f"localq import --link {model} --name tiny"

    def test_the_command_that_links_again_names_what_holds_all_files(
        self, store: Store, tmp_path: Path
    ) -> None:
        folder = tmp_path / "my models"
        write_gguf(folder / "model.gguf")
        (folder / "mmproj.gguf").write_bytes(mmproj_bytes())
        manifest = store.import_file(folder, "eyes", link=True)
        (folder / "mmproj.gguf").unlink()
        with pytest.raises(StoreDamaged) as error:
            store.paths(manifest)
        assert error.value.next_command == f"localq import --link '{folder}' --name eyes"

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


class TestFolder:
    def test_its_one_model_is_found_and_nothing_else(self, store: Store, tmp_path: Path) -> None:
        folder = tmp_path / "folder"
        data = write_gguf(folder / "sub" / "model.GGUF").read_bytes()
        (folder / "README.md").write_text("hello")
        (folder / "model.safetensors").write_bytes(b"x")
        (folder / "loop").symlink_to(folder)
        (folder / "sub" / "again.gguf").symlink_to(folder / "sub" / "model.GGUF")
        store.import_file(folder, "tiny")
        assert contents(store) == {"tiny": data}

    def test_a_split_model_is_one_model(self, store: Store, tmp_path: Path) -> None:
        paths = write_split(tmp_path / "split")
        manifest = store.import_file(tmp_path / "split", "big")
        assert [file.role for file in manifest.files] == ["part"] * 3
        assert [path.read_bytes() for path in store.paths(manifest)] == [p.read_bytes() for p in paths]
        assert manifest.summary.architecture == "llama"
        assert manifest.summary.parameters == 32 * 4 + 32 * 3
        assert manifest.summary.tensor_types == {"F32": 4}
        assert manifest.summary.bits_per_weight == 32
        assert manifest.summary.size_bytes == sum(path.stat().st_size for path in paths)

    @pytest.mark.parametrize("given", [0, 1, 2])
    def test_any_part_brings_the_others(self, given: int, store: Store, tmp_path: Path) -> None:
        paths = write_split(tmp_path / "split")
        manifest = store.import_file(paths[given], "big")
        assert [path.read_bytes() for path in store.paths(manifest)] == [p.read_bytes() for p in paths]

    def test_parts_may_be_given_in_any_order_and_under_any_name(self, store: Store, tmp_path: Path) -> None:
        for letter, data in zip("cab", split_bytes(3), strict=True):
            (tmp_path / f"{letter}.gguf").write_bytes(data)
        manifest = store.import_file([tmp_path / f"{letter}.gguf" for letter in "abc"], "big")
        assert [file.filename for file in manifest.files] == ["c.gguf", "a.gguf", "b.gguf"]

    def test_a_split_model_can_be_linked(self, store: Store, tmp_path: Path) -> None:
        paths = write_split(tmp_path / "split")
        assert store.paths(store.import_file(paths[0], "big", link=True)) == tuple(paths)

    def test_a_projector_comes_along(self, store: Store, tmp_path: Path) -> None:
        write_gguf(tmp_path / "vision" / "model.gguf")
        (tmp_path / "vision" / "a-mmproj.gguf").write_bytes(mmproj_bytes())
        manifest = store.import_file(tmp_path / "vision", "eyes")
        assert [file.role for file in manifest.files] == ["model", "mmproj"]
        assert store.paths(manifest)[0].read_bytes() == gguf_bytes()
        projector = store.mmproj(manifest)
        assert projector is not None
        assert projector.read_bytes() == mmproj_bytes()
        assert manifest.summary.parameters == 32 * 4 + 32
        assert manifest.summary.size_bytes == len(gguf_bytes()) + len(mmproj_bytes())
        assert store.verify() == []

    def test_what_is_not_one_model_is_refused(self, store: Store, tmp_path: Path) -> None:
        def case(name: str, **files: bytes) -> Path:
            folder = tmp_path / name
            folder.mkdir()
            for stem, data in files.items():
                (folder / f"{stem}.gguf").write_bytes(data)
            return folder

        one, two, three = split_bytes(3)
        other = split_bytes(3, seed=1)
        headless = [data.replace(b"general.architecture", b"general.architectura") for data in split_bytes(2)]
        cases = {
            "no .gguf file": case("empty"),
            "more than one model": case("two", a=gguf_bytes(1), b=gguf_bytes(2)),
            "more than one model.*": case("mixed", a=gguf_bytes(1), b=one),
            "holds no language model": case("blind", a=mmproj_bytes()),
            "second mmproj": case("eyes", a=gguf_bytes(), b=mmproj_bytes(1), c=mmproj_bytes(2)),
            "all are needed": case("missing", a=one, b=three),
            "all are needed.*": case("twice", a=one, b=two, c=other[1]),
            "not a part of the same model": case(
                "alien", a=one, b=two, c=two.replace(b"\x02\0\0\0\1\0", b"\x02\0\0\0\2\0", 1)
            ),
            "promises 4 tensors": case("short", a=one, b=two, c=_renumbered(split_bytes(3)[2])),
            "names no architecture": case("headless", a=headless[0], b=headless[1]),
        }
        for message, folder in cases.items():
            with pytest.raises((UnsuitableFile, GgufError), match=message):
                store.import_file(folder, "tiny")
        assert not store.home.exists()

    def test_a_part_whose_sibling_is_missing_names_it(self, store: Store, tmp_path: Path) -> None:
        paths = write_split(tmp_path / "split")
        paths[1].unlink()
        with pytest.raises(UnsuitableFile, match=r"big-00002-of-00003\.gguf: is missing"):
            store.import_file(paths[0], "big")

    def test_a_number_outside_its_own_set_is_an_ordinary_name(self, store: Store, tmp_path: Path) -> None:
        store.import_file(write_gguf(tmp_path / "m-00005-of-00003.gguf"), "tiny")
        store.import_file(write_gguf(tmp_path / "m-00001-of-00001.gguf"), "single")
        assert contents(store) == {"tiny": gguf_bytes(), "single": gguf_bytes()}

    def test_a_folder_with_very_many_files_is_refused(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.store.sources.MAX_ENTRIES", 3)
        for number in range(4):
            write_gguf(tmp_path / "many" / f"{number}.gguf")
        with pytest.raises(UnsuitableFile, match="more than 3 files"):
            store.import_file(tmp_path / "many", "tiny")

    def test_a_folder_that_cannot_be_read_is_refused(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "closed").mkdir()

        def refuse(path: Path) -> None:
            raise PermissionError(13, "Permission denied", str(path))

        monkeypatch.setattr(os, "scandir", refuse)
        with pytest.raises(UnsuitableFile, match="Permission denied"):
            store.import_file(tmp_path / "closed", "tiny")

    def test_nothing_given_is_no_model(self, store: Store) -> None:
        with pytest.raises(UnsuitableFile, match="no language model"):
            store.import_file([], "tiny")


class TestHostileFiles:
    """G33: nothing but a regular file is opened, and nothing refused leaves a trace."""

    def hostile(self, folder: Path) -> dict[str, Path]:
        os.mkfifo(folder / "fifo.gguf")
        (folder / "loop.gguf").symlink_to(folder / "loop.gguf")
        (folder / "dangling.gguf").symlink_to(folder / "nothing")
        (folder / "null.gguf").symlink_to("/dev/null")
        (folder / "zero.gguf").symlink_to("/dev/zero")
        (folder / "folder.gguf").mkdir()
        with (folder / "sparse.gguf").open("wb") as file:
            file.truncate(1 << 40)
        with (folder / "laid-out.gguf").open("wb") as file:
            file.write(gguf_bytes())
            file.truncate(1 << 40)
        server = socket.socket(socket.AF_UNIX)
        place = Path.cwd()
        os.chdir(folder)  # a socket's path may have 107 bytes only
        try:
            server.bind("socket.gguf")
        finally:
            os.chdir(place)
            server.close()
        (folder / "empty.gguf").touch()
        (folder / "text.gguf").write_text("not a model")
        (folder / "cut.gguf").write_bytes(gguf_bytes()[:-1])
        return {path.stem: path for path in folder.iterdir()} | {
            "absent": folder / "absent.gguf",
            "nul": Path(f"{folder}/a\0b.gguf"),
            "below-a-file": folder / "text.gguf" / "x.gguf",
            "device": Path("/dev/zero"),
        }

    @pytest.mark.parametrize("link", [False, True])
    def test_each_is_refused_at_once_and_leaves_no_trace(
        self, link: bool, store: Store, tmp_path: Path
    ) -> None:
        folder = tmp_path / "hostile"
        folder.mkdir()
        for name, path in self.hostile(folder).items():
            started = time.monotonic()
            with pytest.raises((UnsuitableFile, GgufError)) as error:
                store.import_file(path, "evil", link=link)
            assert time.monotonic() - started < 1.0, name
            assert "\0" not in str(error.value) or name == "nul"
        assert not store.home.exists()

    def test_a_pipe_is_refused_also_when_it_appears_at_the_last_moment(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        os.mkfifo(model.with_name("fifo"))
        opened, pipe = os.open, model.with_name("fifo")

        def swapped(path: Path, *args: int) -> int:
            return opened(pipe if Path(path) == model else path, *args)

        monkeypatch.setattr(os, "open", swapped)
        with pytest.raises(UnsuitableFile, match="is a pipe"):
            store.import_file(model, "evil")

    def test_a_file_that_goes_at_the_last_moment_is_refused(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.store.sources.real_path", lambda path: path.with_name("gone"))
        with pytest.raises(UnsuitableFile, match="No such file"):
            store.import_file(model, "evil")

    def test_one_bad_file_in_a_folder_refuses_the_folder(self, store: Store, tmp_path: Path) -> None:
        write_gguf(tmp_path / "folder" / "good.gguf")
        (tmp_path / "folder" / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 45)
        with pytest.raises(GgufError, match=r"bad\.gguf"):
            store.import_file(tmp_path / "folder", "tiny")
        assert not store.home.exists()

    def test_a_large_file_without_holes_is_no_sparse_one(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.store.sources.MIN_SPARSE_BYTES", 0)
        store.import_file(write_gguf(tmp_path / "m.gguf"), "tiny")

    def test_a_file_of_very_many_extents_is_refused_without_walking_all(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("app.store.sources.MIN_SPARSE_BYTES", 0)
        monkeypatch.setattr("app.store.sources._MAX_EXTENTS", 2)
        with (tmp_path / "holes.gguf").open("wb") as file:
            for number in range(8):
                file.seek(number << 20)
                file.write(b"x" * 4096)
        with pytest.raises(UnsuitableFile, match="mostly holes"):
            store.import_file(tmp_path / "holes.gguf", "tiny")

    @pytest.mark.parametrize("how", ["append", "truncate", "rewrite"])
    def test_a_file_that_changes_while_it_is_copied_is_not_stored(
        self, how: str, store: Store, tmp_path: Path
    ) -> None:
        path = write_gguf(tmp_path / "m.gguf", rows=20_000)
        done = False

        def change(*_: int) -> None:
            nonlocal done
            if done:
                return
            done = True
            size = path.stat().st_size
            with path.open("r+b") as file:
                if how == "append":
                    file.seek(0, os.SEEK_END)
                    file.write(b"more")
                elif how == "truncate":
                    file.truncate(size // 2)
                else:
                    file.seek(size - 8)
                    file.write(b"12345678")
            os.utime(path, ns=(0, 0))

        with pytest.raises(UnsuitableFile, match="was changed"):
            store.import_file(path, "tiny", progress=change)
        assert files_in(store.home) == set()

    def test_the_bytes_that_are_stored_are_validated_themselves(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        for bad in (b"JUNK" + gguf_bytes()[4:], gguf_bytes(name="Tony")):
            monkeypatch.setattr(importing, "read_chunks", lambda fd, bad=bad: iter([memoryview(bad)]))
            with pytest.raises(UnsuitableFile, match="was changed"):
                store.import_file(model, "tiny")
        monkeypatch.undo()
        assert files_in(store.home) == set()

    def test_a_source_that_cannot_be_read_to_its_end_is_an_error(
        self, store: Store, model: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise OSError(5, "Input/output error")

        for link in (False, True):
            monkeypatch.setattr(os, "readv", fail)
            with pytest.raises(UnsuitableFile, match="Input/output error"):
                store.import_file(model, "tiny", link=link)
        assert files_in(store.home) == set()


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
        assert "1000 bytes free" in str(error.value)
        assert "1.0 MiB needed" in str(error.value)
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
        assert set(document) == {"version", "name", "files", "created", "source", "summary"}
        assert document["version"] == 1
        assert set(document["files"][0]) == {"digest", "size", "filename", "role"}
        assert msgspec.convert(document, Manifest) == store.get("tiny")


def _renumbered(part: bytes) -> bytes:
    """A last part that holds the wrong number of tensors: none, so its data goes too."""
    tensor = part.index(b"blk.2") - 8
    header = bytearray(part[:tensor])
    header[8:16] = bytes(8)
    return bytes(header)
