"""Ways to turn a JPEG into the model's pixels: CPU time beside ours, and how far the pixels differ.

    pip install simplejpeg 'PyTurboJPEG<2' 'pyvips[binary]'      # and Debian's libturbojpeg0

Every way may shrink by the decoder, to no less than the size that is wanted. What is not installed
is left out.
"""

from __future__ import annotations

import io
import statistics
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import typer
from PIL import Image

from service.bundle import read_bundle
from service.preprocess import Pixels, Preprocessing, decode

PHOTO = Path(__file__).parent.parent / "photos" / "glass.jpg"
BUNDLE = Path("models/refuse/1")
LARGE = (4000, 3000)
BUDGET_S = 2.0  # for each way
Way = Callable[[bytes], Pixels]


def main() -> None:
    """Compare on a photo of TrashNet's size, and on twelve megapixels of the same."""
    spec = read_bundle(BUNDLE).manifest.preprocessing
    small = PHOTO.read_bytes()
    file = io.BytesIO()
    Image.open(PHOTO).resize(LARGE, Image.Resampling.BICUBIC).save(file, "JPEG", quality=85)
    for data in (small, file.getvalue()):
        width, height = Image.open(io.BytesIO(data)).size
        print(f"{width} x {height}, {len(data):,} bytes, to {spec.width} x {spec.height}")
        compare(data, spec)


def compare(data: bytes, spec: Preprocessing) -> None:
    """In turns, so that all of them meet the same noise."""
    ways = all_ways(spec)
    taken: dict[str, list[float]] = {name: [] for name in ways}
    end = time.monotonic() + BUDGET_S * len(ways)
    while time.monotonic() < end:
        for name, way in ways.items():
            started = time.process_time()
            way(data)
            taken[name].append(time.process_time() - started)
    ours = decode(data, spec).astype(int)
    base = statistics.median(taken["ours (Pillow)"])
    for name, way in ways.items():
        median = statistics.median(taken[name])
        apart = np.abs(way(data).astype(int) - ours)
        print(
            f"  {name:32} {1000 * median:6.2f} ms, {median / base:.2f} x ours; "
            f"pixels apart {apart.mean():.2f} on average, {apart.max()} at most"
        )


def all_ways(spec: Preprocessing) -> dict[str, Way]:
    """Those that are installed."""
    ways: dict[str, Way] = {"ours (Pillow)": partial(decode, spec=spec)}
    for add in (_simplejpeg, _turbojpeg, _vips):
        try:
            ways |= add(spec)
        except (ImportError, OSError, RuntimeError) as error:
            print(f"  without {add.__name__[1:]}: {error}")
    return ways


def _resized(pixels: Any, spec: Preprocessing) -> Pixels:
    resample = Image.Resampling[spec.resample.upper()]
    return np.asarray(Image.fromarray(pixels).resize((spec.width, spec.height), resample))


def _simplejpeg(spec: Preprocessing) -> dict[str, Way]:
    decode_jpeg = partial(
        import_module("simplejpeg").decode_jpeg, min_height=spec.height, min_width=spec.width
    )
    return {
        "simplejpeg": lambda data: _resized(decode_jpeg(data), spec),
        "simplejpeg, fast and less exact": lambda data: _resized(
            decode_jpeg(data, fastdct=True, fastupsample=True), spec
        ),
    }


def _turbojpeg(spec: Preprocessing) -> dict[str, Way]:
    library = import_module("turbojpeg")
    turbo = library.TurboJPEG()

    def way(data: bytes) -> Pixels:
        width, height, *_ = turbo.decode_header(data)
        fits = [
            (n, d)
            for n, d in turbo.scaling_factors
            if n <= d and width * n >= spec.width * d and height * n >= spec.height * d
        ]
        factor = min(fits, key=lambda one: one[0] / one[1]) if fits else (1, 1)
        pixels = turbo.decode(data, pixel_format=library.TJPF_RGB, scaling_factor=factor)
        return _resized(pixels, spec)

    return {"PyTurboJPEG": way}


def _vips(spec: Preprocessing) -> dict[str, Way]:
    image = import_module("pyvips").Image

    def way(data: bytes) -> Pixels:
        thumbnail = image.thumbnail_buffer(data, spec.width, height=spec.height, size="force")
        return np.asarray(thumbnail.numpy()[..., :3])

    return {"libvips": way}


if __name__ == "__main__":
    typer.run(main)
