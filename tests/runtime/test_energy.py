from __future__ import annotations

import time
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runtime.hardware.energy import EnergyMeter, energy_counters, wrapped_difference
from tests.runtime.hardware_trees import Tree

RANGE = 262_143_328_850


class Rapl(Tree):
    """A machine with counters in /sys/class/powercap."""

    def domain(self, number: str, name: str, microjoules: int = 0) -> Path:
        folder = f"sys/class/powercap/intel-rapl:{number}"
        self.write(f"{folder}/name", name)
        self.write(f"{folder}/max_energy_range_uj", RANGE)
        self.set(number, microjoules)
        return self.root / folder / "energy_uj"

    def set(self, number: str, microjoules: int) -> None:
        # in one step: the meter's own thread may be reading
        file = self.root / f"sys/class/powercap/intel-rapl:{number}/energy_uj"
        new = file.with_name("new")
        new.write_text(f"{microjoules}\n")
        new.replace(file)


@pytest.fixture
def rapl(tmp_path: Path) -> Rapl:
    return Rapl(tmp_path)


@pytest.fixture
def server(rapl: Rapl) -> Rapl:
    """Two packages with memory, and domains that would count twice."""
    for package in ("0", "1"):
        rapl.domain(package, f"package-{package}", 5_000_000)
        rapl.domain(f"{package}:0", "core", 1)
        rapl.domain(f"{package}:1", "dram", 100)
    rapl.domain("2", "psys", 7)
    rapl.write("sys/class/powercap/intel-rapl/enabled", 1)
    rapl.write("sys/class/powercap/intel-rapl-mmio:0/name", "package-0")
    return rapl


