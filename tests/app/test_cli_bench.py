from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.checks import BusyProcess
from app.cli.measure import cache_bytes_per_token, median, prompts, run_of, weight_bytes_per_token
from runtime.budget import plan_memory
from runtime.engine.config import EngineConfig
from runtime.engine.kernel_speed import KernelSpeeds, SpeedRequest, TypeSpeed
from runtime.engine.messages import FinishedEvent, Timings, Usage
from runtime.gguf import open_model
from runtime.hardware import BandwidthReport, this_machine
from tests.app.cli_runner import Cli
from tests.app.fake_engine import FakeEngine
from tests.app.tiny_model import HIDDEN, VOCABULARY, write_tiny_model

KEYS = {
    "decode_tokens_per_second",
    "prefill_tokens_per_second",
    "decode_gb_per_second",
    "read_bandwidth_gb_per_second",
    "peak_memory_bytes",
    "predicted_peak_bytes",
    "threads",
    "isa",
}


@pytest.fixture
def cli(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Cli:
    report = BandwidthReport(10e9, 1, cached=True)
    monkeypatch.setattr("runtime.hardware.memory_bandwidth", lambda threads: report)
    cli = Cli(tmp_path)
    cli.add_model("tiny")
    return cli


class TestBench:
    def test_json_has_the_promised_keys(self, cli: Cli) -> None:
        report = cli.run("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5", "--json").json()
        assert report.keys() >= KEYS
        assert all(isinstance(report[key], int | float) for key in KEYS - {"isa"})
        assert report["decode_tokens_per_second"] == 2.0  # 4 tokens behind the first, in 2 s
        assert report["prefill_tokens_per_second"] == 16.0  # 8 tokens that were not cached, in 0.5 s
        assert report["peak_memory_bytes"] == 123 << 20
        assert len(report["runs"]) == report["repetitions"] == 3
        read = report["weight_bytes_per_token"] + report["cache_bytes_per_token"]
        assert report["decode_gb_per_second"] == pytest.approx(2.0 * read / 1e9)

    def test_other_programs_that_compute_are_a_warning(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        busy = [BusyProcess(7, "hungry", 64.0)]
        monkeypatch.setattr("app.cli.examine.busy_processes", lambda: busy)
        words = ("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5")
        assert "hungry (7): 64.0" in cli.run(*words).stderr
        report = cli.run(*words, "--json").json()
        assert report["busy"] == [{"pid": 7, "name": "hungry", "cores": 64.0}]

    def test_every_repetition_is_a_prompt_of_its_own_and_none_is_cached(self, cli: Cli) -> None:
        cli.run(*("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5", "--repetitions", "4"))
        (engine,) = cli.engines
        requests = [request.options for request in engine.requests]
        assert len({request["prompt"] for request in requests}) == len(requests) == 5
        assert [len(request["prompt"]) for request in requests] == [20] * 5
        assert [request["max_tokens"] for request in requests] == [2, 5, 5, 5, 5]
        assert all(request["ignore_eos"] and not request["cache_prompt"] for request in requests)
        assert all(request["sampling"].temperature == 0 for request in requests)

    def test_the_context_is_no_longer_than_needed_unless_asked_for(self, cli: Cli) -> None:
        cli.run("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5")
        cli.run("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5", "--ctx", "400")
        assert [engine.config.context_tokens for engine in cli.engines] == [25, 400]

    def test_a_context_that_is_too_short_is_wrong_use(self, cli: Cli) -> None:
        ran = cli.run("bench", "tiny", "--ctx", "100")
        assert ran.exit_code == 2
        assert ran.last_line == "next: localq bench tiny --ctx 640"

    def test_the_table_has_medians_and_what_they_mean(self, cli: Cli) -> None:
        ran = cli.run("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5", "--threads", "1")
        lines = ran.stdout.splitlines()
        assert lines[0].split() == ["TOKENS", "MEDIAN", "MIN", "MAX"]
        assert lines[1].split() == ["prefill", "tok/s", "20", "16.0", "16.0", "16.0"]
        assert lines[2].split() == ["decode", "tok/s", "5", "2.0", "2.0", "2.0"]
        assert "0.0 GB/s of the 10.0 GB/s that memory gives" in ran.stdout
        assert "peak memory  123 MiB, planned" in ran.stdout

    def test_quiet_prints_the_decode_speed(self, cli: Cli) -> None:
        ran = cli.run("bench", "tiny", "--prompt-tokens", "20", "--output-tokens", "5", "-q")
        assert (ran.stdout, ran.stderr) == ("2.00\n", "")


class TestKernels:
    @pytest.fixture
    def measured(self, monkeypatch: pytest.MonkeyPatch) -> list[SpeedRequest]:
        requests: list[SpeedRequest] = []

        def measure(module: str, request: SpeedRequest, **_: object) -> KernelSpeeds:
            requests.append(request)
            speed = TypeSpeed(type="Q4_0", bits=4.5, rate=36e9, ggml_rate=30e9, ratio=1.21, read_rate=40e9)
            return KernelSpeeds(isa="avx2", threads=request.threads, columns=request.columns, types=(speed,))

        monkeypatch.setattr("runtime.engine.job.run_job", measure)
        return requests

    def test_the_table_has_rates_their_share_of_the_memorys_and_llamas(
        self, cli: Cli, measured: list[SpeedRequest]
    ) -> None:
        ran = cli.run("bench", "--kernels", "--threads", "1")
        assert [request.threads for request in measured] == [1]
        assert ran.stdout.splitlines()[1].split() == ["Q4_0", "4.50", "36.0", "90%", "30.0", "1.21"]
        assert "avx2, 1 threads" in ran.stdout
        document = cli.run("bench", "--kernels", "--json").json()
        assert document["types"][0]["ratio"] == 1.21
        assert cli.run("bench", "--kernels", "-q").stdout == "Q4_0 36.0\n"

    def test_either_a_model_or_the_kernels_are_measured(self, cli: Cli) -> None:
        both, neither = cli.run("bench", "tiny", "--kernels"), cli.run("bench")
        assert (both.exit_code, neither.exit_code) == (2, 2)
        assert both.last_line == "next: localq bench --kernels"
        assert neither.last_line == "next: localq list"


class TestBytes:
    def test_an_embedding_table_counts_only_where_it_is_the_output_too(self, tmp_path: Path) -> None:
        tied = open_model(write_tiny_model(tmp_path / "tied.gguf"))
        untied = open_model(write_tiny_model(tmp_path / "untied.gguf", tied=False))
        everything = sum(tensor.nbytes for tensor in tied.tensors)
        assert weight_bytes_per_token(tied) == everything
        assert weight_bytes_per_token(untied) == everything
        table = VOCABULARY * HIDDEN * 4
        assert sum(tensor.nbytes for tensor in untied.tensors) == everything + table

    def test_the_cache_is_read_as_far_as_it_is_filled(self, tmp_path: Path) -> None:
        model = open_model(write_tiny_model(tmp_path / "a.gguf"))
        config = EngineConfig(model_paths=(str(model.paths[0]),), context_tokens=500)
        plan = plan_memory(model, config, this_machine())
        assert cache_bytes_per_token(plan, 128, 256) == plan.kv_cache // 2  # 256 of 512 cells
        assert cache_bytes_per_token(plan, 5000, 2) == plan.kv_cache


class TestSpeeds:
    def test_a_run_that_took_no_time_has_no_speed(self) -> None:
        run = run_of(FinishedEvent(id=1, reason="stop", usage=Usage(output_tokens=1), timings=Timings()))
        assert (run.prefill_tokens_per_second, run.decode_tokens_per_second) == (0.0, 0.0)

    def test_prompts_are_the_same_every_time(self) -> None:
        engine = FakeEngine(EngineConfig(model_paths=("a",)))
        first = list(prompts(engine, 30, 3))
        assert first == list(prompts(engine, 30, 3))
        assert {len(prompt) for prompt in first} == {30}

    def test_the_median_is_the_middle(self) -> None:
        assert median([3.0, 1.0, 2.0]) == 2.0
        assert median([4.0, 1.0, 2.0, 3.0]) == 2.5
