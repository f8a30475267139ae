from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.piped import with_attachment
from app.store import ChatDefaults
from runtime.engine.messages import Prompt, SamplingParams
from tests.app.cli_runner import Cli
from tests.app.fake_engine import HOSTILE, FakeEngine
from tests.app.test_cli_output import FORBIDDEN


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    cli = Cli(tmp_path)
    cli.add_model("tiny")
    return cli


class TestAnswer:
    def test_an_answer_goes_to_stdout_and_nothing_else(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "Hello")
        assert (ran.exit_code, ran.stdout, ran.stderr) == (0, "You said: Hello\n", "")

    def test_a_path_runs_like_a_stored_name(self, cli: Cli, tmp_path: Path) -> None:
        assert cli.run("run", str(tmp_path / "tiny.gguf"), "Hello").stdout == "You said: Hello\n"

    def test_the_engine_is_closed_afterwards(self, cli: Cli) -> None:
        cli.run("run", "tiny", "Hello")
        cli.run("run", "tiny", "die")
        assert [engine.closed for engine in cli.engines] == [True, True]

    def test_the_options_reach_the_engine(self, cli: Cli) -> None:
        cli.run(
            *("run", "tiny", "Hi", "--system", "Be brief.", "--temp", "0", "--top-k", "5", "--top-p", "0.5"),
            *("--min-p", "0.1", "--seed", "7", "--max-tokens", "9", "--stop", "A", "--stop", "B"),
            *("--ctx", "300", "--threads", "3", "--kv", "f16"),
        )
        (engine,) = cli.engines
        (request,) = engine.requests
        assert [message["role"] for message in request.messages] == ["system", "user"]
        sampling = request.options["sampling"]
        assert (sampling.temperature, sampling.top_k, sampling.top_p) == (0.0, 5, 0.5)
        assert (sampling.min_p, sampling.seed) == (0.1, 7)
        assert (request.options["max_tokens"], request.options["stop"]) == (9, ("A", "B"))
        config = engine.config
        assert (config.context_tokens, config.threads, config.kv_type) == (300, 3, "f16")

    def test_every_filter_and_penalty_reaches_the_engine(self, cli: Cli) -> None:
        cli.run(
            *("run", "tiny", "Hi", "--typical", "0.9", "--repeat-penalty", "1.1"),
            *("--frequency-penalty", "0.5", "--presence-penalty", "-0.5", "--dry", "0.8"),
            *("--xtc-probability", "0.25", "--xtc-threshold", "0.2"),
        )
        sampling = cli.engines[0].requests[0].options["sampling"]
        assert sampling == SamplingParams(
            typical_p=0.9,
            repeat_penalty=1.1,
            frequency_penalty=0.5,
            presence_penalty=-0.5,
            dry_multiplier=0.8,
            xtc_probability=0.25,
            xtc_threshold=0.2,
        )

    def test_without_options_the_engine_decides(self, cli: Cli) -> None:
        cli.run("run", "tiny", "Hi")
        (engine,) = cli.engines
        assert engine.requests[0].options["sampling"].temperature == 0.8
        assert engine.config.context_tokens == 512  # what the tiny model was trained on
        assert len(engine.requests[0].messages) == 1

    def test_an_empty_system_prompt_is_one(self, cli: Cli) -> None:
        assert cli.run("run", "tiny", "roles", "--system", "").stdout == "system user\n"

    def test_a_models_own_defaults_hold_where_no_flag_is_given(self, cli: Cli, tmp_path: Path) -> None:
        defaults = ChatDefaults(system="", temperature=0.25)
        cli.store.import_file(tmp_path / "tiny.gguf", "tuned", defaults=defaults)
        assert cli.run("run", "tuned", "roles").stdout == "system user\n"
        cli.run("run", "tuned", "Hi", "--temp", "0.75", "--system", "Be brief.")
        cli.run("run", "tuned", "Hi", "--raw")
        default, flagged, raw = (engine.requests[0] for engine in cli.engines)
        assert default.options["sampling"].temperature == 0.25
        assert default.messages[0]["content"] == ""
        assert flagged.options["sampling"].temperature == 0.75
        assert flagged.messages[0]["content"] == "Be brief."
        assert raw.options["sampling"].temperature == 0.8

    def test_show_names_a_models_own_defaults(self, cli: Cli, tmp_path: Path) -> None:
        defaults = ChatDefaults(system="Be\x1b[2Jkind.", temperature=0.25)
        cli.store.import_file(tmp_path / "tiny.gguf", "tuned", defaults=defaults)
        shown = cli.run("show", "tuned").stdout
        assert "Be\u241b[2Jkind." in shown and "0.25" in shown

    def test_settings_hold_where_no_flag_is_given(self, cli: Cli) -> None:
        cli.environment["LOCALQ_CONTEXT"] = "256"
        cli.run("run", "tiny", "Hi")
        cli.run("run", "tiny", "Hi", "--ctx", "128")
        assert [engine.config.context_tokens for engine in cli.engines] == [256, 128]

    def test_raw_sends_the_prompt_without_a_template_and_reads_no_control_tokens(self, cli: Cli) -> None:
        cli.run("run", "tiny", "<s>Once", "--raw")
        prompt = cli.engines[0].requests[0].options["prompt"]
        assert prompt == Prompt("<s>Once", add_special=True, parse_special=False)

    def test_raw_and_a_system_prompt_exclude_each_other(self, cli: Cli) -> None:
        assert cli.run("run", "tiny", "Hi", "--raw", "--system", "x").exit_code == 2
        assert cli.engines == []

    def test_statistics_go_to_stderr(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "echo abcdefg", "--stats")
        assert ran.stdout == "abcdefg\n"
        assert ran.stderr == (
            "prompt 10 tokens (2 cached) at 16 tok/s · answer 3 tokens at 1.0 tok/s"
            " · first token after 0.50 s · stop\n"
        )

    def test_an_answer_cut_by_the_context_says_so(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "echo abcdef", "--ctx", "12", "--max-tokens", "2")
        assert "context of 12 tokens is full" in ran.stderr
        assert "context" not in cli.run("run", "tiny", "echo abcdef", "--max-tokens", "2").stderr

    def test_an_empty_answer_is_an_empty_stdout(self, cli: Cli) -> None:
        assert cli.run("run", "tiny", "nothing").stdout == ""


