"""Large photos by bands: the pixels are those of the whole photo, and are in memory but once."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from service import bands
from tests.photo_factory import encode

# Reads a photo from stdin; prints the megabytes that decoding it took.
COST = """
import re, sys
from pathlib import Path
from service.preprocess import Preprocessing, decode
import PIL.AvifImagePlugin, PIL.WebPImagePlugin
status = Path("/proc/self/status")
peak = lambda: int(re.search(r"VmHWM:\\s+(\\d+)", status.read_text())[1]) // 1024
data, before = sys.stdin.buffer.read(), peak()
decode(data, Preprocessing(height=224, width=224))
print(peak() - before)
"""
SIDE = 4000
LINUX = pytest.mark.skipif(sys.platform != "linux", reason="the kernel's count")


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "LA", "P", "1", "I;16", "CMYK"])
@given(
    size=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    wanted=st.tuples(st.integers(1, 60), st.integers(1, 60)),
    orientation=st.integers(1, 8),
    resample=st.sampled_from(["BILINEAR", "BICUBIC", "LANCZOS"]),
    inner=st.tuples(*4 * [st.floats(0.0, 0.4)]),
    at_once=st.integers(1, 900),
)
def test_bands_give_the_pixels_of_the_whole(
    mode: str,
    size: tuple[int, int],
    wanted: tuple[int, int],
    orientation: int,
    resample: str,
    inner: tuple[float, float, float, float],
    at_once: int,
) -> None:
    """Also where Pillow begins with the columns, as it does with tall photos."""
    random = np.random.default_rng(sum(size))
    if mode == "I;16":
        image = Image.fromarray(random.integers(0, 65536, size[::-1], dtype=np.uint16))
    else:
        colours = random.integers(0, 256, (*size[::-1], 4), dtype=np.uint8)
        image = Image.fromarray(colours).convert("RGB" if mode == "P" else "RGBA").convert(mode)
    whole = bands.upright_rgb(image, orientation)
    width, height = whole.size
    left, top, right, bottom = inner
    box = (left * width, top * height, (1 - right) * width, (1 - bottom) * height)
    by = Image.Resampling[resample]
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(bands, "BAND_PIXELS", at_once)
        found = bands.reduced(image, orientation, wanted, by, box)
    assert found.tobytes() == whole.resize(wanted, by, box=box).tobytes()


@LINUX
@pytest.mark.parametrize(
    ("mode", "format", "options", "bytes_a_pixel"),
    [
        ("RGBA", "PNG", {"compress_level": 1}, 7),
        ("P", "PNG", {"transparency": 0}, 4),
        ("LA", "PNG", {"compress_level": 1}, 7),
        ("RGBA", "WEBP", {"lossless": True, "quality": 0, "method": 0}, 15),
        ("RGB", "WEBP", {"quality": 50, "method": 0}, 15),
        ("RGBA", "AVIF", {"speed": 10}, 15),
    ],
)
def test_a_decoded_photo_is_in_memory_but_once(
    mode: str, format: str, options: dict[str, Any], bytes_a_pixel: int
) -> None:
    """What comes on top is the decoder's own; in a process of its own, to see that as well."""
    data = encode(Image.new(mode, (SIDE, SIDE)), format, **options)
    run = subprocess.run([sys.executable, "-c", COST], input=data, capture_output=True, check=True)
    assert int(run.stdout) < bytes_a_pixel * SIDE**2 / 1e6
