"""Checkpoints of a training run: written whole or not at all, read without running what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from quant.files.writer import sync_folder
from quant.qat.disk import full_disk_told


def save(path: Path, state: Any) -> None:
    """Puts ``state`` (tensors, numbers and texts in dictionaries and lists) in the place of ``path``.

    Raises :class:`quant.errors.NoRoom`.
    """
    temporary = path.with_suffix(".new")
    with full_disk_told(path.parent, _bytes_of(state)), temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def load(path: Path, *, mapped: bool = False) -> Any:
    """What was saved; None where nothing was, or what is there cannot be read. Tensors that are ``mapped``
    stay on the disk until they are used."""
    try:
        return torch.load(path, weights_only=True, mmap=mapped)
    except (OSError, RuntimeError, EOFError, ValueError):
        return None
    except Exception as error:  # a torn pickle raises whatever it likes
        if type(error).__module__ in ("pickle", "_pickle", "zipfile"):
            return None
        raise


def _bytes_of(state: Any) -> int:
    """Of all tensors in it."""
    if isinstance(state, torch.Tensor):
        return int(state.nbytes)
    parts = state.values() if isinstance(state, dict) else state if isinstance(state, list) else ()
    return sum(map(_bytes_of, parts))
