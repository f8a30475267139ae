"""Observers: ranges of weights, activations and KV caches, as scales and zero points.

    scheme = Scheme(bits=8, granularity=PerChannel(axis=0))
    observer = MinMaxObserver(scheme)
    for batch in batches:
        observer.observe(batch)
    codes = quantize(batch, observer.calculate_qparams())

An observer's ``state`` is a frozen dataclass; ``merge`` of ``minmax`` and ``bins`` joins those of several
threads or processes, exactly and in any order. A moving average cannot be merged.
"""

from __future__ import annotations

from quant.observers.bins import Histogram
from quant.observers.granularity import Granularity, PerChannel, PerGroup, PerTensor, PerToken
from quant.observers.histogram import HistogramObserver
from quant.observers.least_squares import least_squares_qparams
from quant.observers.minmax import MinMax, MinMaxObserver
from quant.observers.moving_average import MovingAverage, MovingAverageMinMaxObserver
from quant.observers.mse import MSEObserver
from quant.observers.observer import Observer
from quant.observers.percentile import PercentileObserver
from quant.observers.qparams import QParams, dequantize, fake_quantize, qparams_of_range, quantize
from quant.observers.scheme import Scheme

__all__ = [
    "Granularity",
    "Histogram",
    "HistogramObserver",
    "MSEObserver",
    "MinMax",
    "MinMaxObserver",
    "MovingAverage",
    "MovingAverageMinMaxObserver",
    "Observer",
    "PerChannel",
    "PerGroup",
    "PerTensor",
    "PerToken",
    "PercentileObserver",
    "QParams",
    "Scheme",
    "dequantize",
    "fake_quantize",
    "least_squares_qparams",
    "qparams_of_range",
    "quantize",
]
