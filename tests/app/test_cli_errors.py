from __future__ import annotations

import errno
import json
import os
import re
from pathlib import Path

import click
import pytest

import app.errors
import runtime.errors
from app.cli.again import again
from app.cli.errors import RULES, describe, report
from app.cli.front import Front
from app.cli.main import cli as localq
from app.cli.output import Output
from app.errors import ModelNotFound, SettingsError, WrongUse
from app.store import Store
from runtime.errors import (
    DoesNotFit,
    EngineError,
    GgufError,
    InvalidRequest,
    LocalqError,
    ModelLoadFailed,
    PromptTooLong,
    TemplateError,
    WorkerDied,
)
from tests.app.cli_runner import Cli


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def raising(error: BaseException) -> Front:
    """A front whose store cannot be opened."""

    def open_store(home: Path | None) -> Store:
        raise error

    return Front(open_store=open_store)


@pytest.mark.parametrize(
    ("error", "code", "next_command"),
    [
        (DoesNotFit("needs 9 GiB", needed_bytes=9, available_bytes=1), 3, "localq show 'my model'"),
        (
            PromptTooLong("too long", prompt_tokens=5000, context_tokens=4096),
            3,
            "localq list 'a b' --ctx 6144",
        ),
        (WrongUse("no"), 2, "localq --help"),
        (SettingsError("no", key="a", source="b", next_command="unset A"), 2, "unset A"),
        (InvalidRequest("no", field="top_k"), 2, "localq run --help"),
        (ModelNotFound("x"), 1, "localq list"),
        (GgufError("x.gguf", "truncated", "ends early"), 1, f"ls -l {Path.cwd()}"),
        (TemplateError("no"), 1, "localq list 'a b' --raw"),
        (WorkerDied("it died"), 1, "localq doctor"),
        (ModelLoadFailed("no"), 1, "localq doctor"),
        (EngineError("no"), 1, "localq doctor"),
        (LocalqError("no"), 1, "localq doctor"),
        (OSError(errno.ENOSPC, "No space left on device", "/x"), 1, "localq df"),
        (PermissionError(errno.EACCES, "Permission denied", "/x"), 1, "localq doctor"),
        (MemoryError(), 1, "localq doctor"),
        (ZeroDivisionError("oops"), 1, "LOCALQ_DEBUG=1 localq list 'a b'"),
        (click.UsageError("no"), 2, "localq --help"),
        (click.ClickException("no"), 1, "localq --help"),
    ],
)
def test_every_error_has_a_code_and_a_command_to_run_next(
    capsys: pytest.CaptureFixture[str], error: Exception, code: int, next_command: str
) -> None:
    front = Front(arguments=("list", "a b"), model="my model")
    assert report(error, front) == code
    out, err = capsys.readouterr()
    assert out == ""
    assert err.startswith("error: ")
    assert err.splitlines()[-1] == f"next: {next_command}"
    assert "Traceback" not in err


@pytest.mark.parametrize(
    ("given", "more", "without", "expected"),
    [
        (("run", "m", "Hi"), ("--ctx", "9"), (), "localq run m Hi --ctx 9"),
        (("run", "--ctx", "5", "m", "a b", "-q"), ("--ctx", "9"), (), "localq run m 'a b' -q --ctx 9"),
        (("--json", "bench", "m", "--ctx=5"), ("--ctx", "9"), (), "localq --json bench m --ctx 9"),
        (("run", "m", "--", "--ctx"), ("--ctx", "9"), (), "localq run m --ctx 9 -- --ctx"),
        (("run", "m", "Hi", "--system", "S"), ("--raw",), ("--system",), "localq run m Hi --raw"),
        (("run", "m", "--raw", "Hi"), ("--raw",), (), "localq run m Hi --raw"),
        (("run", "--", "m"), ("Hello",), (), "localq run -- m Hello"),
        (("run", "m", "--system=S", "Hi"), (), ("--system",), "localq run m Hi"),
        (("run", "m", "x" * 5000), ("--ctx", "9"), (), "the same command with --ctx 9"),
    ],
)
def test_a_command_is_proposed_again_as_it_was_given_but_for_one_thing(
    given: tuple[str, ...], more: tuple[str, ...], without: tuple[str, ...], expected: str
) -> None:
    assert again(Front(arguments=given), *more, without=without) == expected


def test_a_command_that_was_given_text_through_a_pipe_says_so() -> None:
    front = Front(arguments=("run", "m"), piped=True)
    assert again(front, "--ctx", "9") == "pipe the same text into: localq run m --ctx 9"


def test_no_context_beyond_the_trained_one_is_proposed() -> None:
    front = Front(arguments=("run", "m", "Hi"), trained_context=8192)
    rule = next(rule for rule in RULES if rule.kind is PromptTooLong)
    near = PromptTooLong("no", prompt_tokens=8000, context_tokens=4096)
    assert rule.next_command(near, front) == "localq run m Hi --ctx 8192"
    for prompt, context in ((9000, 4096), (9000, 8192), (8190, 8192)):
        beyond = PromptTooLong("no", prompt_tokens=prompt, context_tokens=context)
        assert rule.next_command(beyond, front) == (
            f"shorten the prompt: it has {prompt} tokens, and the model was trained for 8192"
        )


