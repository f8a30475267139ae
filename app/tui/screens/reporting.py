"""What the screens share: what fails in their workers is said, and never ends the app."""

from __future__ import annotations

from typing import TYPE_CHECKING

from textual.message_pump import MessagePump
from textual.worker import Worker, WorkerState

if TYPE_CHECKING:
    from app.tui.app import LocalqApp


class Reporting(MessagePump):
    """For screens whose workers have ``exit_on_error=False``."""

    app: LocalqApp

    def on_worker_state_changed(self, event: Worker.StateChanged) -> None:
        """A failure that nobody expected."""
        if event.state is WorkerState.ERROR and isinstance(event.worker.error, Exception):
            self.app.fail(event.worker.error)
