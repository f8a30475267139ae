"""The options that say how the next token is chosen."""

from __future__ import annotations

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

from app.cli.options import Between

_PROBABILITY = Between(0.0, 1.0)
_PENALTY = Between(-100.0, 100.0)

_OPTIONS: dict[str, Callable[..., Any]] = {
    "temperature": click.option(
        *("--temp", "temperature"),
        type=Between(0.0, 100.0),
        metavar="T",
        help="Temperature; 0 = always the likeliest token.  [default: the model's, or 0.8]",
    ),
    "top_k": click.option(
        "--top-k",
        type=click.IntRange(0),
        metavar="K",
        help="Choose among the K likeliest tokens; 0 = all.  [default: 40]",
    ),
    "top_p": click.option(
        "--top-p",
        type=_PROBABILITY,
        metavar="P",
        help="Choose among the likeliest tokens that reach P together.  [default: 0.95]",
    ),
    "min_p": click.option(
        "--min-p",
        type=_PROBABILITY,
        metavar="P",
        help="Drop tokens below P times the likeliest.  [default: 0.05]",
    ),
    "typical_p": click.option(
        *("--typical", "typical_p"),
        type=_PROBABILITY,
        metavar="P",
        help="Choose among the most typical tokens that reach P together; 1 = off.  [default: 1]",
    ),
    "repeat_penalty": click.option(
        "--repeat-penalty",
        type=Between(0.01, 100.0),
        metavar="X",
        help="Divide the score of the last 64 tokens by X; 1 = off.  [default: 1]",
    ),
    "frequency_penalty": click.option(
        "--frequency-penalty",
        type=_PENALTY,
        metavar="X",
        help="Lower a token's score by X for each time it came lately.  [default: 0]",
    ),
    "presence_penalty": click.option(
        "--presence-penalty",
        type=_PENALTY,
        metavar="X",
        help="Lower a token's score by X if it came lately.  [default: 0]",
    ),
    "dry_multiplier": click.option(
        *("--dry", "dry_multiplier"),
        type=Between(0.0, 100.0),
        metavar="X",
        help="Strength of the penalty on repeated sequences (DRY); 0 = off.  [default: 0]",
    ),
    "xtc_probability": click.option(
        "--xtc-probability",
        type=_PROBABILITY,
        metavar="P",
        help="How often the likeliest tokens are left out (XTC); 0 = off.  [default: 0]",
    ),
    "xtc_threshold": click.option(
        "--xtc-threshold",
        type=_PROBABILITY,
        metavar="P",
        help="XTC leaves out tokens above P, all but the least likely of them.  [default: 0.1]",
    ),
    "seed": click.option(
        "--seed", type=click.IntRange(0, 2**32 - 1), metavar="N", help="Make the choice repeatable."
    ),
}
"""By the field of ``SamplingParams``."""


def sampling_options(function: Callable[..., Any]) -> Callable[..., Any]:
    """All of them; the command gets those that were given as one argument, ``sampling``."""

    @wraps(function)
    def collected(*arguments: Any, **values: Any) -> Any:
        given = {name: value for name in _OPTIONS if (value := values.pop(name)) is not None}
        return function(*arguments, sampling=given, **values)

    for option in reversed(_OPTIONS.values()):
        collected = option(collected)
    return collected
