"""The command that makes a damaged model sound again."""

from __future__ import annotations

import shlex
import stat
from pathlib import Path

from app.errors import StoreDamaged
from app.store.layout import Layout
from app.store.manifest import Manifest, StoredFile, read_manifest

DEMO_NAME = "demo"
"""What ``app.hub`` stores a model under whose source is of the kind ``demo``."""


def repair_command(layout: Layout, manifest: Manifest) -> str:
    """What brings the bytes of ``manifest`` back: from where they came, if they are still there.

    Otherwise the command that removes the model.
    """
    name = shlex.quote(manifest.name)
    if any(file.link is not None for file in manifest.files):
        linked = [Path(file.link.path) for file in manifest.files if file.link is not None]
        if all(map(_is_file, linked)):
            where = shlex.quote(str(_given(manifest, linked[0])))
            return f"localq rm {name} && localq import --link {where} --name {name}"
    elif manifest.source.kind == "demo":
        return _fetch_again(layout, manifest)
    elif manifest.source.kind == "hub":
        commit = f"@{manifest.source.version}" if manifest.source.version else ""
        reference = shlex.quote(f"{manifest.source.origin}{commit}/{manifest.files[0].filename}")
        return f"localq rm {name} && localq pull {reference} --name {name}"
    elif manifest.source.kind == "file":
        origin = Path(manifest.source.origin)
        if all(_is_like(_beside(origin, number, file), file) for number, file in enumerate(manifest.files)):
            return f"localq import {shlex.quote(str(_given(manifest, origin)))} --name {name}"
    return f"localq rm {name}"


def _fetch_again(layout: Layout, manifest: Manifest) -> str:
    try:
        holder = read_manifest(layout.manifest(DEMO_NAME))
    except FileNotFoundError:
        return f"localq run {DEMO_NAME}"
    except StoreDamaged:
        holder = manifest
    if not holder.same_content(manifest):
        return f"localq rm {shlex.quote(manifest.name)}"  # the name is another model's: leave that alone
    # With its manifest gone it is downloaded anew, and replaces a blob that other models still refer to.
    return f"localq rm {DEMO_NAME} && localq run {DEMO_NAME}"


def _given(manifest: Manifest, path: Path) -> Path:
    """What to give to ``import``: any file of the model, or with an mmproj file their folder."""
    return path.parent if any(file.role == "mmproj" for file in manifest.files) else path


def _beside(origin: Path, number: int, file: StoredFile) -> Path:
    return origin if number == 0 else origin.with_name(file.filename)


def _is_file(path: Path) -> bool:
    try:
        return stat.S_ISREG(path.stat().st_mode)
    except OSError:
        return False


def _is_like(path: Path, file: StoredFile) -> bool:
    try:
        return path.stat().st_size == file.size
    except (OSError, ValueError):
        return False
