"""Schemas of real tools: taken as grammars, and whatever the grammar lets through is valid."""

from __future__ import annotations

import json
import random
import re
import shutil
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import jsonschema
import numpy as np
import pytest
from jsonschema.validators import validator_for

from runtime.engine.answers.choice import tool_grammar
from runtime.engine.answers.families import Family
from runtime.engine.answers.gemma import Gemma
from runtime.engine.answers.hermes import Hermes
from runtime.engine.answers.pieces import CallArguments
from runtime.engine.config import EngineConfig
from runtime.engine.llama.masks import GrammarCompiler
from runtime.engine.llama.model import open_weights
from runtime.engine.llama.vocabulary import Vocabulary
from runtime.errors import InvalidRequest
from tests.app.server_process import ServerProcess, serving
from tests.app.tool_schemas import leaderboard_tools, protocol_tools

pytestmark = [pytest.mark.model, pytest.mark.slow, pytest.mark.timeout(3600)]

HERMES = Family("hermes", Hermes)
GEMMA = Family("gemma", Gemma)
ROAMING = (0, 12, 60)
"""Tokens of a walk that are chosen at random; from then on it takes the shortest way out."""
LONGEST = 3000
OUT = (b"}", b"]", b'"', b":", b",", b"0")
MARKS = {"hermes": b'"', "gemma": b"<escape>"}
"""What stands before and behind a text."""
FOUND = {"hermes": re.compile(rb'\\.|(")', re.DOTALL), "gemma": re.compile(rb"(<escape>)")}


@pytest.fixture(scope="module")
def vocabulary(demo_path: Path) -> Vocabulary:
    return Vocabulary(open_weights(EngineConfig(model_paths=(str(demo_path),)), lambda share: None))


@pytest.fixture(scope="module")
def walk(vocabulary: Vocabulary) -> Callable[[dict[str, Any], int, random.Random, Family], str | None]:
    """Calls a tool without a model: any token that the mask lets through may be the next one."""
    compiler = GrammarCompiler(vocabulary)
    controls = frozenset(vocabulary.control_tokens)
    pieces = {vocabulary.piece(token): token for token in range(vocabulary.size)}
    out = [*vocabulary.end_tokens, *(pieces[piece] for piece in OUT)]

    def walked(tool: dict[str, Any], roaming: int, rng: random.Random, family: Family) -> str | None:
        """The arguments; None where the way did not end."""
        tools = {tool["name"]: tool["parameters"]}
        matcher = compiler.compile(tool_grammar(family, tools, controls, parallel=False, thinking=False))
        written: list[bytes] = []
        while len(written) < LONGEST:
            bits = matcher.allowed()
            ways: list[int] = []
            if len(written) >= roaming:
                rest = rest_of_mark(b"".join(written), family.name)
                ways = out if rest is None else [pieces[rest[:1]]]
            token = next((way for way in ways if bits[way >> 5] >> (way & 31) & 1), -1)
            if token < 0:
                allowed = np.flatnonzero(np.unpackbits(bits.view(np.uint8), bitorder="little"))
                token = int(allowed[rng.randrange(len(allowed))])
            if token in vocabulary.end_tokens:
                said = family.parser(tools)
                found = [*said.push(b"".join(written).decode()), *said.finish()]
                return "".join(each.text for each in found if isinstance(each, CallArguments))
            written.append(vocabulary.piece(token))
            matcher.accept(token)
        return None

    return walked


def rest_of_mark(written: bytes, family: str) -> bytes | None:
    """What would end the text that is open at the end; None where none is."""
    mark = MARKS[family]
    if sum(bool(found[1]) for found in FOUND[family].finditer(written)) % 2 == 0:
        return None
    return next(mark[size:] for size in range(len(mark) - 1, -1, -1) if written.endswith(mark[:size]))


def check(
    tools: list[dict[str, Any]], walk: Any, seed: int, family: Family = HERMES
) -> tuple[list[str], list[str]]:
    """Tools whose schema was refused, and walks that did not end. Fails for what is not valid."""
    rng = random.Random(seed)
    refused, endless = [], []
    for tool in tools:
        schema = tool["parameters"]
        checker = validator_for(schema, jsonschema.Draft202012Validator)(schema)
        for roaming in ROAMING:
            try:
                arguments = walk(tool, roaming, rng, family)
            except InvalidRequest as error:
                refused.append(f"{tool['name']}: {error}")
                break
            if arguments is None:
                endless.append(tool["name"])
            else:
                assert checker.is_valid(json.loads(arguments)), (tool, arguments)
    return refused, endless


def test_the_leaderboards_functions(walk: Any) -> None:
    """Thousands, of live requests and of tests: 99 % are taken, and every call is valid."""
    tools = leaderboard_tools()
    assert len(tools) >= 3000
    refused, endless = check(tools, walk, 0)
    print(f"{len(tools)} schemas, {len(refused)} refused, {len(endless)} walks without an end: {refused}")
    assert len(refused) <= 0.01 * len(tools)
    assert len(endless) <= 0.01 * len(tools)


def test_the_leaderboards_functions_in_gemmas_notation(walk: Any) -> None:
    tools = random.Random(3).sample(leaderboard_tools(), 1000)
    refused, endless = check(tools, walk, 4, GEMMA)
    print(f"{len(tools)} schemas, {len(refused)} refused: {refused}; {len(endless)} walks without an end")
    assert len(refused) <= 0.01 * len(tools)
    assert len(endless) <= 0.01 * len(tools)


@pytest.mark.skipif(shutil.which("npm") is None, reason="there is no node here")
def test_tools_of_servers_of_the_model_context_protocol(walk: Any) -> None:
    tools = protocol_tools()
    assert len(tools) >= 40
    refused, endless = check(tools, walk, 1)
    print(f"{len(tools)} schemas, {len(refused)} refused: {refused}; {endless}")
    assert refused == [] and endless == []


@pytest.fixture(scope="module")
def roomy(demo_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServerProcess]:
    """An endpoint with room for the longest of the schemas."""
    folder = tmp_path_factory.mktemp("roomy")
    with serving(folder, str(demo_path), "--ctx", "4096", "--slots", "4") as server:
        yield server


def test_five_hundred_are_taken_over_the_wire_and_called_with_what_is_valid(roomy: ServerProcess) -> None:
    def call(tool: dict[str, Any]) -> tuple[int, dict[str, Any]]:
        function = tool | {"name": "f"}
        body = {
            "messages": [{"role": "user", "content": f"Call it: {tool['description'][:200]}"}],
            "tools": [{"type": "function", "function": function}],
            "tool_choice": "required",
            "parallel_tool_calls": False,
            "max_tokens": 250,
            "temperature": 0,
        }
        status, _, answer = roomy.request("POST", "/v1/chat/completions", body)
        return status, json.loads(answer)

    tools = random.Random(2).sample(leaderboard_tools(), 500)
    with ThreadPoolExecutor(4) as clients:
        answers = list(clients.map(call, tools))
    refused = [answer for status, answer in answers if status != 200]
    assert {status for status, _ in answers} <= {200, 400}
    ended = 0
    for tool, (status, answer) in zip(tools, answers, strict=True):
        if status == 200 and answer["choices"][0]["finish_reason"] == "tool_calls":
            (made,) = answer["choices"][0]["message"]["tool_calls"]
            arguments = json.loads(made["function"]["arguments"])
            assert jsonschema.Draft202012Validator(tool["parameters"]).is_valid(arguments), (tool, arguments)
            ended += 1
    print(f"{len(refused)} of 500 refused, {ended} called to the end: {refused}")
    assert len(refused) <= 5
    assert ended >= 400
