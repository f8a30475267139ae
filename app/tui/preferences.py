"""What a person chose for one chat: how answers are made, and how its model is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import msgspec

from runtime.engine.config import KvType
from runtime.engine.messages import SamplingParams


class Preferences(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """Stored with the chat; None = the model's or the general default."""

    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repeat_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    dry_multiplier: float | None = None
    xtc_probability: float | None = None
    seed: int | None = None
    max_tokens: int | None = None
    thinking: bool | None = None
    """Given to chat templates that know ``enable_thinking``."""
    context: int | None = None
    kv: KvType | None = None
    threads: int | None = None
    drop_oldest: bool = False
    """Whether the oldest messages are left out, and marked so, where the context is too short for all."""
    persona: str = ""

    @classmethod
    def of(cls, settings: Mapping[str, Any]) -> Preferences:
        """Those of a chat; what cannot be read is as if it were not chosen."""
        try:
            return msgspec.convert(dict(settings), cls)
        except msgspec.ValidationError:
            return cls()

    def stored(self) -> dict[str, Any]:
        """The inverse of :meth:`of`."""
        stored: dict[str, Any] = msgspec.to_builtins(self)
        return stored

    def sampling(self, temperature: float | None) -> SamplingParams:
        """``temperature`` is the model's own."""
        chosen = {
            field.name: value
            for field in PARAMETERS
            if field.sampling and (value := getattr(self, field.name)) is not None
        }
        if temperature is not None:
            chosen.setdefault("temperature", temperature)
        return SamplingParams(**chosen)


@dataclass(frozen=True)
class Parameter:
    """One field of :class:`Preferences`, as a person sets it."""

    name: str
    title: str
    kind: type[int] | type[float] | tuple[str, ...]
    """A number, or one of these words."""
    low: float = 0
    high: float = 100
    default: str = ""
    help: str = ""
    sampling: bool = True
    reloads: bool = False
    """A change loads the model again."""

    def parse(self, text: str) -> Any:
        """The value; None for an empty text. Raises ValueError, whose message says what would do."""
        text = text.strip()
        if not text:
            return None
        if isinstance(self.kind, tuple):
            if text not in self.kind:
                raise ValueError(f"{self.title}: give {', '.join(self.kind)}, or nothing")
            return text
        try:
            value = self.kind(text)
        except ValueError:
            what = "a whole number" if self.kind is int else "a number"
            raise ValueError(f"{self.title}: {text!r} is not {what}") from None
        if not self.low <= value <= self.high:  # also refuses NaN
            raise ValueError(f"{self.title}: give {self.low:g} to {self.high:g}")
        return value


PARAMETERS: Final = (
    Parameter("temperature", "Temperature", float, 0, 100, "0.8", "0 takes always the likeliest token"),
    Parameter("top_k", "Top-k", int, 0, 2**31 - 1, "40", "among the K likeliest; 0 = all"),
    Parameter("top_p", "Top-p", float, 0, 1, "0.95", "among those that reach P together"),
    Parameter("min_p", "Min-p", float, 0, 1, "0.05", "none below P times the likeliest"),
    Parameter("repeat_penalty", "Repeat penalty", float, 0.01, 100, "1", "1 = off"),
    Parameter("frequency_penalty", "Frequency penalty", float, -100, 100, "0", "0 = off"),
    Parameter("presence_penalty", "Presence penalty", float, -100, 100, "0", "0 = off"),
    Parameter("dry_multiplier", "DRY", float, 0, 100, "0", "against repeated sequences; 0 = off"),
    Parameter("xtc_probability", "XTC", float, 0, 1, "0", "leaves out the likeliest; 0 = off"),
    Parameter("seed", "Seed", int, 0, 2**32 - 2, "by chance", "makes answers repeatable"),
    Parameter("max_tokens", "Answer tokens", int, 1, 2**31 - 1, "no limit", "ends an answer", sampling=False),
    Parameter(
        "context",
        "Context",
        int,
        1,
        1 << 24,
        "what fits",
        "tokens of a chat",
        sampling=False,
        reloads=True,
    ),
    Parameter(
        "kv",
        "KV cache",
        ("f16", "q8_0", "q4_0"),
        default="f16",
        help="f16, q8_0 or q4_0",
        sampling=False,
        reloads=True,
    ),
    Parameter(
        "threads",
        "Threads",
        int,
        0,
        1024,
        "one a core",
        "0 = one for each core",
        sampling=False,
        reloads=True,
    ),
)
