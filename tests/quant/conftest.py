"""A small model to quantize, and where the result goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.quant.source_models import write_source


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "source.gguf")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    (tmp_path / "out").mkdir()
    return tmp_path / "out" / "small.gguf"
