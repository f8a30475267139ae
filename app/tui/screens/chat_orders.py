"""What the commands of a chat do: other screens, the model, the chat as a whole."""

from __future__ import annotations

import asyncio
import inspect
from pathlib import Path
from typing import Any

import msgspec
from textual import work

from app.chats import Prompt
from app.terminal import sanitize
from app.tui.commands import Command
from app.tui.screens.chat_answers import ChatAnswers
from runtime.errors import LocalqError

FIRST_QUESTION = "Hello! What can you do for me?"
"""Proposed on a new machine: Enter is all that a first answer takes."""


class ChatOrders(ChatAnswers):
    """Actions by the names in :mod:`app.tui.commands`."""

    async def order(self, command: Command, argument: str = "") -> None:
        """Do what a command says."""
        action = getattr(self, f"action_{command.action}")
        takes = bool(inspect.signature(action).parameters)
        done: Any = action(argument) if takes else action()
        if inspect.iscoroutine(done):
            await done

    async def choose(self, command: Command) -> None:
        """Do it, or begin it in the editor where it needs to know more."""
        if command.needs_argument:
            self.editor.put(f"/{command.name} ")
            self.editor.focus()
        else:
            await self.order(command)

    # -- screens --------------------------------------------------------------------------------------------

    def action_help(self) -> None:
        """Keys and commands."""
        from app.tui.screens.help import Help

        self.app.push_screen(Help())

    @work(group="screen", exit_on_error=False)
    async def action_history(self) -> None:
        """The chats; opens the one that is chosen."""
        from app.tui.screens.history import History

        if self.session is None:
            return
        await self.keep_now()
        chosen = await self.app.push_screen_wait(History(self.session.chats))
        if self._gone():
            self.session.begin()
            self.show()
        else:
            await asyncio.to_thread(self.session.reload)
            self.show_title()
        if chosen is not None and await self._leave_answer():
            chat_id, message_id = chosen
            if message_id is not None:
                await asyncio.to_thread(self.session.chats.select, message_id)
            await self.open_chat(chat_id, None if message_id is None else (message_id, 0))
            self.load_model()

    @work(group="screen", exit_on_error=False)
    async def action_models(self) -> None:
        """The models; uses the one that is chosen."""
        from app.tui.screens.models import Models

        chosen = await self.app.push_screen_wait(Models())
        if chosen is not None:
            await self.action_use_model(chosen)
        else:
            self.load_model()  # it may have made room for another

    async def action_use_model(self, name: str) -> None:
        """Answers come from another model from now on."""
        if self.session is not None and await self._leave_answer():
            await asyncio.to_thread(self.session.choose, model=name)
            self.show_title()
            if not self.transcript.entries:
                self.show()
            self.load_model()

    @work(group="screen", exit_on_error=False)
    async def action_parameters(self) -> None:
        """Sampling, context, KV cache, threads."""
        from app.tui.screens.parameters import Parameters

        if self.session is None:
            return
        chosen = await self.app.push_screen_wait(
            Parameters(self.session.preferences, self.app.host, self.session.model)
        )
        if chosen is not None and await self._leave_answer():
            await asyncio.to_thread(self.session.choose, preferences=chosen)
            self.load_model()

    @work(group="screen", exit_on_error=False)
    async def action_branches(self) -> None:
        """The chat as a tree; shows the branch that is chosen."""
        from app.tui.screens.branches import Branches

        if self.session is None or not self.session.path:
            self.notify("There is nothing in this chat yet.")
            return
        chosen = await self.app.push_screen_wait(Branches(self.session.tree, self.session.path[-1].id))
        if chosen is not None and await self._leave_answer():
            await asyncio.to_thread(self.session.select, chosen)
            self.show((chosen, 0))

    def action_memory(self) -> None:
        """What the model takes, against what there is."""
        from app.tui.screens.ledger import Ledger

        self.app.push_screen(Ledger(self.app.host))

    def action_compare(self) -> None:
        """One prompt, two models."""
        from app.tui.screens.compare import Compare

        text = self.session.path[0].content if self.session is not None and self.session.path else ""
        self.app.push_screen(Compare(self.session.model if self.session is not None else None, text))

    # -- the chat -------------------------------------------------------------------------------------------

    async def action_new_chat(self) -> None:
        """Another chat, with the same model and parameters."""
        if self.session is not None and await self._leave_answer():
            await self.keep_now()
            self.session.begin()
            await self.restore_draft()
            self.show()
            self.gauge(used=0, writing=None, reading=None, joules=None, dropped=0)
            self.editor.focus()

    async def action_rename(self, title: str) -> None:
        """Gives the chat a title."""
        if title:
            await self._change(title=title)
        else:
            self._ask_title()

    @work(group="dialog", exit_on_error=False)
    async def _ask_title(self) -> None:
        from app.tui.screens.choose import Ask

        assert self.session is not None
        title = await self.app.push_screen_wait(Ask("Title of the chat", value=self.session.title))
        if title:
            await self._change(title=title)

    async def action_folder(self, name: str) -> None:
        """Puts the chat into a folder; no name takes it out."""
        await self._change(folder=name)

    async def action_pin(self) -> None:
        """First in the history, or no longer."""
        if self.session is not None and self.session.chat is not None:
            pinned = not self.session.chat.pinned
            await self._change(pinned=pinned)
            self.notify("Pinned: first in the history." if pinned else "No longer pinned.")

    async def _change(self, **changes: Any) -> None:
        if self.session is None or self.session.chat is None:
            self.notify("The chat has not begun yet.", severity="warning")
            return
        await asyncio.to_thread(lambda: self.session.change(**changes) if self.session else None)
        self.show_title()

    async def action_export(self, name: str) -> None:
        """Writes the chat to a file in this folder."""
        from app.tui.exporting import export_chat

        if self.session is None or self.session.chat is None:
            self.notify("The chat has not begun yet.", severity="warning")
            return
        try:
            path = await asyncio.to_thread(
                export_chat, self.session.chats, self.session.chat.id, name, Path.cwd()
            )
        except LocalqError as error:
            self.app.fail(error)
            return
        self.notify(f"Wrote {sanitize(str(path))}", markup=False)

    @work(group="dialog", exit_on_error=False)
    async def action_delete_chat(self) -> None:
        """The whole chat, for good."""
        from app.tui.screens.choose import confirm

        if self.session is None or self.session.chat is None:
            self.notify("The chat has not begun yet.", severity="warning")
            return
        chat = self.session.chat
        said = f"“{chat.title}”, {chat.messages} messages: overwritten on the disk, and gone."
        if await self.app.push_screen_wait(confirm("Delete this chat?", said, "Delete it")) != 1:
            return
        if await self._leave_answer():
            await asyncio.to_thread(self.session.chats.delete, [chat.id])
            self.session.begin()
            await self.restore_draft()
            self.show()

    # -- how answers are made -------------------------------------------------------------------------------

    async def action_system(self, text: str) -> None:
        """Shows or sets the system prompt."""
        from app.tui.screens.help import Show

        if self.session is None:
            return
        if not text:
            said = self.session.system
            await self.app.push_screen(
                Show("System prompt", "The model's own." if said is None else said or "None, on purpose.")
            )
            return
        if text == "default":
            await asyncio.to_thread(self.session.default_system)
        else:
            await asyncio.to_thread(self.session.choose, system=text)
        self.notify("The next answers follow it.")

    @work(group="dialog", exit_on_error=False)
    async def action_personas(self) -> None:
        """System prompts that are kept."""
        from app.tui.screens.prompts import Prompts

        assert self.session is not None
        chosen = await self.app.push_screen_wait(
            Prompts("persona", self.session.chats, self.session.system or "")
        )
        if chosen is not None:
            preferences = msgspec.structs.replace(self.session.preferences, persona=chosen.name)
            await asyncio.to_thread(self.session.choose, system=chosen.text, preferences=preferences)
            self.notify(f"{sanitize(chosen.name)} answers from now on.", markup=False)

    @work(group="dialog", exit_on_error=False)
    async def action_templates(self) -> None:
        """Prompts that are kept."""
        from app.tui.screens.prompts import Prompts

        assert self.session is not None
        chosen: Prompt | None = await self.app.push_screen_wait(
            Prompts("template", self.session.chats, self.editor.text)
        )
        if chosen is not None:
            self.editor.put(chosen.text)

    async def action_thinking(self, word: str) -> None:
        """Whether a model that can think is asked to."""
        if self.session is None:
            return
        choices = {"on": True, "off": False, "auto": None, "": None}
        if word not in choices:
            self.notify("/think on, off or auto", severity="warning")
            return
        preferences = msgspec.structs.replace(self.session.preferences, thinking=choices[word])
        await asyncio.to_thread(self.session.choose, preferences=preferences)
        self.notify(f"Thinking: {word or 'auto'}.")

    # -- attachments, copying -------------------------------------------------------------------------------

    async def action_attach(self, name: str) -> None:
        """A file goes along with the next question."""
        await self.attach(name)

    def action_detach(self) -> None:
        """No file goes along."""
        self.attachments = []
        self.show_attachments()

    def action_copy_last(self) -> None:
        """The last answer."""
        path = self.session.path if self.session is not None else []
        last = next((message for message in reversed(path) if message.role == "assistant"), None)
        if last is not None:
            self.app.copy(last.content, "the answer")

    def action_copy_code(self) -> None:
        """The last code block of the chat."""
        for entry in reversed(self.transcript.entries):
            if entry.content.codes:
                self.app.copy(entry.content.codes[-1].text, "the code")
                return
        self.notify("There is no code in this chat.", severity="warning")

    async def action_theme(self, name: str) -> None:
        """Other colours."""
        if name:
            self.app.choose_theme(name)
        else:
            self.app.search_themes()

    async def action_quit(self) -> None:
        """Leave; all stays as it is."""
        await self.keep_now()
        await self.app.action_quit()

    # -- within ---------------------------------------------------------------------------------------------

    def opened(self) -> None:
        super().opened()
        if self.session is not None and self.session.model is None:
            self.first_run()

    @work(group="screen", exit_on_error=False)
    async def first_run(self) -> None:
        """An empty machine: from what fits it to the first answer."""
        from app.tui.screens.adding import Adding

        added = await self.app.push_screen_wait(Adding(first=True))
        if added is None:
            return
        await self.action_use_model(added)
        if not self.transcript.entries and not self.editor.text:
            self.editor.put(FIRST_QUESTION)

    async def attach(self, name: str) -> None:
        """Overridden."""
        raise NotImplementedError

    async def _leave_answer(self) -> bool:
        """Whether no answer is under way; one that is is stopped, and its text kept."""
        answering = self.answering
        if answering is None:
            return True
        answering.cancel()
        for _ in range(100):
            await asyncio.sleep(0.05)
            if self.answering is not answering:
                return True
        self.notify("The answer does not stop; try again.", severity="warning")
        return False

    def _gone(self) -> bool:
        """Whether the open chat was deleted."""
        if self.session is None or self.session.chat is None:
            return False
        try:
            self.session.chats.get(self.session.chat.id)
        except LocalqError:
            return True
        return False
