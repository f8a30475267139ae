"""The abort flag that llama.cpp reads inside its graph."""

from __future__ import annotations

import ctypes

from runtime.kernels import abort_callback_address

Callback = ctypes.CFUNCTYPE(ctypes.c_bool, ctypes.c_void_p)
"""ggml_abort_callback."""


def test_the_callback_answers_whether_the_flag_is_set() -> None:
    callback = Callback(abort_callback_address())
    flag = ctypes.c_int32(0)
    answers = []
    for value in (0, 1, 0, -1, 1 << 30):
        flag.value = value
        answers.append(callback(ctypes.addressof(flag)))
    assert answers == [False, True, False, True, True]


def test_without_a_flag_nothing_is_aborted() -> None:
    assert Callback(abort_callback_address())(None) is False


def test_the_address_stays_the_same() -> None:
    assert abort_callback_address() == abort_callback_address() != 0
