"""Files that messages name as pictures: which are opened, what is made of them, and what is kept."""

from __future__ import annotations

import os
import random
import resource
import socket
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from app.tui.markdown import Picture
from app.tui.pictures import album, decoding, opening, process
from app.tui.pictures.album import Album
from app.tui.pictures.decoding import decode, read_reply
from app.tui.pictures.opening import NoPicture, is_elsewhere, opened
from tests.hostile.pictures import encoded, hostile_pictures, small_png

RED, GREEN, BLUE, WHITE = (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 255)
FOUR = Picture(2, 2, bytes([*RED, *GREEN, *BLUE, *WHITE]))


def decoded(data: bytes, folder: Path) -> Picture:
    (folder / "picture").write_bytes(data)
    with opened("picture", folder) as descriptor:
        return decode(descriptor)


def reason(name: str, folder: Path) -> str:
    """Why a name is not opened."""
    with pytest.raises(NoPicture) as refused, opened(name, folder):
        pass
    return str(refused.value)


# -- opening ------------------------------------------------------------------------------------------------


def test_what_a_name_stands_for_is_read(tmp_path: Path) -> None:
    (tmp_path / "a folder").mkdir()
    (tmp_path / "a folder" / "ü 1.png").write_bytes(b"here")
    for name in (
        "a%20folder/%C3%BC%201.png",
        "./a%20folder/../a folder/ü 1.png",
        f"{tmp_path}/a folder/ü 1.png",
    ):
        with opened(name, tmp_path) as descriptor:
            assert os.read(descriptor, 10) == b"here"


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("none.png", "no such file"),
        ("none/none.png", "no such file"),
        ("whole.png/none.png", "no such file"),
        ("a%00b.png", "no such file"),
        ("%FF%FE.png", "no such file"),
        ("x" * 5000, "file name too long"),
        ("", "a folder"),
        ("folder", "a folder"),
        ("../other/secret.png", "outside of the working directory"),
        ("folder/../../other/secret.png", "outside of the working directory"),
        ("%2e%2e/other/secret.png", "outside of the working directory"),
        ("/etc/passwd", "outside of the working directory"),
        ("/dev/zero", "outside of the working directory"),
        ("/proc/self/mem", "outside of the working directory"),
        ("link.png", "a symbolic link, which is not followed"),
        ("out/secret.png", "a symbolic link, which is not followed"),
        ("fifo.png", "not a regular file"),
        ("socket.png", "not a regular file"),
    ],
)
def test_a_name_that_is_no_file_here_is_not_opened(tmp_path: Path, name: str, said: str) -> None:
    here, other = tmp_path / "here", tmp_path / "other"
    for folder in (here, here / "folder", other):
        folder.mkdir()
    (other / "secret.png").write_bytes(b"secret")
    (here / "whole.png").write_bytes(b"whole")
    (here / "link.png").symlink_to(other / "secret.png")
    (here / "out").symlink_to(other)
    os.mkfifo(here / "fifo.png")
    with socket.socket(socket.AF_UNIX) as listening, pytest.MonkeyPatch.context() as patch:
        patch.chdir(here)
        listening.bind("socket.png")
        assert reason(name, here) == said


def test_another_file_system_is_not_entered() -> None:
    assert Path("/proc").is_mount() or pytest.skip("no /proc here")
    assert reason("proc/self/status", Path("/")) == "on another file system"
    assert reason("dev/zero", Path("/")) in ("on another file system", "not a regular file")


def test_a_device_in_the_working_directory_is_not_read() -> None:
    assert reason("zero", Path("/dev")) == "not a regular file"


def test_a_file_that_becomes_a_pipe_meanwhile_is_not_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    os.mkfifo(tmp_path / "turns.png")
    (tmp_path / "real.png").write_bytes(b"x")
    looked = (tmp_path / "real.png").stat()
    monkeypatch.setattr("app.tui.pictures.opening.os.stat", lambda *_, **__: looked)
    assert reason("turns.png", tmp_path) == "not a regular file"


def test_a_file_that_is_too_large_is_not_read(tmp_path: Path) -> None:
    with (tmp_path / "huge.png").open("wb") as file:
        file.truncate(opening.MOST_BYTES + 1)
    assert reason("huge.png", tmp_path) == "32.0 MiB, more than 32.0 MiB"


