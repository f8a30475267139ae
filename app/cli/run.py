"""``localq run``: one answer, or a plain chat."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any, Literal

import click

from app.cli import options
from app.cli.front import Front, GenerationLike
from app.cli.sampling import sampling_options

if TYPE_CHECKING:
    from app.cli.answer import AnswerOptions
    from app.cli.loading import Loaded
    from app.settings import Settings


@click.command("run")
@click.argument("model")
@click.argument("prompt", required=False)
@click.option("--system", metavar="TEXT", help="System prompt.  [default: the model's]")
@sampling_options
@click.option("--max-tokens", type=click.IntRange(1), metavar="N", help="End an answer after N tokens.")
@click.option(
    "--stop",
    multiple=True,
    metavar="TEXT",
    help="End an answer before this text; may be given several times.",
)
@click.option("--raw", is_flag=True, help="Complete the prompt as it is, without the model's chat template.")
@click.option("--stats", is_flag=True, help="Print tokens and speed after an answer, on stderr.")
@options.engine_options
@options.output_options
@options.pass_front
def command(
    front: Front,
    model: str,
    prompt: str | None,
    system: str | None,
    sampling: dict[str, Any],
    max_tokens: int | None,
    stop: tuple[str, ...],
    raw: bool,
    stats: bool,
    context: int | None,
    threads: int | None,
    kv: str | None,
    ram: int | None,
    gpu_layers: int | Literal["auto"],
    force: bool,
) -> None:
    """Answer PROMPT with MODEL, or chat line by line where no prompt is given.

    MODEL is the name of a stored model, a path to a GGUF file, or 'demo', which is fetched when missing.
    Text piped into the command is attached to the prompt; alone it is the prompt.

    Lines typed in the chat are kept for the next time, readable by their owner only, unless the setting
    'history' is false (in the settings file, or LOCALQ_HISTORY=false). Conversations are not kept, unless the
    setting 'chats' is 'all' (LOCALQ_CHATS=all): then 'localq chats' has those of the chat; single answers
    never are.

    Ctrl-C stops an answer. Control characters in an answer are shown, not obeyed; --json keeps them, escaped.
    """
    from app.cli.again import again
    from app.cli.answer import AnswerOptions, with_temperature
    from app.cli.loading import load
    from app.cli.piped import piped_text, require_text, with_attachment
    from app.errors import WrongUse
    from runtime.engine.messages import SamplingParams

    settings = front.settings(context=context, threads=threads, kv=kv, ram=ram)
    if raw and system is not None:
        raise WrongUse(
            "--system needs the chat template that --raw leaves out; use one of the two",
            next_command=again(front, without=("--system",)),
        )
    for what, text in (("the prompt", prompt), ("--system", system), *(("--stop", text) for text in stop)):
        require_text(what, text)
    piped = piped_text(front.out.note)
    front.piped = piped is not None
    request = with_attachment(prompt, piped)
    if request is None and (front.out.json or not sys.stdin.isatty()):
        raise WrongUse(
            "there is no prompt; give one, or pipe one in"
            + (" (--json does not chat)" if front.out.json else ""),
            next_command=again(front, "Hello"),
        )
    answers = AnswerOptions(
        sampling=SamplingParams(**sampling),
        max_tokens=max_tokens,
        stop=stop,
        raw=raw,
    )
    with load(front, settings, model, gpu_layers=gpu_layers, force=force) as loaded:
        if not raw:
            system = loaded.defaults.system if system is None else system
            answers = with_temperature(
                answers, None if "temperature" in sampling else loaded.defaults.temperature
            )
        if request is None:
            _chat(front, loaded, answers, system, stats, settings)
        else:
            _answer(front, loaded, answers, system, request, stats)


def _answer(
    front: Front, loaded: Loaded, answers: AnswerOptions, system: str | None, request: str, stats: bool
) -> None:
    from app.cli.answer import begin, collect, document, statistics
    from app.cli.errors import INTERRUPTED

    out = front.out
    turns = [{"role": "user", "content": request}]

    def start() -> GenerationLike:
        return begin(loaded.engine, system, turns, answers)

    with out.progress("reading the prompt") as progress:
        if out.json:
            answer = collect(start, lambda _text: None, progress)
            out.event(document(loaded.name, answer))
        else:
            with out.stream() as stream:
                answer = collect(start, stream.feed, progress)
    if answer.finished.reason == "length" and answer.used_tokens() >= loaded.info.context_tokens:
        out.warn(
            f"the answer ends here because the context of {loaded.info.context_tokens} tokens is full; "
            + _more_room(loaded.info.context_tokens, front.trained_context)
        )
    if stats and not out.json:
        out.tell(statistics(answer))
    if answer.cancelled:
        raise click.exceptions.Exit(INTERRUPTED)


def _more_room(context: int, trained: int) -> str:
    if trained and context >= trained:
        return f"the model was trained for {trained}: a shorter prompt leaves more room"
    return f"--ctx {min(2 * context, trained or 2 * context)} gives it more room"


def _chat(
    front: Front,
    loaded: Loaded,
    answers: AnswerOptions,
    system: str | None,
    stats: bool,
    settings: Settings,
) -> None:
    from app.cli.history import History
    from app.cli.keeping import Keeper
    from app.cli.lines import LineReader
    from app.cli.repl import Repl

    reader = LineReader(History(loaded.home / "history") if settings.history else None, front.out.warn)
    keep = settings.chats == "all" and not answers.raw
    with Keeper(loaded.home if keep else None, loaded.name, front.out.warn) as keeper:
        Repl(
            front,
            loaded.engine,
            answers,
            reader.read,
            context_tokens=loaded.info.context_tokens,
            system=system,
            show_statistics=stats,
            keeper=keeper,
        ).run()
