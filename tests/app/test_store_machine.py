from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from tempfile import gettempdir
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from app.errors import NameTaken, NoSuchModel
from app.store import Store
from tests.app.store_kit import contents, damage, files_in, gguf_bytes, memory_folder, wrap_disk, write_gguf
from tests.app.store_power import Killed

NAMES = st.sampled_from(["a", "b", "a:copy", "org/c"])
MODELS = st.integers(0, 2)
ACTIONS = st.sampled_from(["remove", "copy", "gc", "verify", "import", "link", "list"])
DATA = [gguf_bytes(seed) for seed in range(3)]


class StoreMachine(RuleBasedStateMachine):
    """Two stores on one folder, which interrupt and kill each other; ``held`` is what must be in it."""

    @initialize()
    def start(self) -> None:
        self.memory = memory_folder(Path(gettempdir()))
        self.folder = self.memory.__enter__()
        for seed in range(3):
            write_gguf(self.folder / f"{seed}.gguf", seed)
        self.stores = [Store(self.folder / "home", lock_seconds=0.0) for _ in range(2)]
        self.held: dict[str, int] = {}

    def teardown(self) -> None:
        if hasattr(self, "memory"):
            self.memory.__exit__(None, None, None)

    def act(
        self, who: int, action: str, name: str, other: str, model: int, during: Callable[[], None]
    ) -> None:
        """One operation, with ``during`` happening in the middle of it where it does not hold the lock."""
        store = self.stores[who]
        if action in ("import", "link"):
            try:
                store.import_file(
                    self.folder / f"{model}.gguf", name, link=action == "link", progress=once(during)
                )
                self.held[name] = model
            except NameTaken:
                assert self.held[name] != model
        elif action == "copy":
            try:
                store.copy(other, name)
                self.held[name] = self.held[other]
            except NoSuchModel:
                assert other not in self.held
            except NameTaken:
                assert self.held[name] != self.held[other]
        elif action == "remove":
            try:
                store.remove(name)
                del self.held[name]
            except NoSuchModel:
                assert name not in self.held
        elif action == "gc":
            store.gc()
        elif action == "verify":
            assert damage(store.verify(progress=once(during))) == []
        else:
            store.list()
            store.usage()

    @rule(who=st.integers(0, 1), action=ACTIONS, name=NAMES, other=NAMES, model=MODELS)
    def work(self, who: int, action: str, name: str, other: str, model: int) -> None:
        self.act(who, action, name, other, model, nothing)

    @rule(
        action=st.sampled_from(["import", "link", "verify"]),
        name=NAMES,
        model=MODELS,
        inner=st.lists(st.tuples(ACTIONS, NAMES, NAMES, MODELS), min_size=1, max_size=3),
    )
    def interrupt(self, action: str, name: str, model: int, inner: list[tuple[str, str, str, int]]) -> None:
        def others() -> None:
            for what, one, two, number in inner:
                self.act(1, what, one, two, number, nothing)

        self.act(0, action, name, name, model, others)

    @rule(
        action=st.sampled_from(["remove", "copy", "gc", "import", "link"]),
        name=NAMES,
        other=NAMES,
        model=MODELS,
        step=st.integers(0, 14),
    )
    def kill(self, action: str, name: str, other: str, model: int, step: int) -> None:
        steps = 0
        before = dict(self.held)

        def die(_: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
            nonlocal steps
            steps += 1
            if steps > step:
                raise Killed
            return primitive(*args)

        with pytest.MonkeyPatch.context() as patch:
            wrap_disk(die, patch)
            try:
                self.act(0, action, name, other, model, nothing)
                return
            except Killed:
                self.held = before
        found = name in {manifest.name for manifest in self.stores[1].list()}
        if found and name not in before:
            self.held[name] = before[other] if action == "copy" else model
        elif not found and name in before:
            assert action == "remove"
            del self.held[name]

    @rule()
    def gc_leaves_nothing_to_complain_about(self) -> None:
        self.stores[1].gc()
        assert self.stores[0].verify() == []
        assert not [name for name in files_in(self.folder) if ".tmp-" in name]

    @invariant()
    def everything_that_is_held_is_there_and_nothing_else(self) -> None:
        if hasattr(self, "held"):
            assert contents(self.stores[0]) == {name: DATA[model] for name, model in self.held.items()}
            assert damage(self.stores[1].verify()) == []


def nothing() -> None:
    """What happens in the middle of an operation that nobody interrupts."""


def once(work: Callable[[], None]) -> Callable[[int, int], None]:
    left = [work]

    def progress(done: int, total: int) -> None:
        if left:
            left.pop()()

    return progress


def run_machine(examples: int, steps: int) -> None:
    run_state_machine_as_test(
        StoreMachine,
        settings=settings(
            max_examples=examples,
            stateful_step_count=steps,
            deadline=None,
            suppress_health_check=list(HealthCheck),
        ),
    )


def test_any_order_of_operations_interruptions_and_kills_keeps_the_store_right() -> None:
    run_machine(30, 25)


@pytest.mark.slow
def test_ten_thousand_operations_interruptions_and_kills_keep_the_store_right() -> None:
    run_machine(200, 50)
