from __future__ import annotations

import os
import socket
import time
from pathlib import Path

import pytest

from app.errors import UnsuitableFile
from app.store import Store, importing
from runtime.errors import GgufError
from tests.app.store_kit import (
    contents,
    files_in,
    gguf_bytes,
    mmproj_bytes,
    split_bytes,
    write_gguf,
    write_split,
)


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


def _renumbered(part: bytes) -> bytes:
    """A last part that holds the wrong number of tensors: none, so its data goes too."""
    tensor = part.index(b"blk.2") - 8
    header = bytearray(part[:tensor])
    header[8:16] = bytes(8)
    return bytes(header)
