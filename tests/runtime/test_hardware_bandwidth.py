"""Bandwidth is measured once and remembered; its memory may be lost or damaged."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import runtime.kernels
from runtime.hardware.bandwidth import FILE_NAME, cache_folder, memory_bandwidth


@pytest.fixture
def measurements(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Threads of each measurement; the n-th measures n GB/s."""
    calls: list[int] = []

    def measure(threads: int, *, total_bytes: int | None = None, seconds: float = 0.5) -> float:
        calls.append(threads)
        return len(calls) * 1e9

    monkeypatch.setattr(runtime.kernels, "read_bandwidth", measure, raising=False)
    monkeypatch.setattr(runtime.kernels, "active_isa", lambda: "scalar", raising=False)
    return calls


class TestMemory:
    def test_the_second_call_measures_nothing(self, measurements: list[int], tmp_path: Path) -> None:
        first = memory_bandwidth(2, cache=tmp_path / "b.json")
        second = memory_bandwidth(2, cache=tmp_path / "b.json")
        assert (first.bytes_per_second, first.cached) == (1e9, False)
        assert (second.bytes_per_second, second.cached) == (1e9, True)
        assert measurements == [2]

    def test_each_number_of_threads_is_measured(self, measurements: list[int], tmp_path: Path) -> None:
        memory_bandwidth(1, cache=tmp_path / "b.json")
        memory_bandwidth(2, cache=tmp_path / "b.json")
        assert memory_bandwidth(1, cache=tmp_path / "b.json").cached
        assert measurements == [1, 2]

    def test_another_instruction_set_is_measured_again(
        self, measurements: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        memory_bandwidth(1, cache=tmp_path / "b.json")
        monkeypatch.setattr(runtime.kernels, "active_isa", lambda: "avx2", raising=False)
        assert not memory_bandwidth(1, cache=tmp_path / "b.json").cached

    def test_a_fresh_measurement_replaces_the_old(self, measurements: list[int], tmp_path: Path) -> None:
        memory_bandwidth(1, cache=tmp_path / "b.json")
        assert memory_bandwidth(1, cache=tmp_path / "b.json", fresh=True).bytes_per_second == 2e9
        assert memory_bandwidth(1, cache=tmp_path / "b.json").bytes_per_second == 2e9

    def test_without_a_number_every_usable_core_reads(self, measurements: list[int], tmp_path: Path) -> None:
        assert memory_bandwidth(cache=tmp_path / "b.json").threads == measurements[0] >= 1


class TestDamage:
    @pytest.mark.parametrize("content", [b"", b"{", b"[1, 2]", b"\xff\xfe", b"[" * 100_000, b'{"a": "b"}'])
    def test_a_damaged_file_costs_one_measurement(
        self, measurements: list[int], tmp_path: Path, content: bytes
    ) -> None:
        file = tmp_path / "b.json"
        file.write_bytes(content)
        assert not memory_bandwidth(1, cache=file).cached
        assert memory_bandwidth(1, cache=file).cached

    @pytest.mark.parametrize("value", ["fast", -1, 0, None])
    def test_a_value_that_is_no_speed_is_measured_again(
        self, measurements: list[int], tmp_path: Path, value: object
    ) -> None:
        file = tmp_path / "b.json"
        memory_bandwidth(1, cache=file)
        file.write_text(json.dumps(dict.fromkeys(json.loads(file.read_text()), value)))
        assert not memory_bandwidth(1, cache=file).cached

    def test_a_folder_that_cannot_be_written_is_no_error(
        self, measurements: list[int], tmp_path: Path
    ) -> None:
        (tmp_path / "file").write_text("")
        assert memory_bandwidth(1, cache=tmp_path / "file" / "b.json").bytes_per_second == 1e9

    def test_a_place_that_cannot_be_replaced_leaves_no_temporary_file(
        self, measurements: list[int], tmp_path: Path
    ) -> None:
        (tmp_path / "b.json" / "occupied").mkdir(parents=True)
        memory_bandwidth(1, cache=tmp_path / "b.json")
        assert [entry.name for entry in tmp_path.iterdir()] == ["b.json"]


class TestPlace:
    def test_the_home_variable_moves_the_cache(
        self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path, measurements: list[int]
    ) -> None:
        monkeypatch.setenv("LOCALQ_HOME", str(tmp_path))
        memory_bandwidth(1)
        assert (tmp_path / "cache" / FILE_NAME).is_file()

    def test_without_it_the_platforms_folder_is_taken(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delenv("LOCALQ_HOME", raising=False)
        assert cache_folder().name.lower() == "localq" or "localq" in str(cache_folder()).lower()


def test_this_machine_reads_memory(tmp_path: Path) -> None:
    assert memory_bandwidth(1, cache=tmp_path / "b.json").bytes_per_second > 1e8