class TestCounters:
    def test_packages_and_their_memory_count_once(self, server: Rapl) -> None:
        found = energy_counters(server.root)
        names = [counter.name for counter in found.counters]
        assert names == ["package-0", "package-0 dram", "package-1", "package-1 dram"]
        assert found.reason is None
        assert {counter.range_microjoules for counter in found.counters} == {RANGE}

    def test_a_package_of_several_dies_counts_each(self, rapl: Rapl) -> None:
        rapl.domain("0", "package-0-die-0")
        rapl.domain("1", "package-0-die-1")
        names = [counter.name for counter in energy_counters(rapl.root).counters]
        assert names == ["package-0-die-0", "package-0-die-1"]

    def test_a_machine_without_counters_says_so(self, tmp_path: Path) -> None:
        found = energy_counters(tmp_path)
        assert found.counters == ()
        assert found.reason is not None and "no RAPL counter" in found.reason

    def test_a_counter_that_root_alone_may_read_is_named_with_what_to_do(
        self, rapl: Rapl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        file = rapl.domain("0", "package-0")
        refuse(monkeypatch, file)
        found = energy_counters(rapl.root)
        assert found.counters == ()
        assert found.reason is not None and f"sudo chmod a+r {file}" in found.reason

    def test_memory_that_cannot_be_read_leaves_the_package_and_is_told(
        self, rapl: Rapl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        rapl.domain("0", "package-0")
        refuse(monkeypatch, rapl.domain("0:0", "dram"))
        found = energy_counters(rapl.root)
        assert [counter.name for counter in found.counters] == ["package-0"]
        assert found.reason is not None and found.reason.startswith("package-0 dram")

    def test_one_package_of_two_is_no_figure_for_the_machine(
        self, server: Rapl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse(monkeypatch, server.root / "sys/class/powercap/intel-rapl:1/energy_uj")
        found = energy_counters(server.root)
        assert found.counters == ()
        assert found.reason is not None and found.reason.startswith("package-1 may be read by root only")

    def test_memory_alone_is_no_figure_for_the_machine(
        self, rapl: Rapl, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        refuse(monkeypatch, rapl.domain("0", "package-0"))
        rapl.domain("0:0", "dram")
        assert energy_counters(rapl.root).counters == ()

    @pytest.mark.parametrize("content", ["", "many", "-5", "0"])
    def test_a_counter_without_a_sensible_number_is_left_out(self, rapl: Rapl, content: str) -> None:
        rapl.domain("0", "package-0")
        rapl.write("sys/class/powercap/intel-rapl:0/max_energy_range_uj", content)
        found = energy_counters(rapl.root)
        assert found.counters == ()
        assert found.reason is not None and "package-0 cannot be read" in found.reason

    def test_this_machine_answers_one_way_or_the_other(self) -> None:
        found = energy_counters()
        assert found.counters or found.reason
        with EnergyMeter() as meter:
            pass
        assert meter.joules is not None or meter.reason


class TestMeter:
    def test_joules_are_the_sum_of_the_domains(self, server: Rapl) -> None:
        with EnergyMeter(server.root) as meter:
            server.set("0", 8_000_000)
            server.set("0:0", 999_999_999)
            server.set("1:1", 500_100)
        assert meter.joules == 3.5
        assert meter.domains == {
            "package-0": 3.0,
            "package-0 dram": 0.0,
            "package-1": 0.0,
            "package-1 dram": 0.5,
        }
        assert meter.reason is None
        assert meter.seconds > 0

    def test_a_counter_that_wraps_around_is_carried_on(self, rapl: Rapl) -> None:
        rapl.domain("0", "package-0", RANGE - 1_000_000)
        with EnergyMeter(rapl.root) as meter:
            rapl.set("0", 500_000)
        assert meter.joules == 1.5

    def test_each_reading_may_wrap_around_again(self, rapl: Rapl) -> None:
        rapl.domain("0", "package-0", 0)
        with EnergyMeter(rapl.root) as meter:
            for _ in range(3):
                rapl.set("0", RANGE - 10)
                meter.sample()
                rapl.set("0", 0)
                meter.sample()
        assert meter.joules == pytest.approx(3 * RANGE / 1e6)

    def test_the_meter_reads_by_itself_while_the_work_goes_on(self, rapl: Rapl) -> None:
        rapl.domain("0", "package-0", 0)
        with EnergyMeter(rapl.root, sampled_seconds=0.001) as meter:
            rapl.set("0", 2_000_000)
            deadline = time.monotonic() + 10
            while meter.joules is None and time.monotonic() < deadline:
                time.sleep(0.001)
            assert meter.joules == 2.0
            rapl.set("0", 0)
        assert meter.joules == pytest.approx(RANGE / 1e6)

    def test_counters_that_never_move_are_no_measurement(self, rapl: Rapl) -> None:
        rapl.domain("0", "package-0", 77)
        with EnergyMeter(rapl.root) as meter:
            pass
        assert meter.joules is None
        assert meter.domains == {}
        assert meter.reason is not None and "did not move" in meter.reason

    def test_a_counter_that_goes_away_ends_the_measurement(self, rapl: Rapl) -> None:
        file = rapl.domain("0", "package-0", 0)
        rapl.domain("1", "package-1", 0)
        with EnergyMeter(rapl.root) as meter:
            rapl.set("1", 5_000_000)
            file.unlink()
        assert meter.joules is None
        assert meter.domains == {}
        assert meter.reason is not None and "package-0 could not be read any more" in meter.reason

    def test_without_counters_there_is_no_thread_and_no_figure(self, tmp_path: Path) -> None:
        with EnergyMeter(tmp_path) as meter:
            assert meter._thread is None
        assert meter.joules is None
        assert meter.reason is not None and "no RAPL counter" in meter.reason

    def test_the_thread_ends_with_the_block_also_after_an_error(self, rapl: Rapl) -> None:
        rapl.domain("0", "package-0", 0)
        meter = EnergyMeter(rapl.root)
        with pytest.raises(KeyError), meter:
            rapl.set("0", 1_000_000)
            raise KeyError
        assert meter._thread is not None and not meter._thread.is_alive()
        assert meter.joules == 1.0


@given(st.lists(st.integers(0, RANGE - 1), max_size=20))
def test_readings_add_up_to_what_was_taken_however_often_it_wraps(steps: list[int]) -> None:
    at = total = 0
    for step in steps:
        after = (at + step) % RANGE
        total += wrapped_difference(at, after, RANGE)
        at = after
    assert total == sum(steps)


def refuse(monkeypatch: pytest.MonkeyPatch, file: Path) -> None:
    """Reading ``file`` is not permitted, to root neither."""
    read = Path.read_text

    def guarded(path: Path, *given: object, **options: object) -> str:
        if path == file:
            raise PermissionError(13, "Permission denied", str(path))
        return read(path, *given, **options)  # type: ignore[arg-type]  # handed on as they came

    monkeypatch.setattr(Path, "read_text", guarded)
