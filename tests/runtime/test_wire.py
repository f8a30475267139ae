from __future__ import annotations

import socket
import struct
import threading

import msgspec
import pytest

from runtime.engine import wire
from runtime.engine.messages import Cancel, FromWorker, Prompt, Request, Shutdown, TokenEvent, ToWorker
from runtime.engine.wire import Channel, encode


def pair() -> tuple[Channel[ToWorker], Channel[FromWorker], socket.socket]:
    left, right = socket.socketpair()
    return Channel(left, ToWorker), Channel(right, FromWorker), right


def test_messages_arrive_as_they_were_sent() -> None:
    worker, front, _ = pair()
    request = Request(id=7, prompt=Prompt("hi \U0001f999", {"x": "<|im_end|>"}), stop=("\n",), max_tokens=3)
    front.send(encode([request, Cancel(7)]))
    front.send(encode([Request(id=8, prompt=(1, 2, 3)), Shutdown()]))
    assert worker.receive() == [request, Cancel(7)]
    assert worker.receive() == [Request(id=8, prompt=(1, 2, 3)), Shutdown()]
    worker.send(encode([TokenEvent(id=7, text="a", tokens=(1,))]))
    assert front.receive() == [TokenEvent(id=7, text="a", tokens=(1,))]
    worker.close()
    front.close()


def test_the_end_of_the_other_side_is_the_end_of_the_stream() -> None:
    worker, front, _ = pair()
    front.close()
    assert worker.receive() is None
    with pytest.raises(OSError):
        for _ in range(100):
            worker.send(encode([TokenEvent(id=1, text="x", tokens=())]))
    worker.close()


@pytest.mark.parametrize("sent", [b"\x01", b"\x10\x00\x00\x00abc"])
def test_a_frame_that_breaks_off_is_the_end_of_the_stream(sent: bytes) -> None:
    worker, front, raw = pair()
    raw.sendall(sent)
    front.close()
    assert worker.receive() is None
    worker.close()


def test_a_message_of_the_wrong_type_is_an_error() -> None:
    worker, front, raw = pair()
    body = msgspec.msgpack.encode([{"type": "Nonsense"}])
    raw.sendall(struct.pack("<I", len(body)) + body)
    with pytest.raises(msgspec.ValidationError):
        worker.receive()
    worker.close()
    front.close()


def test_frames_of_many_threads_do_not_mix() -> None:
    worker, front, _ = pair()
    prompt = Prompt("x" * 100_000)
    senders = [
        threading.Thread(target=lambda n=n: front.send(encode([Request(id=n, prompt=prompt)])))
        for n in range(16)
    ]
    for sender in senders:
        sender.start()
    seen = set()
    for _ in senders:
        received = worker.receive()
        assert received is not None and isinstance(received[0], Request)
        assert received[0].prompt == prompt
        seen.add(received[0].id)
    assert seen == set(range(16))
    for sender in senders:
        sender.join()
    worker.close()
    front.close()


def test_a_frame_over_the_limit_is_an_error_before_it_is_read(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(wire, "MAX_FRAME_BYTES", 100)
    worker, front, raw = pair()
    raw.sendall(struct.pack("<I", 101))
    with pytest.raises(ValueError, match="101 bytes exceeds the limit of 100"):
        worker.receive()
    worker.close()
    front.close()