def test_every_error_of_localq_has_a_rule_of_its_family() -> None:
    classes = {
        value
        for module in (app.errors, runtime.errors)
        for value in vars(module).values()
        if isinstance(value, type) and issubclass(value, LocalqError)
    }
    assert len(classes) > 20
    for kind in classes - {LocalqError, app.errors.AppError}:
        rule = next(rule for rule in RULES if issubclass(kind, rule.kind))
        assert rule.kind not in (LocalqError, Exception), f"{kind.__name__} has no rule in app.cli.errors"


def test_every_proposed_command_exists() -> None:
    front = Front(model="m")
    examples = [
        DoesNotFit("", needed_bytes=1, available_bytes=1),
        PromptTooLong("", prompt_tokens=1, context_tokens=1),
        *(LocalqError(), WrongUse(""), ModelNotFound("x"), TemplateError(), OSError(28, ""), OSError(1, "")),
    ]
    context = click.Context(localq)
    for error in examples:
        rule = next(rule for rule in RULES if isinstance(error, rule.kind))
        words = rule.next_command(error, front).split()
        assert words[0] == "localq"
        if not words[1].startswith("-"):
            assert localq.get_command(context, words[1]) is not None


def test_json_makes_an_error_one_object_with_its_facts(cli: Cli) -> None:
    ran = cli.run("show", "nonesuch", "--json")
    assert (ran.exit_code, ran.stdout) == (1, "")
    error = ran.error()
    assert error["type"] == "ModelNotFound"
    assert error["exit_code"] == 1
    assert error["next"] == "localq list"
    assert error["details"] == {"reference": "nonesuch", "near": []}
    assert "'nonesuch'" in error["message"]


def test_json_before_the_command_or_behind_what_cannot_be_parsed_counts(cli: Cli) -> None:
    assert cli.run("--json", "list", "extra").error()["exit_code"] == 2
    assert cli.run("list", "--bogus", "--json").error()["type"] == "NoSuchOption"
    assert cli.run("run", "--", "--json").stderr.startswith("error:")


def test_quiet_still_prints_errors(cli: Cli) -> None:
    assert cli.run("rm", "nonesuch", "-q").stderr.startswith("error: ")


def test_an_unexpected_error_is_one_line_and_the_way_to_its_traceback(
    cli: Cli, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.cli.front.Front.store", lambda self: 1 / 0)
    ran = cli.run("list")
    assert ran.exit_code == 1
    assert "Traceback" not in ran.stderr
    assert "ZeroDivisionError" in ran.stderr
    assert ran.last_line == "next: LOCALQ_DEBUG=1 localq list"
    cli.environment["LOCALQ_DEBUG"] = "1"
    assert "Traceback (most recent call last)" in cli.run("list").stderr


def test_a_log_is_shown_without_what_llama_cpp_lists_of_every_model(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    log = (
        "llama_model_loader: loaded meta data with 22 key-value pairs\n"
        "llama_model_loader: - kv   0: general.name str = x\n"
        "print_info: file type   = Q4_K - Small\n"
        "llama_graph_n_input_tensors: input tensor 'inp_pos' is used by node 'Qcur-12' (ROPE)\n"
        "graph_reserve: reserving a graph for ubatch with n_tokens =  512\n"
        "sched_reserve: graph: nodes = 936, splits = 1\n"
        "set_warmup: value = 0\n"
        "llama_model_load: error loading model: unknown model architecture\n"
    )
    error = ModelLoadFailed("llama.cpp could not load x", log=log)
    assert describe(error).splitlines() == ["llama.cpp could not load x", log.splitlines()[-1]]
    monkeypatch.setenv("LOCALQ_DEBUG", "1")
    assert describe(error).splitlines()[1:] == log.splitlines()


def test_a_log_comes_with_its_error_and_is_harmless() -> None:
    error = WorkerDied("it died", log="last words\n")
    assert describe(error) == "it died\nlast words"
    assert describe(ModelLoadFailed("no")) == "no"


def test_an_interrupt_is_an_object_too_with_json(capsys: pytest.CaptureFixture[str]) -> None:
    assert report(KeyboardInterrupt(), Front(Output(json=True))) == 130
    error = json.loads(capsys.readouterr().err)["error"]
    assert error.keys() == {"type", "message", "exit_code", "next", "details"}


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt(), click.Abort()])
def test_an_interrupt_is_130_and_silent(capsys: pytest.CaptureFixture[str], interrupt: BaseException) -> None:
    assert report(interrupt, Front()) == 130
    assert tuple(capsys.readouterr()) == ("", "")


def test_what_is_no_failure_of_a_command_goes_on(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(GeneratorExit):
        report(GeneratorExit(), Front())


def test_a_hostile_message_is_shown_and_not_obeyed(capsys: pytest.CaptureFixture[str]) -> None:
    report(GgufError("a\x1b[2J.gguf", "x", "\u202ereason"), Front())
    assert not re.search("[\x1b\u202e]", capsys.readouterr().err)


def test_a_command_under_an_interrupted_terminal_ends_with_130(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LOCALQ_CONFIG", os.devnull)
    front = raising(KeyboardInterrupt())
    with pytest.raises(SystemExit) as caught:
        localq.main(["list"], prog_name="localq", obj=front)
    assert caught.value.code == 130
