"""Pictures that are no refuse, in groups, out of packages under free licences.

    python -m tests.benchmarks.pictures DEST [PACKAGES]

Debian's packages are fetched by `apt-get download` and not installed; photos also come from the
wheels of scikit-image, scikit-learn and matplotlib. Near-duplicates are left out (256-bit dHash,
distance at most 12, as in the refuse data). DEST gets a folder for each group; which is which is
said in `GROUPS`. PACKAGES keeps what was fetched and unpacked for the next time.
"""

from __future__ import annotations

import hashlib
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated

import numpy as np
import typer
from PIL import Image, ImageDraw, ImageFont
from playwright.sync_api import Page, sync_playwright

from tests.integration.server import running

GROUPS = {
    "scenes": "photos of places, people, animals, things outdoors",
    "cut-outs": "photos of animals, vehicles, buildings, plants on plain white",
    "household": "photos of household things, food, tools, instruments on plain white",
    "wallpapers": "drawn and photographed desktop wallpapers",
    "drawings": "cartoons, signs, letters",
    "figures": "figures of documentation: plots, diagrams, processed photos",
    "screenshots": "web pages and dialogs",
    "text": "pages of text",
    "generated": "noise, gradients, stripes, chequers, plain colours",
}
# What may well be somebody's refuse: reported, and not counted among what is none.
PERHAPS_REFUSE = "household"
PACKAGES = (
    "tuxpaint-stamps-default",  # GPL-2
    "opencv-doc",  # Apache-2.0
    "gimp-help-en",  # GFDL
    "gnome-backgrounds",  # CC-BY-SA
    "mate-backgrounds",  # GPL-2, CC-BY-SA
    "plasma-workspace-wallpapers",  # LGPL-3, CC-BY-SA
    "lomiri-wallpapers-16.04",  # CC-BY-SA
    "lomiri-wallpapers-20.04",  # CC-BY-SA
    "ukui-wallpapers",  # GPL-3
)
HOUSEHOLD = ("household", "food", "medical", "hobbies", "sports")
DRAWN = (
    *("symbols", "cartoon", "flags", "roadsigns", "military", "naturalforces", "people"),
    *("seasonal", "clothes"),
)
# Of a series that shows one chequered board again and again, all but its first.
REPEATED = re.compile(r"(left|right)(0[2-9]|1\d)|right01")
LEAST_GREYS = 64  # of a photo; masks and diagrams have fewer
SUFFIXES = {".jpg", ".jpeg", ".png", ".webp"}
LEAST_PX = 100
MOST = {"drawings": 80, "figures": 80, "screenshots": 80}  # of a group, by the hash of the name
NEAR = 12  # bits of 256
PAGES = 40


def main(target: Path, packages: Annotated[Path | None, typer.Argument()] = None) -> None:
    """Fetch, sort into groups, render the rest."""
    with tempfile.TemporaryDirectory() as folder:
        unpacked = packages or Path(folder)
        unpacked.mkdir(parents=True, exist_ok=True)
        if not any(unpacked.iterdir()):
            fetch(unpacked)
        gather(unpacked, target)
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(
                executable_path=shutil.which("chromium"), args=["--no-sandbox"]
            )
            screenshots(browser.new_page(viewport={"width": 1100, "height": 820}), unpacked, target)
            browser.close()
    text_pages(target / "text")
    generated(target / "generated")
    for group, about in GROUPS.items():
        print(f"{group}: {len(list((target / group).iterdir()))} ({about})")


def fetch(folder: Path) -> None:
    """Unpack every package below `folder`."""
    subprocess.run(["apt-get", "download", "-q", *PACKAGES], cwd=folder, check=True)
    for deb in sorted(folder.glob("*.deb")):
        subprocess.run(["dpkg-deb", "-x", deb, folder / deb.name.split("_")[0]], check=True)
    pip = [sys.executable, "-m", "pip", "download", "-q", "--no-deps", "-d", str(folder)]
    subprocess.run([*pip, "scikit-image", "scikit-learn", "matplotlib"], check=True)
    for wheel in folder.glob("*.whl"):
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(folder / "wheels")


def gather(folder: Path, target: Path) -> None:
    """Copy each picture, as PNG or JPEG of at most 1,600 pixels, into its group."""
    kept: list[np.ndarray] = []
    counts: dict[str, int] = {}
    found = sorted(
        candidates(folder), key=lambda pair: hashlib.sha256(pair[1].name.encode()).digest()
    )
    for group, file in found:
        if counts.get(group, 0) >= MOST.get(group, 10_000):
            continue
        try:
            with Image.open(file) as image:
                if min(image.size) < LEAST_PX:
                    continue
                flat = flattened(image)
        except OSError:
            continue
        if group == "scenes" and len(np.unique(flat.convert("L"))) < LEAST_GREYS:
            continue
        bits = dhash(flat)
        if any((bits != other).sum() <= NEAR for other in kept):
            continue
        kept.append(bits)
        counts[group] = counts.get(group, 0) + 1
        flat.thumbnail((1600, 1600))
        (target / group).mkdir(parents=True, exist_ok=True)
        flat.save(target / group / f"{file.parent.name}-{file.stem}.jpg", quality=92)


