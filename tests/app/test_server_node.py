"""The npm packages of OpenAI and Anthropic, where node is there; ``make test-slow`` fetches them once."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.app.server_process import ServerProcess
from tests.conftest import REPOSITORY

pytestmark = [pytest.mark.model, pytest.mark.slow]

SCRIPTS = Path(__file__).parent / "node"
FOLDER = REPOSITORY / ".cache" / "node"


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no node here")
def test_the_npm_packages_find_what_they_expect(endpoint: ServerProcess) -> None:
    FOLDER.mkdir(parents=True, exist_ok=True)
    for path in SCRIPTS.iterdir():
        shutil.copy(path, FOLDER)
    if not (FOLDER / "node_modules" / "openai").is_dir():
        fetched = subprocess.run(
            ["npm", "install", "--no-audit", "--no-fund"],
            cwd=FOLDER,
            capture_output=True,
            text=True,
            timeout=240,
        )
        assert fetched.returncode == 0, fetched.stderr
    ran = subprocess.run(
        ["node", "clients.mjs", endpoint.base_url.removesuffix("/v1")],
        cwd=FOLDER,
        capture_output=True,
        text=True,
        timeout=240,
    )
    assert ran.returncode == 0, ran.stdout + ran.stderr
    assert ran.stdout.count("ok: ") == 9
