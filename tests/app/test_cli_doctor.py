from __future__ import annotations

import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import msgspec
import pytest

from app.cli.checks import (
    BusyProcess,
    Finding,
    check_bandwidth,
    check_cores,
    check_disk,
    check_energy,
    check_features,
    check_kernels,
    check_llama,
    check_load,
    check_memory,
)
from app.cli.examine import busy_processes
from app.cli.mending import outside
from app.cli.native import LlamaBroken, ask_llama, explain
from app.cli.remedies import Installation, kernel_remedy, llama_remedy, rebuild_llama, this_installation
from runtime.engine.probe import Probe, ProbedDevice, parse_features
from runtime.hardware import BandwidthReport, CoreReport, EnergyCounters, MemoryReport, MemoryTerm
from runtime.hardware.energy import EnergyCounter
from runtime.kernels import active_isa
from tests.app.cli_runner import Cli

CORES = CoreReport(physical=4, logical=8, fast=4, quota=None, model="Some CPU")
HERE = Installation("environment", "/venv/bin/python", compiler=True, family="debian")
BARE = replace(HERE, compiler=False)
PROBE = Probe(
    llama_cpp_python="0.3.36",
    llama="0.5.0",
    ggml="0.25.3",
    ggml_commit="abc",
    features={"AVX2": True},
    devices=(),
    gpu_offload=False,
    system_info="",
)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


