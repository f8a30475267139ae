"""Wheels as bytes that depend on their content only: names in order, one time stamp, one set of modes."""

from __future__ import annotations

import base64
import hashlib
import time
import zipfile
from collections.abc import Mapping
from pathlib import Path

EXECUTABLE, PLAIN = 0o755, 0o644


def read(archive: Path) -> dict[str, bytes]:
    """Every file of a zip archive by its name."""
    with zipfile.ZipFile(archive) as opened:
        return {info.filename: opened.read(info) for info in opened.infolist() if not info.is_dir()}


def write(archive: Path, files: Mapping[str, bytes], timestamp: int) -> None:
    """A zip archive of ``files`` whose bytes depend on nothing else; RECORD comes last, as wheels want it."""
    when = time.gmtime(max(timestamp, 315532800))[:6]  # zip knows no time before 1980
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as opened:
        for name in sorted(files, key=lambda name: (".dist-info/" in name, name.endswith("/RECORD"), name)):
            info = zipfile.ZipInfo(name, when)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, whose modes these are
            info.external_attr = (EXECUTABLE if name.endswith(".so") or ".so." in name else PLAIN) << 16
            opened.writestr(info, files[name])


def add_to_wheel(
    source: Path, target: Path, files: Mapping[str, bytes], *, timestamp: int, drop: tuple[str, ...] = ()
) -> None:
    """The wheel ``source`` with ``files`` added and all that starts with one of ``drop`` left out."""
    content = {name: data for name, data in read(source).items() if not name.startswith(drop or "\0")}
    content |= files
    (record,) = (name for name in content if name.endswith(".dist-info/RECORD"))
    content[record] = _record({name: data for name, data in content.items() if name != record}, record)
    write(target, content, timestamp)


def _record(content: Mapping[str, bytes], record: str) -> bytes:
    """RECORD of the wheel format: name, hash and size of every file, and itself without."""
    lines = [f"{name},sha256={_digest(content[name])},{len(content[name])}" for name in sorted(content)]
    return "\n".join([*lines, f"{record},,", ""]).encode()


def _digest(data: bytes) -> str:
    return base64.urlsafe_b64encode(hashlib.sha256(data).digest()).rstrip(b"=").decode()
