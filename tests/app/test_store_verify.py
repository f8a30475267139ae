from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from random import Random

import msgspec
import pytest

from app.errors import DiskFailed, NoSuchModel, StoreDamaged
from app.store import Problem, Store
from app.store.hashing import hash_file
from app.store.manifest import MAX_MANIFEST_BYTES
from app.store.temporary import PREFIX
from tests.app.store_kit import contents, memory_folder, overwrite, write_gguf, write_split


@pytest.fixture
def tmp_path(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def store(tmp_path: Path) -> Store:
    store = Store(tmp_path / "home")
    store.import_file(write_gguf(tmp_path / "a.gguf", 1), "a")
    store.import_file(write_split(tmp_path / "split")[0], "big")
    store.copy("a", "a:copy")
    return store


def only(problems: Sequence[Problem]) -> Problem:
    assert len(problems) == 1, problems
    return problems[0]


class TestBlobs:
    def test_a_thousand_flipped_bits_are_found_and_nothing_else(self, tmp_path: Path) -> None:
        store = Store(tmp_path / "many")
        sound: dict[Path, bytes] = {}
        for seed in range(25):
            path = write_gguf(tmp_path / "m.gguf", seed)
            (blob,) = store.paths(store.import_file(path, f"m{seed}"))
            blob.chmod(0o644)
            sound[blob] = path.read_bytes()
        random = Random(5)
        for _ in range(40):
            for blob, data in sound.items():
                rotten = bytearray(data)
                bit = random.randrange(8 * len(rotten))
                rotten[bit // 8] ^= 1 << bit % 8
                blob.write_bytes(rotten)
            problems = store.verify()
            assert {problem.kind for problem in problems} == {"hash"}
            assert sorted(problem.path for problem in problems) == sorted(map(str, sound))
            assert len({problem.models for problem in problems}) == len(sound)
        for blob, data in sound.items():
            blob.write_bytes(data)
        assert store.verify() == []

    def test_a_missing_blob_is_a_problem_of_all_models_that_need_it(self, store: Store) -> None:
        (blob,) = store.paths(store.get("a"))
        blob.unlink()
        problem = only(store.verify())
        assert (problem.kind, problem.models, problem.harmless) == ("missing", ("a", "a:copy"), False)
        with pytest.raises(StoreDamaged, match="is missing") as error:
            store.paths(store.get("a"))
        origin = store.get("a").source.origin
        assert error.value.next_command == f"localq import {origin} --name a"

    def test_a_blob_of_another_length_is_found_before_it_is_used(self, store: Store) -> None:
        blob = store.paths(store.get("big"))[1]
        blob.chmod(0o644)
        with blob.open("ab") as file:
            file.write(b"x")
        assert only(store.verify()).kind == "size"
        with pytest.raises(StoreDamaged, match="bytes, it was stored with"):
            store.paths(store.get("big"))

    def test_a_blob_that_cannot_be_read_is_named(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        bad, _, _ = store.paths(store.get("big"))

        def fail_on_bad(fd: int, on_bytes: Callable[[int], None]) -> tuple[str, int]:
            if os.fstat(fd).st_ino == bad.stat().st_ino:
                raise OSError(5, "Input/output error")
            return hash_file(fd, on_bytes)

        monkeypatch.setattr("app.store.check.hash_file", fail_on_bad)
        problem = only(store.verify())
        assert (problem.kind, problem.path) == ("unreadable", str(bad))
        assert "Input/output error" in problem.detail

    def test_a_blob_behind_a_file_is_unreadable_or_missing(self, store: Store, tmp_path: Path) -> None:
        store.import_file(tmp_path / "a.gguf", "linked", link=True)
        (tmp_path / "a.gguf").unlink()
        (tmp_path / "a.gguf").symlink_to(tmp_path / "a.gguf")
        problem = only(store.verify(["linked"]))
        assert problem.kind == "unreadable"

    def test_a_blob_that_goes_between_looking_and_reading_is_missing(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (blob,) = store.paths(store.get("a"))
        opened = os.open

        def vanish(path: Path, flags: int, *args: int, **more: int) -> int:
            if Path(path) == blob:
                blob.unlink(missing_ok=True)
            return opened(path, flags, *args, **more)

        monkeypatch.setattr(os, "open", vanish)
        assert only(store.verify()).kind == "missing"

    def test_only_the_named_models_are_read(self, store: Store) -> None:
        store.paths(store.get("a"))[0].unlink()
        (store.home / "blobs" / f"sha256-{'0' * 64}").write_bytes(b"orphan")
        assert store.verify(["big"]) == []
        assert only(store.verify(["a", "a"])).models == ("a",)
        assert store.verify([]) == []
        with pytest.raises(NoSuchModel):
            store.verify(["big", "absent"])

    def test_progress_counts_every_byte_once(self, store: Store) -> None:
        seen: list[tuple[int, int]] = []
        store.verify(progress=lambda done, total: seen.append((done, total)))
        assert seen[-1] == (store.usage().stored_bytes,) * 2
        store.paths(store.get("a"))[0].unlink()
        store.verify(progress=lambda done, total: seen.append((done, total)))
        assert seen[-1][0] == seen[-1][1]

    def test_an_interrupt_stops_the_reading(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.store.check._REPORT_SECONDS", 0.001)
        stopped: list[BaseException] = []

        def endless(fd: int, on_bytes: Callable[[int], None]) -> tuple[str, int]:
            try:
                while True:
                    on_bytes(0)
            except BaseException as error:
                stopped.append(error)
                raise

        def interrupt(*_: int) -> None:
            raise KeyboardInterrupt

        monkeypatch.setattr("app.store.check.hash_file", endless)
        with pytest.raises(KeyboardInterrupt):
            store.verify(progress=interrupt)
        assert stopped


class TestManifests:
    @pytest.mark.parametrize(
        "raw",
        [
            b"",
            b"{",
            b"\xff\xfe",
            b"null",
            b"[]",
            b"{}",
            b'{"version": "1"}',
            b'{"version": 1}',
            b"[" * 100_000,
            b" " * (MAX_MANIFEST_BYTES + 1),
        ],
        ids=range(10),
    )
    def test_a_damaged_one_is_named_and_hides_no_other(self, raw: bytes, store: Store) -> None:
        path = store.home / "manifests" / "a.json"
        overwrite(path, raw)
        problem = only(store.verify())
        assert (problem.kind, problem.path, problem.harmless) == ("unreadable-manifest", str(path), False)
        assert [model.name for model in store.list()] == ["a:copy", "big"]
        assert [error.path for error in store.damaged()] == [path]
        with pytest.raises(StoreDamaged):
            store.get("a")
        with pytest.raises(StoreDamaged):
            store.copy("a", "b")

    @pytest.mark.parametrize(
        "digest",
        [
            "sha256-../../../../etc/passwd",
            "sha256-" + "A" * 64,
            "sha256-" + "0" * 63,
            f"sha256-{'0' * 64}\n",
            "",
        ],
    )
    def test_a_digest_that_is_none_never_becomes_a_path(self, digest: str, store: Store) -> None:
        path = store.home / "manifests" / "a.json"
        document = json.loads(path.read_text())
        document["files"][0]["digest"] = digest
        overwrite(path, json.dumps(document).encode())
        with pytest.raises(StoreDamaged, match="not a manifest"):
            store.get("a")

    def test_no_files_or_a_negative_size_is_no_manifest(self, store: Store) -> None:
        path = store.home / "manifests" / "a.json"
        document = json.loads(path.read_text())
        for files in ([], [{**document["files"][0], "size": -1}]):
            overwrite(path, json.dumps({**document, "files": files}).encode())
            with pytest.raises(StoreDamaged, match="not a manifest"):
                store.get("a")

    def test_one_of_a_newer_localq_says_so(self, store: Store) -> None:
        path = store.home / "manifests" / "a.json"
        overwrite(path, b'{"version": 2, "something": "else"}')
        with pytest.raises(StoreDamaged, match="update localq"):
            store.get("a")

    def test_one_under_the_name_of_another_is_damaged(self, store: Store) -> None:
        folder = store.home / "manifests"
        (folder / "a.json").replace(folder / "b.json")
        with pytest.raises(StoreDamaged, match="of 'a'"):
            store.get("b")

    def test_one_that_cannot_be_opened_is_damaged(self, store: Store) -> None:
        path = store.home / "manifests" / "a.json"
        path.unlink()
        path.symlink_to(path)
        with pytest.raises(StoreDamaged, match="cannot be read"):
            store.get("a")
        store.remove("a")
        assert not os.path.lexists(path)
        path.mkdir()
        with pytest.raises(StoreDamaged, match="cannot be read"):
            store.get("a")

    def test_a_foreign_name_is_reported_and_a_hidden_file_is_not(self, store: Store) -> None:
        folder = store.home / "manifests"
        (folder / "._a.json").write_text("x")
        (folder / "notes.txt").write_text("x")
        assert store.verify() == []
        foreign = Path(os.fsdecode(os.fsencode(folder) + b"/Caf\xe9.json"))
        foreign.write_text("{}")
        problem = only(store.verify())
        assert problem.kind == "unreadable-manifest"
        assert msgspec.json.decode(msgspec.json.encode(problem))["path"].endswith("Caf\\udce9.json")

    def test_one_that_goes_while_all_are_listed_is_left_out(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        opened = os.open

        def vanish(path: Path, flags: int, *args: int, **more: int) -> int:
            if Path(path).name == "a.json":
                Path(path).unlink(missing_ok=True)
            return opened(path, flags, *args, **more)

        monkeypatch.setattr(os, "open", vanish)
        assert [model.name for model in store.list()] == ["a:copy", "big"]
        assert store.damaged() == []

    def test_a_folder_that_cannot_be_listed_is_a_typed_error(self, store: Store) -> None:
        folder = store.home / "manifests"
        folder.rename(store.home / "away")
        folder.write_text("not a folder")
        with pytest.raises(DiskFailed) as error:
            store.list()
        assert error.value.path == folder


class TestLeftovers:
    def test_orphans_and_temporary_files_are_harmless_and_gc_removes_them(self, store: Store) -> None:
        before = contents(store)
        leftovers = {
            store.home / "blobs" / f"sha256-{'0' * 64}": "orphan",
            store.home / "blobs" / f"{PREFIX}1-a": "temporary",
            store.home / "manifests" / f"{PREFIX}1-b": "temporary",
            store.home / "tmp" / f"{PREFIX}1-c": "temporary",
        }
        for path in leftovers:
            path.parent.mkdir(exist_ok=True)
            path.write_bytes(b"123")
        problems = store.verify()
        assert {Path(problem.path): problem.kind for problem in problems} == leftovers
        assert all(problem.harmless for problem in problems)
        assert store.usage().reclaimable_bytes == 12
        assert store.gc() == 12
        assert store.verify() == []
        assert contents(store) == before

    def test_a_blob_that_goes_while_all_are_counted_is_left_out(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        orphan = store.home / "blobs" / f"sha256-{'0' * 64}"
        orphan.write_bytes(b"123")
        stat = Path.stat

        def vanish(self: Path, *, follow_symlinks: bool = True) -> os.stat_result:
            if self == orphan:
                raise FileNotFoundError(2, "No such file or directory", str(self))
            return stat(self, follow_symlinks=follow_symlinks)

        monkeypatch.setattr(Path, "stat", vanish)
        assert store.usage().reclaimable_bytes == 0

    def test_with_a_damaged_manifest_nothing_is_called_an_orphan(self, store: Store) -> None:
        overwrite(store.home / "manifests" / "big.json", b"")
        assert [problem.kind for problem in store.verify()] == ["unreadable-manifest"]
        assert store.usage().reclaimable_bytes == 0

    def test_foreign_files_among_the_blobs_are_nobodys_business(self, store: Store) -> None:
        (store.home / "blobs" / ".DS_Store").write_text("x")
        assert store.verify() == []
        assert store.gc() == 0
        assert (store.home / "blobs" / ".DS_Store").exists()


class TestWhileOthersWork:
    """What another process does during the check is no problem of the store."""

    def during(self, monkeypatch: pytest.MonkeyPatch, action: Callable[[], object]) -> None:
        def act_then_hash(fd: int, on_bytes: Callable[[int], None]) -> tuple[str, int]:
            monkeypatch.undo()
            action()
            return hash_file(fd, on_bytes)

        monkeypatch.setattr("os.cpu_count", lambda: 1)
        monkeypatch.setattr("app.store.check.hash_file", act_then_hash)

    def test_a_removed_model_is_not_missing(self, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
        self.during(monkeypatch, lambda: store.remove("big"))
        assert store.verify() == []

    def test_a_model_that_is_removed_and_stored_again_is_not_missing(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def replace() -> None:
            store.remove("big")
            store.import_file(write_split(tmp_path / "other", seed=7)[0], "big")

        self.during(monkeypatch, replace)
        assert store.verify() == []

    def test_a_missing_blob_that_comes_back_is_no_problem(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store.paths(store.get("a"))[0].unlink()
        self.during(monkeypatch, lambda: store.import_file(tmp_path / "a.gguf", "a"))
        assert store.verify() == []

    def test_an_orphan_that_gets_a_model_is_none(
        self, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (store.home / "manifests" / "a.json").rename(tmp_path / "a.json")
        (store.home / "manifests" / "a@copy.json").unlink()
        self.during(monkeypatch, lambda: (tmp_path / "a.json").rename(store.home / "manifests" / "a.json"))
        assert store.verify() == []

    def test_a_rotten_model_whose_manifest_breaks_meanwhile_is_still_reported(
        self, store: Store, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        blobs = store.paths(store.get("big"))
        blobs[2].unlink()
        self.during(monkeypatch, lambda: overwrite(store.home / "manifests" / "big.json", b""))
        assert only(store.verify()).kind == "missing"
