"""Finds and loads ``liblocalq_kernels``.

Where it is looked for:

1. the environment's ``LOCALQ_KERNELS``: the library's file or its directory; nothing else is tried then;
2. the directories of ``runtime.kernels.__path__``: a wheel's own, or the checkout's, where a CMake build
   writes it, together with those of an editable install. Of several the one that was built last is taken.

Importing this module loads nothing; :func:`load` does, once.
"""

from __future__ import annotations

import ctypes
import functools
import os
import sys
from pathlib import Path

import runtime.kernels
from runtime.errors import KernelError

ABI_VERSION = 11
"""``LOCALQ_ABI_VERSION`` of ``localq_kernels.h``, which ``bindings`` mirrors."""

FILE_NAME = "liblocalq_kernels.dylib" if sys.platform == "darwin" else "liblocalq_kernels.so"

_REMEDY = "run `make rebuild` in a checkout, or reinstall localq"


def find() -> Path:
    """Path of the library's file. Raises :class:`KernelError`, naming every place that was searched."""
    if chosen := os.environ.get("LOCALQ_KERNELS"):
        path = Path(chosen)
        path = path / FILE_NAME if path.is_dir() else path
        if not path.is_file():
            raise KernelError(f"LOCALQ_KERNELS={chosen}: no such library; correct the variable or unset it")
        return path
    places = [Path(directory) for directory in runtime.kernels.__path__]
    if found := [place / FILE_NAME for place in places if (place / FILE_NAME).is_file()]:
        return max(found, key=lambda path: path.stat().st_mtime_ns)
    raise KernelError(f"the kernel library {FILE_NAME} is not in {', '.join(map(str, places))}; {_REMEDY}")


@functools.cache
def load() -> ctypes.CDLL:
    """The loaded library, its ABI version checked. Raises :class:`KernelError`."""
    path = find()
    try:
        library = ctypes.CDLL(str(path))
        # uint32_t localq_abi_version(void);
        version = library.localq_abi_version
    except (OSError, AttributeError) as error:
        raise KernelError(f"{path} cannot be loaded: {error}; {_REMEDY}") from error
    version.argtypes = ()
    version.restype = ctypes.c_uint32
    found = version()
    if found != ABI_VERSION:
        raise KernelError(f"{path} has ABI {found}, these bindings need {ABI_VERSION}; {_REMEDY}")
    return library
