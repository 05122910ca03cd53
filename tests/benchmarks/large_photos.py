"""The most memory that the service takes where many large photos come at once.

They have twelve megapixels and are such as cameras make, or nearly fifty, of one colour and a few
kilobytes. Each kind is asked of a service of its own, from as many connections as there are photos.
"""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import typer
from PIL import Image

from tests.integration.server import running

ROOT = Path(__file__).resolve().parents[2]
SIZE = (4000, 3000)
LARGEST = (7071, 7071)
SECONDS = 120.0
GRAIN, QUALITY = 3.0, 85  # less, and a photo would be smaller than those of telephones


def most_mb(process: int) -> float:
    """The most resident memory that a process has had, in MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"expected VmHWM in /proc/{process}/status, got none")


def cameras() -> Image.Image:
    """Twelve megapixels with a sensor's grain."""
    photo = Image.open(ROOT / "tests" / "photos" / "metal.jpg")
    smooth = np.asarray(photo.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = np.random.default_rng(0).normal(0.0, GRAIN, smooth.shape)
    return Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))


def encoded(photo: Image.Image, kind: str, **options: Any) -> bytes:
    """A file's bytes."""
    file = io.BytesIO()
    photo.save(file, kind, **options)
    return file.getvalue()


def measure(name: str, kind: str, data: bytes, photos: int) -> None:
    """Ask a service of its own for so many at once, and print what came of it."""
    with running(ROOT / "models", model="refuse", log_level="warning") as server:

        def ask(_: int) -> int:
            headers = {"Content-Type": f"image/{kind.lower()}"}
            url = f"{server.url}/v1/classify"
            return httpx.post(url, content=data, headers=headers, timeout=SECONDS).status_code

        ask(0)
        before = most_mb(server.process.pid)
        with ThreadPoolExecutor(photos) as pool:
            codes = Counter(pool.map(ask, range(photos)))
        after = most_mb(server.process.pid)
    told = ", ".join(f"{number} x {code}" for code, number in sorted(codes.items()))
    print(
        f"{photos} {name} photos of {len(data) / 1e6:.3g} MB at once ({told}): at most "
        f"{after:.0f} MB, {before:.0f} after the first"
    )


def main(jpegs: int = 100, pngs: int = 35, blank: int = 12) -> None:
    """Memory where many large photos come at once; `blank` of each kind of fifty megapixels."""
    photo = cameras()
    measure("JPEG", "JPEG", encoded(photo, "JPEG", quality=QUALITY), jpegs)
    measure("PNG", "PNG", encoded(photo, "PNG"), pngs)
    clear, plain = Image.new("RGBA", LARGEST), Image.new("RGB", LARGEST)
    measure("blank RGBA PNG", "PNG", encoded(clear, "PNG"), blank)
    measure("blank RGBA WebP", "WEBP", encoded(clear, "WEBP", lossless=True), blank)
    measure("blank AVIF", "AVIF", encoded(plain, "AVIF", speed=10), blank)
    measure("blank RGBA AVIF", "AVIF", encoded(clear, "AVIF", speed=10), blank)
    progressive = encoded(plain, "JPEG", progressive=True, subsampling=0)
    measure("blank progressive JPEG", "JPEG", progressive, blank)


if __name__ == "__main__":
    typer.run(main)
