"""A chat as a tree: every question that was changed, every answer that was made again."""

from __future__ import annotations

from typing import ClassVar

from rich.cells import cell_len
from rich.text import Text
from textual import on
from textual.app import ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import Vertical
from textual.screen import ModalScreen
from textual.widgets import Static
from textual.widgets import Tree as TreeWidget
from textual.widgets.tree import TreeNode

from app.chats import Message, Tree
from app.cli.text import shorten
from app.terminal import sanitize

WORDS = 200
"""Characters of a message that are looked at."""
GUIDE = 3
"""Cells that a branch is indented by."""
LEAST = 20
"""Cells of a label, however far it is indented."""


class Branches(ModalScreen[int | None]):
    """The message whose branch is to be shown; None where the person leaves.

    A line of messages that do not branch stays a line, one below the other; only branches are indented.
    """

    DEFAULT_CSS = """
    Branches { align: center middle; background: $background 60%; }
    Branches > Vertical {
        width: 90%; height: 85%; padding: 1 2; background: $surface; border: round $primary;
    }
    Branches .title { text-style: bold; color: $text-primary; }
    Branches Tree { height: 1fr; margin: 1 0; background: $surface; background-tint: $surface 0%; }
    Branches .keys { color: $text-muted; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [Binding("escape,ctrl+t", "leave", "Close")]

    def __init__(self, tree: Tree, leaf_id: int) -> None:
        super().__init__()
        self._tree = tree
        self._leaf_id = leaf_id
        self._current = {message.id for message in tree.path(leaf_id)}

    def compose(self) -> ComposeResult:
        with Vertical():
            yield Static(f"Branches: {self._tree.branches()}", classes="title")
            yield TreeWidget[int]("chat", id="tree")
            yield Static("Enter shows the branch   Esc closes   ● the one that is shown", classes="keys")

    def on_mount(self) -> None:
        widget = self.query_one(TreeWidget)
        widget.show_root = False
        widget.guide_depth = GUIDE
        widget.root.expand()
        shown: TreeNode[int] | None = None
        room = int(self.app.size.width * 0.9) - 10  # of frame, padding and a scroll bar
        below: list[tuple[TreeNode[int], int, Message]] = [
            (widget.root, 0, message) for message in reversed(self._tree.children(None))
        ]
        while below:
            parent, depth, message = below.pop()
            children = self._tree.children(message.id)
            label = self._label(message, max(LEAST, room - GUIDE * depth))
            alone = len(self._tree.siblings(message.id)) == 1
            if alone:
                node = parent.add_leaf(label, data=message.id)
                inner = parent
            else:
                node = parent.add(label, data=message.id, expand=True, allow_expand=bool(children))
                inner = node
            if message.id == self._leaf_id:
                shown = node
            below += [(inner, depth + (not alone), child) for child in reversed(children)]
        widget.focus()
        if shown is not None:
            self.call_after_refresh(widget.move_cursor, shown)

    def _label(self, message: Message, columns: int) -> Text:
        mark = "●" if message.id in self._current else "○"
        who = "You" if message.role == "user" else message.model or "Model"
        said = " ".join(message.content[:WORDS].split()) or f"({message.state})"
        name = shorten(sanitize(who, newlines=False), columns // 2)
        return Text.assemble(
            (f"{mark} ", "bold" if message.id in self._current else "dim"),
            (f"{name}  ", "bold"),
            shorten(sanitize(said, newlines=False), max(8, columns - cell_len(name) - 4)),
            no_wrap=True,
        )

    @on(TreeWidget.NodeSelected)
    def _selected(self, event: TreeWidget.NodeSelected[int]) -> None:
        event.stop()
        if event.node.data is not None:
            self.dismiss(event.node.data)

    def action_leave(self) -> None:
        """The branch stays."""
        self.dismiss(None)
