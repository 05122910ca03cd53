"""Throw mutated bodies and headers at what reads requests: a refusal in our words, or an answer.

.venv/bin/pip install atheris
.venv/bin/python -m tests.fuzz.requests -runs=1000000 -timeout=10 -rss_limit_mb=1024
"""

from __future__ import annotations

import json
import sys
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "python_multipart",
        "service.kinds",
        "service.languages",
        "service.multipart",
        "service.tags",
        "service.tensors",
        "service.announced",
        "service.uploads",
        "service.validation",
    ]
):
    from service.bundle import read_manifest
    from service.errors import SuperbinError
    from service.kinds import is_kind, near_kinds
    from service.languages import pick_language
    from service.multipart import MultipartBroken, Parts, TooManyParts
    from service.tags import NAMES, read_tags
    from service.tensors import read_inference
    from service.uploads import clean_filename
    from service.validation import read_size

MANIFEST = read_manifest(Path("models/refuse/1"))
MOST = 3
MAX_SIZE = 100


def form(head: str, body: bytes) -> None:
    """A form, in two chunks; the header is its type."""
    parts = Parts(head, max_files=MOST, max_fields=MOST, max_size=MAX_SIZE)
    for chunk in (body[: len(body) // 2], body[len(body) // 2 :]):
        parts.write(chunk)
    found = parts.finish()
    assert len(found) <= 2 * MOST
    for part in found:
        assert (part.data is None) == (part.size > MAX_SIZE)
        assert part.data is None or len(part.data) == part.size
        name = clean_filename(part.filename)
        assert name is None or name.isprintable()


def inference(head: str, body: bytes) -> None:
    """The protocol's JSON and tensors; the header is the JSON's length, if any."""
    asked = read_inference(body, head or None, MANIFEST)
    assert asked.photos
    assert asked.wanted


def words(head: str, body: bytes) -> None:
    """Short texts of headers, queries and bodies."""
    text = body.decode("latin-1")
    size = read_size(text)
    assert size is None or 0 <= size < 10**18
    assert pick_language(text, ["de", "en"]) in ("de", "en")
    assert len(near_kinds(text[:64], ["battery", "can", head])) <= MOST
    is_kind(text)
    read_tags(dict.fromkeys(NAMES, text))


TARGETS: list[Callable[[str, bytes], None]] = [form, inference, words]


def one(data: bytes) -> None:
    """The first byte says what it is, and the first line is its header."""
    head, _, body = data[1:].partition(b"\n")
    with suppress(SuperbinError, MultipartBroken, TooManyParts):
        TARGETS[(data or b"\0")[0] % len(TARGETS)](head.decode("latin-1"), body)


def seeds(folder: Path) -> None:
    """A request of each kind, for the mutations to begin with."""
    part = b'--x\r\nContent-Disposition: form-data; name="files"; filename="a.jpg"\r\n\r\nabc\r\n'
    (folder / "form").write_bytes(b"\0multipart/form-data; boundary=x\n" + part * 2 + b"--x--\r\n")
    shape = [1, MANIFEST.preprocessing.height, MANIFEST.preprocessing.width, 3]
    tensor = {"name": "images", "shape": shape, "datatype": "UINT8"}
    photo = {"name": "images", "shape": [1], "datatype": "BYTES"}
    binary = {"parameters": {"binary_data_size": 8}}
    outputs = [{"name": "probabilities", "parameters": {"classification": 2}}]
    for name, request, behind in (
        ("pixels", {"inputs": [tensor | {"data": [[1, 2, 255]]}]}, b""),
        ("photos", {"id": "7", "inputs": [photo | {"data": ["AAAA"]}], "outputs": outputs}, b""),
        ("binary", {"inputs": [photo | binary]}, b"\4\0\0\0abcd"),
        ("raw", {"inputs": [tensor | binary]}, b"abcdefgh"),
    ):
        body = json.dumps(request).encode()
        head = b"\1" + (str(len(body)).encode() if behind else b"")
        (folder / name).write_bytes(head + b"\n" + body + behind)
    for name, text in (("language", b"de-AT, en;q=0.5"), ("tag", b"hall-1"), ("size", b"0099")):
        (folder / name).write_bytes(b"\2batery\n" + text)


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        seeds(Path(folder))
        atheris.Setup([*sys.argv, folder], one)
        atheris.Fuzz()
