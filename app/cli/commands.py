"""The commands that exist, each in a module of its own that is imported when it is run."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import click


@dataclass(frozen=True)
class Entry:
    """A command's name, its module (which holds it as ``command``), and its line in the help."""

    name: str
    module: str
    summary: str


SECTIONS: dict[str, tuple[Entry, ...]] = {
    "Talk": (
        Entry("chat", "app.cli.chat", "Open the terminal app with a new chat."),
        Entry("run", "app.cli.run", "Answer one prompt, or chat line by line."),
        Entry("chats", "app.cli.chats", "List, search, export and delete kept chats."),
    ),
    "Serve": (
        Entry("serve", "app.cli.serve", "Serve models to editors, agents and scripts."),
        Entry("connect", "app.cli.connect", "Print the settings for programs that use the endpoint."),
        Entry("key", "app.cli.key", "Make, list and remove keys for the endpoint."),
        Entry("ps", "app.cli.ps", "Show the servers that run, and their models."),
        Entry("stop", "app.cli.stop", "End the servers, or unload a model."),
    ),
    "Models": (
        Entry("search", "app.cli.search", "Find models on the Hub, and how they fit here."),
        Entry("pull", "app.cli.pull", "Fetch a model from the Hub, verified."),
        Entry("import", "app.cli.import_", "Adopt a GGUF file, or convert a folder of safetensors."),
        Entry("list", "app.cli.list_", "List the stored models."),
        Entry("show", "app.cli.show", "Show a model: origin, licence, shape, memory."),
        Entry("export", "app.cli.export", "Write a model as a GGUF that any llama.cpp runs."),
        Entry("cp", "app.cli.cp", "Give a model a second name."),
        Entry("rm", "app.cli.rm", "Remove models."),
    ),
    "Quality": (
        Entry("plan", "app.cli.plan", "Say what of a model fits this machine, and how good it is."),
        Entry("quantize", "app.cli.quantize", "Make a smaller model, judge it, and certify it."),
        Entry("train-quant", "app.cli.train_quant", "Make a model in few bits, and train it further."),
        Entry("refit", "app.cli.refit", "Make a fitted model again for another memory."),
        Entry("eval", "app.cli.eval", "Judge a model, by itself and against its original."),
    ),
    "Store": (
        Entry("verify", "app.cli.verify", "Read every stored byte again and compare."),
        Entry("gc", "app.cli.gc", "Delete what no model needs."),
        Entry("df", "app.cli.df", "Show the room that models take."),
    ),
    "This machine": (
        Entry("bench", "app.cli.bench", "Measure a model's speed and memory."),
        Entry("doctor", "app.cli.doctor", "Check this machine, and say what to do."),
    ),
}

ENTRIES: dict[str, Entry] = {entry.name: entry for entries in SECTIONS.values() for entry in entries}


class LazyGroup(click.Group):
    """A group whose help needs none of its commands' modules; ``sections`` are its commands."""

    def __init__(
        self, *args: Any, sections: Mapping[str, tuple[Entry, ...]] = SECTIONS, **kwargs: Any
    ) -> None:
        super().__init__(*args, **kwargs)
        self.sections = sections
        self.entries = {entry.name: entry for entries in sections.values() for entry in entries}

    def list_commands(self, ctx: click.Context) -> list[str]:
        return list(self.entries)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        entry = self.entries.get(cmd_name)
        if entry is None:
            return None
        command: click.Command = importlib.import_module(entry.module).command
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        name = args[0]
        if name not in self.entries and not name.startswith("-") and not ctx.resilient_parsing:
            import difflib

            near = difflib.get_close_matches(name, self.entries, n=1)
            raise click.UsageError(
                f"there is no command {name!r}" + (f"; did you mean {near[0]!r}?" if near else ""), ctx
            )
        return super().resolve_command(ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        width = max(map(len, self.entries))
        for title, entries in self.sections.items():
            with formatter.section(title):
                formatter.write_dl(
                    [(entry.name.ljust(width), entry.summary) for entry in entries], col_spacing=2
                )
