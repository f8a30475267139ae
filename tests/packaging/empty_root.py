"""An empty Debian without a network: made by debootstrap, copied for each test, entered by chroot."""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

SUITE = "bookworm"
CACHED = Path(__file__).resolve().parents[2] / ".cache" / f"debian-{SUITE}"


def base() -> Path:
    """A minimal Debian that nobody changes, fetched once; $LOCALQ_DEBIAN_MIRROR says from where."""
    if not (CACHED / "usr" / "bin" / "dpkg").exists():
        part = CACHED.with_name(f"{CACHED.name}.part")
        shutil.rmtree(part, ignore_errors=True)
        mirror = [os.environ["LOCALQ_DEBIAN_MIRROR"]] if "LOCALQ_DEBIAN_MIRROR" in os.environ else []
        command = ["debootstrap", "--variant=minbase", SUITE, str(part), *mirror]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        part.rename(CACHED)
    return CACHED


@dataclass(frozen=True)
class EmptyRoot:
    """A Debian of one's own."""

    folder: Path

    @staticmethod
    def made(folder: Path) -> EmptyRoot:
        """A copy of the base at ``folder``."""
        subprocess.run(["cp", "-a", "--reflink=auto", str(base()), str(folder)], check=True)
        return EmptyRoot(folder)

    def put(self, source: Path, place: str) -> str:
        """A file of the outside at ``place``, an absolute path of the inside."""
        target = self.folder / place.lstrip("/")
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(source, target)
        return place

    def run(
        self,
        *words: str,
        user: str = "root",
        environment: dict[str, str] | None = None,
        network: bool = False,
        read_only: tuple[str, ...] | None = None,
        seconds: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``words`` inside: processes and mounts of its own, and no network but the loopback.

        ``read_only`` names the folders that may be written to; everything else then may not.
        """
        home = "/root" if user == "root" else f"/home/{user}"
        known = {"PATH": "/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": home, "LC_ALL": "C.UTF-8"}
        variables = [f"{key}={value}" for key, value in {**known, **(environment or {})}.items()]
        apart = ["unshare", "--mount", "--pid", "--fork", *([] if network else ["--net"])]
        first = ["mount --bind $1 $1", "mount -t proc proc $1/proc"]
        if read_only is not None:
            first += [f"mount --bind $1{place} $1{place}" for place in read_only]
            first += ["mount -o remount,ro,bind $1"]
        if not network:
            first += ["ip link set lo up"]  # of a new network it is down until somebody says otherwise
        inside = ["env", "-i", "-C", home if (self.folder / home.lstrip("/")).is_dir() else "/", *variables]
        as_user = [] if user == "root" else ["setpriv", f"--reuid={user}", f"--regid={user}", "--init-groups"]
        enter = " && ".join([*first, 'exec chroot "$@"'])
        command = [*apart, "sh", "-c", enter, "sh", str(self.folder), *as_user, *inside, *words]
        return subprocess.run(
            command, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=seconds, check=False
        )

    def files(self) -> set[str]:
        """Every path inside, but for /proc."""
        found = set()
        for top, folders, names in os.walk(self.folder):
            if Path(top) == self.folder:
                folders[:] = [name for name in folders if name != "proc"]
            place = Path(top).relative_to(self.folder)
            found |= {str(place / name) for name in (*folders, *names)}
        return found
