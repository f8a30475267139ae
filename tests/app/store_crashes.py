"""Kills processes that change a store, and looks at what they leave. Run by ``test_store_kill.py``.

    python -m tests.app.store_crashes random KILLS SEED FOLDER
    python -m tests.app.store_crashes every FOLDER
    python -m tests.app.store_crashes every-in-wrong-order FOLDER

Prints one JSON object; ends with an AssertionError at the first violation. It is a program of its own since
it forks, which only a process without threads may do.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import Any

from app.store import Manifest, Store
from app.store.manifest import write_manifest
from app.store.temporary import StagedFile
from tests.app.store_kit import contents, damage, wrap_disk, write_gguf
from tests.app.store_operations import OPERATIONS, filled, models_of, write_models

NAMES = ("m0", "m1", "m2", "m3")


def fork(work: Callable[[], None]) -> int:
    """The id of a child that does ``work``, and nothing else whatever happens."""
    pid = os.fork()
    if pid:
        return pid
    status = 70
    try:
        work()
        status = 0
    except BaseException:
        traceback.print_exc()
    finally:
        os._exit(status)


def kill_at_random(kills: int, seed: int, folder: Path) -> dict[str, object]:
    """Kills a child that changes one store all the time; another one goes on with what it left."""
    random = Random(seed)
    data = {}
    for number, rows in enumerate((4, 40, 20_000)):
        data[number] = write_gguf(folder / f"{number}.gguf", number, rows=rows).read_bytes()
    home = folder / "home"
    state: dict[str, int] = {}
    undecided = {"+": 0, "-": 0}
    for kill in range(kills):
        reader, writer = os.pipe()
        pid = fork(lambda: change_forever(home, folder, dict(state), random.randrange(1 << 30), writer))  # noqa: B023
        os.close(writer)
        with os.fdopen(reader) as lines:
            assert lines.readline() == "ready\n"
            time.sleep(random.uniform(0, 0.03))
            os.kill(pid, signal.SIGKILL)
            _, status = os.waitpid(pid, 0)
            assert os.WIFSIGNALED(status), "the child ended by itself"
            started = None
            for line in lines.read().splitlines():
                act, name, number_text = line.split()
                if act == "?":
                    started = (name, int(number_text))
                    continue
                started = None
                if act == "+":
                    state[name] = int(number_text)
                elif act == "-":
                    del state[name]
        store = Store(home, lock_seconds=1.0)  # a dead holder must not block this
        assert damage(store.verify()) == []
        found = contents(store)
        if started is not None:  # the store may be as before or as after it, for this one name
            name, content = started
            undecided["+" if content >= 0 else "-"] += 1
            if (name in found) != (name in state):
                if content >= 0:
                    state[name] = content
                else:
                    del state[name]
        assert found == {name: data[number] for name, number in state.items()}
        if kill % 5 == 0:
            store.gc()
            assert store.verify() == []
            assert contents(store) == found
    return {"kills": kills, "killed_while_adding": undecided["+"], "killed_while_removing": undecided["-"]}


def change_forever(home: Path, folder: Path, state: dict[str, int], seed: int, writer: int) -> None:
    """Random changes; says what it begins (``?``) and what is done (``+``, ``-``, ``=``)."""
    random = Random(seed)
    store = Store(home, lock_seconds=1.0)

    def say(act: str, name: str, content: int) -> None:
        os.write(writer, f"{act} {name} {content}\n".encode())

    os.write(writer, b"ready\n")
    while True:
        name = random.choice(NAMES)
        if random.random() < 0.2:
            store.gc()
        elif name in state:
            say("?", name, -1)
            store.remove(name)
            del state[name]
            say("-", name, -1)
        elif state and random.random() < 0.3:
            other = random.choice(sorted(state))
            say("?", name, state[other])
            store.copy(other, name)
            state[name] = state[other]
            say("+", name, state[name])
        else:
            number = random.randrange(3)
            say("?", name, number)
            store.import_file(folder / f"{number}.gguf", name)
            state[name] = number
            say("+", name, number)


def kill_at_every_step(folder: Path) -> dict[str, object]:
    """Lets a child kill itself at the n-th change of the disk, or in the middle of a write, for every n."""
    models = write_models(folder / "models")
    points: dict[str, int] = {}
    for operation, run in OPERATIONS.items():
        template = filled(folder / "template", models, operation).home
        before, after = outcomes(template, folder / "done", lambda store, run=run: run(store, models))  # type: ignore[misc]
        for torn in (False, True):
            step = 0
            while True:
                home = folder / "home"
                shutil.copytree(template, home)
                pid = fork(lambda: run_until(step, torn, lambda: run(Store(home), models)))  # noqa: B023
                _, status = os.waitpid(pid, 0)
                if os.WIFEXITED(status):
                    assert os.WEXITSTATUS(status) == 0, f"{operation}: the child failed"
                    shutil.rmtree(home)
                    break
                assert os.WTERMSIG(status) == signal.SIGKILL
                points[operation] = points.get(operation, 0) + 1
                check_after_kill(home, models, operation, before, after, f"{operation}, step {step}")
                shutil.rmtree(home)
                step += 1
        shutil.rmtree(template)
    return {"kills": sum(points.values()), "points": points}


def outcomes(template: Path, home: Path, run: Callable[[Store], object]) -> tuple[Any, Any]:
    """What the store holds without and with the operation."""
    shutil.copytree(template, home)
    store = Store(home)
    before = models_of(store), models_of(Store(home / "deep" / "er"))
    run(store)
    after = models_of(store), models_of(Store(home / "deep" / "er"))
    shutil.rmtree(home)
    return before, after


def run_until(step: int, torn: bool, run: Callable[[], object]) -> None:
    calls = 0

    def around(name: str, primitive: Callable[..., Any], args: tuple[Any, ...]) -> Any:
        nonlocal calls
        if torn and name != "write":
            return primitive(*args)
        if calls == step:
            if torn:
                primitive(args[0], bytes(args[1])[: len(args[1]) // 2], args[2])
            os.kill(os.getpid(), signal.SIGKILL)
        calls += 1
        return primitive(*args)

    wrap_disk(around)
    run()


def check_after_kill(
    home: Path, models: Path, operation: str, before: object, after: object, where: str
) -> None:
    store, inner = Store(home, lock_seconds=1.0), Store(home / "deep" / "er", lock_seconds=1.0)
    broken_before = operation == "import that repairs"
    problems = [p for p in damage(store.verify()) if not (broken_before and p.models == ("b", "b:copy"))]
    assert problems == [], (where, problems)
    assert damage(inner.verify()) == [], (where, inner.verify())
    held = models_of(store), models_of(inner)
    assert held in (before, after), where
    store.gc()
    inner.gc()
    assert [problem for problem in store.verify() if not broken_before] == [], where
    assert inner.verify() == [], where
    temporary = [path for path in home.rglob("*") if ".tmp-" in path.name]
    assert temporary == [], where
    if not (operation.startswith("remove") and held == after):
        OPERATIONS[operation](store, models)
    assert (models_of(store), models_of(inner)) == after, where
    assert damage(store.verify()) == [], where


def publish_blobs_last() -> None:
    """Breaks the store on purpose: a manifest appears before the blobs that it refers to."""
    from app.store import publish

    move = StagedFile.publish
    late: list[tuple[StagedFile, Path]] = []

    def publish_later(self: StagedFile, target: Path) -> None:
        if target.suffix == ".json":
            move(self, target)
        else:
            late.append((self, target))

    def write_first(folder: Path, manifest: Manifest) -> None:
        write_manifest(folder, manifest)
        while late:
            move(*late.pop())

    StagedFile.publish = publish_later  # type: ignore[method-assign]
    publish.write_manifest = write_first  # type: ignore[attr-defined]


def main(arguments: list[str]) -> None:
    mode, *rest = arguments
    if mode == "random":
        outcome = kill_at_random(int(rest[0]), int(rest[1]), Path(rest[2]))
    else:
        if mode == "every-in-wrong-order":
            publish_blobs_last()
        outcome = kill_at_every_step(Path(rest[0]))
    print(json.dumps(outcome))


if __name__ == "__main__":
    main(sys.argv[1:])
