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


@pytest.fixture(scope="session")
def tiny_path() -> Path:
    """The tiny trained Llama (F16, 256 wide, 6 layers, context 512) that lies in the repository."""
    path = REPOSITORY / "assets" / "tiny" / "tiny-llama-f16.gguf"
    if not path.is_file():
        pytest.fail(f"no tiny Llama at {path}: it belongs to the repository; run `git restore assets/tiny`")
    return path
