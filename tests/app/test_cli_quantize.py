from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest

from app.chats import Chats
from app.cli import chart, speed
from app.cli.quantizing import Choices, default_name, target_of
from app.cli.text import format_duration
from app.errors import WrongUse
from app.models import ResolvedModel
from app.store import Store
from quant import pipeline
from quant.allocation.fit import Fit
from quant.allocation.learned import read_learned
from quant.calibration.text import CalibrationText
from quant.certificate.document import from_json
from quant.certificate.keys import read_certificate
from quant.errors import JobFailed, TextTooShort
from quant.files.work import PREFIX
from quant.progress import PhaseEvent, TensorEvent
from quant.publication import certificate_path
from quant.request import Target
from runtime.errors import ModelLoadFailed
from runtime.gguf import open_gguf
from tests.app.chats_kit import talk
from tests.app.cli_runner import Cli
from tests.app.fake_engine import FakeEngine
from tests.quant.ranges import steps_with_ranges
from tests.quant.source_models import put, write_source
from tests.quant.stand_ins import stand_ins

PLAIN = ("--calib", "none", "--eval", "none")


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


@pytest.fixture
def source(tmp_path: Path) -> Path:
    return write_source(tmp_path / "Small-F16.gguf")


@pytest.fixture
def judged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Calibration and evaluation are stand-ins; the list says which of them were called."""
    called: list[str] = []
    monkeypatch.setattr(pipeline, "real_steps", lambda: stand_ins(called.append))
    return called


class TestActivations:
    @pytest.fixture(autouse=True)
    def ranged(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pipeline, "real_steps", steps_with_ranges)

    def test_static_scales_are_in_the_file_and_shown(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--to", "q8_0", "--activations", "static", "--no-speed")
        assert ran.exit_code == 0, ran.stderr
        said = "static scales for the inputs of 14 matrices; other programs do not read them"
        assert said in ran.stdout
        assert said in cli.run("show", "small:q8_0").stdout
        assert said in cli.run("show", "small:q8_0", "--quality").stdout
        assert cli.run("show", "small:q8_0", "--json").json()["static_inputs"] == 14

    def test_dynamic_ones_are_the_default(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--to", "q8_0", "--no-speed", "--json")
        assert ran.json()["certificate"]["static_inputs"] == 0
        assert "activations" not in cli.run("show", "small:q8_0").stdout

    def test_without_calibration_they_are_refused(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), *PLAIN, "--activations", "static")
        assert ran.exit_code == 2
        assert "static activation scales are fixed by calibration texts" in ran.stderr

    def test_an_export_has_none_and_says_so(self, cli: Cli, source: Path, tmp_path: Path) -> None:
        cli.run("quantize", str(source), "--to", "q8_0", "--activations", "static", "--no-speed")
        out = tmp_path / "plain.gguf"
        ran = cli.run("export", "small:q8_0", "--to", "gguf:q4_0", "--out", str(out))
        assert ran.exit_code == 0, ran.stderr
        assert "small:q8_0 has static activation scales, which only localq reads" in ran.stderr
        assert not open_gguf(out).activations


class TestOwnChats:
    def test_where_none_are_kept_there_is_nothing_to_calibrate_on(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--calib", "chats")
        assert ran.exit_code == 2
        assert "no chat with an answer is kept" in ran.stderr
        assert ran.last_line == "next: localq chats import --help"
        assert not (cli.home / "chats").exists()

    def test_too_few_are_told_with_both_numbers(self, cli: Cli, source: Path) -> None:
        with Chats(cli.home) as chats:
            talk(chats, "Hello", "Hi there")
        ran = cli.run("quantize", str(source), "--calib", "chats")
        assert ran.exit_code == 2
        assert "1 kept chat with 13 characters are too few to draw 16,384 tokens" in ran.stderr
        assert ran.last_line == f"next: localq quantize {source}"

    def test_they_are_conversations_of_the_domain_chats_and_carry_no_title(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        with Chats(cli.home) as chats:
            talk(chats, "Secret plans " * 600, "Noted " * 600, "Not answered")
            talk(chats, "Never answered")
        seen: list[tuple[CalibrationText, ...]] = []
        monkeypatch.setattr("quant.pipeline.quantize", lambda request, **_: seen.append(request.calibration))
        cli.run("quantize", str(source), "--calib", "chats", "--calib-tokens", "4096", "--eval", "none")
        ((text,),) = seen
        assert (text.name, text.domain) == ("chats/1", "chats")
        assert [message["role"] for message in text.messages] == ["user", "assistant"]


class TestResult:
    def test_the_result_is_stored_under_the_sources_name_and_the_format(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--to", "q4_k", *PLAIN, "-q")
        assert (ran.exit_code, ran.stdout) == (0, "small:q4_k\n")
        manifest = cli.store.get("small:q4_k")
        assert (manifest.source.kind, manifest.source.origin) == ("quantized", str(source))
        assert manifest.summary.file_type == "Q4_K_S"
        (path,) = cli.store.paths(manifest)
        raw = cli.store.certificate(manifest)
        assert raw is not None
        assert from_json(raw).data_sha256 == read_certificate(open_gguf(path)).data_sha256  # type: ignore[union-attr]
        assert not list(cli.store.work.iterdir())

    def test_a_path_gets_the_file_and_the_certificate_beside_it(
        self, cli: Cli, source: Path, tmp_path: Path
    ) -> None:
        out = tmp_path / "small.gguf"
        ran = cli.run("quantize", str(source), *PLAIN, "--out", str(out), "--json")
        assert ran.json()["path"] == str(out)
        assert ran.json()["name"] is None
        assert read_certificate(open_gguf(out)) is not None
        assert from_json(certificate_path(out).read_bytes()).target == "q4_k_m"
        assert not cli.store.list()

    def test_json_has_original_and_quantized(self, cli: Cli, source: Path, judged: list[str]) -> None:
        document = cli.run("quantize", str(source), "--to", "q4_k", "--json").json()
        assert judged == ["calibrate", "evaluate"]
        before, after = document["original"], document["quantized"]
        assert before["bits_per_weight"] > 15 > 5.5 > after["bits_per_weight"]
        assert before["size_bytes"] == source.stat().st_size
        assert (before["perplexity"], after["perplexity"], after["kl_mean"]) == (12.0, 12.5, 0.03)
        assert after["decode_tokens_per_second"] == before["decode_tokens_per_second"] == 31.5
        assert len(document["certificate"]["tensors"]) == 20
        assert document["certificate"]["figures"]["top1_agreement"] == 0.9

    def test_the_closing_table_sets_original_beside_quantized(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        ran = cli.run("quantize", str(source), "--to", "q4_k")
        lines = {line[:15].strip(): line[15:].split() for line in ran.stdout.splitlines() if line}
        assert lines[""] == ["ORIGINAL", "QUANTIZED"]
        assert lines["bits per weight"][0] == "16.03"
        assert lines["decode tok/s"] == ["31.5", "31.5"]
        assert lines["perplexity"] == ["12.00", "±", "0.50", "12.50", "±", "0.50"]
        assert lines["KL divergence"] == ["0.0300", "±", "0.0020"]
        assert lines["same top token"] == ["90.0", "±", "1.0", "%"]
        assert "15 tensors to encode, 5 to copy" in ran.stderr

    def test_without_texts_it_is_said_that_nothing_was_judged(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), *PLAIN, "--no-speed")
        assert "not evaluated" in ran.stdout
        assert "perplexity" not in ran.stdout
        assert cli.engines == []

    def test_a_model_that_cannot_be_run_is_published_all_the_same(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(*_: object) -> None:
            raise ModelLoadFailed("llama.cpp does not know this architecture", log="")

        monkeypatch.setattr("tests.app.fake_engine.FakeEngine.start", fail)
        ran = cli.run("quantize", str(source), *PLAIN)
        assert ran.exit_code == 0
        assert "the speed could not be measured: llama.cpp does not know" in ran.stderr
        assert [model.name for model in cli.store.list()] == ["small:q4_k_m"]

    def test_progress_says_how_long_a_phase_will_take(self, cli: Cli) -> None:
        from app.cli.eta import Eta
        from app.cli.front import Front
        from app.cli.quantize_progress import Show

        said: list[str] = []

        class Line:
            say = said.append

        now = iter((0.0, 0.0, 2.0, 10.0, 10.0, 10.0, 12.0))
        show = Show(Front(), Line(), False, lambda: Eta(lambda: next(now)))  # type: ignore[arg-type]
        for phase, done in (("hash", 500), ("hash", 600), ("hash", 750), ("evaluate", 0), ("evaluate", 1)):
            show(PhaseEvent(phase, done, 1000))  # type: ignore[arg-type]
        assert said == [
            "reading 50%",
            "reading 60%",
            "reading 75%, 10 s left",
            "evaluating 0%",
            "evaluating 0%",
        ]

    def test_a_tensor_that_is_lost_is_told(self, cli: Cli) -> None:
        def shrink(name: str, values: Any) -> Any:
            return values * np.float32(1e-8) if name == "blk.0.ffn_up.weight" else values

        path = write_source(cli.folder / "faint.gguf", plain=np.float32, change=shrink)
        ran = cli.run("quantize", str(path), "--to", "q4_k", *PLAIN)
        assert ran.stderr.count("warning:") == 1
        assert "blk.0.ffn_up.weight loses 100% of what it gives in Q4_K" in ran.stderr
        assert "--tensor blk.0.ffn_up.weight=keep" in ran.stderr

    def test_verbose_says_each_tensor(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--to", "q4_k", *PLAIN, "-v")
        assert "20/20 output_norm.weight: F32 -> F32, 1.00 KiB" in ran.stderr
        assert "blk.0.attn_q.weight: F16 -> Q4_K, 36.0 KiB, error" in ran.stderr

    def test_a_stored_model_hands_on_its_defaults_and_licence(self, cli: Cli) -> None:
        from app.store import ChatDefaults, Source

        path = write_source(cli.folder / "a.gguf")
        origin = Source(kind="file", origin="elsewhere", license="apache-2.0", url="https://example.org")
        cli.store.import_file(path, "mine", source=origin, defaults=ChatDefaults(system="", temperature=0.2))
        assert cli.run("quantize", "mine", "--to", "q8_0", *PLAIN).exit_code == 0
        manifest = cli.store.get("mine:q8_0")
        assert manifest.defaults == ChatDefaults(system="", temperature=0.2)
        assert (manifest.source.origin, manifest.source.license) == ("mine", "apache-2.0")

    def test_an_already_quantized_source_is_said_loudly(self, cli: Cli, source: Path) -> None:
        cli.run("quantize", str(source), "--to", "q8_0", *PLAIN, "--out", "first")
        ran = cli.run("quantize", "first", "--to", "q4_k", *PLAIN)
        assert "warning: the source is already quantized (Q8_0)" in ran.stderr
        assert "Q8_0 (already quantized" in ran.stdout
        certificate = read_certificate(open_gguf(cli.store.paths(cli.store.get("first:q4_k"))[0]))
        assert certificate is not None
        assert certificate.source.already_quantized


class TestChoices:
    def test_a_size_is_kept(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--size", "500K", *PLAIN, "--json")
        assert 470_000 < ran.json()["quantized"]["size_bytes"] <= 500 << 10
        assert ran.json()["name"] == "small:500k"

    def test_bits_are_kept(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--bpw", "4.5", *PLAIN, "--json")
        assert 4.0 < ran.json()["quantized"]["bits_per_weight"] <= 4.5
        assert ran.json()["name"] == "small:4.5bpw"

    def test_tensors_get_the_format_of_ones_own_choice(self, cli: Cli, source: Path) -> None:
        words = ("--tensor", "ffn_down=q6_k", "--tensor", "token_embd=keep")
        document = cli.run("quantize", str(source), "--to", "q4_k", *PLAIN, *words, "--json").json()
        types = {tensor["name"]: tensor["type"] for tensor in document["certificate"]["tensors"]}
        assert types["blk.0.ffn_down.weight"] == "Q6_K"
        assert types["token_embd.weight"] == "F16"

    @pytest.mark.parametrize(
        ("words", "said"),
        [
            (("--to", "q4_k", "--bpw", "4"), "give one of them"),
            (("--to", "q4_k", "--fit-ram"), "give one of them"),
            (("--ctx", "4k"), "--ctx belongs to --fit-ram"),
            (("--ram", "4G"), "--ram belongs to --fit-ram"),
            (("--to", "q4km"), "did you mean 'q4_k_m'"),
            (("--bpw", "nan"), "not a number"),
            (("--size", "small"), "is not a size"),
            (("--tensor", "ffn_down"), "is not PATTERN=FORMAT"),
            (("--tensor", "ffn_dwon=q6_k"), "no tensor matches 'ffn_dwon'"),
            (("--tensor", os.fsdecode(b"[!\xff]*=keep")), "no tensor has such a name"),
            (("--size", "20K"), "ask for"),
            (("--eval-chunks", "3", "--eval", "builtin"), "have no error bars"),
            (("--out", "Bad Name"), "cannot be the name"),
            (("--out", "./nowhere/x.gguf"), "does not exist"),
        ],
    )
    def test_what_cannot_be_done_is_wrong_use(
        self, cli: Cli, source: Path, words: tuple[str, ...], said: str
    ) -> None:
        ran = cli.run("quantize", str(source), *PLAIN, *words)
        assert ran.exit_code == 2
        assert said in ran.stderr
        assert not cli.store.list()

    @pytest.mark.parametrize("option", ["--calib", "--eval"])
    def test_a_text_that_is_not_there_is_an_error(self, cli: Cli, source: Path, option: str) -> None:
        ran = cli.run("quantize", str(source), option, str(cli.folder / "none.txt"))
        assert ran.exit_code == 1
        assert "none.txt" in ran.stderr
        assert ran.last_line.startswith("next: ls -l")

    def test_a_text_to_judge_on_stands_in_the_file_by_its_name_and_not_its_path(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        text = cli.folder / "secret" / os.fsdecode(b"tale\xff.txt")
        text.parent.mkdir()
        text.write_text("Some words to judge on. " * 200)
        ran = cli.run("quantize", str(source), "--size", "450K", "--eval", str(text), "--out", "judged")
        assert ran.exit_code == 0, ran.stderr
        (path,) = cli.store.paths(cli.store.get("judged"))
        certificate = read_certificate(open_gguf(path))
        assert certificate is not None
        assert [text.name for text in certificate.evaluation] == ["tale\\udcff.txt"]
        assert b"secret" not in path.read_bytes()

    def test_a_text_to_calibrate_with_may_have_any_name(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        text = cli.folder / os.fsdecode(b"tale\xff.txt")
        text.write_text("Some words of my own.")
        assert cli.run("quantize", str(source), "--calib", str(text), "--eval", "none").exit_code == 0

    def test_paths_that_are_no_unicode_are_refused_with_a_way_out(self, cli: Cli, source: Path) -> None:
        odd = source.rename(cli.folder / os.fsdecode(b"odd\xff.gguf"))
        for words in (
            ("quantize", str(odd), *PLAIN),
            ("eval", str(odd)),
            ("run", str(odd), "hello"),
            ("quantize", str(odd), *PLAIN, "--out", str(cli.folder / os.fsdecode(b"o\xff.gguf"))),
        ):
            ran = cli.run(*words)
            assert (ran.exit_code, ran.last_line) == (2, "next: localq import --help")
            assert "no UTF-8" in ran.stderr
        assert cli.run("import", str(odd), "--name", "even").exit_code == 0
        assert cli.run("quantize", "even", *PLAIN).exit_code == 0

    @pytest.mark.parametrize(
        ("words", "exit_code"),
        [
            (("quantize", "~nobody-there/a.gguf"), 1),
            (("quantize", "{source}", "--calib", "~nobody-there/a.txt"), 1),
            (("quantize", "{source}", "--eval", "~nobody-there/a.txt"), 1),
            (("quantize", "{source}", *PLAIN, "--out", "~nobody-there/a.gguf"), 2),
            (("eval", "{source}", "--text", "~nobody-there/a.txt"), 1),
            (("import", "~nobody-there/a.gguf"), 1),
        ],
    )
    def test_the_folder_of_nobody_is_not_there(
        self, cli: Cli, source: Path, words: tuple[str, ...], exit_code: int
    ) -> None:
        ran = cli.run(*(word.format(source=source) for word in words))
        assert ran.exit_code == exit_code
        assert "unexpected" not in ran.stderr
        assert "~nobody-there" in ran.stderr

    @pytest.mark.parametrize(
        ("error", "step"),
        [
            (JobFailed("calibration failed: no", step="calibration"), ("--calib", "none")),
            (JobFailed("the evaluation failed: no", step="evaluation"), ("--eval", "none")),
            (ModelLoadFailed("llama.cpp could not load it", log=""), ("--eval", "none")),
            (
                TextTooShort("short", step="calibration", tokens=1500, needed_tokens=16352),
                ("--calib-tokens", "1024"),
            ),
            (TextTooShort("short", step="evaluation", tokens=600, needed_tokens=1024), ("--eval", "builtin")),
        ],
    )
    def test_what_helps_where_the_model_cannot_be_run_on_the_texts_is_proposed(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch, error: Exception, step: tuple[str, str]
    ) -> None:
        from dataclasses import replace

        def fail(*_: object) -> Any:
            raise error

        steps = stand_ins()
        failing = replace(steps, **{"calibrate" if "calib" in step[0] else "evaluate": fail})
        monkeypatch.setattr(pipeline, "real_steps", lambda: failing)
        ran = cli.run("quantize", str(source), "--calib", "builtin")
        assert ran.exit_code == 1
        assert ran.last_line.startswith("next: localq quantize ")
        assert ran.last_line.endswith(" ".join(step))

    def test_a_text_that_is_surely_too_short_is_told_before_the_work(self, cli: Cli, source: Path) -> None:
        short = cli.folder / "short.txt"
        short.write_text("A few words.")
        ran = cli.run("quantize", str(source), "--calib", "none", "--eval", str(short))
        assert ran.exit_code == 1
        assert "has 12 bytes, too few for 1024 tokens" in ran.stderr

    def test_a_file_that_is_there_is_told_before_the_work(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), *PLAIN, "--out", str(source))
        assert ran.exit_code == 1
        assert "exists already" in ran.stderr
        assert ran.last_line == f"next: ls -l {source}"

    def test_a_name_that_is_taken_is_told_before_the_work(self, cli: Cli, source: Path) -> None:
        cli.add_model("small/x")
        ran = cli.run("quantize", str(source), "--out", "small/x")
        assert ran.exit_code == 1
        assert ran.last_line == "next: localq rm small/x"

    @pytest.mark.parametrize(
        ("file", "target", "expected"),
        [
            ("SmolLM2-135M-F16.gguf", Target("q4_k_m"), "smollm2-135m:q4_k_m"),
            ("gemma.bf16.gguf", Target(bits_per_weight=4.25), "gemma:4.25bpw"),
            ("f16.gguf", Target("q8_0"), "f16:q8_0"),
            ("llama.gguf", Target(size_bytes=3 << 30), "llama:3g"),
            ("llama.gguf", Target(size_bytes=(1 << 30) + 5), "llama:1048576k"),
            ("llama.gguf", Target(fit=Fit(memory_bytes=6 << 30)), "llama:fit-6g"),
            ("llama.gguf", Target(fit=Fit(context=4096)), "llama:fit"),
        ],
    )
    def test_names_are_made_of_the_source_and_the_target(
        self, file: str, target: Target, expected: str
    ) -> None:
        assert default_name(ResolvedModel(file, (Path(file),)), target) == expected

    def test_the_default_is_a_mixture(self) -> None:
        fields: dict[str, Any] = dict.fromkeys(Choices.__dataclass_fields__)
        assert target_of(Choices(**fields)) == Target("q4_k_m")
        with pytest.raises(WrongUse):
            target_of(Choices(**fields | {"mixture": "q4_k", "size_bytes": 5}))

    @pytest.mark.parametrize(
        "target", [Target("q4_k_m"), Target(bits_per_weight=4.25), Target(size_bytes=12345)]
    )
    def test_a_target_in_a_certificate_is_read_back(self, target: Target) -> None:
        assert Target.parse(str(target)) == target
        for text in ("q9_z", "nan bits per weight", "inf bits per weight", "-1 bits per weight", "x bytes"):
            with pytest.raises(ValueError, match=r"no target|no number|invalid literal"):
                Target.parse(text)


class TestMemory:
    FIT = ("--fit-ram", "--ram", "81M", "--ctx", "512")

    def test_all_of_it_runs_in_the_memory(self, cli: Cli, tiny_path: Path) -> None:
        ran = cli.run("quantize", str(tiny_path), *PLAIN, *self.FIT, "--prefer", "quality", "--json")
        running = ran.json()["certificate"]["running"]
        assert 0.98 * (81 << 20) < running["peak_bytes"] <= 81 << 20
        assert (running["budget_bytes"], running["context_tokens"]) == (81 << 20, 512)
        shown = cli.run("show", ran.json()["name"], "--ram", "81M", "--json").json()["memory"]
        assert shown["predicted_peak_bytes"] == running["peak_bytes"]
        assert shown["kv_type"] == running["kv_type"]

    def test_what_comes_of_it_is_said_before(self, cli: Cli, tiny_path: Path) -> None:
        ran = cli.run("quantize", str(tiny_path), *PLAIN, *self.FIT)
        assert "Plan: " in ran.stderr and "To run with 512 tokens" in ran.stderr
        assert "512 tokens of context" in cli.run("show", "tiny-llama:fit-81m", "--quality").stdout

    def test_a_persons_own_wish_goes_before_the_files(self, cli: Cli, tiny_path: Path) -> None:
        name = cli.run("quantize", str(tiny_path), *PLAIN, *self.FIT, "--json").json()["name"]
        asked = cli.run("show", name, "--ctx", "256", "--kv", "f16", "--json").json()["memory"]
        assert (asked["context_tokens"], asked["kv_type"]) == (256, "f16")

    def test_it_can_be_made_again_in_another_memory(
        self, cli: Cli, tiny_path: Path, judged: list[str]
    ) -> None:
        name = cli.run("quantize", str(tiny_path), "--eval", "none", *self.FIT, "--json").json()["name"]
        assert cli.run("verify", name, "--rebuild", "--json").json()["ok"]

    def test_a_run_of_it_proves_the_plan_and_teaches_the_next(
        self, cli: Cli, tiny_path: Path, judged: list[str]
    ) -> None:
        ran = cli.run("quantize", str(tiny_path), "--calib", "none", *self.FIT, "--json")
        proof = ran.json()["certificate"]["proof"]
        assert proof["peak_bytes"] == FakeEngine(cli.engines[0].config).peak_memory_bytes()
        assert proof["tokens_per_second"] > 0
        assert cli.engines[0].config.context_tokens == 512
        learned = read_learned(cli.home, "llama")
        assert learned.peak != 1.0
        assert "were foreseen" in cli.run("show", ran.json()["name"], "--quality").stdout

    def test_a_plan_that_was_passed_is_told(self, cli: Cli, tiny_path: Path) -> None:
        class Hungry(FakeEngine):
            def peak_memory_bytes(self) -> int:
                return 100 << 20

        cli.make_engine = Hungry
        ran = cli.run("quantize", str(tiny_path), *PLAIN, *self.FIT)
        assert "19.0 MiB more than it was to take" in ran.stderr
        assert read_learned(cli.home, "llama").peak > 1

    def test_too_little_is_told_before_the_work(self, cli: Cli, tiny_path: Path, judged: list[str]) -> None:
        ran = cli.run("quantize", str(tiny_path), "--fit-ram", "--ram", "60M")
        assert ran.exit_code == 3
        assert "60.0 MiB are available" in ran.stderr
        assert judged == [] and not cli.store.list()


class TestImportanceMatrices:
    def test_what_calibration_measured_is_written_and_taken_again(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        matrix = cli.folder / "m.gguf"
        document = cli.run("quantize", str(source), "--save-imatrix", str(matrix), "--json").json()
        assert document["imatrix"] == str(matrix)
        assert judged == ["calibrate", "evaluate"]
        words = ("quantize", str(source), "--imatrix", str(matrix), "--out", "by-matrix")
        ran = cli.run(*words)
        assert ran.exit_code == 0, ran.stderr
        assert judged == ["calibrate", "evaluate", "evaluate"]
        shown = cli.run("show", "by-matrix", "--quality").stdout
        assert "importance matrix m.gguf (512 tokens of prose, code, languages, dialogue), sha256" in shown

    def test_it_is_made_again_with_the_same_file(self, cli: Cli, source: Path, judged: list[str]) -> None:
        matrix = cli.folder / "m.gguf"
        cli.run("quantize", str(source), "--save-imatrix", str(matrix), "--out", "first")
        cli.run("quantize", str(source), "--imatrix", str(matrix))
        words = ("verify", "small:q4_k_m", "--rebuild")
        ran = cli.run(*words)
        assert ran.exit_code == 2
        assert "made with the importance matrix m.gguf" in ran.stderr
        assert ran.last_line == "next: localq verify small:q4_k_m --rebuild --imatrix FILE"
        assert cli.run(*words, "--imatrix", str(matrix)).exit_code == 0
        matrix.write_bytes(matrix.read_bytes().replace(b"prose", b"verse"))
        assert "another one" in cli.run(*words, "--imatrix", str(matrix)).stderr
        assert cli.run("verify", "--imatrix", str(matrix)).exit_code == 2

    @pytest.mark.parametrize(
        ("words", "exit_code", "said"),
        [
            (("--imatrix", "{source}", "--calib", "builtin"), 2, "give one of them"),
            (("--imatrix", "{source}"), 1, "is no importance matrix"),
            (("--imatrix", "{folder}/none.gguf"), 1, "none.gguf"),
            (("--imatrix", "{folder}"), 1, "{folder}"),
            (("--save-imatrix", "{folder}/m.gguf", "--calib", "none"), 2, "nothing is measured"),
            (("--save-imatrix", "{folder}/m.gguf", "--imatrix", "{source}"), 1, "no importance matrix"),
            (("--save-imatrix", "{folder}/none/m.gguf"), 2, "does not exist"),
            (("--save-imatrix", "{source}"), 1, "exists already"),
        ],
    )
    def test_what_cannot_be_is_told_before_the_work(
        self, cli: Cli, source: Path, words: tuple[str, ...], exit_code: int, said: str, judged: list[str]
    ) -> None:
        fields = {"source": source, "folder": cli.folder}
        ran = cli.run("quantize", str(source), *(word.format(**fields) for word in words))
        assert ran.exit_code == exit_code
        assert said.format(**fields) in ran.stderr
        assert "unexpected" not in ran.stderr
        assert judged == []


class TestFailures:
    def test_a_damaged_source_publishes_nothing(self, cli: Cli) -> None:
        bad = write_source(cli.folder / "bad.gguf", change=put("blk.1.ffn_up.weight", 7, np.nan))
        ran = cli.run("quantize", str(bad), *PLAIN, "--json")
        assert ran.exit_code == 1
        assert ran.error()["type"] == "SourceDamaged"
        assert ran.error()["details"]["tensor"] == "blk.1.ffn_up.weight"
        assert "row 7" in ran.error()["message"]
        assert not cli.store.list()

    def test_too_little_memory_does_not_fit(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), *PLAIN, "--mem", "150M", "--json")
        assert ran.exit_code == 3
        assert ran.error()["details"]["needed_bytes"] > 150 << 20

    def test_too_little_disk_does_not_fit(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        full = os.statvfs_result((4096, 4096, 10, 5, 5, 10, 10, 10, 0, 255))
        monkeypatch.setattr(os, "statvfs", lambda _path: full)
        ran = cli.run("quantize", str(source), *PLAIN)
        assert ran.exit_code == 3
        assert ran.last_line.startswith("next: df -h ")

    def test_an_interrupted_run_goes_on_with_the_same_command(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from app.cli.quantize_progress import Show

        listen = Show.__call__

        def interrupt(self: Show, event: Any) -> None:
            listen(self, event)
            if isinstance(event, TensorEvent) and event.number == 7:
                raise KeyboardInterrupt

        words = ("quantize", str(source), "--to", "q4_k", *PLAIN)
        with monkeypatch.context() as patch:
            patch.setattr(Show, "__call__", interrupt)
            ran = cli.run(*words)
        assert ran.exit_code == 130
        assert "what is finished is kept, and the same command goes on with it" in ran.stderr
        assert next(cli.store.work.iterdir()).name.startswith(PREFIX)
        ran = cli.run(*words, "--json")
        assert ran.json()["resumed_tensors"] == 7
        cli.run("rm", "small:q4_k")
        with monkeypatch.context() as patch:
            patch.setattr(Show, "__call__", interrupt)
            cli.run(*words)
        assert "7 tensors of an earlier run are taken over." in cli.run(*words).stderr
        assert not list(cli.store.work.iterdir())

    def test_what_an_interrupted_run_left_is_given_back_by_gc(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from app.cli.quantize_progress import Show

        def interrupt(_self: Show, event: Any) -> None:
            if isinstance(event, TensorEvent):
                raise KeyboardInterrupt

        with monkeypatch.context() as patch:
            patch.setattr(Show, "__call__", interrupt)
            cli.run("quantize", str(source), *PLAIN)
        left = cli.store.usage().reclaimable_bytes
        assert left > 100_000
        assert cli.store.gc() == left
        assert not list(cli.store.work.iterdir())

    def test_work_under_way_is_left_alone_by_gc(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from app.cli.quantize_progress import Show

        freed = []

        def collect(_self: Show, event: Any) -> None:
            if isinstance(event, TensorEvent) and event.number == 7:
                freed.append(Store(cli.home).gc())

        monkeypatch.setattr(Show, "__call__", collect)
        assert cli.run("quantize", str(source), *PLAIN).exit_code == 0
        assert freed == [0]


class TestQuality:
    def test_the_certificate_is_shown_with_its_figures_and_a_chart(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        cli.run("quantize", str(source), "--to", "q4_k")
        ran = cli.run("show", "small:q4_k", "--quality")
        assert ran.exit_code == 0
        lines = ran.stdout.splitlines()
        figures = "prose 12.00 ± 0.50 12.50 ± 0.50 0.0300 ± 0.0020 0.400 90.0 ± 1.0 %"
        assert [line.split() for line in lines if line.startswith("prose")] == [figures.split()]
        assert "prose (510 tokens), code (510 tokens)" in ran.stdout
        assert any(line.split()[:3] == ["ffn_down", "2", "Q4_K"] for line in lines)
        assert any(line.startswith("layer 1") and "█" in line for line in lines)
        assert "Small-F16.gguf, F16, sha256" in ran.stdout
        assert "made in" in ran.stdout

    def test_showing_the_model_says_its_quality_in_a_line(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        cli.run("quantize", str(source), "--to", "q4_k")
        shown = cli.run("show", "small:q4_k")
        assert "\nquality " in shown.stdout
        assert (
            "KL divergence 0.0300 ± 0.0020, same top token 90.0 ± 1.0 %; --quality says more" in shown.stdout
        )
        assert cli.run("show", "small:q4_k", "--json").json()["figures"]["kl_mean"] == 0.03
        assert "quality" not in cli.run("show", str(source)).stdout
        out = cli.folder / "out.gguf"
        cli.run("quantize", str(source), *PLAIN, "--out", str(out))
        assert "not evaluated" in cli.run("show", str(out)).stdout
        out.write_bytes(out.read_bytes().replace(b"localq.tensor.encoder", b"localq.tensor.encoded"))
        shown = cli.run("show", str(out))
        assert shown.exit_code == 0
        assert "its certificate is damaged" in shown.stdout

    def test_json_is_the_whole_certificate(self, cli: Cli, source: Path, judged: list[str]) -> None:
        made = cli.run("quantize", str(source), "--to", "q4_k", "--json").json()
        shown = cli.run("show", "small:q4_k", "--quality", "--json").json()
        assert shown["certificate"] == made["certificate"]
        assert cli.run("show", "small:q4_k", "--quality", "-q").stdout == "0.03\n"

    def test_a_copied_file_keeps_all_but_what_it_took(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        out = cli.folder / "out.gguf"
        cli.run("quantize", str(source), "--out", str(out))
        whole = cli.run("show", str(out), "--quality", "--json").json()["certificate"]
        alone = cli.folder / "alone.gguf"
        shutil.copy(out, alone)
        rest = cli.run("show", str(alone), "--quality", "--json").json()["certificate"]
        assert rest == {**whole, "making": None}

    def test_a_certificate_of_another_file_beside_it_is_not_believed(self, cli: Cli, source: Path) -> None:
        one, other = cli.folder / "one.gguf", cli.folder / "other.gguf"
        cli.run("quantize", str(source), *PLAIN, "--out", str(one))
        cli.run("quantize", str(source), *PLAIN, "--to", "q8_0", "--out", str(other))
        shutil.copy(certificate_path(other), certificate_path(one))
        shown = cli.run("show", str(one), "--quality", "--json").json()["certificate"]
        assert (shown["target"], shown["making"]) == ("q4_k_m", None)
        certificate_path(one).write_bytes(b'{"tool": "\xff"}')
        assert cli.run("show", str(one), "--quality").exit_code == 0

    def test_a_model_without_a_certificate_says_so(self, cli: Cli) -> None:
        cli.add_model("tiny")
        for words in (("show", "tiny", "--quality"), ("verify", "tiny", "--rebuild")):
            ran = cli.run(*words)
            assert ran.exit_code == 1
            assert "tiny has no certificate" in ran.stderr
        path = write_source(cli.folder / "a.gguf")
        ran = cli.run("show", str(path), "--quality")
        assert ran.last_line == f"next: localq eval {path} --against ORIGINAL"

    def test_two_views_at_once_are_wrong_use(self, cli: Cli) -> None:
        cli.add_model("tiny")
        assert cli.run("show", "tiny", "--quality", "--template").exit_code == 2

    def test_removing_the_model_removes_its_certificate(self, cli: Cli, source: Path) -> None:
        cli.run("quantize", str(source), *PLAIN)
        folder = cli.home / "certificates"
        assert len(list(folder.iterdir())) == 1
        cli.run("cp", "small:q4_k_m", "twin")
        cli.run("rm", "small:q4_k_m")
        assert len(list(folder.iterdir())) == 1
        cli.run("rm", "twin")
        assert list(folder.iterdir()) == []

    def test_bars_are_as_long_as_their_share(self) -> None:
        assert chart.bar(1.0, 4) == "████"
        assert chart.bar(0.5, 4) == "██"
        assert chart.bar(0.53125, 4) == "██▏"
        assert chart.bar(0.0, 4) == ""
        assert chart.chart([("a", 0.0), ("bb", 0.0)]) == ["a   0.00e+00", "bb  0.00e+00"]

    @pytest.mark.parametrize(
        ("seconds", "text"), [(0.4, "0 s"), (59, "59 s"), (61, "1:01 min"), (3725, "1:02 h")]
    )
    def test_durations_read_as_people_say_them(self, seconds: float, text: str) -> None:
        assert format_duration(seconds) == text


class TestRebuild:
    def test_made_again_from_the_store_the_weights_are_the_same(self, cli: Cli) -> None:
        path = write_source(cli.folder / "a.gguf")
        cli.store.import_file(path, "mine")
        cli.run("quantize", "mine", "--bpw", "4.5", *PLAIN, "--tensor", "attn_v=q8_0")
        path.unlink()
        ran = cli.run("verify", "mine:4.5bpw", "--rebuild", "--json")
        assert ran.exit_code == 0, ran.stderr
        assert ran.json()["ok"] is True
        assert ran.json()["expected_sha256"] == ran.json()["found_sha256"]

    def test_made_again_with_calibration_the_weights_are_the_same(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        cli.run("quantize", str(source))
        ran = cli.run("verify", "small:q4_k_m", "--rebuild")
        assert ran.exit_code == 0, ran.stderr
        assert "the same weights" in ran.stdout
        assert judged == ["calibrate", "evaluate", "calibrate"]

    @pytest.mark.parametrize("size", ["420K", "450K", "480K", "510K"])
    def test_made_again_to_a_size_the_weights_are_the_same(
        self, cli: Cli, source: Path, judged: list[str], size: str
    ) -> None:
        cli.run("quantize", str(source), "--size", size, "--out", "sized")
        ran = cli.run("verify", "sized", "--rebuild", "--json")
        assert ran.exit_code == 0, ran.stdout
        assert judged[-1] == "calibrate"
        assert judged.count("calibrate") == 2

    def test_other_weights_are_named_with_a_reason(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        steps = stand_ins()
        monkeypatch.setattr(pipeline, "real_steps", lambda: steps)
        cli.run("quantize", str(source), "--eval", "none")

        def otherwise(*given: Any) -> Any:
            from dataclasses import replace

            from tests.quant.stand_ins import made_up

            found = steps.calibrate(*given)
            changed = {"blk.0.ffn_up.weight": made_up(1, 256, seed=99)}
            return replace(
                found, sha256="6" * 64, statistics=lambda name: changed.get(name) or found.statistics(name)
            )

        from dataclasses import replace

        monkeypatch.setattr(pipeline, "real_steps", lambda: replace(steps, calibrate=otherwise))
        ran = cli.run("verify", "small:q4_k_m", "--rebuild", "--json")
        assert ran.exit_code == 1
        assert ran.json()["differing_tensors"] == ["blk.0.ffn_up.weight"]
        assert "other statistics" in ran.json()["reason"]

    def test_a_source_that_is_gone_is_asked_for(self, cli: Cli, source: Path) -> None:
        cli.run("quantize", str(source), *PLAIN)
        moved = source.rename(cli.folder / "moved.gguf")
        ran = cli.run("verify", "small:q4_k_m", "--rebuild")
        assert ran.exit_code == 2
        assert ran.last_line == "next: localq verify small:q4_k_m --rebuild --source PATH"
        assert cli.run("verify", "small:q4_k_m", "--rebuild", "--source", str(moved)).exit_code == 0

    def test_another_source_is_refused(self, cli: Cli, source: Path) -> None:
        cli.run("quantize", str(source), *PLAIN)
        other = write_source(cli.folder / "other.gguf", seed=5)
        ran = cli.run("verify", "small:q4_k_m", "--rebuild", "--source", str(other))
        assert ran.exit_code == 2
        assert "is not what small:q4_k_m was made of" in ran.stderr

    def test_other_calibration_texts_are_refused(self, cli: Cli, source: Path, judged: list[str]) -> None:
        mine = cli.folder / "mine.txt"
        mine.write_text("Some words of my own.")
        cli.run("quantize", str(source), "--calib", str(mine))
        ran = cli.run("verify", "small:q4_k_m", "--rebuild")
        assert ran.exit_code == 2
        assert ran.last_line.endswith("--calib FILE")
        assert cli.run("verify", "small:q4_k_m", "--rebuild", "--calib", str(mine)).exit_code == 0

    def test_weights_that_were_changed_since_are_noticed(self, cli: Cli, source: Path) -> None:
        out = cli.folder / "out.gguf"
        cli.run("quantize", str(source), *PLAIN, "--out", str(out))
        data = bytearray(out.read_bytes())
        data[-100] ^= 1
        out.write_bytes(data)
        ran = cli.run("verify", str(out), "--rebuild", "--source", str(source))
        assert ran.exit_code == 1
        assert "holds other data than its certificate says" in ran.stderr

    @pytest.mark.parametrize(
        ("written", "instead"),
        [
            (b'"feedback"', b'"feedbock"'),
            (b'{"activations"', b'["activations"'),
            (b'"context_tokens": 512', b'"context_tokens": -12'),
            (b"attn_v=q8_0", b"attn_v=q9_0"),
            (b"4.5 bits per weight", b"nan bits per weight"),
            (b"4.5 bits per weight", b"4.5 bytes of wood.."),
        ],
    )
    def test_a_certificate_that_asks_for_the_unknown_is_an_error(
        self, cli: Cli, source: Path, written: bytes, instead: bytes
    ) -> None:
        out = cli.folder / "out.gguf"
        cli.run("quantize", str(source), *PLAIN, "--bpw", "4.5", "--tensor", "attn_v=q8_0", "--out", str(out))
        assert written in out.read_bytes()
        out.write_bytes(out.read_bytes().replace(written, instead))
        ran = cli.run("verify", str(out), "--rebuild", "--source", str(source))
        assert ran.exit_code == 1
        assert "asks for what this localq does not know" in ran.stderr
        assert ran.last_line == f"next: localq show {out} --quality"

    def test_a_stored_source_that_was_changed_is_the_reason(self, cli: Cli) -> None:
        cli.store.import_file(write_source(cli.folder / "a.gguf"), "mine")
        cli.run("quantize", "mine", *PLAIN)
        (path,) = cli.store.paths(cli.store.get("mine"))
        data = bytearray(path.read_bytes())
        data[-100] ^= 1
        path.chmod(0o600)
        path.write_bytes(data)
        ran = cli.run("verify", "mine:q4_k_m", "--rebuild", "--json")
        assert ran.exit_code == 1
        assert ran.json()["reason"] == "the source was changed since"

    @pytest.mark.parametrize("words", [(), ("a", "b")])
    def test_it_takes_one_model(self, cli: Cli, words: tuple[str, ...]) -> None:
        assert cli.run("verify", *words, "--rebuild").exit_code == 2
        assert cli.run("verify", "--source", "a").exit_code == 2


class TestSpeed:
    def test_energy_of_a_token_is_shown_where_the_machine_counts_it(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(speed, "measure_speed", lambda *_: speed.Speed(12.5, 0.75))
        document = cli.run("quantize", str(source), *PLAIN, "--json").json()
        assert document["quantized"]["joules_per_token"] == 0.75
        cli.run("rm", "small:q4_k_m")
        lines = cli.run("quantize", str(source), *PLAIN).stdout.splitlines()
        assert ["J", "per", "token", "0.75", "0.75"] in [line.split() for line in lines]

    def test_a_model_that_does_not_fit_has_no_speed(
        self, cli: Cli, source: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from runtime.budget import MemoryPlan

        monkeypatch.setattr(MemoryPlan, "fits", False)
        document = cli.run("quantize", str(source), *PLAIN, "--json").json()
        assert document["original"]["decode_tokens_per_second"] is None
        assert cli.engines == []


def test_a_certificate_document_is_plain_json(cli: Cli, source: Path) -> None:
    cli.run("quantize", str(source), *PLAIN)
    raw = cli.store.certificate(cli.store.get("small:q4_k_m"))
    assert raw is not None
    assert msgspec.json.decode(raw)["target"] == "q4_k_m"


class TestPacked:
    def test_it_is_made_shown_and_exported(
        self, cli: Cli, source: Path, judged: list[str], tmp_path: Path
    ) -> None:
        made = cli.run("quantize", str(source), "--to", "lt3", "--no-speed", "--json").json()
        assert made["name"] == "small:lt3"
        assert "LT3 (5 F32, 14 LT3, 1 Q6_K)" in cli.run("show", "small:lt3").stdout
        assert "LT3" in cli.run("show", "small:lt3", "--quality").stdout
        out = tmp_path / "portable.gguf"
        ran = cli.run("export", "small:lt3", "--to", "gguf:q4_k", "--out", str(out))
        assert ran.exit_code == 0, ran.stderr
        assert {tensor.type.name for tensor in open_gguf(out).tensors} == {"F32", "Q4_K", "Q6_K"}
        assert "its own error stays" in ran.stderr

    @pytest.mark.parametrize("words", [("--to", "lt2"), ("--bpw", "3.2", "--no-measure")])
    def test_it_can_be_made_again(
        self, cli: Cli, source: Path, judged: list[str], words: tuple[str, ...]
    ) -> None:
        cli.run("quantize", str(source), *words, "--no-speed", "--out", "mine")
        assert cli.run("verify", "mine", "--rebuild", "--json").json()["ok"]

    def test_it_is_chosen_among_others_unless_the_file_is_to_be_portable(
        self, cli: Cli, source: Path, judged: list[str]
    ) -> None:
        words = ("quantize", str(source), "--bpw", "3", "--no-measure", "--no-speed")
        own, portable = cli.run(*words, "--out", "own"), cli.run(*words, "--portable", "--out", "portable")
        said = "localq export own --to gguf:q4_k"
        assert said in own.stdout
        assert "localq export" not in portable.stdout
        for more in ((), ("--quality",)):
            assert said in cli.run("show", "own", *more).stdout
            assert "localq export" not in cli.run("show", "portable", *more).stdout
        headers = [open_gguf(cli.store.paths(cli.store.get(name))[0]) for name in ("own", "portable")]
        assert [header.packed is not None for header in headers] == [True, False]

    def test_where_its_kernels_do_not_run_it_is_not_chosen_and_that_is_said(
        self, cli: Cli, source: Path, judged: list[str], monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("runtime.ggml.packed_types", frozenset)
        ran = cli.run("quantize", str(source), "--bpw", "3", "--no-measure", "--no-speed", "--out", "mine")
        assert "kernels do not run here" in ran.stderr
        assert open_gguf(cli.store.paths(cli.store.get("mine"))[0]).packed is None

    def test_one_that_is_asked_for_is_not_portable(self, cli: Cli, source: Path) -> None:
        choice = ("--tensor", "ffn_up=lt3")
        for words in (("--to", "lt2"), ("--to", "q4_k", *choice), ("--bpw", "3", *choice)):
            ran = cli.run("quantize", str(source), *words, "--portable")
            assert ran.exit_code == 2
            assert f"localq's own formats out, and {' '.join(words[-2:])} asks for one" in ran.stderr

    def test_an_export_is_calibrated_on_a_copy_where_that_is_asked_for(
        self, cli: Cli, source: Path, judged: list[str], tmp_path: Path
    ) -> None:
        cli.run("quantize", str(source), "--to", "lt3", "--no-speed")
        judged.clear()
        out = tmp_path / "portable.gguf"
        words = ("--to", "gguf:q4_k", "--calib", "builtin", "--out", str(out))
        ran = cli.run("export", "small:lt3", *words)
        assert ran.exit_code == 0, ran.stderr
        assert judged == ["calibrate"]
        certificate = read_certificate(open_gguf(out))
        assert certificate is not None
        assert {tensor.encoder for tensor in certificate.tensors} == {"copied", "feedback"}

    def test_f16_keeps_what_is_no_packed_matrix(
        self, cli: Cli, source: Path, judged: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        cli.run("quantize", str(source), "--to", "lt3", "--no-speed")
        ran = cli.run("export", "small:lt3", "--to", "gguf:f16", "--json")
        assert ran.exit_code == 0, ran.stderr
        types = [tensor.type.name for tensor in open_gguf(tmp_path / "small-lt3-f16.gguf").tensors]
        assert (types.count("F16"), types.count("Q6_K"), types.count("F32")) == (14, 1, 5)

    @pytest.mark.parametrize("target", ["q4_k", "gguf:lt3", "gguf:q9", "onnx:q4_k"])
    def test_what_nothing_is_exported_to_is_told_with_what_is(
        self, cli: Cli, source: Path, target: str
    ) -> None:
        ran = cli.run("export", str(source), "--to", target)
        assert ran.exit_code == 2
        assert f"nothing is exported to '{target}'; there are gguf:f16, gguf:q1_0" in ran.stderr

    def test_without_calibration_it_is_refused(self, cli: Cli, source: Path) -> None:
        ran = cli.run("quantize", str(source), "--to", "lt3", *PLAIN)
        assert ran.exit_code == 2
        assert "give --calib builtin" in ran.stderr
