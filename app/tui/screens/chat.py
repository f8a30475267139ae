"""The chat: what a person can do in it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import ClassVar

from textual import on, work
from textual.binding import Binding, BindingType
from textual.widgets import TextArea

from app.chats import Attachment
from app.tui.commands import parse
from app.tui.completing import begun, suggest
from app.tui.entry import Entry
from app.tui.files import list_files, read_attachment
from app.tui.screens.chat_orders import ChatOrders
from app.tui.widgets.editor import Editor
from app.tui.widgets.gauge_bar import GaugeBar
from app.tui.widgets.suggestions import Suggestions
from app.tui.widgets.transcript import Transcript
from runtime.errors import LocalqError


class ChatScreen(ChatOrders):
    """Typing, completion, and what is done to a message."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape", "stop", "Stop", show=False),
        Binding("f1", "help", "Help", key_display="F1", priority=True),
        Binding("f2,ctrl+o", "history", "History", key_display="F2", priority=True),
        Binding("f3", "models", "Models", key_display="F3", priority=True),
        Binding("f4", "parameters", "Settings", key_display="F4", priority=True),
        Binding("f5", "again", "Again", key_display="F5", priority=True),
        Binding("ctrl+t", "branches", "Tree", key_display="^t"),
        Binding("ctrl+n", "new_chat", "New", key_display="^n"),
        Binding("tab", "switch", "Messages", show=False),
    ]

    def __init__(self) -> None:
        super().__init__()
        self._files: list[str] = []
        self._picking = False
        """A file is being picked: the folder is looked at once more for the next one."""

    # -- typing ---------------------------------------------------------------------------------------------

    @on(Editor.Submitted)
    async def _command(self, event: Editor.Submitted) -> None:
        if self.editor.suggesting and event.text == self.editor.text:  # Enter came before them
            self.query_one(Suggestions).steer("enter")
            return
        found = parse(event.text)
        if found is None:
            await self.submit(event)
            return
        if isinstance(found, str):
            self.notify(f"There is no command /{found}. Begin with a space to send it.", severity="warning")
            return
        command, argument = found
        if command.needs_argument and not argument:
            self.notify(f"/{command.name} {command.argument}: {command.help}", severity="warning")
            return
        self.editor.put("")
        await self.order(command, argument)

    @on(TextArea.Changed, "#editor")
    @on(TextArea.SelectionChanged, "#editor")
    def _typed(self) -> None:
        row, column = self.editor.cursor_location
        line = str(self.editor.document.get_line(row))
        found = begun(line, column, row)
        picking = found is not None and found[0] == "file"
        if picking and not self._picking:
            self._find_files()
        self._picking = picking
        suggestions = self.query_one(Suggestions)
        fresh = suggest(line, column, row, self._files) if self.editor.has_focus else []
        if len(fresh) == 1 and fresh[0].text == line:  # there is nothing left to complete
            fresh = []
        if fresh != suggestions.shown:
            suggestions.show(fresh)
        self.editor.suggesting = bool(fresh)

    @work(group="files", exclusive=True, exit_on_error=False)
    async def _find_files(self) -> None:
        self._files = await asyncio.to_thread(list_files, Path.cwd())
        self._typed()

    @on(Editor.Steered)
    def _steered(self, event: Editor.Steered) -> None:
        suggestions = self.query_one(Suggestions)
        if event.key == "escape":
            suggestions.show([])
            self.editor.suggesting = False
        else:
            suggestions.steer(event.key)

    @on(Suggestions.Chosen)
    async def _chosen(self, event: Suggestions.Chosen) -> None:
        suggestion, editor = event.suggestion, self.editor
        row, column = editor.cursor_location
        self.query_one(Suggestions).show([])
        editor.suggesting = False
        if suggestion.kind == "file":
            editor.replace("", (row, suggestion.start), (row, column))
            await self.attach(suggestion.text)
        elif event.sent and suggestion.complete:
            editor.put("")
            self._command_text(suggestion.text)
        else:
            editor.replace(f"{suggestion.text} ", (row, suggestion.start), (row, column))

    def _command_text(self, text: str) -> None:
        self.post_message(Editor.Submitted(text))

    @on(Editor.Pasted)
    def _pasted(self, event: Editor.Pasted) -> None:
        number = sum(file.name.startswith("pasted") for file in self.attachments) + 1
        self.attachments.append(Attachment(f"pasted-{number}.txt", event.text))
        self.show_attachments()
        self.count_attachments()

    async def attach(self, name: str) -> None:
        """A file goes along with the next question."""
        try:
            attachment = await asyncio.to_thread(read_attachment, name, Path.cwd())
        except LocalqError as error:
            self.app.fail(error)
            return
        self.attachments.append(attachment)
        self.show_attachments()
        self.count_attachments()

    @on(GaugeBar.Clicked)
    def _clicked(self) -> None:
        self.action_memory()

    # -- messages -------------------------------------------------------------------------------------------

    def action_switch(self) -> None:
        """From the editor to the messages, and back."""
        if self.editor.has_focus and self.transcript.entries:
            self.transcript.focus()
            if self.transcript.cursor is None:
                self.transcript.action_move(0)
        else:
            self.action_write()

    def action_write(self) -> None:
        """Back to the editor."""
        self.transcript.cursor = None
        self.editor.focus()

    def _current(self) -> Entry | None:
        entry = self.transcript.current
        if entry is None and self.transcript.entries:
            entry = self.transcript.entries[-1]
        return entry

    def action_copy_message(self) -> None:
        """The text of the message under the cursor, as Markdown."""
        if self.session is not None and (entry := self._current()) is not None:
            self.app.copy(self.session.chats.message(entry.message_id).content, "the message")

    def action_copy_message_code(self) -> None:
        """The code blocks of the message under the cursor, the last one first, the next with each key."""
        entry = self._current()
        codes = entry.content.codes if entry is not None else []
        if entry is None or not codes:
            self.notify("There is no code in this message.", severity="warning")
            return
        entry.copied = (entry.copied - 1) % len(codes)
        which = f"code block {entry.copied + 1} of {len(codes)}" if len(codes) > 1 else "the code"
        self.app.copy(codes[entry.copied].text, which)

    def action_quote_message(self) -> None:
        """The message under the cursor, or what is selected of it, as a quotation in the editor."""
        if self.session is None or (entry := self._current()) is None:
            return
        selected = self.get_selected_text()
        text = selected or self.session.chats.message(entry.message_id).content
        quoted = "\n".join(f"> {line}".rstrip() for line in text.strip().splitlines())
        before = self.editor.text.rstrip()
        self.editor.put(f"{before}\n\n{quoted}\n\n" if before else f"{quoted}\n\n")
        self.action_write()

    async def action_again_message(self) -> None:
        """Another answer beside the message under the cursor."""
        if self.session is not None and (entry := self._current()) is not None:
            self.action_write()
            await self.again(self.session.tree.by_id[entry.message_id])

    def action_edit_message(self) -> None:
        """Changes the question under the cursor, or the one that is answered there, in a branch beside it."""
        if self.session is not None and (entry := self._current()) is not None:
            self._edit(entry.message_id)

    def action_edit_last(self) -> None:
        """Changes the last question."""
        if self.session is not None and self.session.path:
            self._edit(self.session.path[-1].id)

    def _edit(self, message_id: int) -> None:
        assert self.session is not None
        question = self.session.question_of(message_id)
        if question is None or self.answering is not None:
            return
        self.editing = question
        self.attachments = list(question.attachments)
        self.editor.put(question.content)
        self.show_attachments()
        self.count_attachments()
        self.action_write()

    async def action_branch(self, step: int) -> None:
        """The branch beside, at the message under the cursor."""
        entry = self._current()
        if self.session is None or entry is None or self.answering is not None:
            return
        beside = self.session.beside(entry.message_id, step)
        if beside is not None:
            cursor = self.transcript.cursor
            await asyncio.to_thread(self.session.select, beside.id)
            self.show()
            self.transcript.cursor = cursor

    @on(Transcript.BranchClicked)
    async def _branch_clicked(self, event: Transcript.BranchClicked) -> None:
        self.transcript.cursor = self.transcript.entries.index(event.entry)
        await self.action_branch(event.step)

    @work(group="dialog", exit_on_error=False)
    async def action_delete_message(self) -> None:
        """The message under the cursor and all after it, for good."""
        from app.tui.screens.choose import confirm

        entry = self._current()
        if self.session is None or entry is None or self.answering is not None:
            return
        said = "It goes for good, and every message that follows it, in all branches."
        if await self.app.push_screen_wait(confirm("Delete this message?", said, "Delete it")) == 1:
            await asyncio.to_thread(self.session.delete, entry.message_id)
            self.show()
            self.action_write()
