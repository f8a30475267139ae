from __future__ import annotations

import errno
import fcntl
import os
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest

from app.errors import DiskFailed, StoreBusy
from app.store import Store, disk
from app.store.lock import claim, exclusive, unclaimed
from app.store.temporary import PREFIX, create_temporary, dead_files
from tests.app.store_kit import contents, damage, impatient, write_gguf

HOLD = """
import sys, time
from pathlib import Path
from app.store.lock import exclusive
with exclusive(Path(sys.argv[1])):
    print("held", flush=True)
    time.sleep(60)
"""
WORK = """
import sys
from random import Random
from app.errors import NoSuchModel
from app.store import Store
home, seed, *models = sys.argv[1:]
store, random = Store(home), Random(int(seed))
for _ in range(25):
    number = random.randrange(len(models))
    action = random.choice(["import", "import", "link", "copy", "remove", "gc", "verify", "list"])
    try:
        if action in ("import", "link"):
            store.import_file(models[number], f"m{number}", link=action == "link")
        elif action == "copy":
            store.copy(f"m{number}", f"m{number}:copy")
        elif action == "remove":
            store.remove(random.choice([f"m{number}", f"m{number}:copy"]))
        elif action == "gc":
            store.gc()
        elif action == "verify":
            assert not [p for p in store.verify() if not p.harmless], store.verify()
        else:
            store.list(), store.usage()
    except NoSuchModel:
        pass
"""


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "home").mkdir()
    return tmp_path / "home"


@contextmanager
def holder(home: Path) -> Iterator[subprocess.Popen[str]]:
    """Another process that holds the store's lock."""
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(home)], stdout=subprocess.PIPE, text=True
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            yield process
        finally:
            process.kill()


