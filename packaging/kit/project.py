"""What every artefact takes from one place: the version from app/version.py, the rest from pyproject.toml."""

from __future__ import annotations

import functools
import os
import re
import subprocess
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
SUMMARY = "the best language model that your own machine can hold"
HOMEPAGE = "https://localq.invalid"
"""Where the project will be published; no address of anybody's until it is."""


@functools.cache
def version() -> str:
    """The version of localq."""
    text = (ROOT / "app" / "version.py").read_text(encoding="utf-8")
    found = re.search(r'^VERSION = "([^"]+)"$', text, re.MULTILINE)
    if found is None:
        raise ValueError(f'{ROOT / "app" / "version.py"} has no line VERSION = "..."')
    return found[1]


@functools.cache
def metadata() -> dict[str, Any]:
    """The table [project] of pyproject.toml."""
    project: dict[str, Any] = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project


def pinned(name: str) -> str:
    """The requirement ``name==...`` of pyproject.toml, whole."""
    return next(str(line) for line in metadata()["dependencies"] if line.startswith(f"{name}=="))


def source_date_epoch() -> int:
    """Seconds since 1970 that every file of an artefact bears: $SOURCE_DATE_EPOCH, or the last commit's."""
    if given := os.environ.get("SOURCE_DATE_EPOCH"):
        return int(given)
    done = subprocess.run(
        ["git", "log", "-1", "--format=%ct"], cwd=ROOT, capture_output=True, text=True, check=True
    )
    return int(done.stdout)
