"""Machines as trees of files: /proc and /sys written into a folder that stands for /."""

from __future__ import annotations

from pathlib import Path

GIB = 1 << 30


class Tree:
    """Writes files below a root; a later write replaces an earlier one."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, text: str | int) -> None:
        file = self.root / path
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f"{text}\n")

    def meminfo(self, *, total: int, available: int) -> None:
        self.write("proc/meminfo", f"MemTotal: {total // 1024} kB\nMemAvailable: {available // 1024} kB")

    def cgroup_v2(self, group: str, *, mount_root: str = "/") -> None:
        self.write("proc/self/cgroup", f"0::{group}")
        self.write(
            "proc/self/mountinfo",
            "21 20 0:19 / /proc rw - proc proc rw\n"
            f"31 20 0:26 {mount_root} /sys/fs/cgroup rw,nosuid - cgroup2 cgroup2 rw,nsdelegate",
        )

    def cgroup_v1(self, group: str, controllers: str = "memory", *, mount_root: str = "/") -> None:
        self.write("proc/self/cgroup", f"5:pids:/elsewhere\n4:{controllers}:{group}\n0::/unified")
        self.write(
            "proc/self/mountinfo",
            f"35 31 0:32 {mount_root} /sys/fs/cgroup/v1 rw - cgroup cgroup rw,{controllers}\n"
            "41 31 0:38 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw",
        )

    def limit_v2(
        self,
        folder: str,
        *,
        limit: int | str = "max",
        high: int | str = "max",
        used: int = 0,
        inactive: int = 0,
        active: int = 0,
    ) -> None:
        base = f"sys/fs/cgroup{folder}"
        self.write(f"{base}/memory.max", limit)
        self.write(f"{base}/memory.high", high)
        self.write(f"{base}/memory.current", used)
        self.write(f"{base}/memory.stat", f"anon 1\ninactive_file {inactive}\nactive_file {active}")

    def limit_v1(self, folder: str, *, limit: int, used: int, inactive: int = 0, active: int = 0) -> None:
        base = f"sys/fs/cgroup/v1{folder}"
        self.write(f"{base}/memory.limit_in_bytes", limit)
        self.write(f"{base}/memory.usage_in_bytes", used)
        self.write(
            f"{base}/memory.stat",
            f"inactive_file 1\nactive_file 1\ntotal_inactive_file {inactive}\ntotal_active_file {active}",
        )

    def cpus(self, siblings: list[str]) -> None:
        """One logical processor an entry: the list of hardware threads that share its core."""
        for cpu, together in enumerate(siblings):
            self.write(f"sys/devices/system/cpu/cpu{cpu}/topology/core_cpus_list", together)
