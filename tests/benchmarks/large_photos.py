"""The most memory that the service takes where many photos of twelve megapixels come at once.

Each kind is asked of a service of its own, from as many connections as there are photos.
"""

from __future__ import annotations

import io
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import numpy as np
import typer
from PIL import Image

from tests.integration.server import running

ROOT = Path(__file__).resolve().parents[2]
SIZE = (4000, 3000)
SECONDS = 120.0
GRAIN, QUALITY = 3.0, 85  # less, and a photo would be smaller than those of telephones


def most_mb(process: int) -> float:
    """The most resident memory that a process has had, in MB (Linux)."""
    for line in Path(f"/proc/{process}/status").read_text().splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) * 1024 / 1e6
    raise RuntimeError(f"expected VmHWM in /proc/{process}/status, got none")


def main(jpegs: int = 100, pngs: int = 35) -> None:
    """Memory where many photos of twelve megapixels come at once."""
    photo = Image.open(ROOT / "tests" / "photos" / "metal.jpg")
    smooth = np.asarray(photo.resize(SIZE, Image.Resampling.BICUBIC), dtype=np.float32)
    grain = np.random.default_rng(0).normal(0.0, GRAIN, smooth.shape)
    large = Image.fromarray((smooth + grain).clip(0, 255).astype(np.uint8))
    for kind, photos in (("JPEG", jpegs), ("PNG", pngs)):
        file = io.BytesIO()
        large.save(file, kind, quality=QUALITY)
        data = file.getvalue()
        with running(ROOT / "models", model="refuse", log_level="warning") as server:

            def ask(_: int, url: str = server.url, body: bytes = data, kind: str = kind) -> int:
                headers = {"Content-Type": f"image/{kind.lower()}"}
                url = f"{url}/v1/classify"
                return httpx.post(url, content=body, headers=headers, timeout=SECONDS).status_code

            ask(0)
            before = most_mb(server.process.pid)
            with ThreadPoolExecutor(photos) as pool:
                codes = Counter(pool.map(ask, range(photos)))
            after = most_mb(server.process.pid)
        told = ", ".join(f"{number} x {code}" for code, number in sorted(codes.items()))
        print(
            f"{photos} {kind} photos of {len(data) / 1e6:.1f} MB at once ({told}): at most "
            f"{after:.0f} MB, {before:.0f} after the first"
        )


if __name__ == "__main__":
    typer.run(main)
