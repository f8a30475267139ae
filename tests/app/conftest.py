"""Fixtures that the tests of the store share; a file may have its own of the same name."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.store import Store
from tests.app.store_kit import write_gguf


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "home")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small valid model, outside the store."""
    return write_gguf(tmp_path / "Tiny.gguf")
