"""Checkpoints of a training run: written whole or not at all, read without running what is in them."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import torch

from quant.files.writer import sync_folder


def save(path: Path, state: Any) -> None:
    """Puts ``state`` (tensors, numbers and texts in dictionaries and lists) in the place of ``path``."""
    temporary = path.with_suffix(".new")
    with temporary.open("wb") as file:
        torch.save(state, file)
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(path)
    sync_folder(path.parent)


def load(path: Path) -> Any:
    """What was saved; None where nothing was, or what is there cannot be read."""
    try:
        return torch.load(path, weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError):
        return None
    except Exception as error:  # a torn pickle raises whatever it likes
        if type(error).__module__ in ("pickle", "_pickle", "zipfile"):
            return None
        raise
