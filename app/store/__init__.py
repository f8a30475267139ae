"""The models that this person keeps: content-addressed blobs, and small manifests that name them.

``home/blobs/sha256-<hex>`` holds the bytes of a file, ``home/manifests/<name>.json`` says which files make a
model. Everything is written under a temporary name in the folder where it will stay, hashed while it is
written, brought to the disk (fsync) and renamed, and the folder is brought to the disk too, before a manifest
refers to it. A process killed at any moment therefore leaves files that nothing refers to, and no damage.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from app.store.adopting import Arrival
    from app.store.check import Problem
    from app.store.layout import Progress
    from app.store.manifest import ChatDefaults, KnownModel, Link, Manifest, Source, StoredFile
    from app.store.store import ModelUsage, Store, Usage

__all__ = [
    "Arrival",
    "ChatDefaults",
    "KnownModel",
    "Link",
    "Manifest",
    "ModelUsage",
    "Problem",
    "Progress",
    "Source",
    "Store",
    "StoredFile",
    "Usage",
]

_MODULES: Final = {
    "Arrival": "adopting",
    "ChatDefaults": "manifest",
    "KnownModel": "manifest",
    "Link": "manifest",
    "Manifest": "manifest",
    "ModelUsage": "store",
    "Problem": "check",
    "Progress": "layout",
    "Source": "manifest",
    "Store": "store",
    "StoredFile": "manifest",
    "Usage": "store",
}


def __getattr__(name: str) -> Any:
    """Imported when it is first asked for: who wants ``app.store.disk`` alone does not wait for GGUF."""
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
