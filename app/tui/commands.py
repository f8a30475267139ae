"""What a person can do, once: the slash commands, the palette and the help all read this table."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True)
class Command:
    """``action`` is one of the chat screen's or the app's; ``argument`` says what may follow a slash command.

    A command whose argument has no brackets needs one.
    """

    name: str
    title: str
    action: str
    help: str
    argument: str = ""
    key: str = ""

    @property
    def needs_argument(self) -> bool:
        return bool(self.argument) and not self.argument.startswith("[")


COMMANDS: Final = (
    Command("help", "Help", "help", "keys and commands", key="F1"),
    Command("new", "New chat", "new_chat", "begin another chat", key="Ctrl+N"),
    Command("history", "History", "history", "chats: search, folders, import, export", key="F2"),
    Command("models", "Models", "models", "models: quality, memory, comparison", key="F3"),
    Command("model", "Use a model", "use_model", "answer with another model", "NAME"),
    Command("parameters", "Parameters", "parameters", "sampling, context, KV cache, threads", key="F4"),
    Command("again", "Answer again", "again", "another answer beside the last one", key="F5"),
    Command("continue", "Continue", "continue_answer", "go on with the last answer"),
    Command("edit", "Edit the question", "edit_last", "change the last question: a branch"),
    Command("tree", "Branches", "branches", "the chat as a tree", key="Ctrl+T"),
    Command("stop", "Stop", "stop", "end the answer under way", key="Esc"),
    Command("copy", "Copy the answer", "copy_last", "the last answer to the clipboard"),
    Command("code", "Copy the code", "copy_code", "the last code block to the clipboard"),
    Command("attach", "Attach a file", "attach", "send a text file along", "PATH"),
    Command("detach", "Drop attachments", "detach", "send none of the attached files"),
    Command("system", "System prompt", "system", "show it, set it, or 'default'", "[TEXT]"),
    Command("personas", "Personas", "personas", "system prompts to use again"),
    Command("templates", "Prompt templates", "templates", "prompts to use again"),
    Command("think", "Thinking", "thinking", "on, off or auto, where the model can", "[on|off|auto]"),
    Command("rename", "Rename the chat", "rename", "give the chat a title", "[TITLE]"),
    Command("folder", "Move to a folder", "folder", "put the chat into a folder", "[FOLDER]"),
    Command("pin", "Pin the chat", "pin", "first in the history, or not"),
    Command("export", "Export the chat", "export", "Markdown, or JSON for a name in .json", "[PATH]"),
    Command("delete", "Delete the chat", "delete_chat", "for good"),
    Command("memory", "Memory", "memory", "what the model takes, against what there is"),
    Command("compare", "Compare two models", "compare", "one prompt, two models, token by token"),
    Command("theme", "Theme", "theme", "colours", "[NAME]"),
    Command("quit", "Quit", "quit", "leave; the chat stays", key="Ctrl+Q"),
)

BY_NAME: Final = {command.name: command for command in COMMANDS}


def parse(text: str) -> tuple[Command, str] | str | None:
    """A slash command with its argument; its wrong name; or None for what is no command.

    A text of several lines is none, nor one that begins with a space.
    """
    if not text.startswith("/") or "\n" in text.strip():
        return None
    name, _, argument = text[1:].partition(" ")
    if not name.replace("-", "").isalpha():
        return None
    return (BY_NAME[name], argument.strip()) if name in BY_NAME else name
