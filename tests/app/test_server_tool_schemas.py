"""Schemas of real tools: taken as grammars, and whatever the grammar lets through is valid."""

from __future__ import annotations

import json
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from jsonschema.validators import validator_for

from runtime.engine.answers.choice import tool_grammar
from runtime.engine.answers.families import Family
from runtime.engine.answers.hermes import Hermes
from runtime.engine.answers.pieces import CallArguments
from runtime.engine.config import EngineConfig
from runtime.engine.llama.masks import GrammarCompiler
from runtime.engine.llama.model import open_weights
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.errors import InvalidRequest
from tests.app.server_process import ServerProcess, serving
from tests.app.tool_schemas import leaderboard_tools, protocol_tools

pytestmark = [pytest.mark.model, pytest.mark.slow]

HERMES = Family("hermes", Hermes)
ROAMING = (0, 12, 60)
"""Tokens of a walk that are chosen at random; from then on it takes the shortest way out."""
LONGEST = 3000
WAY_OUT = (b"}", b"]", b'"', b"0", b":", b",")


@pytest.fixture(scope="module")
def vocabulary(demo_path: Path) -> Vocabulary:
    return Vocabulary(open_weights(EngineConfig(model_paths=(str(demo_path),)), lambda share: None))


@pytest.fixture(scope="module")
def walk(vocabulary: Vocabulary) -> Callable[[dict[str, Any], int, random.Random], str | None]:
    """Calls a tool without a model: any token that the mask lets through may be the next one."""
    compiler = GrammarCompiler(vocabulary)
    controls = frozenset(vocabulary.control_tokens)
    shown = tuple(text for text in Hermes.shown if text in controls)
    pieces = {vocabulary.piece(token): token for token in range(vocabulary.size)}
    exits = [*vocabulary.end_tokens, *(pieces[piece] for piece in WAY_OUT)]

    def walked(tool: dict[str, Any], roaming: int, rng: random.Random) -> str | None:
        """The arguments; None where the way did not end."""
        tools = {tool["name"]: tool["parameters"]}
        matcher = compiler.compile(tool_grammar(HERMES, tools, controls, parallel=False, thinking=False))
        written: list[bytes] = []
        while len(written) < LONGEST:
            bits = matcher.allowed()
            allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little")[: vocabulary.size])
            may = set(allowed.tolist())
            token = int(rng.choice(allowed))
            if len(written) >= roaming:
                token = next((way for way in exits if way in may), token)
            if token in vocabulary.end_tokens:
                said = Hermes(tools)
                found = [*said.push(b"".join(written).decode()), *said.finish()]
                return "".join(each.text for each in found if isinstance(each, CallArguments))
            written.append(vocabulary.piece(token, shown))
            matcher.accept(token)
        return None

    return walked


def check(tools: list[dict[str, Any]], walk: Any, seed: int) -> tuple[list[str], list[str]]:
    """Tools whose schema was refused, and walks that did not end. Fails for what is not valid."""
    rng = random.Random(seed)
    refused, endless = [], []
    for tool in tools:
        schema = tool["parameters"]
        checker = validator_for(schema, jsonschema.Draft202012Validator)(schema)
        for roaming in ROAMING:
            try:
                arguments = walk(tool, roaming, rng)
            except InvalidRequest as error:
                refused.append(f"{tool['name']}: {error}")
                break
            if arguments is None:
                endless.append(tool["name"])
            else:
                assert checker.is_valid(json.loads(arguments)), (tool, arguments)
    return refused, endless


def test_the_leaderboards_functions(walk: Any) -> None:
    """More than a thousand, of live requests and of tests: 99 % are taken, and every call is valid."""
    tools = leaderboard_tools()
    assert len(tools) >= 1000
    refused, endless = check(tools, walk, 0)
    print(f"{len(tools)} schemas, {len(refused)} refused, {len(endless)} walks without an end: {refused}")
    assert len(refused) <= 0.01 * len(tools)
    assert len(endless) <= 0.01 * len(tools)


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no node here")
def test_tools_of_servers_of_the_model_context_protocol(walk: Any) -> None:
    tools = protocol_tools()
    assert len(tools) >= 40
    refused, endless = check(tools, walk, 1)
    print(f"{len(tools)} schemas, {len(refused)} refused: {refused}; {endless}")
    assert refused == [] and endless == []


class TestServed:
    """The same over the wire, with a model that chooses badly."""

    @pytest.fixture(scope="class")
    def tiny(self, tiny_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
        folder = tmp_path_factory.mktemp("tiny")
        with serving(folder, str(tiny_path), "--ctx", "4096", "--slots", "2") as server:
            yield server

    def test_five_hundred_are_taken_and_called_with_what_is_valid(self, tiny: ServerProcess) -> None:
        rng = random.Random(2)
        refused, called = [], 0
        for tool in rng.sample(leaderboard_tools(), 500):
            function = {"name": "f", "parameters": tool["parameters"]}
            body = {
                "messages": [{"role": "user", "content": "Call it."}],
                "tools": [{"type": "function", "function": function}],
                "tool_choice": "required",
                "parallel_tool_calls": False,
                "max_tokens": 300,
                "seed": 1,
            }
            status, _, answer = tiny.request("POST", "/v1/chat/completions", body)
            if status != 200:
                assert status == 400, answer
                refused.append(answer)
                continue
            (choice,) = json.loads(answer)["choices"]
            if choice["finish_reason"] == "tool_calls":
                called += 1
                (call,) = choice["message"]["tool_calls"]
                jsonschema.Draft202012Validator(tool["parameters"]).validate(
                    json.loads(call["function"]["arguments"])
                )
        print(f"{len(refused)} of 500 refused, {called} called to the end: {refused}")
        assert len(refused) <= 5
        assert called >= 100
