"""One table: what was raised -> the exit code, and the command to run next.

With ``--json`` an error is one object on one line of stderr: ``{"error": {"type", "message", "exit_code",
"next", "details"}}``; ``details`` are the facts that the exception carries. LOCALQ_DEBUG=1 adds the
traceback.
"""

from __future__ import annotations

import errno
import os
import shlex
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from app.cli.again import again, with_word
from app.cli.front import Front
from app.errors import (
    ChatsBusy,
    ChatsError,
    FetchFailed,
    FixFailed,
    HubError,
    InvalidName,
    ModelNotFound,
    NoSuchModel,
    NotEnoughDisk,
    ServerUnreachable,
    StoreError,
    UnconvertedModel,
    UnreadableExport,
    UnsuitableFile,
    WrongUse,
)
from app.paths import expand
from quant.errors import (
    CannotConvert,
    CannotEncode,
    CannotTrain,
    CheckpointDamaged,
    InvalidText,
    JobFailed,
    NoRoom,
    OutputExists,
    SourceDamaged,
    TextTooShort,
    TorchMissing,
    WorkInUse,
)
from runtime.errors import (
    DoesNotFit,
    EngineError,
    GgufError,
    InvalidRequest,
    KernelError,
    LocalqError,
    ModelLoadFailed,
    PromptTooLong,
    TemplateError,
    VocabulariesDiffer,
)

DONE, FAILED, WRONG_USE, DOES_NOT_FIT, INTERRUPTED = 0, 1, 2, 3, 130

LEAST_CHUNK = 16
CALIBRATION_STEP = 512
"""Tokens of a chunk: the least for ``eval``, and that of calibration."""

LISTED = (
    "llama_model_loader: - ",
    "llama_model_loader: loaded meta data",
    "llama_model_loader: Dumping",
    "print_info: ",
    "llama_graph_n_input_tensors: ",
    "graph_reserve: reserving",
    "sched_reserve: ",
    "set_warmup: ",
)
"""Beginnings of lines that llama.cpp writes of every model that it loads."""

DEBUG_VARIABLE = "LOCALQ_DEBUG"


@dataclass(frozen=True)
class Rule:
    """What follows from an exception of ``kind``; the first rule that matches counts."""

    kind: type[BaseException]
    exit_code: int
    next_command: Callable[[Any, Front], str]


def _model(front: Front) -> str:
    return shlex.quote(front.model) if front.model else "MODEL"


def _always(command: str) -> Callable[[Any, Front], str]:
    return lambda _error, _front: command


