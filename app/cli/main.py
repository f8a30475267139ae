"""The entry point ``localq``: global options, the lazy commands, and the end of every error."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from typing import Any

import click

from app.cli.commands import LazyGroup
from app.cli.front import Front
from app.cli.options import output_options


class Localq(LazyGroup):
    """The whole command line: no exception leaves it, only an exit code of ``app.cli.errors``."""

    def main(
        self,
        args: Sequence[str] | None = None,
        prog_name: str | None = None,
        complete_var: str | None = None,
        standalone_mode: bool = True,
        **extra: Any,
    ) -> Any:
        arguments = tuple(sys.argv[1:] if args is None else args)
        front = extra.setdefault("obj", Front())
        front.arguments = arguments
        if not standalone_mode:
            return super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        try:
            code = super().main(arguments, prog_name, complete_var, standalone_mode=False, **extra)
        except SystemExit:
            raise
        except BaseException as error:
            from app.cli.errors import report

            code = report(error, front)
        sys.exit(code if isinstance(code, int) else 0)


def _version(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    if value and not ctx.resilient_parsing:
        from app.version import VERSION

        click.echo(f"localq {VERSION}")
        ctx.exit()


@click.group(
    cls=Localq, invoke_without_command=True, context_settings={"help_option_names": ["-h", "--help"]}
)
@click.option(
    "--version", is_flag=True, expose_value=False, is_eager=True, callback=_version, help="Print the version."
)
@click.option("--inline", is_flag=True, help="The terminal app below the prompt, not on the whole screen.")
@output_options
@click.pass_context
def cli(ctx: click.Context, inline: bool) -> None:
    """Run a language model on this machine. Nothing leaves it.

    Without a command: the terminal app, with the chat that was open last. Start with:  localq
    """
    if ctx.invoked_subcommand is not None:
        return
    from app.cli.app import has_terminal, open_app

    front = ctx.ensure_object(Front)
    if has_terminal() and not front.out.json:
        open_app(front, front.settings(), inline=inline)
    else:
        click.echo(ctx.get_help())


def main() -> None:
    """Run the command line and exit."""
    cli.main(prog_name="localq")


if __name__ == "__main__":
    main()