def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
    (tmp_path / "a").mkdir()
    (tmp_path / "a" / "link").symlink_to("nowhere")
    before = len(list(Path("/proc/self/fd").iterdir()))
    for name in ("a/link", "a/none", "a", "/etc/passwd") * 20:
        reason(name, tmp_path)
    assert len(list(Path("/proc/self/fd").iterdir())) == before


@pytest.mark.parametrize(
    "name", ["https://a.org/b.png", "HTTP://a", "//a.org/b.png", "data:image/png;base64,AA"]
)
def test_an_address_is_asked_by_nobody(tmp_path: Path, name: str) -> None:
    assert is_elsewhere(name)
    shelf = Album(tmp_path, lambda name: None)
    assert shelf.look(name) == "" and shelf._thread is None


# -- decoding -----------------------------------------------------------------------------------------------


def test_small_pictures_come_as_they_are(tmp_path: Path) -> None:
    colours = [[RED, GREEN], [BLUE, WHITE]]
    assert decoded(small_png(colours), tmp_path) == FOUR
    image = Image.frombytes("RGB", (2, 2), FOUR.pixels)
    assert decoded(encoded(image, "WEBP", lossless=True), tmp_path) == FOUR
    assert decoded(encoded(image.quantize(4), "GIF"), tmp_path) == FOUR
    photo = decoded(encoded(Image.new("RGB", (32, 32), RED), "JPEG"), tmp_path)
    assert (photo.width, photo.height) == (32, 32) and abs(photo.pixels[0] - 255) < 3


def test_a_large_picture_keeps_its_shape(tmp_path: Path) -> None:
    for size, shown in (((640, 480), (53, 40)), ((3000, 30), (100, 1)), ((10, 4000), (1, 40))):
        for kind in ("PNG", "JPEG"):
            picture = decoded(encoded(Image.new("RGB", size, BLUE), kind), tmp_path)
            assert (picture.width, picture.height) == shown


def test_of_a_film_the_first_frame_is_shown(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (2, 2), colour) for colour in (RED, GREEN, BLUE)]
    picture = decoded(encoded(frames[0], "GIF", save_all=True, append_images=frames[1:]), tmp_path)
    assert picture.pixels == bytes([*RED] * 4)


def test_what_is_transparent_is_white(tmp_path: Path) -> None:
    image = Image.new("RGBA", (2, 1), (255, 0, 0, 0))
    image.putpixel((1, 0), (0, 0, 0, 255))
    assert decoded(encoded(image, "PNG"), tmp_path).pixels == bytes([255, 255, 255, 0, 0, 0])


def test_a_photo_is_shown_upright(tmp_path: Path) -> None:
    image, exif = Image.frombytes("RGB", (2, 1), bytes([*RED, *BLUE])), Image.Exif()
    exif[0x0112] = 6  # to be turned clockwise
    picture = decoded(encoded(image, "PNG", exif=exif), tmp_path)
    assert (picture.width, picture.height, picture.pixels) == (1, 2, bytes([*RED, *BLUE]))
    lying = decoded(encoded(Image.new("RGB", (400, 100)), "JPEG", exif=exif), tmp_path)
    assert (lying.width, lying.height) == (10, 40)


def test_grey_of_sixteen_bits_is_not_all_white(tmp_path: Path) -> None:
    grey = decoded(encoded(Image.new("I;16", (2, 2), 128 * 257), "PNG"), tmp_path)
    assert grey.pixels == bytes([128] * 12)


@pytest.mark.parametrize("case", [f"P{number:02}" for number in range(1, 11)])
def test_a_hostile_picture_is_refused_with_its_reason(tmp_path: Path, case: str) -> None:
    data, said = hostile_pictures()[case]
    began = time.monotonic()
    with pytest.raises(NoPicture) as refused:
        decoded(data, tmp_path)
    assert said in str(refused.value)
    assert time.monotonic() - began < decoding.WALL_SECONDS


def test_a_picture_with_bytes_changed_by_lot_is_shown_or_refused(tmp_path: Path) -> None:
    generator = random.Random(5)
    noise = Image.effect_noise((40, 40), 90).convert("RGB")
    for kind in ("PNG", "JPEG", "GIF", "WEBP"):
        whole = encoded(noise, kind)
        for _ in range(4):
            data = bytearray(whole)
            for _ in range(5):
                data[generator.randrange(len(data))] = generator.randrange(256)
            try:
                decoded(bytes(data), tmp_path)
            except NoPicture as refused:
                assert str(refused)


