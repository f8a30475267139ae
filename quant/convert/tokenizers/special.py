"""Special tokens: which ids they have, and which of them a text gets before and behind it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final

from gguf import Keys, TokenType

from quant.convert.config import Config
from quant.convert.json_file import read_optional
from quant.convert.tokenizers.tokenizer_json import TokenizerJson
from quant.convert.tokenizers.vocabulary import Vocabulary
from quant.files.layout import Key
from runtime.gguf.values import ValueType

_IDS: Final[Mapping[str, str]] = {
    "bos": Keys.Tokenizer.BOS_ID,
    "eos": Keys.Tokenizer.EOS_ID,
    "unk": Keys.Tokenizer.UNK_ID,
    "sep": Keys.Tokenizer.SEP_ID,
    "pad": Keys.Tokenizer.PAD_ID,
    "mask": Keys.Tokenizer.MASK_ID,
    "eot": Keys.Tokenizer.EOT_ID,
}


@dataclass
class SpecialTokens:
    """What is known of them: ids by name, and whether ``bos`` and ``eos`` are added (absent: not known)."""

    ids: dict[str, int] = field(default_factory=dict)
    added: dict[str, bool] = field(default_factory=dict)

    def keys(self) -> list[Key]:
        keys = [Key(_IDS[name], ValueType.U32, token) for name, token in self.ids.items() if name in _IDS]
        flags = {"bos": Keys.Tokenizer.ADD_BOS, "eos": Keys.Tokenizer.ADD_EOS}
        return keys + [Key(flags[name], ValueType.BOOL, value) for name, value in self.added.items()]


def special_tokens(config: Config, vocabulary: Vocabulary, file: TokenizerJson | None) -> SpecialTokens:
    """From tokenizer_config.json, special_tokens_map.json, config.json and generation_config.json, in this
    order.

    Raises :class:`CheckpointDamaged` for one of them that cannot be read.
    """
    folder = config.folder
    tokenizer = read_optional(folder / "tokenizer_config.json")
    texts = read_optional(folder / "special_tokens_map.json") | tokenizer
    generation = read_optional(folder / "generation_config.json")
    by_text = _by_text(vocabulary, file)
    found = SpecialTokens()
    for name in ("bos", "eos", "unk", "sep", "pad", "cls", "mask"):
        token = by_text.get(_text(texts.get(f"{name}_token")) or "")
        for values in (config.values, generation):
            token = _first_id(values.get(f"{name}_token_id")) if token is None else token
        if token is not None and 0 <= token < len(vocabulary.tokens):
            found.ids[name] = token
    if file is not None:
        _take_template(found, file, by_text)
    for name in ("bos", "eos"):
        if isinstance(wanted := tokenizer.get(f"add_{name}_token"), bool) and name in found.ids:
            found.added[name] = wanted
    _complete(found, vocabulary, by_text, generation)
    return found


def _by_text(vocabulary: Vocabulary, file: TokenizerJson | None) -> dict[str, int]:
    """Ids by the text as tokenizer.json has it; a vocabulary may write it in another way."""
    texts = {text: token for token, text in enumerate(vocabulary.tokens)}
    return texts | ({added.content: added.id for added in file.added_tokens} if file else {})


def _text(value: Any) -> str | None:
    """A token's text: by itself, or within what describes it."""
    found = value.get("content") if isinstance(value, dict) else value
    return found if isinstance(found, str) else None


def _first_id(value: Any) -> int | None:
    first = value[0] if isinstance(value, list) and value else value
    return first if type(first) is int else None


def _take_template(found: SpecialTokens, file: TokenizerJson, by_text: Mapping[str, int]) -> None:
    """What the tokenizer puts before and behind a single text."""
    for step in file.post_processors:
        if step.get("type") in ("BertProcessing", "RobertaProcessing"):
            first, last = _pair(step.get("cls")), _pair(step.get("sep"))
        elif step.get("type") == "TemplateProcessing":
            single = step.get("single")
            single = single if isinstance(single, list) and single else [None]
            first, last = _special(single[0]), _special(single[-1])
        else:
            continue
        for name, text in (("bos", first), ("eos", last)):
            token = by_text.get(text) if text is not None else None
            found.added[name] = token is not None
            if token is None or token == found.ids.get(name):
                continue
            if name == "eos" and "eos" in found.ids:
                found.ids.setdefault("eot", found.ids["eos"])
            found.ids[name] = token


def _pair(value: Any) -> str | None:
    """The text of a ``[text, id]``."""
    return _text(value[0]) if isinstance(value, list) and value else None


def _special(step: Any) -> str | None:
    """The text of a template's step, if that is a special token."""
    token = step.get("SpecialToken") if isinstance(step, dict) else None
    found = token.get("id") if isinstance(token, dict) else None
    return found if isinstance(found, str) else None


def _complete(
    found: SpecialTokens, vocabulary: Vocabulary, by_text: Mapping[str, int], generation: Mapping[str, Any]
) -> None:
    """What the files leave to the kind of tokenizer.

    A BERT begins with ``cls`` and ends with ``sep``; a model may stop at more tokens than one.
    """
    if vocabulary.model in ("llama", "t5"):
        for name, text in (("bos", "<s>"), ("eos", "</s>")):
            if text in by_text:
                found.ids.setdefault(name, by_text[text])
        if TokenType.UNKNOWN in vocabulary.types:
            found.ids.setdefault("unk", list(vocabulary.types).index(TokenType.UNKNOWN))
    if vocabulary.model == "bert":
        found.added.clear()  # llama.cpp adds both to every text
        found.ids |= {name: found.ids[other] for name, other in (("bos", "cls"),) if other in found.ids}
    stops = generation.get("eos_token_id")
    for token in stops if isinstance(stops, list) else ():
        if type(token) is int and 0 <= token < len(vocabulary.tokens) and token != found.ids.get("eos"):
            found.ids.setdefault("eot", token)
