"""Folders as archives whose bytes depend on their content only."""

from __future__ import annotations

import gzip
import os
import tarfile
from pathlib import Path


def tar_gz(folder: Path, target: Path, timestamp: int) -> Path:
    """``folder`` as a .tar.gz with one entry at the top, called after it: names in order, all of root's."""

    def plain(entry: tarfile.TarInfo) -> tarfile.TarInfo:
        entry.uid = entry.gid = 0
        entry.uname = entry.gname = "root"
        entry.mtime = timestamp
        return entry

    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=timestamp) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as archive,
    ):
        archive.add(folder, folder.name, recursive=False, filter=plain)
        for path in sorted(folder.rglob("*")):
            archive.add(path, str(path.relative_to(folder.parent)), recursive=False, filter=plain)
    return target


def settle(folder: Path, timestamp: int) -> None:
    """One time and plain permissions for all that ``folder`` holds: programs may be run, libraries not."""
    for path in [folder, *folder.rglob("*")]:
        if not path.is_symlink():
            runs = path.stat().st_mode & 0o100 and ".so" not in path.suffixes
            path.chmod(0o755 if path.is_dir() or runs else 0o644)
        os.utime(path, (timestamp, timestamp), follow_symlinks=False)


def gzip_file(path: Path) -> None:
    """``path`` compressed in place, without name and time."""
    path.with_name(f"{path.name}.gz").write_bytes(gzip.compress(path.read_bytes(), 9, mtime=0))
    path.unlink()
