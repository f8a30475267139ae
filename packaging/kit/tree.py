"""The files of an installation below its prefix, as .deb and .tar.gz both have them."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from kit.project import ROOT

PREFIX = "@PREFIX@"
"""What stands for the prefix in files that name it."""


def populate(top: Path, bundle: Path, python: Path) -> None:
    """Program, man pages, completions and the user's unit below ``top``; ``python`` has localq installed."""
    shutil.copytree(bundle, top / "lib" / "localq", symlinks=True)
    (top / "bin").mkdir(parents=True)
    (top / "bin" / "localq").symlink_to("../lib/localq/localq")
    environment = os.environ | {"PYTHONPATH": str(ROOT / "packaging")}
    script = ROOT / "packaging" / "kit" / "manual.py"
    subprocess.run([str(python), "-P", str(script), str(top)], check=True, env=environment)
    notices = top / "share" / "doc" / "localq"
    notices.mkdir(parents=True)
    shutil.copy(ROOT / "LICENSE", notices / "LICENSE")
    shutil.copy(ROOT / "CHANGELOG.md", notices / "changelog")
