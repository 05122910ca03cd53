"""Throw mutated photos at `service.preprocess.decode`: a refusal in our words, or pixels; no third.

.venv/bin/pip install atheris
.venv/bin/python -m tests.fuzz.preprocess -runs=1000000 -timeout=10 -rss_limit_mb=1024
"""

from __future__ import annotations

import multiprocessing
import sys
import tempfile
from pathlib import Path

import atheris

with atheris.instrument_imports(
    include=[
        "service.avif",
        "service.avif_photo",
        "service.bands",
        "service.decoding",
        "service.preprocess",
        "service.structure",
    ]
):
    from service import bands, decoding
    from service.errors import PhotoError
    from service.preprocess import PhotoLimits, Preprocessing, decode

from tests.photo_factory import BOMBS, avif_that_says, encode, noise, quarters

SPECS = [
    Preprocessing(height=32, width=32),
    Preprocessing(height=24, width=48, fit="crop", crop_fraction=0.9, resample="bicubic"),
]
LIMITS = PhotoLimits(max_bytes=1_000_000, max_pixels=250_000, max_decode_bytes=1)
bands.BAND_PIXELS = 100  # so that small photos are worked on as large ones are
decoding.SMALL_BYTES = 0


def one(data: bytes) -> None:
    for spec in SPECS:
        try:
            pixels = decode(data, spec, LIMITS)
        except PhotoError:
            continue
        if pixels.shape != (spec.height, spec.width, 3) or pixels.dtype.name != "uint8":
            raise AssertionError(f"{pixels.shape} {pixels.dtype}")


def seeds(folder: Path) -> None:
    """A small photo in each format, for the mutations to begin with."""
    for format in ("JPEG", "PNG", "WEBP", "BMP", "GIF", "AVIF"):
        (folder / format).write_bytes(encode(quarters(24, 16), format))
    (folder / "noise").write_bytes(noise(1, 24, 16))
    exif = b"Exif\0\0MM\0*\0\0\0\x08\0\x01\x01\x12\0\x03\0\0\0\x01\0\x06\0\0\0\0\0\0"
    (folder / "turned").write_bytes(encode(quarters(24, 16), "JPEG", exif=exif))
    (folder / "grey").write_bytes(encode(quarters(24, 16).convert("L"), "JPEG"))
    (folder / "cmyk").write_bytes(encode(quarters(24, 16).convert("CMYK"), "JPEG"))
    (folder / "palette").write_bytes(encode(quarters(24, 16).convert("P"), "PNG"))
    (folder / "alpha").write_bytes(encode(quarters(24, 16).convert("RGBA"), "PNG"))
    (folder / "layers").write_bytes(encode(quarters(24, 16).convert("RGBA"), "AVIF"))
    (folder / "scaled").write_bytes(avif_that_says((24, 16), holding=(96, 64)))
    for name, make in BOMBS.items():
        (folder / name.replace(" ", "-")).write_bytes(make())
    (folder / "progressive").write_bytes(encode(quarters(24, 16), "JPEG", progressive=True))


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        maker = multiprocessing.get_context("fork").Process(target=seeds, args=(Path(folder),))
        maker.start()  # on its own: what it takes to make a bomb is no part of what decoding takes
        maker.join()
        atheris.Setup([*sys.argv, folder], one)
        atheris.Fuzz()