class TestJson:
    def test_json_is_one_document(self, cli: Cli) -> None:
        document = cli.run("run", "tiny", "echo abcdefg", "--json").json()
        assert document == {
            "model": "tiny",
            "text": "abcdefg",
            "finish_reason": "stop",
            "stop_text": None,
            "usage": {"prompt_tokens": 10, "cached_tokens": 2, "output_tokens": 3},
            "timings": {
                "queue_seconds": 0.0,
                "prefill_seconds": 0.5,
                "first_token_seconds": 0.5,
                "decode_seconds": 2.0,
                "decode_tokens_per_second": 1.0,
            },
        }

    def test_json_brings_back_what_a_terminal_may_not_see(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "hostile", "--json")
        assert ran.stdout.isascii() and ran.stdout.strip().isprintable()
        assert ran.json()["text"] == "".join(HOSTILE)

    def test_json_does_not_chat(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "--json")
        assert ran.exit_code == 2
        assert "does not chat" in ran.error()["message"]

    def test_json_errors_have_both_numbers_of_a_prompt_that_is_too_long(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "overflow", "--json")
        error = ran.error()
        assert ran.exit_code == error["exit_code"] == 3
        assert error["details"] == {"prompt_tokens": 5000, "context_tokens": 4096, "at_least": False}
        assert error["next"] == "shorten the prompt: it has 5000 tokens, and the model was trained for 512"


