"""Pulling in this process from the test's Hub, with little patience."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory

from app.hub.api import Hub
from app.hub.part import CHUNK_BYTES
from app.hub.pull import Event, default_name, find, pull_model
from app.hub.reference import HubReference, parse_reference
from app.hub.session import Patience
from app.store import Manifest, Store

IMPATIENT = Patience(
    connect_seconds=2.0,
    stall_seconds=0.4,
    slowest=4096.0,
    attempts=3,
    first_wait=0.01,
    longest_wait=0.05,
    longest_asked=1.0,
)
MIB = CHUNK_BYTES
CONFIG = {
    "hidden_size": 2048,
    "num_hidden_layers": 16,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "intermediate_size": 8192,
    "max_position_embeddings": 131072,
    "vocab_size": 128256,
}
"""What a config.json of transformers says of a model of 1.2 billion weights."""


@cache
def model_bytes(mib: int = 0, seed: int = 0, title: str = "Tiny") -> bytes:
    """A valid GGUF of a little more than ``mib`` MiB."""
    from tests.app.tiny_model import write_tiny_model  # heavy: a child that only pulls stays small

    with TemporaryDirectory() as folder:
        path = write_tiny_model(Path(folder, "model.gguf"), ballast_mib=mib, seed=seed, title=title)
        return path.read_bytes()


def pull(
    store: Store,
    reference: str = "org/model",
    *,
    name: str | None = None,
    patience: Patience = IMPATIENT,
    listener: Callable[[Event], None] = lambda event: None,
    connections: int = 4,
    reuse: bool = True,
) -> Manifest:
    """What ``localq pull`` does with a reference to the Hub."""
    parsed = parse_reference(reference)
    assert isinstance(parsed, HubReference)
    with Hub(patience) as hub:
        choice = find(hub, parsed)
        chosen = name or default_name(parsed, choice)
        return pull_model(hub, store, choice, chosen, listener, connections=connections, reuse=reuse)


def files_below(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


def assert_sound(store: Store, names: Iterable[str]) -> None:
    """The store holds these models, all of them whole, and no part of another."""
    assert [manifest.name for manifest in store.list()] == sorted(names)
    assert list(store.verify()) == []
