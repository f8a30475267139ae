from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.app.cli_runner import Cli
from tests.app.pseudo_terminal import CTRL_C, PseudoTerminal
from tests.app.tiny_model import write_tiny_model
from tests.hub.children import REPOSITORY, throttled
from tests.hub.faults import status
from tests.hub.pulling import model_bytes
from tests.hub.server import FakeHub

WEIGHTS = "Tiny-Q4_K_M.gguf"
PULL = [sys.executable, "-m", "app.cli.main", "pull", "org/Tiny-GGUF"]


@pytest.fixture
def cli(fake_hub: FakeHub, tmp_path: Path) -> Cli:
    fake_hub.add(
        "org/Tiny-GGUF",
        {WEIGHTS: model_bytes(), "Tiny-Q8_0.gguf": model_bytes(8, title="Larger")},
        info={"cardData": {"license": "mit"}},
    )
    return Cli(tmp_path)


def environment(cli: Cli, fake_hub: FakeHub) -> dict[str, str]:
    cli.folder.joinpath("config.toml").touch()
    return {
        **os.environ,
        "LOCALQ_HOME": str(cli.home),
        "LOCALQ_CONFIG": str(cli.folder / "config.toml"),
        "HF_ENDPOINT": fake_hub.endpoint,
        "PYTHONPATH": str(REPOSITORY),
    }


def test_a_pull_says_what_it_will_take_and_what_to_do_next(cli: Cli) -> None:
    ran = cli.run("pull", "org/Tiny-GGUF")
    assert ran.exit_code == 0, ran.stderr
    assert ran.stdout == (
        "Pulled org/tiny-gguf:q4_k_m (84.0 KiB).\nTalk to it: localq run org/tiny-gguf:q4_k_m\n"
    )
    assert "It will take 6" in ran.stderr
    assert "Pulling org/Tiny-GGUF, Q4_K_M: 1 file, 84.0 KiB, licence mit." in ran.stderr


def test_a_pulled_model_answers_by_the_reference_too(cli: Cli) -> None:
    assert cli.run("pull", "org/Tiny-GGUF").exit_code == 0
    for reference in ("org/tiny-gguf:q4_k_m", "org/Tiny-GGUF:Q4_K_M", "org/Tiny-GGUF", "hf.co/org/Tiny-GGUF"):
        assert cli.run("show", reference).exit_code == 0, reference
    shown = cli.run("show", "org/Tiny-GGUF", "--json").json()
    assert shown["source"]["version"] == "c" * 40
    assert cli.run("pull", "org/Tiny-GGUF:Q8_0").exit_code == 0
    ran = cli.run("show", "org/Tiny-GGUF")
    assert ran.exit_code == 1, "now it could be two"
    assert cli.run("show", "org/Tiny-GGUF:Q8_0").exit_code == 0


def test_what_is_not_here_can_be_pulled(cli: Cli) -> None:
    ran = cli.run("run", "org/Tiny-GGUF:Q8_0", "hello")
    assert ran.exit_code == 1
    assert ran.last_line == "next: localq pull org/Tiny-GGUF:Q8_0"
    cli.follow(ran)
    assert cli.run("run", "qwen3-4b", "hello").last_line == "next: localq pull qwen3-4b"


def test_json_prints_a_line_for_each_event(cli: Cli) -> None:
    ran = cli.run("pull", "org/Tiny-GGUF:Q8_0", "--json")
    lines = [json.loads(line) for line in ran.stdout.splitlines()]
    assert (lines[0]["event"], lines[-1]["event"]) == ("planned", "stored")
    size = len(model_bytes(8, title="Larger"))
    assert lines[0]["total_bytes"] == lines[0]["to_fetch_bytes"] == size
    progress = [line for line in lines if line["event"] == "progress"]
    assert progress[-1]["done_bytes"] == progress[-1]["checked_bytes"] == size
    assert lines[-1]["name"] == "org/tiny-gguf:q8_0"
    assert lines[-1]["source"]["origin"] == "org/Tiny-GGUF"


def test_quiet_prints_the_name_alone(cli: Cli) -> None:
    ran = cli.run("pull", "org/Tiny-GGUF", "--quiet")
    assert (ran.stdout, ran.stderr) == ("org/tiny-gguf:q4_k_m\n", "")
    again = cli.run("pull", "org/Tiny-GGUF")
    assert "is up to date" in again.stderr


def test_a_name_of_ones_own_and_a_path(cli: Cli) -> None:
    assert cli.run("pull", "org/Tiny-GGUF", "--name", "mine").exit_code == 0
    path = write_tiny_model(cli.folder / "here.gguf", title="Here")
    assert cli.run("pull", str(path)).exit_code == 0
    assert [model.name for model in cli.store.list()] == ["here", "mine"]


def test_a_catalog_name_is_the_models_name(cli: Cli, fake_hub: FakeHub) -> None:
    fake_hub.add("bartowski/SmolLM2-135M-Instruct-GGUF", {"SmolLM2-135M-Instruct-Q8_0.gguf": model_bytes()})
    ran = cli.run("pull", "smollm2-135m")
    assert ran.exit_code == 0, ran.stderr
    assert [model.name for model in cli.store.list()] == ["smollm2-135m"]
    assert cli.store.get("smollm2-135m").source.origin == "bartowski/SmolLM2-135M-Instruct-GGUF"