class TestHostileOutput:
    def test_no_foreign_sequence_reaches_stdout(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "hostile")
        assert not set(ran.stdout) & FORBIDDEN
        assert "<U+202E>" in ran.stdout and "␛]0;owned␇" in ran.stdout

    def test_a_log_with_escapes_is_shown_harmless(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "die")
        assert not set(ran.stderr) & FORBIDDEN
        assert "␛[31mabort" in ran.stderr

    def test_quiet_prints_the_answer_alone(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "Hello", "-q")
        assert (ran.stdout, ran.stderr) == ("You said: Hello\n", "")


class TestPipedText:
    def test_piped_text_alone_is_the_prompt(self, cli: Cli) -> None:
        assert cli.run("run", "tiny", piped="Hello\n").stdout == "You said: Hello\n"

    def test_piped_text_is_attached_to_the_prompt(self, cli: Cli) -> None:
        cli.run("run", "tiny", "Summarise:", piped="one\ntwo\n")
        assert cli.engines[0].requests[0].text == "Summarise:\n\none\ntwo\n"

    @pytest.mark.parametrize("piped", ["", "\n \n"])
    def test_no_prompt_at_all_is_wrong_use(self, cli: Cli, piped: str) -> None:
        ran = cli.run("run", "tiny", piped=piped)
        assert ran.exit_code == 2
        assert ran.last_line == "next: localq run tiny Hello"

    def test_text_that_is_not_utf8_is_refused_with_its_place(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "x", piped=b"abc\xff")
        assert ran.exit_code == 2
        assert "byte 3 is 0xff" in ran.stderr

    def test_a_byte_order_mark_is_not_text(self, cli: Cli) -> None:
        cli.run("run", "tiny", piped=b"\xef\xbb\xbfHello")
        assert cli.engines[0].requests[0].text == "Hello"

    def test_too_much_text_is_refused(self, cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr("app.cli.piped.MAX_BYTES", 1 << 20)
        assert cli.run("run", "tiny", piped=b"x" * (1 << 20)).exit_code == 0
        ran = cli.run("run", "tiny", piped=b"x" * ((1 << 20) + 1))
        assert ran.exit_code == 2
        assert "1 MiB" in ran.stderr

    def test_the_attachment_stands_below_the_prompt(self) -> None:
        assert with_attachment("a", "b") == "a\n\nb"
        assert (with_attachment("a", None), with_attachment(None, "b")) == ("a", "b")
        assert with_attachment(None, None) is None


class TestFailures:
    @pytest.mark.parametrize(
        "words", [("caf\udce9",), ("x", "--system", "\udce9"), ("x", "--stop", "\udce9")]
    )
    def test_an_argument_that_is_no_text_is_wrong_use(self, cli: Cli, words: tuple[str, ...]) -> None:
        ran = cli.run("run", "tiny", *words)
        assert ran.exit_code == 2
        assert "not UTF-8 text" in ran.stderr
        assert cli.engines == []

    def test_a_reader_that_leaves_ends_an_endless_answer_quietly(self, cli: Cli) -> None:
        command = f"{sys.executable} -m tests.app.fake_cli run tiny forever </dev/null | head -c 20"
        environment = {**os.environ, "LOCALQ_HOME": str(cli.home), "LOCALQ_CONFIG": os.devnull}
        ran = subprocess.run(
            ["bash", "-c", command],
            capture_output=True,
            text=True,
            cwd=Path(__file__).resolve().parents[2],
            env=environment,
            timeout=60,
            check=True,
        )
        assert (ran.stdout, ran.stderr) == ("x " * 10, "")

    def test_a_dead_worker_is_an_error_with_its_last_words(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "die")
        assert ran.exit_code == 1
        assert ran.stdout == "partial\n"
        assert "SIGSEGV" in ran.stderr
        assert ran.last_line == "next: localq doctor"

    def test_a_template_that_refuses_proposes_raw(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "untemplated")
        assert (ran.exit_code, ran.last_line) == (1, "next: localq run tiny untemplated --raw")

    def test_a_model_that_does_not_load_shows_the_log(self, cli: Cli) -> None:
        cli.make_engine = lambda config, on_progress: FakeEngine(config, on_progress, fails_to_load=True)
        ran = cli.run("run", "tiny", "Hi")
        assert ran.exit_code == 1
        assert "unknown tensor" in ran.stderr
        assert cli.engines[0].closed

    def test_a_model_that_does_not_fit_is_refused_before_it_is_loaded(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "Hi", "--ram", "63M")
        assert ran.exit_code == 3
        assert "weights" in ran.stderr and "KV cache" in ran.stderr
        assert ran.last_line.startswith("next: localq ")
        assert cli.engines == []

    def test_a_context_that_does_not_fit_proposes_one_that_does(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "Hi", "--ctx", "10000000", "--ram", "1G")
        assert ran.exit_code == 3
        assert ran.last_line == "next: localq run tiny Hi --ram 1G --ctx 512"
        cli.follow(ran)

    def test_force_loads_what_does_not_fit_and_says_so(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "Hi", "--ram", "63M", "--force")
        assert (ran.exit_code, ran.stdout) == (0, "You said: Hi\n")
        assert ran.stderr.startswith("warning: ")

    def test_a_context_beyond_the_trained_one_is_a_warning_with_both_numbers(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", "Hi", "--ctx", "8192")
        assert (ran.exit_code, ran.stdout) == (0, "You said: Hi\n")
        assert "8192 tokens is longer than the 512" in ran.stderr

    def test_a_piped_prompt_is_not_forgotten_by_what_is_proposed(self, cli: Cli) -> None:
        ran = cli.run("run", "tiny", piped="untemplated")
        assert ran.last_line == "next: pipe the same text into: localq run tiny --raw"

    def test_a_file_that_is_no_gguf_never_reaches_the_engine(self, cli: Cli, tmp_path: Path) -> None:
        (tmp_path / "bad.gguf").write_bytes(b"GGUF" + bytes(100))
        ran = cli.run("run", str(tmp_path / "bad.gguf"), "Hi", "--json")
        assert ran.exit_code == 1
        assert ran.error()["type"] == "GgufError"
        assert cli.engines == []

    @pytest.mark.parametrize(
        "words",
        [
            ("--temp", "-1"),
            ("--temp", "nan"),
            ("--top-p", "1.5"),
            ("--top-k", "x"),
            ("--seed", "-1"),
            ("--max-tokens", "0"),
            ("--ctx", "0"),
            ("--ctx", "99999999999999999999"),
            ("--kv", "f32"),
            ("--ram", "lots"),
            ("--gpu-layers", "some"),
            ("--threads", "-1"),
        ],
    )
    def test_a_value_outside_its_range_is_wrong_use(self, cli: Cli, words: tuple[str, str]) -> None:
        ran = cli.run("run", "tiny", "Hi", *words)
        assert ran.exit_code == 2
        assert words[0] in ran.stderr
        assert ran.last_line == "next: localq run --help"
        assert cli.engines == []

    def test_gpu_layers_without_a_device_are_a_warning(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        ran = cli.run("run", "tiny", "Hi", "--gpu-layers", "9", "--json")
        assert ran.exit_code == 0
        assert "without a device" in json.loads(ran.stderr)["warning"]
        assert cli.run("run", "tiny", "Hi", "--gpu-layers", "auto").stderr == ""


class TestDemo:
    def test_a_missing_demo_is_fetched_and_run(
        self, cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
    ) -> None:
        monkeypatch.setattr(
            "app.hub.demo.fetch_demo",
            lambda store, progress: store.import_file(tmp_path / "tiny.gguf", "demo"),
        )
        ran = cli.run("run", "demo", "Hello")
        assert ran.stdout == "You said: Hello\n"
        assert "Fetching the demo model" in ran.stderr
        assert cli.run("run", "demo", "Hello").stderr == ""