def candidates(folder: Path) -> Iterator[tuple[str, Path]]:
    """Each picture with its group."""
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in SUFFIXES or not file.is_file():
            continue
        if "contents" in file.parts and file != min(file.parent.iterdir()):
            continue  # the same wallpaper in other sizes
        if group := group_of(file.relative_to(folder).parts):
            yield group, file


def group_of(parts: tuple[str, ...]) -> str | None:
    """By the package and the folders in it."""
    package, inner = parts[0], parts[1:]
    if "wallpapers" in package or "backgrounds" in package:
        return "wallpapers" if "screenshot" not in parts[-1] else None
    if package == "tuxpaint-stamps-default":
        if parts[-1].endswith("_mirror.png") or "stamps" not in parts:
            return None
        if any(word in DRAWN for word in inner):
            return "drawings"
        return "household" if any(word in HOUSEHOLD for word in inner) else "cut-outs"
    if package == "opencv-doc":
        if "examples" not in parts:
            return "figures"
        return None if REPEATED.fullmatch(Path(parts[-1]).stem) else "scenes"
    if package == "gimp-help-en":
        return "screenshots"
    sample = ("skimage", "data"), ("datasets", "images"), ("mpl-data", "sample_data")
    if package == "wheels" and parts[-3:-1] in sample:
        return "scenes"
    return None


def flattened(image: Image.Image) -> Image.Image:
    """RGB over white, as the service has it."""
    layered = image.convert("RGBA")
    flat = Image.new("RGB", layered.size, (255, 255, 255))
    flat.paste(layered, mask=layered.getchannel("A"))
    return flat


def dhash(image: Image.Image) -> np.ndarray:
    """Whether each of 16 x 16 cells is brighter than the next one to its right: bool [256]."""
    grey = np.asarray(image.convert("L").resize((17, 16), Image.Resampling.BOX), dtype=int)
    return (grey[:, 1:] > grey[:, :-1]).ravel()


def screenshots(page: Page, folder: Path, target: Path) -> None:
    """This service's own pages, and pages of documentation."""
    out = target / "screenshots"
    out.mkdir(parents=True, exist_ok=True)
    models = Path(__file__).parents[2] / "models"
    with running(models, model="refuse") as server:
        for name in ("", "docs"):
            page.goto(f"{server.url}/{name}", wait_until="load")
            page.screenshot(path=out / f"superbin-{name or 'page'}.png")
    files = [*folder.glob("opencv-doc/**/*.html"), *folder.glob("gimp-help-en/**/*.html")]
    files += [*Path("/usr/share/doc").rglob("*.html")]
    files.sort(key=lambda file: hashlib.sha256(file.name.encode()).digest())
    for place, file in enumerate(files[:PAGES]):
        page.goto(file.as_uri(), wait_until="load")
        page.screenshot(path=out / f"page-{place}.png")


def text_pages(out: Path) -> None:
    """Text of the licences that Debian ships, set in several sizes and shades."""
    out.mkdir(parents=True, exist_ok=True)
    texts = sorted(Path("/usr/share/common-licenses").iterdir())
    random = np.random.default_rng(0)
    for place in range(PAGES):
        lines = texts[place % len(texts)].read_text(encoding="utf-8", errors="replace").splitlines()
        start = int(random.integers(0, max(1, len(lines) - 80)))
        paper, ink = int(random.integers(190, 256)), int(random.integers(0, 90))
        page = Image.new("RGB", (1000, 1400), (paper, paper, int(paper * random.uniform(0.85, 1))))
        font = ImageFont.load_default(size=float(random.integers(14, 34)))
        draw = ImageDraw.Draw(page)
        draw.multiline_text((60, 60), "\n".join(lines[start : start + 80]), (ink,) * 3, font)
        page.rotate(float(random.normal(0, 2)), fillcolor=(90, 80, 70)).save(
            out / f"text-{place}.png"
        )


def generated(out: Path) -> None:
    """Pictures of which each has its own kind and seed."""
    out.mkdir(parents=True, exist_ok=True)
    y, x = np.mgrid[0:512, 0:512] / 512
    for seed in range(60):
        random = np.random.default_rng(seed)
        first, second = random.uniform(0, 255, (2, 3))
        angle, period = random.uniform(0, np.pi), random.uniform(0.02, 0.3)
        along = x * np.cos(angle) + y * np.sin(angle)
        small = random.uniform(0, 1, (2 ** int(random.integers(2, 8)),) * 2)
        kinds = (
            random.uniform(0, 1, (512, 512)),
            along / np.abs(along).max(),
            along / period % 1 > 0.5,
            (x // period + y // period) % 2,
            np.asarray(Image.fromarray((small * 255).astype(np.uint8)).resize((512, 512), 3)) / 255,
            np.sin(along / period * 6.28) / 2 + 0.5,
        )
        share = np.clip(kinds[seed % len(kinds)], 0, 1)[..., None]
        pixels = first * share + second * (1 - share)
        Image.fromarray(pixels.astype(np.uint8)).save(out / f"generated-{seed}.png")


if __name__ == "__main__":
    typer.run(main)
