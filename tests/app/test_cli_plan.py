"""``localq plan``: contexts and budgets, from the header alone."""

from __future__ import annotations

from pathlib import Path

import pytest

from app.cli.fitting import PREFERENCES
from quant.allocation.planner import GIVEN_UP
from tests.app.cli_runner import Cli

FIELDS = {
    "budget_bytes",
    "context",
    "kv_type",
    "batch",
    "predicted_peak_bytes",
    "file_bytes",
    "bits_per_weight",
    "predicted_kl",
    "predicted_tokens_per_second",
    "formats",
}


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    return Cli(tmp_path)


def test_there_is_a_plan_for_each_memory_and_context(cli: Cli, demo_path: Path) -> None:
    words = ("--ram", "170M", "--ram", "200M", "--ctx", "256", "--ctx", "512")
    document = cli.run("plan", str(demo_path), *words, "--json").json()
    plans = document["plans"]
    assert [(plan["budget_bytes"] >> 20, plan["context"]) for plan in plans] == [
        (170, 256),
        (170, 512),
        (200, 256),
        (200, 512),
    ]
    for plan in plans:
        assert plan.keys() == FIELDS
        assert plan["predicted_peak_bytes"] <= plan["budget_bytes"]
        assert sum(plan["formats"].values()) == pytest.approx(1.0)
    assert plans[0]["predicted_kl"] > plans[2]["predicted_kl"]
    assert plans[0]["predicted_tokens_per_second"] > plans[2]["predicted_tokens_per_second"]


def test_without_a_memory_it_is_this_machines_and_others(cli: Cli, demo_path: Path) -> None:
    document = cli.run("plan", str(demo_path), "--json").json()
    budgets = [plan["budget_bytes"] for plan in document["plans"]]
    assert document["available_bytes"] in budgets
    assert len(budgets) > 1


def test_the_table_names_the_formats(cli: Cli, demo_path: Path) -> None:
    out = cli.run("plan", str(demo_path), "--ram", "200M").stdout
    assert "q4_1" in out and "TOK/S" in out


def test_formats_of_localqs_own_are_left_out_of_a_portable_plan(cli: Cli, demo_path: Path) -> None:
    words = ("plan", str(demo_path), "--ram", "150M", "--ctx", "512", "--json")
    own, portable = (cli.run(*words, *more).json()["plans"][0] for more in ((), ("--portable",)))
    assert own["formats"].keys() & {"lt1", "lt2", "lt3", "lt4"}
    assert not portable["formats"].keys() & {"lt1", "lt2", "lt3", "lt4"}
    assert own["predicted_kl"] < portable["predicted_kl"]


def test_what_fits_nowhere_is_refused_with_both_numbers(cli: Cli, demo_path: Path) -> None:
    ran = cli.run("plan", str(demo_path), "--ram", "60M", "--ram", "50M")
    assert ran.exit_code == 3
    assert "60.0 MiB are available" in ran.stderr


def test_the_preferences_are_those_of_the_planner() -> None:
    assert set(PREFERENCES) == set(GIVEN_UP)


def test_thousands_of_tokens_are_powers_of_two(cli: Cli, demo_path: Path) -> None:
    plans = cli.run("plan", str(demo_path), "--ram", "1G", "--ctx", "2k", "--json").json()["plans"]
    assert [plan["context"] for plan in plans] == [2048]
    assert cli.run("plan", str(demo_path), "--ctx", "2x").exit_code == 2