def test_what_does_not_fit_is_refused_before_it_is_fetched(cli: Cli, fake_hub: FakeHub) -> None:
    ran = cli.run("pull", "org/Tiny-GGUF:Q8_0", "--ram", "68M", "--json")
    assert ran.exit_code == 3
    error = ran.error()
    assert error["type"] == "ModelDoesNotFit"
    assert error["details"]["needed_bytes"] > error["details"]["available_bytes"]
    assert error["next"] == "localq pull org/Tiny-GGUF:Q4_K_M --ram 68M --json"
    assert fake_hub.bytes_sent <= 1 << 18
    forced = cli.run("pull", "org/Tiny-GGUF:Q8_0", "--ram", "68M", "--force")
    assert forced.exit_code == 0
    assert "fetching it all the same" in forced.stderr


@pytest.mark.parametrize(
    ("words", "code", "kind", "following"),
    [
        (["org/none"], 1, "NotOnHub", "localq search none"),
        (["org/Tiny-GGUF:Q3_K_M"], 1, "NoSuchChoice", "localq pull org/Tiny-GGUF:Q4_K_M"),
        (["org/raw"], 1, "NeedsConversion", "localq search raw --gguf"),
        (["qwen3-30b"], 2, "InvalidReference", "localq pull qwen3-30b-a3b"),
        (["org/../x"], 2, "InvalidReference", "localq --help"),
        (["org/gated"], 1, "NotAllowed", "hf auth login"),
        (["org/Tiny-GGUF", "--name", "No Name"], 2, "InvalidName", "localq list"),
    ],
)
def test_an_error_says_what_to_do(
    words: list[str], code: int, kind: str, following: str, cli: Cli, fake_hub: FakeHub
) -> None:
    fake_hub.add("org/raw", {"model.safetensors": b"x"})
    fake_hub.add("org/gated", {WEIGHTS: model_bytes()}, gated=True)
    ran = cli.run("pull", *words, "--json")
    assert ran.exit_code == code
    error = ran.error()
    assert (error["type"], error["next"].removesuffix(" --json")) == (kind, following)


def test_a_hub_that_is_too_busy_says_how_long(cli: Cli, fake_hub: FakeHub) -> None:
    fake_hub.fault = status(429, "hub", "api", **{"Retry-After": "86400"})
    ran = cli.run("pull", "org/Tiny-GGUF", "--json")
    error = ran.error()
    assert error["type"] == "HubBusy"
    assert error["details"]["retry_after_seconds"] == 86400
    assert error["next"] == "localq pull org/Tiny-GGUF --json"


def test_hostile_texts_of_the_hub_do_not_reach_the_terminal(cli: Cli, fake_hub: FakeHub) -> None:
    fake_hub.add(
        "org/evil",
        {WEIGHTS: model_bytes(title="\x1b]52;c;aGk=\x07")},
        info={"cardData": {"license": "\x1b[2Jmit\u202e"}},
    )
    for words in (["pull", "org/evil"], ["search", "evil"], ["show", "org/evil"], ["list"]):
        ran = cli.run(*words)
        assert ran.exit_code == 0, ran.stderr
        assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e]", ran.stdout + ran.stderr), words


def test_an_interrupt_says_how_to_go_on(cli: Cli, fake_hub: FakeHub) -> None:
    fake_hub.fault = throttled(1e6, 1 << 16)
    command = [*PULL[:-1], "org/Tiny-GGUF:Q8_0", "--json"]
    pulling = subprocess.Popen(
        command, env=environment(cli, fake_hub), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert pulling.stdout is not None
    lines = []
    for line in pulling.stdout:
        lines.append(json.loads(line))
        if lines[-1]["event"] == "progress" and lines[-1]["done_bytes"]:
            pulling.send_signal(signal.SIGINT)
            break
    rest, errors = pulling.communicate(timeout=20)
    assert pulling.returncode == 130, errors
    told = next(json.loads(line) for line in rest.splitlines() if '"interrupted"' in line)
    assert told["kept_bytes"] >= 1 << 20
    assert told["next"] == "localq pull org/Tiny-GGUF:Q8_0 --json"
    fake_hub.fault = None
    fake_hub.forget()
    ran = cli.run("pull", "org/Tiny-GGUF:Q8_0")
    assert ran.exit_code == 0
    assert "are here already" in ran.stderr
    size = len(model_bytes(8, title="Larger"))
    assert size - told["kept_bytes"] >= fake_hub.bytes_sent - (1 << 18)  # the header is read again


def test_on_a_terminal_there_is_a_bar_for_the_file_and_one_for_all(cli: Cli, fake_hub: FakeHub) -> None:
    fake_hub.fault = throttled(4e5, 1 << 14)
    command = [*PULL[:-1], "org/Tiny-GGUF:Q8_0"]
    with PseudoTerminal(command, environment(cli, fake_hub)) as terminal:
        terminal.expect("Tiny-Q8_0.gguf")
        terminal.expect("total")
        terminal.expect("MiB")
        terminal.expect("left")
        terminal.send(CTRL_C)
        terminal.expect("Interrupted.")
        terminal.expect("Go on with: localq pull org/Tiny-GGUF:Q8_0")
        assert terminal.wait() == 130


def test_help_explains_references(cli: Cli) -> None:
    ran = cli.run("pull", "--help")
    assert "OWNER/NAME:QUANT" in ran.stdout
