"""What an installation has of the commands' own texts: man pages, completions, and the user's service.

usage: manual.py FOLDER      writes them below that prefix

They come from the commands, as docs/cli.md does; the service is what `localq serve --install-service` writes.
"""

from __future__ import annotations

import inspect
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click
from click.shell_completion import BashComplete, FishComplete, ShellComplete, ZshComplete

from app.cli.commands import LazyGroup
from app.cli.document import EXIT_CODES
from app.cli.main import cli
from app.cli.service import systemd_unit
from kit.project import SUMMARY, source_date_epoch, version

COMPLETIONS: dict[str, type[ShellComplete]] = {
    "share/bash-completion/completions/localq": BashComplete,
    "share/zsh/vendor-completions/_localq": ZshComplete,
    "share/fish/vendor_completions.d/localq.fish": FishComplete,
}
USER_UNIT = "lib/systemd/user/localq.service"
FILES = {
    "~/.local/share/localq": "Models and chats. LOCALQ_HOME names another folder.",
    "~/.config/localq/config.toml": "Settings. LOCALQ_CONFIG names another file.",
    "/var/lib/localq": "Models of the system service, where a package brought one.",
}


def documents() -> dict[str, str]:
    """Every page, completion and unit by its path below the prefix, which is @PREFIX@ within them."""
    pages = {f"share/man/man1/{name}.1": text for name, text in _pages()}
    scripts = {
        path: kind(cli, {}, "localq", "_LOCALQ_COMPLETE").source() for path, kind in COMPLETIONS.items()
    }
    unit = systemd_unit(["@PREFIX@/bin/localq", "serve"])
    return pages | scripts | {USER_UNIT: unit}


def _pages() -> Iterator[tuple[str, str]]:
    context = click.Context(cli, info_name="localq")
    yield "localq", _main_page(context)
    for name, command in _commands(cli, context):
        yield f"localq-{name.replace(' ', '-')}", command_page(name, command)


def _commands(
    group: LazyGroup, context: click.Context, before: str = ""
) -> Iterator[tuple[str, click.Command]]:
    """Every command by its words, those within a group too."""
    for name in group.list_commands(context):
        command = group.get_command(context, name)
        assert command is not None
        yield before + name, command
        if isinstance(command, LazyGroup):
            yield from _commands(command, context, f"{before}{name} ")


def _main_page(context: click.Context) -> str:
    lines = [*_head("localq", SUMMARY), ".SH SYNOPSIS", ".B localq", "[\\fICOMMAND\\fR] [\\fIOPTIONS\\fR]"]
    lines += [".SH DESCRIPTION", *_paragraphs(cli.help or "")]
    for title, entries in cli.sections.items():
        lines.append(f'.SH "{title.upper()}"')
        for entry in entries:
            lines += [".TP", f".BR localq\\-{roff(entry.name)} (1)", roff(entry.summary)]
    lines += [".SH OPTIONS", *_options(cli, context), ".SH EXIT STATUS"]
    for code, meaning in EXIT_CODES.items():
        lines += [".TP", f".B {code}", roff(meaning)]
    lines.append(".SH FILES")
    for path, text in FILES.items():
        lines += [".TP", f".I {roff(path)}", roff(text)]
    return "\n".join(lines) + "\n"


def command_page(name: str, command: click.Command) -> str:
    """The page of one command; ``name`` is its words behind ``localq``."""
    context = click.Context(command, info_name=name)
    title = f"localq-{name.replace(' ', '-')}"
    text = inspect.cleandoc(command.help or "")
    lines = [*_head(title, _first_sentence(text)), ".SH SYNOPSIS", f".B localq {roff(name)}"]
    lines += [roff(" ".join(command.collect_usage_pieces(context)))]
    lines += [".SH DESCRIPTION", *_paragraphs(text), ".SH OPTIONS", *_options(command, context)]
    return "\n".join([*lines, ".SH SEE ALSO", ".BR localq (1)", ""])


def _head(title: str, summary: str) -> list[str]:
    day = time.strftime("%Y-%m-%d", time.gmtime(source_date_epoch()))
    return [
        f'.TH "{roff(title.upper())}" 1 "{day}" "localq {version()}" "localq"',
        *(".nh", ".ad l"),
        *(".SH NAME", f"{roff(title)} \\- {roff(summary)}"),
    ]


def _options(command: click.Command, context: click.Context) -> Iterator[str]:
    for option in command.get_params(context):
        if isinstance(option, click.Option) and not option.hidden:
            names = ", ".join([*option.opts, *option.secondary_opts])
            value = "" if option.is_flag else f" \\fI{roff(option.make_metavar(context))}\\fR"
            yield from (".TP", f"\\fB{roff(names)}\\fR{value}", roff(option.help or ""))


def _paragraphs(text: str) -> Iterator[str]:
    """Paragraphs as they flow; one that click's ``\\b`` marks keeps its lines."""
    for paragraph in inspect.cleandoc(text).split("\n\n"):
        kept = paragraph.startswith("\b")
        yield from (".PP", *([".nf"] if kept else []))
        yield from (roff(line) for line in paragraph.lstrip("\b\n").splitlines())
        yield from ([".fi"] if kept else [])


def _first_sentence(text: str) -> str:
    return re.split(r"(?<=[a-z)])[.:;](?:\s|$)", " ".join(text.split("\n\n")[0].split()))[0]


def roff(text: str) -> str:
    """Text that roff prints as it is: no escape, no request at the start of a line."""
    text = " ".join(text.split()).replace("\\", "\\e").replace("-", "\\-")
    return f"\\&{text}" if text[:1] in (".", "'") else text


def write(folder: Path) -> None:
    """Every document below ``folder``."""
    for name, text in documents().items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    write(Path(sys.argv[1]))
