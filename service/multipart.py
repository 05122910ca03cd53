"""The parts of a multipart/form-data body as they come, in memory, which admission bounds.

python-multipart finds the parts; here is what is kept of them. Of a file that is too large only the
size is kept.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING
from urllib.parse import unquote_to_bytes

from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

QUOTED = re.compile(rb'"(?:[^"\\]|\\.)*"')
EXTENDED = re.compile(rb";\s*filename\*\s*=\s*(utf-8|iso-8859-1)'[^']*'([^;\s]*)", re.IGNORECASE)


class MultipartBroken(Exception):
    """The body is no multipart/form-data."""


class TooManyParts(Exception):
    """More files than are allowed."""


@dataclass(frozen=True)
class Part:
    """One field: of a file also its name, and its bytes unless it is too large."""

    field: str
    filename: str | None
    is_file: bool
    size: int
    data: bytes | None


class Parts:
    """Takes a body's chunks, and gives its parts at the end."""

    def __init__(
        self, content_type: str, *, max_files: int, max_fields: int, max_size: int
    ) -> None:
        """Begin.

        Args:
            content_type: with the boundary.
            max_files, max_fields: parts with and without a filename.
            max_size: bytes of a part, beyond which its data are dropped.

        Raises:
            MultipartBroken: where there is no boundary.
        """
        _, options = parse_options_header(content_type)
        boundary = options.get(b"boundary")
        if not boundary:
            raise MultipartBroken("no boundary in the Content-Type")
        # What is called back does not know the parser: in a circle bodies would outlive requests.
        self._found = _Found(max_files, max_fields, max_size)
        try:
            self._parser = MultipartParser(boundary, self._found.callbacks())
        except FormParserError as error:
            raise MultipartBroken(str(error)) from error

    def write(self, chunk: bytes) -> None:
        """Take some more of the body.

        Raises:
            MultipartBroken, TooManyParts: as soon as it shows.
        """
        try:
            self._parser.write(chunk)
        except FormParserError as error:
            raise MultipartBroken(str(error)) from error

    @property
    def files(self) -> int:
        """Parts with a filename that have begun."""
        return self._found.files

    def finish(self) -> list[Part]:
        """All parts, in order.

        Raises:
            MultipartBroken: where the body ended before its last boundary.
        """
        if not self._found.ended:
            raise MultipartBroken("it ends before its last boundary")
        return self._found.parts


class _Found:
    """What the parser has found so far."""

    def __init__(self, max_files: int, max_fields: int, max_size: int) -> None:
        self.parts: list[Part] = []
        self.ended = False
        self.files = 0
        self._left = {True: max_files, False: max_fields}  # by whether the part is a file
        self._max_size = max_size
        self._header = self._value = b""
        self._disposition = b""
        self._field = ""
        self._filename: str | None = None
        self._is_file = False
        self._chunks: list[bytes] = []
        self._size = 0

    def callbacks(self) -> MultipartCallbacks:
        return {
            "on_part_begin": self._begin,
            "on_header_field": self._header_field,
            "on_header_value": self._header_value,
            "on_header_end": self._header_end,
            "on_headers_finished": self._headers_finished,
            "on_part_data": self._part_data,
            "on_part_end": self._part_end,
            "on_end": self._end,
        }

    def _begin(self) -> None:
        self._disposition = b""
        self._chunks, self._size = [], 0

    def _header_field(self, data: bytes, start: int, end: int) -> None:
        self._header += data[start:end]

    def _header_value(self, data: bytes, start: int, end: int) -> None:
        self._value += data[start:end]

    def _header_end(self) -> None:
        if self._header.lower() == b"content-disposition":
            self._disposition = self._value
        self._header = self._value = b""

    def _headers_finished(self) -> None:
        _, options = parse_options_header(self._disposition)
        if b"name" not in options:
            raise MultipartBroken("a part without a name in its Content-Disposition")
        self._field = _text(options[b"name"])
        filename = options.get(b"filename")
        self._filename = _extended(self._disposition) if filename is None else _text(filename)
        self._is_file = self._filename is not None
        self._left[self._is_file] -= 1
        self.files += self._is_file
        if self._left[self._is_file] < 0:
            raise TooManyParts if self._is_file else MultipartBroken("too many fields")

    def _part_data(self, data: bytes, start: int, end: int) -> None:
        self._size += end - start
        if self._size <= self._max_size:
            self._chunks.append(data[start:end])
        else:
            self._chunks.clear()

    def _part_end(self) -> None:
        data = None if self._size > self._max_size else b"".join(self._chunks)
        self.parts.append(Part(self._field, self._filename, self._is_file, self._size, data))
        self._chunks = []

    def _end(self) -> None:
        self.ended = True


def _extended(disposition: bytes) -> str | None:
    """The name in `filename*`, which some clients send alone, though RFC 7578 has it nowhere."""
    found = EXTENDED.search(QUOTED.sub(b"", disposition)) if b"*" in disposition else None
    return unquote_to_bytes(found[2]).decode(found[1].decode(), "replace") if found else None


def _text(value: bytes) -> str:
    return value.decode("utf-8", errors="replace")