class TestDoctor:
    def test_every_subject_is_looked_at(self, cli: Cli) -> None:
        cli.add_model("tiny")
        document = cli.run("doctor", "--json").json()
        subjects = [finding["subject"] for finding in document["findings"]]
        assert set(subjects) == {
            *("localq", "llama.cpp", "processor", "kernels", "memory", "cores", "bandwidth", "load"),
            *("energy", "store", "disk"),
        }
        assert document["versions"]["localq"] == "0.1.0"
        assert document["llama"]["llama_cpp_python"] == "0.3.36"
        assert document["store"]["models"] == 1
        assert document["memory"]["available_bytes"] > 0

    def test_a_sound_machine_is_success_and_quiet_says_little(self, cli: Cli) -> None:
        ran = cli.run("doctor")
        assert ran.exit_code == 0
        assert "llama-cpp-python 0.3.36" in ran.stdout
        assert "broken" not in cli.run("doctor", "-q").stdout

    def test_a_broken_store_fails_and_says_what_to_do(self, cli: Cli) -> None:
        cli.add_model("a")
        cli.add_model("org/b", seed=1)
        (blob, *_) = (cli.home / "blobs").iterdir()
        blob.unlink()
        (cli.home / "manifests" / "org+b.json").write_text("{}")
        ran = cli.run("doctor")
        assert ran.exit_code == 1
        assert "next: localq rm org/b" in ran.stdout
        assert "broken: " in ran.stdout
        assert cli.run("doctor", "--json").json()["ok"] is False
        assert len(re.findall("broken: store: ", cli.run("doctor", "-q").stdout)) >= 1

    def test_settings_that_cannot_be_read_are_a_finding_and_no_end(self, cli: Cli) -> None:
        cli.environment["LOCALQ_KV"] = "q9"
        ran = cli.run("doctor")
        assert ran.exit_code == 1
        assert "unset LOCALQ_KV" in ran.stdout
        assert "llama-cpp-python" in ran.stdout

    def test_measuring_remembers_the_bandwidth(self, cli: Cli) -> None:
        def refuse(*_given: object, **_options: object) -> float:
            raise AssertionError("measured without being asked to")

        with pytest.MonkeyPatch.context() as patch:
            patch.setattr("runtime.kernels.read_bandwidth", refuse)
            assert "localq doctor --measure" in cli.run("doctor").stdout
        assert "measured now" in cli.run("doctor", "--measure").stdout
        assert "measured before" in cli.run("doctor").stdout

    def test_a_llama_that_does_not_load_is_broken_and_the_rest_is_still_looked_at(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail() -> Probe:
            raise LlamaBroken(explain(-signal.SIGILL, ""))

        monkeypatch.setattr("app.cli.examine.ask_llama", fail)
        ran = cli.run("doctor")
        assert ran.exit_code == 1
        assert "compiled for another processor" in ran.stdout
        assert "pip install --force-reinstall" in ran.stdout
        assert "available for a model" in ran.stdout

    def test_missing_kernels_are_broken(self, cli: Cli, tmp_path: Path) -> None:
        program = "import sys\nfrom app.cli.main import cli\ncli.main(['doctor', '-q'], prog_name='localq')\n"
        result = subprocess.run(
            [sys.executable, "-c", program],
            capture_output=True,
            text=True,
            env={
                "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
                "LOCALQ_HOME": str(tmp_path),
                "LOCALQ_CONFIG": "/dev/null",
                "LOCALQ_KERNELS": str(tmp_path),
            },
            check=False,
        )
        assert result.returncode == 1
        assert "broken: kernels: " in result.stdout


class TestProbe:
    def test_the_installed_llama_tells_its_versions_from_a_child_process(self) -> None:
        loaded = "llama_cpp" in sys.modules  # by another test
        probe = ask_llama()
        assert probe.llama_cpp_python == "0.3.36"
        assert re.fullmatch(r"\d+\.\d+\.\d+.*", probe.ggml)
        assert any(probe.features.values())
        assert probe.kernels == active_isa()
        assert ("llama_cpp" in sys.modules) == loaded

    def test_features_are_read_from_the_processors_part(self) -> None:
        text = "CUDA : ARCHS = 890 | F16 = 1 | CPU : AVX2 = 1 | FMA = 0 | OPENMP = 1 | "
        assert parse_features(text) == {"AVX2": True, "FMA": False, "OPENMP": True}
        assert parse_features("") == {}

    @pytest.mark.parametrize(
        ("code", "words", "part"),
        [
            (-signal.SIGILL, "", "another processor"),
            (-signal.SIGSEGV, "", "signal 11"),
            (1, "Traceback\nImportError: no libgomp", "ImportError: no libgomp"),
            (7, "", "exit code 7"),
        ],
    )
    def test_how_a_child_ended_is_said_in_words(self, code: int, words: str, part: str) -> None:
        assert part in explain(code, words)

    def test_a_child_that_fails_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.cli.native.PROBE_COMMAND", ["-c", "import sys; sys.exit('no luck')"])
        with pytest.raises(LlamaBroken, match="no luck"):
            ask_llama()

    def test_a_child_that_hangs_is_an_error(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.cli.native.PROBE_COMMAND", ["-c", "import time; time.sleep(60)"])
        monkeypatch.setattr("app.cli.native.PROBE_SECONDS", 0.2)
        with pytest.raises(LlamaBroken, match=r"within 0\.2 s"):
            ask_llama()


class TestChecks:
    def test_another_llama_than_the_pinned_one_is_a_warning(self) -> None:
        (finding,) = check_llama(msgspec.structs.replace(PROBE, llama_cpp_python="0.2"), HERE)
        assert finding.status == "warning"
        assert finding.next_command is not None and "0.3.36" in finding.next_command

    def test_devices_are_named_with_their_memory(self) -> None:
        device = ProbedDevice("CUDA0", "Some GPU", 8 << 30, 6 << 30)
        probe = msgspec.structs.replace(PROBE, devices=(device,))
        (finding,) = check_llama(probe, HERE)
        assert "Some GPU (6.00 GiB free)" in finding.detail

    def test_what_llama_was_compiled_for_must_be_there(self) -> None:
        assert check_features(["AVX2", "OPENMP"], {"avx2", "sse4.2"}, HERE).status == "ok"
        lacking = check_features(["AVX2", "AVX512"], {"avx2"}, HERE)
        assert (lacking.status, "avx512f" in lacking.detail) == ("broken", True)
        unused = check_features(["AVX2"], {"avx2", "avx512_vnni"}, HERE)
        assert (unused.status, "avx512_vnni" in unused.detail) == ("warning", True)

    def test_kernels_multiply_inside_llama_or_it_is_said_why_not(self) -> None:
        used = check_kernels("avx2", msgspec.structs.replace(PROBE, kernels="avx2"), HERE)
        assert (used.status, "inside llama.cpp: avx2" in used.detail) == ("ok", True)
        wrong = msgspec.structs.replace(PROBE, kernels_reason="the self-test gave a wrong result")
        unused = check_kernels("avx2", wrong, HERE)
        assert unused.status == "warning"
        assert (unused.next_command, unused.fix) == (None, ())
        assert "install the wheel" in unused.detail
        assert "slower: the self-test gave a wrong result" in unused.detail
        off = check_kernels("avx2", msgspec.structs.replace(PROBE, kernels_reason="LOCALQ_GGML=off"), HERE)
        assert (off.status, off.next_command) == ("note", "unset LOCALQ_GGML")
        old = msgspec.structs.replace(PROBE, kernels_reason="no kernels for this processor but the reference")
        plain = check_kernels("scalar", old, HERE)
        assert (plain.status, plain.next_command, plain.fix) == ("note", None, ())
        assert check_kernels("avx2", None, HERE).status == "ok"

    def test_memory_names_every_limit_and_marks_the_one_that_binds(self) -> None:
        cgroup = MemoryTerm("cgroup", 4 << 30, "of 8", 64 << 20)
        terms = (MemoryTerm("MemAvailable", 20 << 30, "of 24"), cgroup)
        finding = check_memory(MemoryReport(terms, 24 << 30))
        assert finding.status == "ok"
        assert "> cgroup: 4.00 GiB" in finding.detail
        assert "  MemAvailable: 20.0 GiB" in finding.detail
        assert "less 64.0 MiB that stay free" in finding.detail
        assert check_memory(MemoryReport((replace(cgroup, margin=4 << 30),), 24 << 30)).status == "warning"

    def test_cores_tell_their_quota_and_kinds(self) -> None:
        assert check_cores(CORES).detail == "Some CPU: 4 cores, 8 hardware threads"
        small = CoreReport(physical=4, logical=4, fast=2, quota=1.5, model="X")
        assert "2 of them fast" in check_cores(small).detail
        assert "1.5 processors" in check_cores(small).detail

    def test_bandwidth_is_measured_or_can_be(self) -> None:
        assert check_bandwidth(None).next_command == "localq doctor --measure"
        assert "12.0 GB/s with 1 thread " in check_bandwidth(BandwidthReport(12e9, 1, cached=True)).detail

    def test_energy_counters_are_named_or_what_is_in_their_way(self) -> None:
        package = EnergyCounter("package-0", Path("energy_uj"), 1)
        assert check_energy(EnergyCounters((package,))) == Finding("energy", "ok", "package-0")
        assert check_energy(EnergyCounters((package,), "dram")).detail == "package-0; left out: dram"
        missing = check_energy(EnergyCounters((), "may be read by root only"))
        assert (missing.status, missing.detail) == ("note", "no counter: may be read by root only")

    def test_other_programs_that_compute_are_named(self) -> None:
        assert check_load([BusyProcess(1, "calm", 0.5)], 0.4, CORES).status == "ok"
        finding = check_load([BusyProcess(7, "hungry", 2.0)], 3.0, CORES)
        assert finding.status == "warning"
        assert "hungry (7): 2.0" in finding.detail

    def test_a_disk_is_full_or_holds_what_nobody_needs(self) -> None:
        assert check_disk(100 << 30, 0) == Finding("disk", "ok", "100 GiB free for models")
        assert check_disk(1 << 30, 0).next_command == "localq df"
        assert check_disk(1 << 30, 5).next_command == "localq gc"

    def test_a_process_that_computes_is_seen(self) -> None:
        with subprocess.Popen([sys.executable, "-c", "while True: pass"]) as child:
            try:
                time.sleep(0.1)
                assert child.pid in {process.pid for process in busy_processes(1.0)}
            finally:
                child.kill()


class TestRemedies:
    def test_a_missing_library_is_a_package_of_the_system(self) -> None:
        words = "Failed to load shared library: libgomp.so.1: cannot open shared object file: No such file"
        found = llama_remedy(words, HERE)
        assert found.detail == "llama.cpp needs libgomp.so.1, which this system lacks"
        assert found.shown == "sudo apt-get install -y libgomp1"
        assert (
            llama_remedy(words, replace(HERE, family="fedora", root=True)).shown == "dnf install -y libgomp"
        )
        unknown = llama_remedy(words, replace(HERE, family=""))
        assert unknown.commands == () and "install the package that has it" in unknown.detail

    def test_without_a_compiler_one_is_installed_before_llama_is_compiled(self) -> None:
        found = llama_remedy("ModuleNotFoundError: No module named 'llama_cpp'", BARE)
        assert "not installed" in found.detail and "no C++ compiler" in found.detail
        compiler, build = found.commands
        assert compiler == ("sudo", "apt-get", "install", "-y", "g++")
        assert (
            build[:4] == ("/venv/bin/python", "-P", "-m", "pip") and build[-1] == "llama-cpp-python==0.3.36"
        )
        assert llama_remedy("No module named 'llama_cpp'", HERE).commands == (build,)

    def test_a_llama_of_a_newer_system_is_compiled_here(self) -> None:
        found = llama_remedy("libm.so.6: version `GLIBC_2.38' not found (required by libggml.so)", HERE)
        assert "newer system" in found.detail and "GLIBC_2.38" in found.detail
        assert len(found.commands) == 1

    def test_what_carries_its_llama_is_replaced_whole(self) -> None:
        package = rebuild_llama("x", replace(HERE, kind="package"))
        assert package.commands == () and "apt install --reinstall ./localq_*.deb" in package.detail
        assert rebuild_llama("x", replace(HERE, kind="archive")).commands == ()
        assert kernel_remedy("x", replace(HERE, kind="archive")).commands == ()

    def test_broken_kernels_are_built_again_in_a_checkout_and_elsewhere_no_index_is_asked(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        elsewhere = kernel_remedy("x", this_installation(tmp_path), tmp_path)
        assert elsewhere.commands == () and "install the wheel" in elsewhere.detail
        (tmp_path / "Makefile").touch()
        assert (
            kernel_remedy("x", this_installation(tmp_path), tmp_path).shown == f"make -C {tmp_path} rebuild"
        )
        monkeypatch.chdir(tmp_path)
        assert kernel_remedy("x", this_installation(tmp_path), tmp_path).shown == "make rebuild"

    def test_a_portable_build_is_not_blamed_for_what_no_level_has(self) -> None:
        finding = check_features(["AVX2"], {"avx2", "avx512_vnni"}, HERE, portable=True)
        assert finding.status == "ok"
        assert check_features(["AVX2"], {"avx2", "avx512_vnni"}, HERE).fix


class TestFix:
    @pytest.fixture
    def broken(self, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
        """llama.cpp counts as missing until the file that is returned is there; a stand-in mends it."""
        mended = tmp_path / "mended"

        def ask() -> Probe:
            if not mended.exists():
                raise LlamaBroken("ModuleNotFoundError: No module named 'llama_cpp'")
            return msgspec.structs.replace(PROBE, kernels="avx2", portable=True)

        pip = tmp_path / "python"
        pip.write_text(
            f'#!/bin/sh\necho "pip says $5"\n[ -e "{tmp_path}/refuse" ] && exit 3\n: > "{mended}"\n'
        )
        pip.chmod(0o755)
        found = replace(HERE, python=str(pip))
        monkeypatch.setattr("app.cli.examine.ask_llama", ask)
        monkeypatch.setattr("app.cli.examine.this_installation", lambda: found)
        return mended

    def test_without_fix_nothing_is_run(self, cli: Cli, broken: Path) -> None:
        assert cli.run("doctor").exit_code == 1
        assert not broken.exists()

    def test_fix_runs_the_command_shows_it_and_looks_again(self, cli: Cli, broken: Path) -> None:
        ran = cli.run("doctor", "--fix")
        assert broken.exists()
        assert f"running: {broken.parent / 'python'} -P -m pip install" in ran.stderr
        assert "llama-cpp-python 0.3.36" in ran.stdout and "not installed" not in ran.stdout

    def test_programs_of_the_system_get_the_search_path_that_the_person_had(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        inside = {"LD_LIBRARY_PATH": "/carried", "LD_LIBRARY_PATH_ORIG": "/own", "PATH": "/bin"}
        assert outside(inside) == inside
        monkeypatch.setattr("sys.frozen", True, raising=False)
        assert outside(inside) == {"LD_LIBRARY_PATH": "/own", "PATH": "/bin"}
        assert outside({"LD_LIBRARY_PATH": "/carried"}) == {}

    def test_a_command_that_fails_is_an_error_that_names_it(self, cli: Cli, broken: Path) -> None:
        (broken.parent / "refuse").touch()
        ran = cli.run("doctor", "--fix")
        assert ran.exit_code == 1
        assert "exit code 3" in ran.stderr
        assert ran.last_line.startswith(f"next: {broken.parent / 'python'} -P -m pip install")
