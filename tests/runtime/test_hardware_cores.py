"""Cores that this process may use."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from runtime.hardware.cores import usable_cores
from tests.runtime.hardware_trees import Tree


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    return Tree(tmp_path)


class TestTopology:
    def test_hardware_threads_of_a_core_count_once(self, tree: Tree) -> None:
        tree.cpus(["0,4", "1,5", "2,6", "3,7", "0,4", "1,5", "2,6", "3,7"])
        found = usable_cores(root=tree.root, affinity=range(8))
        assert (found.physical, found.logical, found.fast) == (4, 8, 4)

    def test_affinity_limits_the_cores(self, tree: Tree) -> None:
        tree.cpus(["0-1", "0-1", "2-3", "2-3"])
        found = usable_cores(root=tree.root, affinity={1, 2, 3})
        assert (found.physical, found.logical) == (2, 3)

    def test_one_thread_of_a_core_is_a_core(self, tree: Tree) -> None:
        tree.cpus(["0-1", "0-1"])
        assert usable_cores(root=tree.root, affinity={1}).physical == 1

    def test_the_older_name_of_the_siblings_file_is_read(self, tree: Tree) -> None:
        for cpu in range(2):
            tree.write(f"sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list", "0-1")
        assert usable_cores(root=tree.root, affinity={0, 1}).physical == 1

    def test_without_a_topology_there_is_at_least_one_core(self, tree: Tree) -> None:
        found = usable_cores(root=tree.root, affinity={0})
        assert (found.physical, found.logical, found.fast) == (1, 1, 1)

    def test_this_machine_has_cores(self) -> None:
        found = usable_cores()
        assert 1 <= found.fast <= found.physical <= found.logical <= (os.cpu_count() or 1)

    def test_a_system_without_affinity_counts_all_processors(
        self, monkeypatch: pytest.MonkeyPatch, tree: Tree
    ) -> None:
        monkeypatch.delattr(os, "sched_getaffinity", raising=False)
        assert usable_cores(root=tree.root).logical == os.cpu_count()


class TestTwoKinds:
    def test_arm_names_the_capacity(self, tree: Tree) -> None:
        tree.cpus(["0", "1", "2", "3"])
        for cpu, capacity in enumerate([430, 430, 1024, 1024]):
            tree.write(f"sys/devices/system/cpu/cpu{cpu}/cpu_capacity", capacity)
        found = usable_cores(root=tree.root, affinity=range(4))
        assert (found.physical, found.fast) == (4, 2)

    def test_x86_is_told_by_frequency_where_it_has_small_cores(self, tree: Tree) -> None:
        tree.cpus(["0", "1", "2"])
        tree.write("sys/devices/cpu_atom/cpus", "1-2")
        for cpu, frequency in enumerate([5_000_000, 3_800_000, 3_800_000]):
            tree.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", frequency)
        assert usable_cores(root=tree.root, affinity=range(3)).fast == 1

    def test_frequencies_of_equal_cores_do_not_count(self, tree: Tree) -> None:
        tree.cpus(["0", "1"])
        for cpu, frequency in enumerate([5_000_000, 4_900_000]):
            tree.write(f"sys/devices/system/cpu/cpu{cpu}/cpufreq/cpuinfo_max_freq", frequency)
        assert usable_cores(root=tree.root, affinity=range(2)).fast == 2


class TestQuota:
    @pytest.mark.parametrize(
        ("text", "cores", "share"),
        [
            ("150000 100000", 2, 1.5),
            ("50000 100000", 1, 0.5),
            ("max 100000", 4, None),
            ("900000 100000", 4, 9),
            ("", 4, None),
        ],
    )
    def test_a_v2_share_of_time_is_rounded_up(
        self, tree: Tree, text: str, cores: int, share: float | None
    ) -> None:
        tree.cpus(["0", "1", "2", "3"])
        tree.cgroup_v2("/job")
        tree.write("sys/fs/cgroup/job/cpu.max", text)
        found = usable_cores(root=tree.root, affinity=range(4))
        assert (found.physical, found.quota) == (cores, share)

    def test_the_tightest_ancestor_binds(self, tree: Tree) -> None:
        tree.cpus(["0", "1", "2", "3"])
        tree.cgroup_v2("/a/b")
        tree.write("sys/fs/cgroup/a/cpu.max", "200000 100000")
        tree.write("sys/fs/cgroup/a/b/cpu.max", "max 100000")
        assert usable_cores(root=tree.root, affinity=range(4)).physical == 2

    @pytest.mark.parametrize(("quota", "cores"), [(250_000, 3), (-1, 4)])
    def test_a_v1_share_of_time(self, tree: Tree, quota: int, cores: int) -> None:
        tree.cpus(["0", "1", "2", "3"])
        tree.cgroup_v1("/job", "cpu,cpuacct")
        tree.write("sys/fs/cgroup/v1/job/cpu.cfs_quota_us", quota)
        tree.write("sys/fs/cgroup/v1/job/cpu.cfs_period_us", 100_000)
        assert usable_cores(root=tree.root, affinity=range(4)).physical == cores

    def test_fast_cores_are_no_more_than_the_share(self, tree: Tree) -> None:
        tree.cpus(["0", "1", "2", "3"])
        tree.cgroup_v2("/job")
        tree.write("sys/fs/cgroup/job/cpu.max", "200000 100000")
        assert usable_cores(root=tree.root, affinity=range(4)).fast == 2


class TestName:
    @pytest.mark.parametrize(
        ("text", "name"),
        [
            ("processor\t: 0\nmodel name\t: Ryzen 9\nmodel name\t: other\n", "Ryzen 9"),
            ("Hardware\t: BCM2835\n", "BCM2835"),
        ],
    )
    def test_the_processors_name_is_read(self, tree: Tree, text: str, name: str) -> None:
        tree.write("proc/cpuinfo", text)
        assert usable_cores(root=tree.root, affinity={0}).model == name

    def test_a_nameless_processor_has_its_architectures_name(self, tree: Tree) -> None:
        assert usable_cores(root=tree.root, affinity={0}).model
