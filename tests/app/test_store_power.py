from __future__ import annotations

import shutil
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

import pytest

from app.errors import StoreError
from app.store import Store
from tests.app.store_kit import contents, damage, memory_folder
from tests.app.store_operations import OPERATIONS, filled, models_of, write_models
from tests.app.store_power import Disk, Killed

ALL_BUT_REPAIR = [operation for operation in OPERATIONS if operation != "import that repairs"]
ADDED = {"import": "c", "import of stored content": "again", "copy": "d"}
AFTER_A_KILL = ["import", "import of stored content", "link instead of a copy", "copy", "remove", "gc"]


@pytest.fixture
def memory(tmp_path: Path) -> Iterator[Path]:
    with memory_folder(tmp_path) as folder:
        write_models(folder / "models")
        yield folder


@dataclass
class Lab:
    """Stores that lose their power."""

    memory: Path
    random: Random
    images: int = 0

    def start(self, operation: str) -> tuple[Store, Disk]:
        """A filled store, everything of it on the disk."""
        root = self.memory / "root"
        if root.exists():
            shutil.rmtree(root)
        root.mkdir()
        store = filled(root / "home", self.memory / "models", operation)
        return store, Disk(root)

    def run(self, operation: str, store: Store) -> None:
        OPERATIONS[operation](store, self.memory / "models")

    def after_cut(self, disk: Disk, check: Callable[[Store], None]) -> None:
        """Cuts the power now, and checks the store that is found afterwards."""
        target = self.memory / "image"
        disk.cut(target, self.random)
        self.images += 1
        for home in (target / "home", target / "home" / "deep" / "er"):
            store = Store(home)
            assert damage(store.verify()) == []
            check(store)
            store.gc()
            assert store.verify() == []
        shutil.rmtree(target)


def outcomes(store: Store) -> dict[str, tuple[str, ...]]:
    return models_of(store) | models_of(Store(store.home / "deep" / "er"))


def cut_everywhere(operation: str, lab: Lab, each: int, broken: frozenset[str] = frozenset()) -> None:
    """Cuts the power ``each`` times before every step of an operation, and after its end."""
    store, disk = lab.start(operation)
    disk.broken = broken
    before = outcomes(store)
    found: list[dict[str, tuple[str, ...]]] = []

    def look(image: Store) -> None:
        contents(image)
        found.append(models_of(image))

    def cut() -> None:
        for _ in range(each):
            lab.after_cut(disk, look)

    with pytest.MonkeyPatch.context() as patch:
        disk.attach(patch)
        disk.before_step = outside(patch, disk, cut)
        lab.run(operation, store)
    after = outcomes(store)
    seen = [found[at] | found[at + 1] for at in range(0, len(found), 2)]
    assert all(models in (before, after) for models in seen)
    for _ in range(3 * each):  # what was reported as done stays done
        found.clear()
        lab.after_cut(disk, look)
        assert found[0] | found[1] == after


def outside(patch: pytest.MonkeyPatch, disk: Disk, work: Callable[[], None]) -> Callable[[], None]:
    """``work``, unwatched by the disk: it has a store of its own elsewhere."""

    def unwatched() -> None:
        patch.undo()
        work()
        disk.attach(patch)

    return unwatched


@pytest.mark.parametrize("operation", ALL_BUT_REPAIR)
def test_a_power_cut_at_any_step_leaves_the_store_as_before_or_as_after(operation: str, memory: Path) -> None:
    lab = Lab(memory, Random(operation))
    cut_everywhere(operation, lab, 4)
    assert lab.images >= 15


@pytest.mark.slow
@pytest.mark.parametrize("operation", ALL_BUT_REPAIR)
def test_five_hundred_power_cuts_leave_the_store_as_before_or_as_after(operation: str, memory: Path) -> None:
    lab = Lab(memory, Random(operation))
    while lab.images < 500:
        cut_everywhere(operation, lab, 20)


def kill_then_cut(lab: Lab, first: str, second: str, broken: frozenset[str] = frozenset()) -> None:
    """A process is killed at every step of ``first``; the next one does ``second``; then the power goes."""
    kill_at = 0
    while True:
        store, disk = lab.start(first)
        steps = 0

        def die() -> None:
            nonlocal steps
            disk.dead = steps == kill_at  # noqa: B023
            steps += 1

        with pytest.MonkeyPatch.context() as patch:
            disk.attach(patch)
            disk.before_step = die
            with suppress(Killed):
                lab.run(first, store)
                return
            disk.dead = False
            disk.broken = broken
            disk.before_step = outside(patch, disk, lambda: lab.after_cut(disk, lambda _: None))  # noqa: B023
            with suppress(StoreError):  # the first operation had come far enough, such as to remove the model
                lab.run(second, store)
        promised = models_of(store)
        for _ in range(3):
            survived = models_of_image(lab, disk)
            if second in ADDED:
                assert survived.get(ADDED[second]) == promised.get(ADDED[second])
        kill_at += 1


def models_of_image(lab: Lab, disk: Disk) -> dict[str, tuple[str, ...]]:
    found: list[dict[str, tuple[str, ...]]] = []
    lab.after_cut(disk, lambda image: found.append(models_of(image)))
    return found[0]


@pytest.mark.parametrize("second", ["import", "copy", "gc"])
def test_a_power_cut_after_a_kill_damages_nothing(second: str, memory: Path) -> None:
    lab = Lab(memory, Random(second))
    for first in ("remove", "import"):
        kill_then_cut(lab, first, second)
    assert lab.images >= 50


@pytest.mark.slow
@pytest.mark.parametrize("first", AFTER_A_KILL)
@pytest.mark.parametrize("second", AFTER_A_KILL)
def test_a_power_cut_after_any_kill_and_any_operation_damages_nothing(
    first: str, second: str, memory: Path
) -> None:
    for seed in range(3):
        kill_then_cut(Lab(memory, Random(f"{first} {second} {seed}")), first, second)


class TestTheTestItself:
    """Every fsync of the store is needed: without it, the simulation finds damage or a broken promise."""

    @pytest.mark.parametrize(
        ("operation", "broken"),
        [
            ("import", "sync"),
            ("import", "sync_directory blobs"),
            ("import", "sync_directory manifests"),
            ("first import", "sync_directory home"),
            ("first import", "sync_directory deep"),
            ("first import", "sync_directory er"),
            ("copy", "sync_directory manifests"),
            ("remove", "sync_directory manifests"),
        ],
    )
    def test_an_fsync_that_is_left_out_is_noticed(self, operation: str, broken: str, memory: Path) -> None:
        lab = Lab(memory, Random(1))
        with pytest.raises(AssertionError):
            for _ in range(20):
                cut_everywhere(operation, lab, 10, frozenset([broken]))

    def test_gc_after_a_killed_removal_needs_its_fsync(self, memory: Path) -> None:
        with pytest.raises(AssertionError):
            for seed in range(20):
                kill_then_cut(
                    Lab(memory, Random(seed)), "remove", "gc", frozenset(["sync_directory manifests"])
                )