class TestTheStoresLock:
    def test_a_dead_holder_blocks_nobody(self, home: Path) -> None:
        with holder(home) as process:
            with pytest.raises(StoreBusy), exclusive(home, 0.0):
                raise AssertionError("two hold the lock")
            process.kill()
            process.wait()
            started = time.monotonic()
            with exclusive(home, 1.0):
                assert time.monotonic() - started < 1.0

    def test_a_holder_that_dies_lets_the_waiting_one_go_on(self, home: Path) -> None:
        with holder(home) as process:
            threading.Timer(0.2, process.kill).start()
            started = time.monotonic()
            with exclusive(home, 10.0):
                assert time.monotonic() - started < 2.0

    def test_waiting_has_an_end_and_a_clear_error(self, home: Path) -> None:
        with holder(home):
            started = time.monotonic()
            with pytest.raises(StoreBusy, match=r"waited 0\.1 s") as error, exclusive(home, 0.1):
                raise AssertionError("two hold the lock")
            assert 0.1 <= time.monotonic() - started < 2.0
            assert error.value.home == home

    def test_who_only_reads_never_waits(self, tmp_path: Path) -> None:
        store = impatient(tmp_path / "home")
        store.import_file(write_gguf(tmp_path / "m.gguf"), "m")
        with holder(store.home):
            assert [model.name for model in store.list()] == ["m"]
            assert store.paths(store.get("m"))
            assert store.verify() == []
            assert store.usage().stored_bytes > 0
            for change in (
                lambda: store.remove("m"),
                store.gc,
                lambda: store.copy("m", "n"),
                lambda: store.import_file(tmp_path / "m.gguf", "n"),
            ):
                with pytest.raises(StoreBusy):
                    change()
        assert store.verify() == []
        assert contents(store) == {"m": (tmp_path / "m.gguf").read_bytes()}

    def test_a_folder_that_cannot_be_opened_is_an_error(self, home: Path) -> None:
        with pytest.raises(DiskFailed, match="cannot open"), exclusive(home / "absent"):
            raise AssertionError("nothing to lock")

    def test_two_threads_exclude_each_other_too(self, home: Path) -> None:
        inside = 0

        def enter() -> None:
            nonlocal inside
            for _ in range(20):
                with exclusive(home):
                    inside += 1
                    seen.append(inside)
                    inside -= 1

        seen: list[int] = []
        threads = [threading.Thread(target=enter) for _ in range(4)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert seen == [1] * 80


class TestFileSystemsWithOtherLocks:
    def refuse(self, patch: pytest.MonkeyPatch, number: int, *, folders_only: bool) -> None:
        flock = fcntl.flock

        def refusing(fd: int, operation: int) -> None:
            if not folders_only or stat.S_ISDIR(os.fstat(fd).st_mode):
                raise OSError(number, os.strerror(number))
            flock(fd, operation)

        patch.setattr(fcntl, "flock", refusing)

    def test_where_a_folder_cannot_be_locked_a_file_in_it_is(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        self.refuse(monkeypatch, errno.EBADF, folders_only=True)
        with exclusive(home):
            assert (home / "lock").is_file()
            with pytest.raises(StoreBusy), exclusive(home, 0.0):
                raise AssertionError("two hold the lock")
        with exclusive(home, 0.0):
            pass

    @pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.EBADF])
    def test_where_nothing_can_be_locked_nothing_is_changed(
        self, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        store = Store(tmp_path / "home")
        store.import_file(write_gguf(tmp_path / "m.gguf"), "m")
        self.refuse(monkeypatch, number, folders_only=False)
        for change in (
            lambda: store.remove("m"),
            store.gc,
            lambda: store.import_file(write_gguf(tmp_path / "n.gguf", 1), "n"),
        ):
            with pytest.raises(DiskFailed, match="cannot lock"):
                change()
        monkeypatch.undo()
        assert store.verify() == []
        assert len(contents(store)) == 1


class TestClaims:
    def test_a_claimed_file_is_not_dead_until_its_owner_is(self, home: Path) -> None:
        fd, path = create_temporary(home)
        assert list(dead_files(home)) == []
        os.close(fd)
        assert list(dead_files(home)) == [path]

    def test_names_of_temporary_files_differ_between_processes(self, home: Path) -> None:
        fds, paths = zip(*(create_temporary(home) for _ in range(50)), strict=True)
        for fd in fds:
            os.close(fd)
        assert len(set(paths)) == 50
        assert all(path.name.startswith(f"{PREFIX}{os.getpid()}-") for path in paths)

    def test_a_file_that_is_collected_before_it_is_claimed_is_given_up_for_another(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = disk.create
        lost: list[Path] = []

        def collected(path: Path) -> int:
            fd = create(path)
            if len(lost) < 3:
                path.unlink()
                lost.append(path)
            return fd

        monkeypatch.setattr(disk, "create", collected)
        fd, path = create_temporary(home)
        os.close(fd)
        assert path.exists()
        assert len(lost) == 3

    def test_a_file_that_is_looked_at_before_it_is_claimed_is_given_up_too(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        create = disk.create
        lookers: list[AbstractContextManager[bool]] = []

        def looked_at(path: Path) -> int:
            fd = create(path)
            if not lookers:
                lookers.append(unclaimed(path))
                assert lookers[0].__enter__()
            return fd

        monkeypatch.setattr(disk, "create", looked_at)
        fd, path = create_temporary(home)
        lookers[0].__exit__(None, None, None)
        os.close(fd)
        assert list(home.iterdir()) == [path]

    def test_a_file_that_went_is_not_dead_but_gone(self, home: Path) -> None:
        with unclaimed(home / "absent") as dead:
            assert not dead

    def test_what_cannot_be_opened_or_locked_is_an_error(
        self, home: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (home / "loop").symlink_to(home / "loop")
        with pytest.raises(DiskFailed, match="cannot open"), unclaimed(home / "loop"):
            raise AssertionError("nothing to look at")
        fd, path = create_temporary(home)

        def refuse(*_: Any) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

        monkeypatch.setattr(fcntl, "flock", refuse)
        with pytest.raises(DiskFailed, match="cannot lock"):
            claim(fd, path)
        with pytest.raises(DiskFailed, match="cannot lock"), unclaimed(path):
            raise AssertionError("nothing to look at")
        os.close(fd)


def test_four_processes_at_once_lose_nothing(tmp_path: Path) -> None:
    models = [str(write_gguf(tmp_path / f"{seed}.gguf", seed)) for seed in range(3)]
    home = tmp_path / "home"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", WORK, str(home), str(seed), *models], stderr=subprocess.PIPE, text=True
        )
        for seed in range(4)
    ]
    for process in processes:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 0, errors
    store = Store(home)
    assert damage(store.verify()) == []
    store.gc()
    assert store.verify() == []
    for name, data in contents(store).items():
        assert data == Path(models[int(name[1])]).read_bytes()
