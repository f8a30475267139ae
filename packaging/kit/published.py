"""What a manifest says of a file that is published elsewhere."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path

from kit.project import HOMEPAGE, version


def address(path: Path) -> str:
    """Where a release's file is fetched from."""
    return f"{os.environ.get('LOCALQ_RELEASES', HOMEPAGE).rstrip('/')}/{version()}/{path.name}"


def sha256(path: Path) -> str:
    """The digest of a file's bytes, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()
