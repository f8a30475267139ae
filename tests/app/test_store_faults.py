from __future__ import annotations

import errno
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest

from app.errors import DiskFailed, NoSuchModel, NotEnoughDisk, StoreError
from app.store import Store, disk
from tests.app.store_kit import (
    PRIMITIVES,
    contents,
    damage,
    files_in,
    memory_folder,
    wrap_disk,
    write_gguf,
)
from tests.app.store_operations import OPERATIONS, filled, write_models


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as folder:
        yield folder


@pytest.fixture
def models(memory: Path) -> Path:
    return write_models(memory / "models")


class Saboteur:
    """Fails the n-th call of the disk's primitives with an error of the operating system."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.calls: list[str] = []
        self.fail_at = -1
        self.number = 0
        wrap_disk(self.around, patch)

    def around(self, name: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        self.calls.append(name)
        if len(self.calls) - 1 == self.fail_at:
            path = next(arg for arg in reversed(args) if isinstance(arg, Path))
            raise disk.failure(name, path, OSError(self.number, os.strerror(self.number)))
        return primitive(*args)

    def arm(self, fail_at: int, number: int) -> None:
        self.calls, self.fail_at, self.number = [], fail_at, number


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EIO, errno.EDQUOT], ids=errno.errorcode.get)
@pytest.mark.parametrize("operation", OPERATIONS)
def test_a_fault_at_any_primitive_is_an_error_and_leaves_the_store_valid(
    operation: str, number: int, models: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saboteur = Saboteur(monkeypatch)
    run = OPERATIONS[operation]
    template = filled(memory / "template", models, operation).home
    failed: list[str] = []
    while True:
        store = Store(memory / f"home{len(failed)}")
        shutil.copytree(template, store.home)
        before = store.list()
        saboteur.arm(len(failed), number)
        try:
            run(store, models)
            break
        except StoreError as error:
            assert isinstance(error, DiskFailed if number == errno.EIO else NotEnoughDisk)
            assert str(store.home) in str(error)
            failed.append(saboteur.calls[len(failed)])
        finally:
            saboteur.arm(-1, 0)
        assert_valid(store, operation)
        if not operation.startswith("remove"):
            assert store.list() == before, f"published although {failed[-1]} failed"
        temporary = {name for name in files_in(store.home) if ".tmp-" in name} - {"blobs/.tmp-1-dead"}
        assert not temporary or failed[-1] == "unlink"
        with suppress(NoSuchModel):  # a removal that failed after the manifest went
            run(store, models)
        store.gc()
        assert store.verify() == []
        shutil.rmtree(store.home)
    assert store.home.name == f"home{len(failed)}"
    assert len(failed) >= 2
    assert any(name.startswith("sync") for name in failed)


def assert_valid(store: Store, operation: str) -> None:
    """Nothing is damaged but what was before the import that repairs it."""
    tolerated = ("b", "b:copy") if operation == "import that repairs" else None
    assert [problem for problem in damage(store.verify()) if problem.models != tolerated] == []
    assert Store(store.home / "deep" / "er").list() == []


def test_every_primitive_is_covered_by_some_operation(
    models: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    saboteur = Saboteur(monkeypatch)
    for operation, run in OPERATIONS.items():
        run(filled(memory / operation, models, operation), models)
    assert set(saboteur.calls) == set(PRIMITIVES)


def test_a_failed_fsync_is_never_tried_again_and_never_becomes_success(
    models: Path, memory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    store = filled(memory / "home", models, "import")
    sync, synced = os.fsync, list[int]()
    fail_at = -1

    def fail_once(fd: int) -> None:
        synced.append(os.fstat(fd).st_ino)
        if len(synced) - 1 == fail_at:
            raise OSError(errno.EIO, "Input/output error")
        sync(fd)

    monkeypatch.setattr(os, "fsync", fail_once)
    store.import_file(models / "c.gguf", "c")
    count = len(synced)
    assert count >= 5  # home, blob, its folder, manifest, its folder
    store.remove("c")
    for attempt in range(500):
        synced.clear()
        fail_at = attempt % count
        with pytest.raises(DiskFailed, match="fsync") as error:
            store.import_file(models / "c.gguf", "c")
        assert str(store.home) in str(error.value)
        failed = synced[fail_at]
        if not Path(error.value.path).is_dir():  # a folder is synced again when the manifest is taken back
            assert failed not in synced[fail_at + 1 :]
        assert [model.name for model in store.list()] == ["a", "b", "b:copy"]
    monkeypatch.undo()
    assert damage(store.verify()) == []


class TestWithdrawal:
    """Taking back a publication that failed can fail too."""

    def test_a_manifest_that_cannot_be_taken_back_keeps_its_blobs(
        self, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = filled(tmp_path / "home", models, "import")

        def around(name: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            if (name == "sync_directory" and args[0].name == "manifests") or name == "unlink":
                raise DiskFailed(name, args[0], OSError(errno.EIO, "Input/output error"))
            return primitive(*args)

        wrap_disk(around, monkeypatch)
        with pytest.raises(DiskFailed, match="sync_directory"):
            store.import_file(models / "c.gguf", "c")
        monkeypatch.undo()
        assert damage(store.verify()) == []
        assert contents(store)["c"] == (models / "c.gguf").read_bytes()

    def test_a_manifest_that_may_come_back_after_a_power_cut_keeps_its_blobs(
        self, models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = filled(tmp_path / "home", models, "import")

        def around(name: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            if name == "sync_directory" and args[0].name == "manifests":
                raise DiskFailed(name, args[0], OSError(errno.EIO, "Input/output error"))
            return primitive(*args)

        wrap_disk(around, monkeypatch)
        with pytest.raises(DiskFailed):
            store.import_file(models / "c.gguf", "c")
        monkeypatch.undo()
        assert "c" not in contents(store)
        assert [problem.kind for problem in store.verify()].count("orphan") == 2


class TestPrimitives:
    def test_a_short_write_goes_on_where_it_stopped(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        write = os.write
        monkeypatch.setattr(os, "write", lambda fd, data: write(fd, bytes(data[:3])))
        fd = disk.create(tmp_path / "x")
        disk.write(fd, b"0123456789", tmp_path / "x")
        os.close(fd)
        assert (tmp_path / "x").read_bytes() == b"0123456789"

    @pytest.mark.parametrize("number", [errno.EIO, errno.EACCES, errno.ENOSPC])
    def test_each_tells_what_failed_and_where(
        self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        fd = disk.create(tmp_path / "x")

        def fail(*_: Any, **__: Any) -> None:
            raise OSError(number, os.strerror(number))

        for module, name, call in (
            (os, "open", lambda: disk.create(tmp_path / "y")),
            (os, "open", lambda: disk.sync_directory(tmp_path)),
            (os, "write", lambda: disk.write(fd, b"x", tmp_path / "x")),
            (os, "fchmod", lambda: disk.protect(fd, tmp_path / "x")),
            (os, "fsync", lambda: disk.sync(fd, tmp_path / "x")),
            (os, "fsync", lambda: disk.sync_directory(tmp_path)),
            (Path, "mkdir", lambda: disk.make_directory(tmp_path / "folder")),
            (Path, "replace", lambda: disk.rename(tmp_path / "x", tmp_path / "z")),
            (Path, "unlink", lambda: disk.unlink(tmp_path / "x")),
        ):
            with monkeypatch.context() as patch:
                patch.setattr(module, name, fail)
                with pytest.raises(NotEnoughDisk if number == errno.ENOSPC else DiskFailed) as error:
                    call()
            assert str(tmp_path) in str(error.value)
            if isinstance(error.value, DiskFailed):
                assert error.value.errno == number
        os.close(fd)

    def test_a_file_system_that_cannot_sync_folders_is_used_without(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(fd: int) -> None:
            raise OSError(errno.EINVAL, "Invalid argument")

        monkeypatch.setattr(os, "fsync", fail)
        disk.sync_directory(tmp_path)
        with pytest.raises(DiskFailed):
            disk.sync(0, tmp_path)

    @pytest.mark.parametrize(
        ("answer", "synced"), [(None, []), (errno.ENOTSUP, ["fsync"]), (errno.EIO, None)], ids=str
    )
    def test_macos_empties_the_drives_cache_too_where_it_can(
        self, answer: int | None, synced: list[str] | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        calls: list[str] = []

        def full_sync(fd: int, command: int) -> None:
            assert command == 51
            if answer is not None:
                raise OSError(answer, os.strerror(answer))

        monkeypatch.setattr("sys.platform", "darwin")
        monkeypatch.setattr("fcntl.F_FULLFSYNC", 51, raising=False)
        monkeypatch.setattr("fcntl.fcntl", full_sync)
        monkeypatch.setattr(os, "fsync", lambda fd: calls.append("fsync"))
        if synced is None:
            with pytest.raises(DiskFailed):
                disk.sync(1, tmp_path)
            assert calls == []
        else:
            disk.sync(1, tmp_path)
            assert calls == synced

    def test_removing_what_is_gone_frees_nothing(self, tmp_path: Path) -> None:
        assert disk.unlink(tmp_path / "absent") == 0

    def test_a_clone_shares_every_byte_or_changes_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "source").write_bytes(b"x" * 100_000)
        with (tmp_path / "source").open("rb") as source:
            target = disk.create(tmp_path / "target")
            cloned = disk.clone(source.fileno(), target)
            os.close(target)
        assert (tmp_path / "target").read_bytes() == (b"x" * 100_000 if cloned else b"")

    def test_a_clone_is_used_where_the_system_grants_it(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("fcntl.ioctl", lambda *_: 0)
        assert disk.clone(0, 1)
        monkeypatch.setattr("sys.platform", "freebsd")
        assert not disk.clone(0, 1)

    def test_a_parent_that_others_own_is_not_synced(
        self, tmp_path: Path, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        synced: list[Path] = []

        def record(path: Path) -> None:
            synced.append(path)

        monkeypatch.setattr(disk, "sync_directory", record)
        monkeypatch.setattr(os, "access", lambda path, mode: False)
        (tmp_path / "home").mkdir()
        Store(tmp_path / "home").import_file(models / "a.gguf", "a")
        assert tmp_path not in synced


class SmallDisk:
    """A disk with room for little: a real one where this process may mount it, else one that counts bytes."""

    def __init__(self, folder: Path, patch: pytest.MonkeyPatch) -> None:
        self.folder = folder
        folder.mkdir()
        mount = ["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(folder)]
        self.mounted = os.geteuid() == 0 and subprocess.run(mount, capture_output=True).returncode == 0
        if not self.mounted:
            patch.setattr(disk, "free_bytes", lambda path: self.free())
            wrap_disk(self.around, patch)

    def around(self, name: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        if name in ("create", "make_directory", "write") and (
            self.free() < (len(args[1]) if name == "write" else 1)
        ):
            raise disk.failure(name, self.folder, OSError(errno.ENOSPC, "No space left on device"))
        return primitive(*args)

    def free(self) -> int:
        if self.mounted:
            return disk.free_bytes(self.folder)
        return (1 << 20) - sum(path.stat().st_size for path in self.folder.rglob("*") if path.is_file())

    def fill(self) -> None:
        """Takes all that is left."""
        with (self.folder / "ballast").open("wb", buffering=0) as file:
            if not self.mounted:
                file.write(bytes(self.free()))
                return
            try:
                while True:
                    file.write(bytes(4096))
            except OSError as error:
                assert error.errno == errno.ENOSPC

    def unmount(self) -> None:
        if self.mounted:
            subprocess.run(["umount", str(self.folder)], check=True)


class TestFullDisk:
    @pytest.fixture(params=["mounted where possible", "counted"])
    def small(
        self, request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> Iterator[SmallDisk]:
        if request.param == "counted":
            monkeypatch.setattr(os, "geteuid", lambda: 1000)
        small = SmallDisk(tmp_path / "small", monkeypatch)
        yield small
        small.unmount()

    def test_what_does_not_fit_is_refused_before_it_is_copied(self, small: SmallDisk, tmp_path: Path) -> None:
        store = Store(small.folder / "home")
        big = write_gguf(tmp_path / "big.gguf", rows=10_000)
        with pytest.raises(NotEnoughDisk) as error:
            store.import_file(big, "big")
        assert error.value.needed_bytes > big.stat().st_size > error.value.free_bytes > 0
        assert store.list() == []

    def test_remove_and_gc_work_with_no_byte_free(self, small: SmallDisk, models: Path) -> None:
        store = Store(small.folder / "home")
        self.without_preflight(store, models)
        small.fill()
        with pytest.raises(NotEnoughDisk):
            store.copy("a", "c")
        with pytest.raises(NotEnoughDisk):
            store.import_file(models / "c.gguf", "c")
        assert store.verify() == []
        assert store.remove("a") > (models / "a.gguf").stat().st_size
        assert store.gc() == 0
        assert list(contents(store)) == ["b"]

    def test_a_disk_that_fills_up_at_any_byte_leaves_the_store_valid(
        self, small: SmallDisk, models: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store(small.folder / "home")
        self.without_preflight(store, models)
        small.fill()
        ballast = small.folder / "ballast"
        outcomes = set()
        for _ in range(60):
            with ballast.open("r+b") as file:
                file.truncate(max(0, ballast.stat().st_size - 1024))
            with monkeypatch.context() as patch:
                patch.setattr("app.store.importing.RESERVE_BYTES", -(1 << 30))
                try:
                    store.import_file(models / "c.gguf", "c")
                except NotEnoughDisk as error:
                    outcomes.add("refused")
                    assert error.free_bytes >= 0
                else:
                    outcomes.add("stored")
                    store.remove("c")
            assert store.verify() == []
            assert sorted(contents(store)) == ["a", "b"]
        assert outcomes == {"refused", "stored"}

    def without_preflight(self, store: Store, models: Path) -> None:
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("app.store.importing.RESERVE_BYTES", 0)
            store.import_file(models / "a.gguf", "a")
            store.import_file(models / "b.gguf", "b")
