"""How many parts an encoded photo is made of, before anything decodes them.

A photo of a few bytes and pixels can still cost minutes: a progressive JPEG may refine all of its
pixels in each of 300,000 scans, and Pillow walks markers, chunks and blocks in Python. What people
and cameras make has some ten scans, and at most some hundred parts.
"""

from __future__ import annotations

import re

MARKERS = 10_000  # of a JPEG, with each byte of padding between them
SCANS = 100
CHUNKS = 20_000  # of a PNG, of which large ones may have one for every few kilobytes
BLOCKS = 10_000  # of what a GIF says before its first picture, 255 bytes each at most

PICTURE, EXTENSION = 0x2C, 0x21
START_OF_SCAN, END_OF_IMAGE = 0xDA, 0xD9
ALONE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a length
MARKER = re.compile(rb"\xff+[^\x00\xff\xd0-\xd7]")  # which ends a scan's data


class TooManyParts(ValueError):
    """A photo of more parts than any camera makes; the message has what was expected."""


def check_structure(data: bytes) -> None:
    """Count the parts of a JPEG, PNG or GIF; others are decoded in one go.

    What is broken is left to the decoder to tell.

    Raises:
        TooManyParts: for more than the above.
    """
    if data.startswith(b"\xff\xd8"):
        _check_jpeg(data)
    elif data.startswith(b"\x89PNG\r\n\x1a\n"):
        _check_png(data)
    elif data.startswith(b"GIF8"):
        _check_gif(data)


def _check_jpeg(data: bytes) -> None:
    at, scans, markers, end = 2, 0, 0, len(data)
    # Without so many the first is enough. They may also be in a film that follows the photo.
    many = data.count(b"\xff\xda") > SCANS
    while at + 4 <= end:
        if data[at] != 0xFF or data[at + 1] == 0x00:  # what Pillow skips byte by byte
            skipped = data.find(b"\xff", at + 1)
            markers += (end if skipped < 0 else skipped) - at
            at = end if skipped < 0 else skipped
        elif data[at + 1] == 0xFF:
            at, markers = at + 1, markers + 1
        else:
            marker, markers = data[at + 1], markers + 1
            if marker == START_OF_SCAN:
                scans += 1
                if not many or scans > SCANS:
                    break
                found = MARKER.search(data, at + 4)
                at = found.end() - 2 if found else end
            elif marker == END_OF_IMAGE:
                break
            else:
                at += 2 if marker in ALONE else 2 + int.from_bytes(data[at + 2 : at + 4])
        if markers > MARKERS:
            raise TooManyParts(
                f"expected a JPEG of at most {MARKERS:,} markers and bytes of padding"
            )
    if scans > SCANS:
        raise TooManyParts(f"expected a JPEG of at most {SCANS} scans, got more")


def first_scan_components(data: bytes) -> int:
    """How many of a JPEG's components its first scan has; 0 where there is none."""
    at = 2
    while at >= 0 and at + 5 <= len(data):
        if data[at] != 0xFF or data[at + 1] == 0x00:
            at = data.find(b"\xff", at + 1)
        elif data[at + 1] == 0xFF:
            at += 1
        elif data[at + 1] == START_OF_SCAN:
            return data[at + 4]
        else:
            alone = data[at + 1] in ALONE
            at += 2 if alone else 2 + int.from_bytes(data[at + 2 : at + 4])
    return 0


def _check_png(data: bytes) -> None:
    at, chunks = 8, 0
    while at + 8 <= len(data):
        chunks += 1
        if chunks > CHUNKS:
            raise TooManyParts(f"expected a PNG of at most {CHUNKS:,} chunks, got more")
        at += 12 + int.from_bytes(data[at : at + 4])


def _check_gif(data: bytes) -> None:
    colours = data[10] if len(data) > 10 else 0
    at, blocks = 13 + (3 << ((colours & 7) + 1) if colours & 0x80 else 0), 0
    while at + 2 < len(data) and data[at] != PICTURE:
        extension, at, blocks = data[at] == EXTENSION, at + 1, blocks + 1
        if extension:
            at += 1  # its label
            while at < len(data) and data[at] and blocks <= BLOCKS:
                at, blocks = at + 1 + data[at], blocks + 1
            at += 1
        if blocks > BLOCKS:
            raise TooManyParts(f"expected a GIF of at most {BLOCKS:,} blocks before its picture")
