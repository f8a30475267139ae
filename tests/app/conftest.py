"""Fixtures that the tests of the store share; a file may have its own of the same name."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from openai import OpenAI

from app.store import Store
from tests.app.server_process import ServerProcess, serving
from tests.app.store_kit import write_gguf


@pytest.fixture(autouse=True)
def no_hub(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody is asked: what the Hub adds is tested in tests/hub."""
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """An empty store."""
    return Store(tmp_path / "home")


@pytest.fixture
def model(tmp_path: Path) -> Path:
    """A small valid model, outside the store."""
    return write_gguf(tmp_path / "Tiny.gguf")


@pytest.fixture(scope="session")
def endpoint(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An endpoint over the demo model, shared by all tests that do it no harm."""
    folder = tmp_path_factory.mktemp("endpoint")
    with serving(folder, str(demo_path), "--ctx", "1024", "--slots", "4") as server:
        yield server


@pytest.fixture
def client(endpoint: ServerProcess) -> Iterator[OpenAI]:
    """OpenAI's own client of that endpoint."""
    with OpenAI(base_url=endpoint.base_url, api_key="none", max_retries=0) as made:
        yield made


@pytest.fixture(scope="session")
def empty(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An endpoint without a model, for what needs none."""
    with serving(tmp_path_factory.mktemp("empty")) as server:
        yield server
