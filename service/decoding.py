"""Memory that decoding takes: how much a photo needs, and turns where several need too much.

Small photos take no part. Large ones together take no more than was said: one that does not fit
waits on its thread for those before it, in the order in which they came. A photo that needs more
than that by itself is decoded alone; how large it can be, the limit on pixels says.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from PIL import Image
from PIL.JpegImagePlugin import JpegImageFile

from service.avif import coded_pixels
from service.errors import SuperbinError
from service.memory import give_back_now
from service.structure import first_scan_components

SMALL_BYTES = 16_000_000
BANDS_BYTES = 12_000_000  # for what `service.bands` works on
LOOK_S = 0.1  # between looks whether a photo that waits is still wanted

# Bytes a pixel, each with what Pillow holds at the same time: measured, or the most that the
# format may need.
WEBP = 13  # the canvas twice, what a lossless picture is decoded to, an opaque plane
AVIF_PICTURE = 6  # three planes of more than eight bits
AVIF_SHOWN = 8  # four channels twice
HEIF = 20
OF_ONE_BYTE = frozenset({"1", "L", "P"})
COEFFICIENT, MOST_SAMPLES = 2, 4  # of a JPEG, for each of a pixel's samples

_wanted: ContextVar[Callable[[], bool] | None] = ContextVar("wanted", default=None)


class Unwanted(SuperbinError):
    """Nobody waits any more for a photo that waited for memory."""


@contextmanager
def while_wanted(wanted: Callable[[], bool]) -> Iterator[None]:
    """Photos decoded in here wait for memory only as long as they are wanted."""
    token = _wanted.set(wanted)
    try:
        yield
    finally:
        _wanted.reset(token)


def bytes_to_decode(image: Image.Image, data: bytes) -> int:
    """What decoding an image takes at most, about: as large as it is, or as a draft makes it.

    Args:
        image: opened, not loaded.
        data: its file.
    """
    pixels = image.width * image.height
    own = pixels * (1 if image.mode in OF_ONE_BYTE else 4)
    if image.format == "WEBP":
        own = pixels * WEBP
    elif image.format == "AVIF":
        coded = coded_pixels(data)
        scaled = 0 if max(coded) == pixels else pixels
        own = (sum(coded) + scaled) * AVIF_PICTURE + pixels * AVIF_SHOWN
    elif image.format == "HEIF":
        own = pixels * HEIF
    elif image.format in ("GIF", "BMP"):  # frames within others, runs that are undone in Python
        own = pixels * 4
    return own + BANDS_BYTES


def bytes_between_scans(image: Image.Image, data: bytes) -> int:
    """What a JPEG of several scans keeps of all its pixels, however small it is drafted.

    Args:
        image: opened, and not drafted.
        data: its file.
    """
    pixels = image.width * image.height
    if not isinstance(image, JpegImageFile) or pixels * MOST_SAMPLES * COEFFICIENT <= SMALL_BYTES:
        return 0
    if "progressive" not in image.info and first_scan_components(data) == len(image.layer):
        return 0
    in_all = [across * down for _, across, down, _ in image.layer]
    return pixels * COEFFICIENT * min(MOST_SAMPLES, -(-sum(in_all) // max(1, *in_all)))


class Memory:
    """Bytes that several threads take and give back."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._taken = 0
        self._waiting: deque[object] = deque()

    @contextmanager
    def taken(self, nbytes: int, most: int | None) -> Iterator[None]:
        """Take so many, for which this waits.

        Args:
            nbytes: what is needed.
            most: what all together may take; None for no limit.

        Raises:
            Unwanted: where `while_wanted` says so meanwhile.
        """
        if most is None or nbytes <= SMALL_BYTES:
            yield
            return
        self._wait(nbytes, most)
        try:
            yield
        finally:
            give_back_now()  # or the next thread's would come on top of what this one's keeps
            with self._changed:
                self._taken -= nbytes
                self._changed.notify_all()

    def _wait(self, nbytes: int, most: int) -> None:
        wanted, me = _wanted.get(), object()
        with self._changed:
            self._waiting.append(me)
            try:
                while self._waiting[0] is not me or (self._taken and self._taken + nbytes > most):
                    if wanted and not wanted():
                        raise Unwanted("expected somebody who waits for this photo, got nobody")
                    self._changed.wait(LOOK_S)
                self._taken += nbytes
            finally:
                self._waiting.remove(me)
                self._changed.notify_all()


MEMORY = Memory()  # of this process
