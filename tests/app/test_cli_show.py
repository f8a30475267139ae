from __future__ import annotations

from pathlib import Path

import pytest

from app.hub.demo import DEMO
from app.store import Source
from tests.app.cli_runner import Cli
from tests.app.test_cli_output import FORBIDDEN
from tests.app.tiny_model import write_tiny_model

EVIL = "Evil\x1b]0;title\x07\u202egnp\n\x1b[2Jsecond\U000e0041"


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def fields(text: str) -> dict[str, str]:
    """Name -> first line of its value."""
    return {
        line.split("  ")[0]: line.split("  ", 1)[1].strip()
        for line in text.splitlines()
        if line and not line.startswith(" ")
    }


def test_a_stored_model_shows_origin_licence_shape_and_memory(cli: Cli, tmp_path: Path) -> None:
    source = Source(kind="demo", origin="somewhere/good", license="Apache-2.0", url="https://example.org/m")
    cli.store.import_file(write_tiny_model(tmp_path / "a.gguf"), "tiny", source=source)
    shown = fields(cli.run("show", "tiny").stdout)
    assert shown["licence"] == "Apache-2.0"
    assert shown["origin"] == "somewhere/good"
    assert shown["url"] == "https://example.org/m"
    assert shown["architecture"] == "llama"
    assert shown["weights"] == "19.9K at 32.00 bits"
    assert shown["trained context"] == "512 tokens"
    assert shown["verdict"] == "fits"


def test_a_path_shows_the_same_without_being_stored(cli: Cli, tmp_path: Path) -> None:
    path = write_tiny_model(tmp_path / "a.gguf", license="MIT")
    shown = fields(cli.run("show", str(path)).stdout)
    assert shown["origin"] == "a file that is not in the store"
    assert shown["licence"] == "MIT"
    document = cli.run("show", str(path), "--json").json()
    assert document["name"] == "a.gguf"
    assert document["summary"]["parameters"] == 19936
    assert document["paths"] == [str(path)]


def test_the_memory_plan_follows_the_flags(cli: Cli) -> None:
    cli.add_model("tiny")
    small = cli.run("show", "tiny", "--ctx", "256", "--json").json()["memory"]
    large = cli.run("show", "tiny", "--ctx", "8192", "--json").json()["memory"]
    assert (small["context_tokens"], large["context_tokens"]) == (256, 8192)
    assert large["parts"]["KV cache"] == 32 * small["parts"]["KV cache"]
    assert small["predicted_peak_bytes"] == sum(small["parts"].values())
    assert small["limited_by"]["name"]


def test_a_model_that_does_not_fit_is_shown_all_the_same(cli: Cli) -> None:
    cli.add_model("tiny")
    ran = cli.run("show", "tiny", "--ram", "63M")
    assert ran.exit_code == 0
    assert fields(ran.stdout)["verdict"] == "does not fit"
    assert cli.run("show", "tiny", "--ram", "63M", "--json").json()["memory"]["fits"] is False


def test_the_template_is_printed_alone(cli: Cli) -> None:
    cli.add_model("tiny", template="{{ messages }}\n")
    assert cli.run("show", "tiny", "--template").stdout == "{{ messages }}\n"
    document = cli.run("show", "tiny", "--template", "--json").json()
    assert document == {"name": "tiny", "chat_template": "{{ messages }}\n"}


def test_a_model_without_a_template_says_so(cli: Cli) -> None:
    cli.add_model("tiny", template=None)
    ran = cli.run("show", "tiny", "--template")
    assert ran.exit_code == 1
    assert ran.last_line == "next: localq run tiny --raw"
    assert fields(cli.run("show", "tiny").stdout)["template"] == "none"


@pytest.mark.parametrize("words", [("show", "evil"), ("show", "evil", "--template")])
def test_hostile_metadata_is_shown_and_not_obeyed(cli: Cli, words: tuple[str, ...]) -> None:
    cli.add_model("evil", title=EVIL, license=EVIL, template=EVIL)
    ran = cli.run(*words)
    assert ran.exit_code == 0
    assert "␛" in ran.stdout
    if "--template" not in words:
        assert not any(line.lstrip().startswith("␛[2Jsecond") for line in ran.stdout.splitlines())
    assert not set(ran.stdout) & FORBIDDEN
    raw = cli.run(*words, "--json")
    assert raw.stdout.isascii() and raw.stdout.strip().isprintable()


def test_a_missing_demo_is_not_fetched_by_looking_at_it(cli: Cli) -> None:
    ran = cli.run("show", "demo")
    assert (ran.exit_code, ran.last_line) == (0, "next: localq run demo")
    shown = fields(ran.stdout)
    assert shown["licence"] == "Apache-2.0"
    assert shown["size"] == "93.8 MiB"
    assert "not fetched yet" in ran.stderr
    assert cli.run("show", "demo", "--json").json()["sha256"] == DEMO.sha256
    assert cli.run("show", "demo", "--template").last_line == "next: localq run demo"


def test_what_the_store_knows_is_shown_where_the_file_cannot_be_opened(cli: Cli) -> None:
    cli.add_model("tiny", license="MIT")
    for blob in (cli.home / "blobs").iterdir():
        blob.unlink()
    ran = cli.run("show", "tiny")
    assert ran.exit_code == 1
    assert fields(ran.stdout)["licence"] == "MIT"
    assert "verdict" not in fields(ran.stdout)
    assert cli.run("show", "tiny", "--json").json()["name"] == "tiny"


def test_one_name_that_comes_near_is_proposed_in_the_same_command(cli: Cli) -> None:
    assert cli.run("show", "dmeo", "--ctx", "9").last_line == "next: localq show demo --ctx 9"
    assert cli.run("run", "Demo", "Hi there").last_line == "next: localq run demo 'Hi there'"
    assert cli.run("run", "Demo", piped="Hi").last_line == "next: pipe the same text into: localq run demo"
    cli.add_model("tiny")
    ran = cli.run("verify", "tinny")
    assert ran.last_line == "next: localq verify tiny"
    cli.follow(ran)
    assert cli.run("rm", "tinny").last_line == "next: localq list"
    assert cli.run("run").last_line == "next: localq run demo"


def test_a_model_whose_blob_is_gone_is_imported_again_from_its_origin(cli: Cli) -> None:
    path = cli.add_model("tiny")
    for blob in (cli.home / "blobs").iterdir():
        blob.unlink()
    ran = cli.run("show", "tiny")
    assert (ran.exit_code, ran.last_line) == (1, f"next: localq import {path} --name tiny")
    cli.follow(ran)
    assert cli.run("show", "tiny").exit_code == 0


def test_quiet_prints_the_name(cli: Cli) -> None:
    cli.add_model("tiny")
    assert cli.run("show", "tiny", "-q").stdout == "tiny\n"
