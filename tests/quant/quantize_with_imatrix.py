"""llama.cpp's quantizer with an importance matrix, in a process of its own: MODEL IMATRIX OUT."""

from __future__ import annotations

import ctypes
import sys
from pathlib import Path

import numpy as np
from llama_cpp import llama_cpp as native

from quant.calibration.imatrix import read_imatrix


def main(model: str, imatrix: str, out: str) -> int:
    entries = read_imatrix(Path(imatrix)).entries
    data = [np.ascontiguousarray(entry.mean_square) for entry in entries.values()]
    table = (native.llama_model_imatrix_data * (len(data) + 1))()  # the last is empty and ends it
    for row, name, values in zip(table, entries, data, strict=False):
        row.name = name.encode()
        row.data = values.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
        row.size = values.size
    params = native.llama_model_quantize_default_params()
    params.ftype = native.LLAMA_FTYPE_MOSTLY_IQ2_XXS
    params.nthread = 1
    params.imatrix = ctypes.cast(table, type(params.imatrix))
    return int(native.llama_model_quantize(model.encode(), out.encode(), ctypes.byref(params)))


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
