"""Fixtures that several rooms' tests share."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="session")
def demo_path() -> Path:
    """The demo model's GGUF, which ``make test`` fetches once; ``LOCALQ_TEST_MODEL`` names another place."""
    path = Path(os.environ.get("LOCALQ_TEST_MODEL") or REPOSITORY / ".cache" / "demo.gguf")
    if not path.is_file():
        pytest.fail(f"no demo model at {path}: run `make test` once, or set LOCALQ_TEST_MODEL to its GGUF")
    return path
