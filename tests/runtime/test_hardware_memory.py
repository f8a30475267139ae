"""Memory that is really available: every limit, on machines made of files."""

from __future__ import annotations

import builtins
from pathlib import Path
from typing import Any

import pytest

from runtime.hardware import Device, this_machine
from runtime.hardware.memory import MARGIN_MAX, MARGIN_MIN, MemoryReport, available_memory
from tests.runtime.hardware_trees import GIB, Tree

MIB = 1 << 20
PAGE_COUNTER_MAX = 9223372036854771712


@pytest.fixture
def tree(tmp_path: Path) -> Tree:
    tree = Tree(tmp_path)
    tree.meminfo(total=16 * GIB, available=10 * GIB)
    return tree


def report(tree: Tree, **options: Any) -> MemoryReport:
    return available_memory(root=tree.root, **({"rlimits": {}} | options))


def names(found: MemoryReport) -> list[str]:
    return [term.name for term in found.terms]


class TestMachine:
    def test_without_limits_the_kernels_estimate_counts(self, tree: Tree) -> None:
        found = report(tree)
        assert (found.binding.name, found.binding.bytes, found.total) == (
            "MemAvailable",
            10 * GIB,
            16 * GIB,
        )
        assert found.available == 10 * GIB - found.margin

    @pytest.mark.parametrize(
        ("available", "margin"), [(64 * GIB, MARGIN_MAX), (4 * GIB, 128 * MIB), (GIB, MARGIN_MIN)]
    )
    def test_the_margin_is_a_share_within_bounds(self, tree: Tree, available: int, margin: int) -> None:
        tree.meminfo(total=64 * GIB, available=available)
        assert report(tree).margin == margin

    def test_less_than_the_margin_is_nothing(self, tree: Tree) -> None:
        tree.meminfo(total=16 * GIB, available=MARGIN_MIN // 2)
        assert report(tree).available == 0

    def test_a_machine_without_proc_is_asked_by_psutil(self, tmp_path: Path) -> None:
        found = report(Tree(tmp_path))
        assert found.binding.name == "free memory"
        assert 0 < found.binding.bytes <= found.total

    def test_this_machine_has_memory(self) -> None:
        found = available_memory()
        assert 0 < found.available < found.total


class TestAskedFor:
    def test_the_persons_limit_binds_when_it_is_the_lowest(self, tree: Tree) -> None:
        found = report(tree, ram=3 * GIB)
        assert (found.binding.name, found.binding.bytes) == ("--ram", 3 * GIB)

    def test_no_margin_is_left_of_what_a_person_gives(self, tree: Tree) -> None:
        assert report(tree, ram=3 * GIB).available == 3 * GIB

    def test_the_margin_of_the_machine_stays_free_beside_it(self, tree: Tree) -> None:
        found = report(tree, ram=10 * GIB)
        assert (found.binding.name, found.available) == ("MemAvailable", 10 * GIB - found.margin)

    def test_the_persons_limit_does_not_add_memory(self, tree: Tree) -> None:
        found = report(tree, ram=100 * GIB)
        assert found.binding.name == "MemAvailable"
        assert "--ram" in names(found)


class TestResourceLimits:
    def test_address_space_that_is_never_touched_is_taken_off(self, tree: Tree) -> None:
        tree.cpus(["0", "1"])
        found = report(tree, rlimits={"RLIMIT_AS": 2 * GIB})
        assert found.binding.name == "RLIMIT_AS"
        assert 2 * GIB - 512 * MIB < found.binding.bytes < 2 * GIB

    def test_a_resident_limit_counts_whole(self, tree: Tree) -> None:
        assert report(tree, rlimits={"RLIMIT_RSS": GIB}).binding.bytes == GIB

    def test_a_limit_below_what_a_process_needs_leaves_nothing(self, tree: Tree) -> None:
        assert report(tree, rlimits={"RLIMIT_DATA": MIB}).binding.bytes == 0

    def test_limits_of_this_process_are_read(self, monkeypatch: pytest.MonkeyPatch, tree: Tree) -> None:
        import resource

        monkeypatch.setattr(
            resource, "getrlimit", lambda name: (5 * GIB if name == resource.RLIMIT_AS else -1, -1)
        )
        found = available_memory(root=tree.root)
        assert names(found) == ["MemAvailable", "RLIMIT_AS"]

    def test_a_system_without_resource_limits_has_none(
        self, monkeypatch: pytest.MonkeyPatch, tree: Tree
    ) -> None:
        real = builtins.__import__

        def without_resource(name: str, *arguments: Any, **named: Any) -> Any:
            if name == "resource":
                raise ModuleNotFoundError(name)
            return real(name, *arguments, **named)

        monkeypatch.setattr(builtins, "__import__", without_resource)
        assert names(available_memory(root=tree.root)) == ["MemAvailable"]


class TestCgroupV2:
    def test_the_limit_less_what_is_held(self, tree: Tree) -> None:
        tree.cgroup_v2("/job")
        tree.limit_v2("/job", limit=4 * GIB, used=GIB)
        found = report(tree)
        assert (found.binding.name, found.binding.bytes) == ("cgroup memory.max", 3 * GIB)
        assert "/sys/fs/cgroup/job" in found.binding.detail

    def test_high_counts_like_max(self, tree: Tree) -> None:
        tree.cgroup_v2("/job")
        tree.limit_v2("/job", limit=4 * GIB, high=2 * GIB, used=GIB)
        assert (report(tree).binding.name, report(tree).binding.bytes) == ("cgroup memory.high", GIB)

    def test_the_tightest_ancestor_binds(self, tree: Tree) -> None:
        tree.cgroup_v2("/pod/container/worker")
        tree.limit_v2("/pod", limit=8 * GIB, used=7 * GIB)
        tree.limit_v2("/pod/container", limit=4 * GIB, used=GIB)
        tree.limit_v2("/pod/container/worker", limit="max", used=GIB)
        found = report(tree)
        assert found.binding.bytes == GIB
        assert "/sys/fs/cgroup/pod," in found.binding.detail

    def test_max_is_no_limit(self, tree: Tree) -> None:
        tree.cgroup_v2("/job")
        tree.limit_v2("/job", used=GIB)
        assert names(report(tree)) == ["MemAvailable"]

    @pytest.mark.parametrize(("inactive", "active"), [(2 * GIB, 0), (0, 2 * GIB), (GIB, GIB)])
    def test_a_warm_page_cache_changes_nothing(self, tree: Tree, inactive: int, active: int) -> None:
        tree.cgroup_v2("/job")
        tree.limit_v2("/job", limit=4 * GIB, used=GIB)
        cold = report(tree).available
        tree.limit_v2("/job", limit=4 * GIB, used=3 * GIB, inactive=inactive, active=active)
        assert report(tree).available == cold

    def test_a_group_over_its_limit_has_nothing(self, tree: Tree) -> None:
        tree.cgroup_v2("/job")
        tree.limit_v2("/job", limit=GIB, used=2 * GIB)
        assert report(tree).available == 0

    def test_a_container_sees_its_own_group_as_the_root(self, tree: Tree) -> None:
        tree.cgroup_v2("/", mount_root="/")
        tree.limit_v2("", limit=2 * GIB, used=GIB)
        assert report(tree).binding.bytes == GIB

    @pytest.mark.parametrize("group", ["/docker/abc", "/../outside"])
    def test_a_group_outside_of_the_mount_stands_for_the_mount(self, tree: Tree, group: str) -> None:
        tree.cgroup_v2(group, mount_root="/" if ".." in group else "/kubepods/x")
        tree.limit_v2("", limit=2 * GIB, used=GIB)
        assert report(tree).binding.bytes == GIB

    def test_a_mount_of_a_subtree_is_followed(self, tree: Tree) -> None:
        tree.cgroup_v2("/docker/abc/job", mount_root="/docker/abc")
        tree.limit_v2("/job", limit=2 * GIB, used=GIB)
        assert report(tree).binding.bytes == GIB

    def test_a_folder_without_memory_files_is_passed_over(self, tree: Tree) -> None:
        tree.cgroup_v2("/job/leaf")
        tree.limit_v2("/job", limit=2 * GIB, used=GIB)
        assert report(tree).binding.bytes == GIB

    def test_files_that_hold_nonsense_are_no_limit(self, tree: Tree) -> None:
        tree.cgroup_v2("/job")
        tree.limit_v2("/job", limit="lots", used=GIB)
        tree.write("sys/fs/cgroup/job/memory.high", "")
        assert names(report(tree)) == ["MemAvailable"]

    def test_a_mount_point_with_a_space_is_found(self, tree: Tree) -> None:
        tree.write("proc/self/cgroup", "0::/")
        tree.write("proc/self/mountinfo", r"31 20 0:26 / /my\040groups rw - cgroup2 cgroup2 rw")
        tree.write("my groups/memory.max", 2 * GIB)
        tree.write("my groups/memory.current", GIB)
        assert report(tree).binding.bytes == GIB

    def test_malformed_mounts_and_groups_are_passed_over(self, tree: Tree) -> None:
        tree.write("proc/self/cgroup", "nonsense\n0::/job")
        tree.write("proc/self/mountinfo", "31 20\n32 20 0:1 / /x rw - cgroup2")
        assert names(report(tree)) == ["MemAvailable"]


class TestCgroupV1:
    def test_the_limit_less_what_is_held(self, tree: Tree) -> None:
        tree.cgroup_v1("/job")
        tree.limit_v1("/job", limit=4 * GIB, used=3 * GIB, inactive=GIB, active=GIB)
        assert report(tree).binding.bytes == 3 * GIB
        assert report(tree).binding.name == "cgroup memory.limit_in_bytes"

    def test_the_largest_number_of_pages_is_no_limit(self, tree: Tree) -> None:
        tree.cgroup_v1("/job")
        tree.limit_v1("/job", limit=PAGE_COUNTER_MAX, used=GIB)
        assert names(report(tree)) == ["MemAvailable"]

    def test_ancestors_count(self, tree: Tree) -> None:
        tree.cgroup_v1("/a/b", "memory,hugetlb")
        tree.limit_v1("/a", limit=2 * GIB, used=GIB)
        tree.limit_v1("/a/b", limit=PAGE_COUNTER_MAX, used=GIB)
        assert report(tree).binding.bytes == GIB


class TestWholeMachine:
    def test_it_is_gathered_with_the_persons_limit_and_devices(self) -> None:
        gpu = Device("GPU0", 2 * GIB, GIB)
        found = this_machine(ram=GIB, devices=(gpu,))
        assert "--ram" in names(found.memory)
        assert found.cores.physical >= 1
        assert found.features
        assert found.devices == (gpu,)
