"""Memory that decoding takes: what is expected is enough, and large photos take turns at it."""

from __future__ import annotations

import io
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
from PIL import Image

from service.decoding import (
    SMALL_BYTES,
    Memory,
    Unwanted,
    bytes_between_scans,
    bytes_to_decode,
    while_wanted,
)
from service.errors import PhotoBroken, PhotoTooLarge
from service.preprocess import PhotoLimits, Preprocessing, decode
from service.structure import first_scan_components
from tests.photo_factory import encode, png

LARGE = SMALL_BYTES + 1
SIDE = 4000
SPEC = Preprocessing(height=224, width=224)
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count")

# Reads a photo from stdin; prints the megabytes that so many threads took to decode it.
COST = """
import re, sys, threading
from pathlib import Path
from service.preprocess import PhotoLimits, Preprocessing, decode
import PIL.AvifImagePlugin, PIL.WebPImagePlugin
status = Path("/proc/self/status")
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024
data, before = sys.stdin.buffer.read(), peak()
given = data, Preprocessing(height=224, width=224), PhotoLimits(max_decode_bytes=1)
threads = [threading.Thread(target=decode, args=given) for _ in range(int(sys.argv[1]))]
for thread in threads:
    thread.start()
for thread in threads:
    thread.join()
print(peak() - before)
"""
KINDS: list[tuple[str, str, dict[str, Any]]] = [
    ("RGBA", "PNG", {"compress_level": 1}),
    ("P", "PNG", {"transparency": 0}),
    ("P", "GIF", {"transparency": 0}),
    ("RGBA", "WEBP", {"lossless": True, "quality": 0, "method": 0}),
    ("RGBA", "WEBP", {"quality": 50, "method": 0}),
    ("RGB", "AVIF", {"speed": 10}),
    ("RGBA", "AVIF", {"speed": 10, "subsampling": "4:4:4"}),
    ("RGB", "JPEG", {}),
    ("RGB", "JPEG", {"progressive": True, "subsampling": 0}),
]


def cost_bytes(data: bytes, threads: int = 1) -> int:
    """In a process of its own, so that what the decoders allocate is seen as well."""
    command = [sys.executable, "-c", COST, str(threads)]
    run = subprocess.run(command, input=data, capture_output=True, check=True)
    return int(run.stdout) * 2**20


def expected_bytes(data: bytes) -> int:
    image = Image.open(io.BytesIO(data))
    kept = bytes_between_scans(image, data)
    if image.format == "JPEG":
        image.draft(None, (224, 224))
    return bytes_to_decode(image, data) + kept


@LINUX
@pytest.mark.parametrize(("mode", "format", "options"), KINDS)
def test_a_photo_takes_no_more_than_expected(
    mode: str, format: str, options: dict[str, Any]
) -> None:
    data = encode(Image.new(mode, (SIDE, SIDE)), format, **options)
    assert cost_bytes(data) < expected_bytes(data) + 10_000_000


@LINUX
@pytest.mark.parametrize("format", ["PNG", "WEBP", "AVIF"])
def test_large_photos_on_several_threads_take_what_one_takes(format: str) -> None:
    data = encode(Image.new("RGBA", (SIDE, SIDE)), format)
    assert cost_bytes(data, threads=4) < 1.7 * cost_bytes(data)


def test_a_jpeg_of_one_scan_keeps_nothing_and_one_of_several_all() -> None:
    image = Image.new("RGB", (SIDE, SIDE))
    for options, samples in (({}, 0), ({"progressive": True, "subsampling": 0}, 3)):
        data = encode(image, "JPEG", **options)
        assert bytes_between_scans(Image.open(io.BytesIO(data)), data) == samples * 2 * SIDE**2
    one_by_one = bytearray(encode(image, "JPEG"))
    one_by_one[one_by_one.index(b"\xff\xda") + 4] = 1
    assert first_scan_components(bytes(one_by_one)) == 1
    assert bytes_between_scans(Image.open(io.BytesIO(one_by_one)), bytes(one_by_one)) > 0


def test_a_side_that_no_photo_has_is_refused() -> None:
    with pytest.raises(PhotoTooLarge, match="500,000 pixels a side, got 1 x 50000000"):
        decode(png(1, 50_000_000), SPEC)


def test_a_broken_photo_gives_its_memory_back() -> None:
    limits = PhotoLimits(max_decode_bytes=1)
    for _ in range(2):  # the second would wait for ever
        with pytest.raises(PhotoBroken):
            decode(png(SIDE, SIDE), SPEC, limits)


def test_small_photos_and_those_without_a_limit_never_wait() -> None:
    memory = Memory()
    with memory.taken(LARGE, 1), memory.taken(SMALL_BYTES, 1), memory.taken(LARGE, None):
        pass


def test_what_does_not_fit_waits_its_turn() -> None:
    memory, order, three = Memory(), list[int](), 3 * LARGE
    inside = threading.Event()

    def work(number: int, nbytes: int) -> None:
        with memory.taken(nbytes, three):
            order.append(number)
            inside.set()

    with memory.taken(LARGE, three), memory.taken(LARGE, three):
        fits = threading.Thread(target=work, args=(0, LARGE))
        fits.start()
        assert inside.wait(10)
        fits.join()
        waiting = []
        for number, nbytes in ((1, 9 * LARGE), (2, LARGE)):  # more than all; what would fit
            waiting.append(threading.Thread(target=work, args=(number, nbytes)))
            waiting[-1].start()
            while len(memory._waiting) < number:
                time.sleep(0.001)
        assert order == [0]
    for thread in waiting:
        thread.join(10)
    assert order == [0, 1, 2]


def test_who_is_not_wanted_any_more_lets_the_next_one_go_first() -> None:
    memory, wanted = Memory(), True
    left = threading.Event()

    def leave() -> None:
        with while_wanted(lambda: wanted), pytest.raises(Unwanted), memory.taken(LARGE, 1):
            pass
        left.set()

    with memory.taken(LARGE, 1):
        thread = threading.Thread(target=leave)
        thread.start()
        while not memory._waiting:
            time.sleep(0.001)
        wanted = False
        assert left.wait(10)
        thread.join()
    with memory.taken(LARGE, 1):
        pass