def test_a_process_that_dies_or_lies_is_a_reason(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    big = process.SIZE.pack(200, 200) + bytes(3 * 200 * 200)
    for reply in (
        b"",
        b"P",
        b"X1",
        b"P" + big,
        b"P" + process.SIZE.pack(2, 2) + b"123",
        b"P\0\0\0\0",
        b"R\xff",
    ):
        with pytest.raises(NoPicture, match="decoding it failed"):
            read_reply(reply)
    with pytest.raises(NoPicture, match=r"^\[2Jx$"):
        read_reply(b"R\x1b[2Jx")
    for name, said in (("signal", "decoding it failed"), ("late", "not decoded within")):
        body = "import os; os.kill(os.getpid(), 11)" if name == "signal" else "import time; time.sleep(60)"
        (tmp_path / f"picture_{name}.py").write_text(body)
        monkeypatch.setenv("PYTHONPATH", str(tmp_path))
        monkeypatch.setattr(process, "__name__", f"picture_{name}")
        monkeypatch.setattr(decoding, "WALL_SECONDS", 5.0 if name == "signal" else 0.5)
        with pytest.raises(NoPicture, match=said):
            decoded(small_png([[RED]]), tmp_path)


def test_without_pillow_it_is_said_what_to_install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "PIL").mkdir()
    (tmp_path / "PIL" / "__init__.py").write_text("raise ImportError")
    monkeypatch.setenv("PYTHONPATH", str(tmp_path))
    with pytest.raises(NoPicture, match=r"localq\[images\]"):
        decoded(small_png([[RED]]), tmp_path)


def test_the_process_has_little_of_everything(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    set_: dict[int, int] = {}
    monkeypatch.setattr(resource, "setrlimit", lambda kind, pair: set_.update({kind: pair[0]}))
    monkeypatch.setattr(os, "nice", lambda step: step)
    process._confine()
    assert set_[resource.RLIMIT_CPU] == process.CPU_SECONDS and set_[resource.RLIMIT_FSIZE] == 0
    assert process.MEMORY_BYTES < set_[resource.RLIMIT_AS] < process.MEMORY_BYTES + (4 << 30)


# -- the album ----------------------------------------------------------------------------------------------


def wait(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.01)


def test_a_picture_is_decoded_once_until_its_file_changes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.png"
    ready: list[str] = []
    decodings: list[int] = []

    def counted(descriptor: int) -> Picture:
        decodings.append(descriptor)
        return decode(descriptor)

    path.write_bytes(small_png([[RED]]))
    monkeypatch.setattr(album, "FRESH_SECONDS", 0.0)
    monkeypatch.setattr(album, "decode", counted)
    shelf = Album(tmp_path, ready.append)
    assert shelf.look("a.png") == ""
    wait(lambda: ready == ["a.png"])
    assert shelf.look("a.png") == Picture(1, 1, bytes(RED))
    wait(lambda: not shelf._wanted)
    assert (ready, len(decodings)) == (["a.png"], 1)
    path.write_bytes(small_png([[BLUE], [BLUE]]))
    shelf.look("a.png")
    wait(lambda: len(ready) == 2)
    assert shelf.look("a.png") == Picture(1, 2, bytes([*BLUE] * 2))
    path.unlink()
    wait(lambda: shelf.look("a.png") == "no such file")
    shelf.close()
    wait(lambda: shelf._thread is not None and not shelf._thread.is_alive())


def test_looking_never_waits_and_what_is_kept_is_bounded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    go = threading.Event()

    def slow(descriptor: int) -> Picture:
        go.wait(20)
        return FOUR

    monkeypatch.setattr(album, "decode", slow)
    monkeypatch.setattr(album, "KEPT", 3)
    ready: list[str] = []
    shelf = Album(tmp_path, ready.append)
    for number in range(8):
        (tmp_path / f"{number}.png").write_bytes(b"x")
    began = time.monotonic()
    for _ in range(1000):
        assert all(shelf.look(f"{number}.png") == "" for number in range(8))
    assert time.monotonic() - began < 5 and shelf._queue.qsize() <= 8
    go.set()
    wait(lambda: len(ready) == 8)
    assert list(shelf._known) == ["5.png", "6.png", "7.png"]
    shelf.close()
