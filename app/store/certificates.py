"""Certificates of quantized models, one beside the manifests for each blob that has one."""

from __future__ import annotations

import os
from collections.abc import Set
from pathlib import Path

from app.store import disk
from app.store.layout import Layout
from app.store.temporary import StagedFile

SUFFIX = ".json"
MAX_BYTES = 64 << 20


def write_certificate(layout: Layout, digest: str, raw: bytes) -> None:
    """Keeps ``raw`` as the certificate of the blob ``digest``, durably, in the place of an earlier one."""
    folder = layout.certificates
    disk.make_directory(folder)
    with StagedFile(folder, len(raw)) as staged:
        staged.write(raw)
        staged.seal()
        staged.publish(_path(layout, digest))
        disk.sync_directory(folder)


def read_certificate(layout: Layout, digest: str) -> bytes | None:
    """The certificate of a blob, as it was given; None where there is none, or one that cannot be read."""
    try:
        fd = os.open(_path(layout, digest), os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    except OSError:
        return None
    with os.fdopen(fd, "rb") as file:
        raw = file.read(MAX_BYTES + 1)
    return raw if len(raw) <= MAX_BYTES else None


def remove_certificates(layout: Layout, kept: Set[str]) -> int:
    """Removes those of blobs that are not in ``kept``; returns the bytes freed. The caller holds the lock."""
    freed = 0
    try:
        paths = sorted(layout.certificates.iterdir())
    except FileNotFoundError:
        return 0
    for path in paths:
        if path.name.endswith(SUFFIX) and path.name.removesuffix(SUFFIX) not in kept:
            freed += disk.unlink(path)
    return freed


def _path(layout: Layout, digest: str) -> Path:
    return layout.certificates / f"{digest}{SUFFIX}"
