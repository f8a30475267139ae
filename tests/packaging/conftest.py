"""What the tests of built packages share."""

from __future__ import annotations

import os
import platform
from pathlib import Path

import pytest

from tests.packaging.empty_root import EmptyRoot

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def dist() -> Path:
    """Where the artefacts lie: dist/, or $LOCALQ_TEST_DIST."""
    return Path(os.environ.get("LOCALQ_TEST_DIST", ROOT / "dist"))


def built(dist: Path, pattern: str) -> Path:
    """The one artefact of that pattern."""
    found = sorted(dist.glob(pattern.replace("MACHINE", platform.machine())))
    if len(found) != 1:
        pytest.fail(f"{dist} has {len(found)} files {pattern}, not one: make it (packaging/README.md)")
    return found[0]


@pytest.fixture
def empty_root(tmp_path: Path) -> EmptyRoot:
    """A minimal Debian without a network and without a compiler."""
    if os.geteuid() != 0:
        pytest.fail("these tests enter a root of their own: run them as root")
    return EmptyRoot.made(tmp_path / "root")