def _longer_context(error: PromptTooLong, front: Front) -> str:
    # Room for the prompt and an answer of 512 tokens, in steps of 1024.
    tokens = max(-(-(error.prompt_tokens + 512) // 1024) * 1024, error.context_tokens + 1024)
    trained = front.trained_context
    if trained and tokens > trained:
        if max(error.prompt_tokens, error.context_tokens) >= trained:
            about = "at least " if error.at_least else ""
            return (
                f"shorten the prompt: it has {about}{error.prompt_tokens} tokens, "
                f"and the model was trained for {trained}"
            )
        tokens = trained
    return again(front, "--ctx", str(tokens))


def _longer_text(error: TextTooShort, front: Front) -> str:
    """For ``eval``, chunks of half of what the text has; for ``quantize``, as many tokens as it has; for
    ``train-quant`` the built-in texts."""
    if "train-quant" in front.arguments[:3]:
        choice = "--data" if error.step == "calibration" else "--eval"
        return again(front, choice, "builtin")
    if "quantize" in front.arguments[:3]:
        if error.step == "evaluation":
            return again(front, "--eval", "builtin")
        enough = error.tokens // CALIBRATION_STEP * CALIBRATION_STEP
        return again(front, "--calib-tokens", str(enough)) if enough else "localq quantize --help"
    tokens = error.tokens // 2
    return again(front, "--ctx", str(tokens)) if tokens >= LEAST_CHUNK else "localq eval --help"


def _without_a_model(error: JobFailed, front: Front) -> str:
    """What ``quantize`` can do all the same."""
    if "quantize" not in front.arguments[:3]:
        return "localq doctor"
    return again(front, "--calib" if error.step == "calibration" else "--eval", "none")


def _unloadable(_error: ModelLoadFailed, front: Front) -> str:
    """``quantize`` loads the model to judge it, when everything else is done."""
    return again(front, "--eval", "none") if "quantize" in front.arguments[:3] else "localq doctor"


def _make_room(error: OSError, _front: Front) -> str:
    return "localq df" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "localq doctor"


def _meant(error: ModelNotFound | NoSuchModel, front: Front) -> str:
    """Where only one name comes near, the command with that: but nothing is removed on a guess."""
    wrong, near = (
        (error.reference, error.near) if isinstance(error, ModelNotFound) else (error.name, error.nearest)
    )
    if len(near) == 1 and wrong in front.arguments and "rm" not in front.arguments[:3]:
        return with_word(front, wrong, near[0])
    if isinstance(error, ModelNotFound) and _is_on_the_hub(wrong):
        return f"localq pull {shlex.quote(wrong)}"
    if isinstance(error, ModelNotFound) and "/" in wrong and "\0" not in wrong:
        return _look_beside(Path(wrong))
    return "localq list"


def _is_on_the_hub(reference: str) -> bool:
    """Whether a text that names nothing here names something that could be pulled."""
    from app.errors import InvalidReference
    from app.hub.reference import CatalogReference, HubReference, parse_reference

    try:
        parsed = parse_reference(reference)
    except InvalidReference:
        return False
    if isinstance(parsed, CatalogReference):
        from app.hub.catalog import catalog

        return parsed.name in catalog()
    # ``folder/model.gguf`` is a path that does not exist, ``Org/Model`` is none of a file
    return isinstance(parsed, HubReference) and not parsed.repo.lower().endswith(".gguf")


def _look_beside(path: Path) -> str:
    """The command that shows what is there, in the nearest folder that exists."""
    folder = expand(path).absolute().parent
    while not os.path.lexists(folder) and folder != folder.parent:
        folder = folder.parent
    return f"ls -l {shlex.quote(str(folder))}"


def _look_at(path: Path) -> str:
    return f"ls -l {shlex.quote(str(path))}" if os.path.lexists(path) else _look_beside(path)


def _unsuitable(error: UnsuitableFile, _front: Front) -> str:
    return "localq import --help" if os.path.lexists(error.path) else _look_beside(error.path)


def _unreadable(error: UnreadableExport, _front: Front) -> str:
    return "localq chats import --help" if os.path.lexists(error.path) else _look_beside(error.path)


def _invalid(error: GgufError, front: Front) -> str:
    if error.path.parent.name == "blobs" and front.model:
        return f"localq verify {shlex.quote(front.model)}"
    return _look_at(error.path)


def _help(error: click.UsageError, _front: Front) -> str:
    if isinstance(error, click.MissingParameter) and error.ctx and error.ctx.info_name == "run":
        return "localq run demo"
    return f"{error.ctx.command_path if error.ctx else 'localq'} --help"


def _debug(_error: BaseException, front: Front) -> str:
    return f"{DEBUG_VARIABLE}=1 {shlex.join(['localq', *front.arguments])}"


RULES: tuple[Rule, ...] = (
    Rule(NoRoom, DOES_NOT_FIT, lambda error, _front: f"df -h {shlex.quote(str(error.folder))}"),
    Rule(DoesNotFit, DOES_NOT_FIT, lambda _error, front: f"localq show {_model(front)}"),
    Rule(PromptTooLong, DOES_NOT_FIT, _longer_context),
    Rule(WrongUse, WRONG_USE, _always("localq --help")),
    Rule(InvalidRequest, WRONG_USE, _always("localq run --help")),
    Rule(InvalidName, WRONG_USE, _always("localq list")),
    Rule(NotEnoughDisk, DOES_NOT_FIT, _always("localq df")),
    Rule(UnsuitableFile, FAILED, _unsuitable),
    Rule(ServerUnreachable, FAILED, _always("localq ps")),
    Rule(ModelNotFound, FAILED, _meant),
    Rule(UnconvertedModel, FAILED, lambda error, _front: f"localq import {shlex.quote(str(error.path))}"),
    Rule(NoSuchModel, FAILED, _meant),
    Rule(UnreadableExport, FAILED, _unreadable),
    Rule(ChatsBusy, FAILED, lambda _error, front: again(front)),
    Rule(ChatsError, FAILED, _always("localq chats")),
    Rule(FixFailed, FAILED, _always("localq doctor")),
    Rule(FetchFailed, FAILED, _always("localq run demo")),
    Rule(HubError, FAILED, lambda _error, front: again(front)),
    Rule(StoreError, FAILED, _always("localq verify")),
    Rule(GgufError, FAILED, _invalid),
    Rule(TemplateError, FAILED, lambda _error, front: again(front, "--raw", without=("--system",))),
    Rule(TextTooShort, FAILED, _longer_text),
    Rule(InvalidText, FAILED, lambda error, _front: _look_beside(error.path)),
    Rule(SourceDamaged, FAILED, lambda _error, front: f"localq show {_model(front)}"),
    Rule(CheckpointDamaged, FAILED, lambda error, _front: _look_at(error.path)),
    Rule(CannotConvert, FAILED, lambda error, _front: _look_at(error.folder)),
    Rule(TorchMissing, FAILED, _always(f"{shlex.quote(sys.executable)} -m pip install torch")),
    Rule(CannotTrain, WRONG_USE, _always("localq train-quant --help")),
    Rule(CannotEncode, WRONG_USE, _always("localq quantize --help")),
    Rule(JobFailed, FAILED, _without_a_model),
    Rule(OutputExists, FAILED, lambda error, _front: f"ls -l {shlex.quote(str(error.path))}"),
    Rule(WorkInUse, FAILED, lambda _error, front: again(front)),
    Rule(VocabulariesDiffer, FAILED, lambda _error, front: f"localq show {_model(front)}"),
    Rule(ModelLoadFailed, FAILED, _unloadable),
    Rule(KernelError, FAILED, _always("localq doctor")),
    Rule(EngineError, FAILED, _always("localq doctor")),
    Rule(LocalqError, FAILED, _always("localq doctor")),
    Rule(click.UsageError, WRONG_USE, _help),
    Rule(click.ClickException, FAILED, _always("localq --help")),
    Rule(OSError, FAILED, _make_room),
    Rule(MemoryError, FAILED, _always("localq doctor")),
    Rule(Exception, FAILED, _debug),
)


def report(error: BaseException, front: Front) -> int:
    """Tell a person what happened, and return the exit code. Raises again what is no failure of a command."""
    if isinstance(error, (click.Abort, KeyboardInterrupt)):
        if front.out.json:
            facts = {"message": "interrupted", "exit_code": INTERRUPTED, "next": None, "details": {}}
            front.out.error("", "", {"type": "Interrupted", **facts})
        return INTERRUPTED
    if not isinstance(error, Exception):
        raise error
    if isinstance(error, click.UsageError) and _wants_json(front.arguments):
        front.out.json = True  # the option itself may stand behind what could not be parsed
    if os.environ.get(DEBUG_VARIABLE):
        _print_traceback(error)
    rule = next(rule for rule in RULES if isinstance(error, rule.kind))
    own: str | None = getattr(error, "next_command", None)
    message, next_command = describe(error), own or rule.next_command(error, front)
    document = {
        "type": type(error).__name__,
        "message": message,
        "exit_code": rule.exit_code,
        "next": next_command,
        "details": _details(error),
    }
    front.out.error(message, next_command, document)
    return rule.exit_code


def describe(error: Exception) -> str:
    """One exception in a person's words, without its traceback."""
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, LocalqError):
        return "\n".join([str(error), *_telling(getattr(error, "log", ""))])
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename else error.strerror
    if isinstance(error, MemoryError):
        return "the machine has no memory left for localq itself"
    return f"unexpected {type(error).__name__}: {error} (a bug in localq; the traceback shows where)"


def _telling(log: str) -> list[str]:
    """The lines of a worker's log that may say what failed: not what llama.cpp lists of every model."""
    lines = log.rstrip().splitlines()
    if os.environ.get(DEBUG_VARIABLE):
        return lines
    return [line for line in lines if not line.startswith(LISTED)]


def _details(error: Exception) -> dict[str, Any]:
    plain = (str, int, float, bool, type(None))
    facts = vars(error) if isinstance(error, LocalqError) else {}
    return {
        name: value if isinstance(value, plain) else list(value) if isinstance(value, tuple) else str(value)
        for name, value in facts.items()
        if not name.startswith("_") and name != "next_command"
    }


def _wants_json(arguments: tuple[str, ...]) -> bool:
    options = arguments[: arguments.index("--")] if "--" in arguments else arguments
    return "--json" in options


def _print_traceback(error: Exception) -> None:
    import traceback

    from app.terminal import sanitize

    sys.stderr.write(sanitize("".join(traceback.format_exception(error))))
