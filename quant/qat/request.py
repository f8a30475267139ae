"""What a person asks for: a quantization, and how it is trained further."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

import msgspec

from quant.calibration.text import CalibrationText
from quant.errors import CannotTrain
from quant.evaluation.result import EvaluationText
from quant.qat.options import TrainOptions
from quant.request import QuantizeRequest

DEFAULT_MINUTES: Final = 30.0


@dataclass(frozen=True)
class TrainRequest:
    """All that decides the bytes of the result; ``minutes`` alone may give other ones another time."""

    quantize: QuantizeRequest
    """What training begins at, and where the result goes."""
    options: TrainOptions
    """With 0 ``steps`` there are as many as ``minutes`` allow."""
    data: tuple[CalibrationText, ...]
    """To learn from."""
    held_out: tuple[EvaluationText, ...]
    """To see whether it helps, and when to end: neither learned from nor judged on."""
    minutes: float = DEFAULT_MINUTES

    def __post_init__(self) -> None:
        if self.quantize.target.fit is not None or self.quantize.target.size_bytes is not None:
            raise CannotTrain("training begins at a format or at bits for each weight")

    def deciding(self) -> dict[str, Any]:
        """As JSON types."""
        return {
            "quantize": self.quantize.deciding(),
            "training": msgspec.to_builtins(self.options),
            "minutes": 0 if self.options.steps else self.minutes,
            "data": [text.sha256 for text in self.data],
            "held_out": [text.sha256 for text in self.held_out],
        }
