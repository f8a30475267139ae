"""The store's operations on a small store, for the tests that break them off at every step."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from app.store import Store
from tests.app.store_kit import write_gguf, write_split

Operation = Callable[[Store, Path], object]

OPERATIONS: dict[str, Operation] = {
    "first import": lambda store, models: Store(store.home / "deep" / "er").import_file(
        models / "c.gguf", "c"
    ),
    "import": lambda store, models: store.import_file(models / "c.gguf", "c"),
    "import of a split model": lambda store, models: store.import_file(models / "split", "split"),
    "import of stored content": lambda store, models: store.import_file(models / "a.gguf", "again"),
    "import that repairs": lambda store, models: store.import_file(models / "b.gguf", "b"),
    "link": lambda store, models: store.import_file(models / "c.gguf", "c", link=True),
    "link instead of a copy": lambda store, models: store.import_file(models / "a.gguf", "a", link=True),
    "copy": lambda store, models: store.copy("a", "d"),
    "remove": lambda store, models: store.remove("a"),
    "remove of a copy": lambda store, models: store.remove("b:copy"),
    "gc": lambda store, models: store.gc(),
}


def write_models(folder: Path) -> Path:
    """Model files a, b and c, and a split one, in ``folder``."""
    for seed, name in enumerate("abc"):
        write_gguf(folder / f"{name}.gguf", seed)
    write_split(folder / "split", seed=9)
    return folder


def filled(home: Path, models: Path, operation: str) -> Store:
    """A store with the models a, b and b:copy, and something to collect."""
    store = Store(home)
    store.import_file(models / "a.gguf", "a")
    manifest = store.import_file(models / "b.gguf", "b")
    store.copy("b", "b:copy")
    (home / "blobs" / f"sha256-{'1' * 64}").write_bytes(b"orphan")
    (home / "blobs" / ".tmp-1-dead").write_bytes(b"dead")
    if operation == "import that repairs":
        store.paths(manifest)[0].unlink()
    return store


def models_of(store: Store) -> dict[str, tuple[str, ...]]:
    """What the store says that it holds: each name's digests, links marked."""
    return {
        model.name: tuple(file.digest + ("" if file.link is None else " linked") for file in model.files)
        for model in store.list()
    }
