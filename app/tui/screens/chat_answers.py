"""Asking, and what comes of it: answers that stream, stop, fail, and branch."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from typing import Final

from textual import work
from textual.timer import Timer

from app.chats import Attachment, Message
from app.tui.answering import Answering, Outcome
from app.tui.entry import Entry
from app.tui.host import Wanted
from app.tui.screens.chat_view import ChatView, facts_line, figures_of
from app.tui.widgets.editor import Editor
from runtime.errors import LocalqError, PromptTooLong, WorkerDied

DRAWS_A_SECOND: Final = 12


class ChatAnswers(ChatView):
    """The part of the chat screen that talks to the model."""

    def __init__(self) -> None:
        super().__init__()
        self.answering: Answering | None = None
        self._live: Entry | None = None
        self._drawing: Timer | None = None
        self._told: set[str] = set()
        """Servers that the person knows of."""

    # -- the model ------------------------------------------------------------------------------------------

    def wanted(self) -> Wanted | None:
        """The model of this chat, as it is to be loaded."""
        assert self.session is not None
        if self.session.model is None:
            return None
        chosen = self.session.preferences
        return Wanted(self.session.model, chosen.context, chosen.kv, chosen.threads)

    def opened(self) -> None:
        self.load_model()

    @work(group="load", exclusive=True, exit_on_error=False)
    async def load_model(self) -> None:
        """The chat's model, if it is not loaded yet."""
        host, wanted = self.app.host, self.wanted()
        if wanted is None:
            self.gauge(doing="no model: F3 shows what there is")
            return
        if host.loaded is not None and host.loaded.wanted == wanted and not host.loaded.lost:
            self._show_loaded()
            return
        self.gauge(doing=f"loading {wanted.reference}", plan=None, context=0, resident=0)
        try:
            await asyncio.to_thread(host.load, wanted)
        except LocalqError as error:
            self.gauge(doing=f"{wanted.reference} is not loaded")
            self.app.fail(error)
            return
        self._show_loaded()

    def progress(self, what: str, share: float) -> None:
        """How far a load is."""
        idle = self.answering is None or self.answering.stage == "waiting"
        if idle and self.app.host.loading:
            self.gauge(doing=f"{what} {share:.0%}")

    def _show_loaded(self) -> None:
        loaded = self.app.host.loaded
        if loaded is not None:
            doing = "" if self.answering is None else self.gauges.doing
            if loaded.served and loaded.served not in self._told:
                self._told.add(loaded.served)
                self.notify(
                    f"{loaded.name} is in the memory of {loaded.served}, and answers from there.",
                    markup=False,
                )
            self.gauge(doing=doing, plan=loaded.plan, context=loaded.context_tokens, model=loaded.name)
            self.count_attachments()

    @work(group="count", exclusive=True, exit_on_error=False)
    async def count_attachments(self) -> None:
        """What the attachments cost, as soon as a model can say it."""
        loaded = self.app.host.loaded
        if loaded is None:
            return
        from runtime.engine.messages import Prompt

        for file in list(self.attachments):
            if file.text not in self._costs:
                prompt = Prompt(file.text, parse_special=False)
                try:
                    tokens = await asyncio.to_thread(loaded.engine.tokenize, prompt)
                except LocalqError:
                    return
                self._costs[file.text] = len(tokens)
        self.show_attachments()

    # -- asking ---------------------------------------------------------------------------------------------

    async def submit(self, event: Editor.Submitted) -> None:
        """What was typed is a question."""
        if not event.text.strip() and not self.attachments:
            return
        if self.session is None:
            self.notify("The chats are being opened.")
        elif self.answering is not None:
            self.notify("An answer is being written; Esc stops it.", severity="warning")
        elif self.wanted() is None:
            self.notify("There is no model yet; F3 shows those that there are.", severity="warning")
        else:
            await self.send(event.text, tuple(self.attachments))

    async def send(self, text: str, attachments: Sequence[Attachment]) -> None:
        """A question, durable before it is shown as sent; then its answer."""
        assert self.session is not None
        session, editing = self.session, self.editing
        try:
            if editing is not None:
                question = await asyncio.to_thread(session.edit, editing.id, text, attachments)
            else:
                question = await asyncio.to_thread(session.ask, text, attachments)
        except LocalqError as error:
            self.app.fail(error, "It is not sent; the text stays here.")
            return
        if editing is not None:
            await self.restore_draft()
            self.show()
        else:
            self.attachments = []
            self.editor.put("")
            self.show_attachments()
            self.transcript.add(self.entry_of(question))
            self.transcript.follow()
            self.show_title()
        self.editor.remember(await asyncio.to_thread(session.chats.asked))
        await self.keep_now()
        self.answer(question)

    def answer(self, question: Message, continued: Message | None = None) -> None:
        """A new answer to ``question``, or more of one."""
        assert self.session is not None
        if self.answering is None:
            self._answer(question, continued)

    @work(group="answer", exit_on_error=False)
    async def _answer(self, question: Message, continued: Message | None) -> None:
        assert self.session is not None
        session, host, wanted = self.session, self.app.host, self.wanted()
        if wanted is None:
            return
        host.wanted = wanted
        try:
            if continued is None:
                message = await asyncio.to_thread(session.answer, question.id, wanted.reference)
            else:
                message = await asyncio.to_thread(session.chats.update, continued.id, state="writing")
                await asyncio.to_thread(session.reload)
        except LocalqError as error:
            self.app.fail(error)
            return
        path = session.tree.path(question.id)
        answering = self.answering = Answering(
            host, session.chats, message, path, session.system, session.preferences
        )
        self._show_live(message)
        self._drawing = self.set_interval(1 / DRAWS_A_SECOND, self._draw)
        try:
            outcome = await asyncio.to_thread(answering.run)
        finally:
            self._drawing.stop()
            if self.answering is answering:
                self._draw()
                self.answering = None
        if self.session is session and self.is_attached:
            await self._ended(outcome)

    def _show_live(self, message: Message) -> None:
        """The branch that ends in this message, which is being written."""
        assert self.session is not None
        self.show()
        live = self.transcript.entries[-1]
        live.live, live.facts = True, ""
        self.transcript.grown(live)
        self.transcript.follow()
        self._live = live
        self.gauge(doing="waiting", writing=None, reading=None, joules=None)

    def _draw(self) -> None:
        """Puts what came onto the screen."""
        if self.answering is None or self._live is None:
            return
        ahead = self.answering.take()
        if ahead.thought:
            self._live.think(ahead.thought)
        if ahead.said:
            self._live.say(ahead.said)
        if ahead.thought or ahead.said:
            self.transcript.grown(self._live)
        match ahead.stage:
            case "prefill":
                self.gauge(doing=f"reading {ahead.share:.0%}")
            case "writing":
                speed = (ahead.tokens - 1) / ahead.seconds if ahead.seconds > 0.2 else None
                self.gauge(doing="writing", writing=speed, used=ahead.prompt_tokens + ahead.tokens)
            case _:
                pass

    async def _ended(self, outcome: Outcome) -> None:
        assert self.session is not None
        session, message, live = self.session, outcome.message, self._live
        self._live = None
        try:
            await asyncio.to_thread(session.reload)
        except LocalqError as error:  # deleted elsewhere meanwhile
            self.app.fail(error)
            return
        self._show_loaded()
        self.gauge(doing="", **(figures_of(message) if outcome.used_tokens else {}))
        if live is not None and live in self.transcript.entries:
            live.end()
            live.live, live.state, live.facts = False, message.state, facts_line(message)
            if outcome.error is not None:
                live.note = f"{str(outcome.error).splitlines()[0]}; F5 tries again"
            self.transcript.grown(live)
        self._mark_dropped(outcome)
        if isinstance(outcome.error, PromptTooLong):
            self.too_long(outcome.error)
        elif isinstance(outcome.error, WorkerDied):
            self.app.fail(outcome.error, "The text so far is kept. F5 starts the model again and retries.")
        elif outcome.error is not None:
            self.app.fail(outcome.error)

    def _mark_dropped(self, outcome: Outcome) -> None:
        dropped = outcome.fitted.dropped if outcome.fitted is not None else 0
        for number, entry in enumerate(self.transcript.entries):
            if entry.skipped != (number < dropped):
                entry.skipped = number < dropped
                self.transcript.grown(entry)
        self.gauge(dropped=dropped)
        if dropped:
            self.notify(
                f"The {dropped} oldest messages were not sent: the context is too short for all.",
                severity="warning",
            )

    @work(group="dialog", exit_on_error=False)
    async def too_long(self, error: PromptTooLong) -> None:
        """Asks what is to be done about a conversation that does not fit."""
        from app.tui.overflow import ways_out
        from app.tui.screens.choose import Choose

        assert self.session is not None
        ways = await asyncio.to_thread(ways_out, self.app.host, self.wanted(), error)
        told = str(error)
        said = f"{told[:1].upper()}{told[1:]}.\nNothing was sent, nothing is left out unless you choose it."
        chosen = await self.app.push_screen_wait(
            Choose("The conversation is too long", said, [way.title for way in ways])
        )
        if chosen is None or self.session is None:
            return
        preferences = ways[chosen].apply(self.session.preferences)
        if preferences is None:
            return
        await asyncio.to_thread(self.session.choose, preferences=preferences)
        self.load_model()
        await self.action_again()

    # -- actions on answers ---------------------------------------------------------------------------------

    def action_stop(self) -> None:
        """End the answer under way; what came of it stays."""
        if self.answering is not None:
            self.answering.cancel()
            self.gauge(doing="stopping")
        elif self.editing is not None:
            self.leave_edit()

    async def end_answer(self, seconds: float) -> None:
        """Ends the answer under way, if there is one, and waits at most so long until it is on the disk."""
        if self.answering is None or self.session is None:
            return
        self.answering.cancel()
        deadline = asyncio.get_running_loop().time() + seconds
        while self.answering is not None and asyncio.get_running_loop().time() < deadline:
            await asyncio.sleep(0.02)
        with suppress(LocalqError):  # deleted elsewhere meanwhile
            await asyncio.to_thread(self.session.reload)

    def leave_edit(self) -> None:
        """Nothing is edited any more; the draft comes back."""
        self.editing = None
        self.run_worker(self.restore_draft(), exclusive=False)

    async def action_again(self) -> None:
        """Another answer to the last question, beside the one that there is."""
        if self.session is not None and self.session.path:
            await self.again(self.session.path[-1])

    async def again(self, message: Message) -> None:
        """Another answer to the question that this message is or answers."""
        assert self.session is not None
        if self.answering is not None:
            self.notify("An answer is being written; Esc stops it.", severity="warning")
            return
        question = self.session.question_of(message.id)
        if question is not None:
            self.answer(question)

    async def action_continue_answer(self) -> None:
        """More of the last answer."""
        assert self.session is not None
        path = self.session.path
        if self.answering is not None or not path or path[-1].role != "assistant" or not path[-1].content:
            self.notify("There is no answer to go on with.", severity="warning")
            return
        question = self.session.question_of(path[-1].id)
        if question is not None:
            self.answer(question, path[-1])
