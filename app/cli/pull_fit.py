"""Whether a model will fit this machine's memory, said before its weights are fetched."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

from app.cli.again import again, with_word
from app.cli.front import Front
from app.cli.text import format_bytes

if TYPE_CHECKING:
    from app.hub.api import Hub
    from app.hub.choose import Choice
    from app.settings import Settings


def require_fit(front: Front, hub: Hub, choice: Choice, settings: Settings, *, force: bool) -> None:
    """Reads the model's headers on the Hub, and says in what form it fits.

    Raises :class:`app.errors.ModelDoesNotFit` unless ``force``, and :class:`app.errors.NoSuchChoice` for a
    header that is not valid.
    """
    from app.errors import ModelDoesNotFit
    from app.hub.fit import next_smaller, plan_remote, remote_headers
    from runtime.errors import DoesNotFit
    from runtime.hardware import this_machine

    with front.out.progress("reading its header"):
        headers = remote_headers(hub, choice)
    plan = plan_remote(headers, this_machine(ram=settings.ram), settings)
    try:
        plan.check()
    except DoesNotFit as error:
        if not force:
            smaller = next_smaller(choice, plan.total - plan.available)
            raise ModelDoesNotFit(
                error, _way_out(front, choice, smaller.label if smaller else None)
            ) from error
        front.out.warn(f"{str(error).splitlines()[0].rstrip(':.')}; fetching it all the same (--force)")
        return
    front.out.note(
        f"It will take {format_bytes(plan.total)} of the {format_bytes(plan.available)} of memory that it "
        f"may have here, with a context of {plan.config.context_tokens} tokens."
    )


def _way_out(front: Front, choice: Choice, label: str | None) -> str:
    if label is None or front.model is None:
        return again(front, "--force")
    if label.lower().endswith(".gguf"):
        return f"localq pull {shlex.quote(f'{choice.repo.repo}/{label}')}"
    return with_word(front, front.model, f"{choice.repo.repo}:{label}")
