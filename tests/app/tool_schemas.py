"""Schemas of real tools, fetched once: the functions of the Berkeley Function Calling Leaderboard (PyPI's
``bfcl-eval``, Apache 2.0), and what servers of the Model Context Protocol say of themselves (npm, MIT)."""

from __future__ import annotations

import contextlib
import json
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

from tests.conftest import REPOSITORY

FOLDER = REPOSITORY / ".cache" / "tool-schemas"
TYPES = {"dict": "object", "float": "number", "tuple": "array", "any": None}
"""The leaderboard's names of types, where they are not JSON Schema's."""
SERVERS: dict[str, list[str]] = {
    "everything": [],
    "filesystem": ["."],
    "github": [],
    "memory": [],
    "sequential-thinking": [],
}


def leaderboard_tools() -> list[dict[str, Any]]:
    """Functions as ``{"name", "parameters"}``, each schema once; types of Java and of JavaScript are none.

    Raises CalledProcessError without PyPI.
    """
    FOLDER.mkdir(parents=True, exist_ok=True)
    if not list(FOLDER.glob("bfcl_eval*.whl")):
        command = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(FOLDER), "bfcl-eval"]
        subprocess.run(command, check=True, timeout=240)
    found: dict[str, dict[str, Any]] = {}
    with zipfile.ZipFile(next(FOLDER.glob("bfcl_eval*.whl"))) as wheel:
        for name in sorted(wheel.namelist()):
            folder, _, file = name.rpartition("/")
            if file.endswith(".json") and folder.endswith(("data", "multi_turn_func_doc")):
                for function in functions_of(wheel.read(name).decode()):
                    schema = as_json_schema(function["parameters"])
                    with contextlib.suppress(jsonschema.SchemaError):
                        jsonschema.Draft202012Validator.check_schema(schema)
                        found[json.dumps(schema, sort_keys=True)] = function | {"parameters": schema}
    return list(found.values())


def functions_of(text: str) -> Iterator[dict[str, Any]]:
    """The functions in documents of JSON that follow each other: each is one, or a case that has some."""
    decoder, place = json.JSONDecoder(), 0
    while place < len(text):
        case, place = decoder.raw_decode(text, place)
        yield from case.get("function", [case] if "parameters" in case else [])
        while text[place : place + 1].isspace():
            place += 1


def as_json_schema(value: Any) -> Any:
    """A schema of the leaderboard's with JSON Schema's names of types."""
    if isinstance(value, list):
        return [as_json_schema(item) for item in value]
    if not isinstance(value, dict):
        return value
    renamed = {key: as_json_schema(item) for key, item in value.items()}
    kind = value.get("type")
    if isinstance(kind, str) and kind in TYPES:
        del renamed["type"]
        if TYPES[kind]:
            renamed["type"] = TYPES[kind]
    return renamed


def protocol_tools() -> list[dict[str, Any]]:
    """Tools of servers of the protocol, asked over their pipes. Raises CalledProcessError without npm."""
    FOLDER.mkdir(parents=True, exist_ok=True)
    binaries = FOLDER / "node_modules" / ".bin"
    if not binaries.is_dir():
        packages = [f"@modelcontextprotocol/server-{name}" for name in SERVERS]
        command = ["npm", "install", "--no-audit", "--no-fund", "--no-save", *packages]
        (FOLDER / "package.json").write_text("{}")
        subprocess.run(command, cwd=FOLDER, check=True, timeout=240, capture_output=True)
    return [
        {"name": tool["name"], "parameters": tool["inputSchema"]}
        for name, words in SERVERS.items()
        for tool in listed([str(binaries / f"mcp-server-{name}"), *words], FOLDER)
    ]


def listed(command: list[str], folder: Path) -> list[dict[str, Any]]:
    """The answer of one server to ``tools/list``."""
    hello = {"protocolVersion": "2025-06-18", "capabilities": {}, "clientInfo": {"name": "t", "version": "1"}}
    messages: list[dict[str, Any]] = [
        {"id": 1, "method": "initialize", "params": hello},
        {"method": "notifications/initialized"},
        {"id": 2, "method": "tools/list"},
    ]
    process = subprocess.Popen(
        command,
        cwd=folder,
        text=True,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    try:
        assert process.stdin is not None and process.stdout is not None
        for message in messages:
            process.stdin.write(json.dumps({"jsonrpc": "2.0", **message}) + "\n")
        process.stdin.flush()
        for line in process.stdout:
            answer = json.loads(line)
            if answer.get("id") == 2:
                tools: list[dict[str, Any]] = answer["result"]["tools"]
                return tools
        raise AssertionError(f"{command[0]} did not answer")
    finally:
        process.kill()
        process.communicate()
