"""Runs the command line in this process, with a store of its own and an engine without a model."""

from __future__ import annotations

import json
import shlex
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from click.testing import CliRunner

from app.cli.front import EngineLike, Front
from app.cli.main import cli
from app.store import Store
from runtime.engine.config import EngineConfig
from tests.app.fake_engine import FakeEngine
from tests.app.tiny_model import write_tiny_model


@dataclass
class Ran:
    """What a command left behind."""

    exit_code: int
    stdout: str
    stderr: str

    @property
    def last_line(self) -> str:
        return self.stderr.rstrip("\n").rsplit("\n", 1)[-1]

    def json(self) -> Any:
        """The one document on stdout."""
        (line,) = self.stdout.splitlines()
        return json.loads(line)

    def error(self) -> Any:
        """The one error on stderr, of a command with --json."""
        (line,) = self.stderr.splitlines()
        return json.loads(line)["error"]


@dataclass
class Cli:
    """``run`` runs ``localq`` with the given words."""

    folder: Path
    engines: list[FakeEngine] = field(default_factory=list)
    make_engine: Callable[..., FakeEngine] = FakeEngine
    environment: dict[str, str] = field(default_factory=dict)

    @property
    def home(self) -> Path:
        return self.folder / "home"

    @property
    def store(self) -> Store:
        return Store(self.home)

    def run(self, *words: str, piped: str | bytes | None = None) -> Ran:
        """One command; ``piped`` is its stdin."""
        config = self.folder / "config.toml"
        config.touch()
        environment = {
            "LOCALQ_HOME": str(self.home),
            "LOCALQ_CONFIG": str(config),
            "LOCALQ_DEBUG": None,
            **self.environment,
        }
        front = Front(open_engine=self._open_engine)
        result = CliRunner().invoke(cli, words, input=piped, obj=front, env=environment, prog_name="localq")
        return Ran(result.exit_code, result.stdout, result.stderr)

    def follow(self, ran: Ran) -> None:
        """Run what ``ran`` proposes as its last line, and expect that it works."""
        assert ran.last_line.startswith("next: "), ran.stderr
        for command in ran.last_line.removeprefix("next: ").split(" && "):
            program, *words = shlex.split(command)
            assert program == "localq", command
            followed = self.run(*words)
            assert followed.exit_code == 0, followed.stderr

    def add_model(self, name: str = "tiny", **texts: Any) -> Path:
        """Stores a tiny model, and returns the file that it came from."""
        path = write_tiny_model(self.folder / f"{name.replace('/', '-')}.gguf", **texts)
        self.store.import_file(path, name)
        return path

    def _open_engine(self, config: EngineConfig, on_progress: Callable[[float], None] | None) -> EngineLike:
        engine = self.make_engine(config, on_progress)
        self.engines.append(engine)
        return engine
