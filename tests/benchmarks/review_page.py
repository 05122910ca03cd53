"""How fast the review page can be gone through by keyboard: from a key to the next photo.

python -m tests.benchmarks.review_page DIR [--photos 320] [--reviews 170]

DIR holds photos, in folders. They are sent to the bundled model, of two sites in turns, and all
are kept. Keys are random: what is measured is the page and the service, not a person.
"""

from __future__ import annotations

import argparse
import random
import shutil
import tempfile
import time
from pathlib import Path
from statistics import median

import httpx
from playwright.sync_api import Page, sync_playwright

from service.keys import digest_of
from tests.integration.server import Server, running, until

MODELS = Path(__file__).resolve().parents[2] / "models"
SITES = ("city-four-bins", "single-stream-line")
IN_A_ROW = 80  # photos of one site
REQUEST = 8
BIN_KEYS = "12349"
CLIENT, ROOM = "line", "room"
PRESS = """key => new Promise(resolve => {
    const find = id => document.getElementById(id);
    const [photo, asks] = [find("photo"), find("asks")];
    const [before, asked, start] = [photo.dataset.id, asks.textContent, performance.now()];
    document.body.dispatchEvent(new KeyboardEvent("keydown", { key, bubbles: true }));
    const end = found => { watch.disconnect(); resolve(found); };
    const look = () => {
        const now = photo.dataset.id;  // of a photo that is drawn, and can be spoken of
        if (!find("rest").hidden) end(["rest", 0]);
        else if (now && now !== before) end(["photo", performance.now() - start]);
        else if (now === before && asks.textContent !== asked) end(["asks", 0]);
    };
    const watch = new MutationObserver(look);
    watch.observe(document.body, { subtree: true, childList: true, attributes: true });
    look();
})"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--photos", type=int, default=320)
    parser.add_argument("--reviews", type=int, default=170)
    given = parser.parse_args()
    photos = sorted(given.folder.rglob("*.jpg"))
    random.Random(1).shuffle(photos)
    with (
        tempfile.TemporaryDirectory() as folder,
        running(MODELS, **_settings(Path(folder))) as server,
    ):
        _send(server, photos[: given.photos])
        with sync_playwright() as playwright:
            chromium = shutil.which("chromium") or shutil.which("chromium-browser")
            browser = playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
            page = browser.new_page(base_url=server.url, viewport={"width": 1280, "height": 900})
            _review(page, given.reviews)
            browser.close()


def _settings(folder: Path) -> dict[str, object]:
    keys = folder / "keys.toml"
    keys.write_text(
        f'[clients]\nline = "{digest_of(CLIENT)}"\n[reviewers]\nroom = "{digest_of(ROOM)}"\n'
    )
    shares = {f"review_{kind}_share": 1.0 for kind in ("uncertain", "contested", "random")}
    return {
        "model": "refuse",
        "keys_file": keys,
        "review_url": f"sqlite:///{folder}/review.db",
        "review_photos": folder / "photos",
        "review_queue_photos": 1000,
        **shares,
    }


def _send(server: Server, photos: list[Path]) -> None:
    with httpx.Client(base_url=server.url, headers={"x-api-key": CLIENT}, timeout=60) as client:
        for start in range(0, len(photos), REQUEST):
            site = SITES[start // IN_A_ROW % len(SITES)]
            files = [("file", (p.name, p.read_bytes())) for p in photos[start : start + REQUEST]]
            client.post("/v1/classify", params={"site": site}, files=files).raise_for_status()

        def written() -> bool:
            lines = client.get("/metrics").text.splitlines()
            kept = [one for one in lines if one.startswith("superbin_review_photos_total{")]
            return sum(float(one.split()[-1]) for one in kept) >= len(photos)

        until(written, "all photos to be kept")


def _review(page: Page, reviews: int) -> None:
    page.goto("/review")
    page.get_by_label("Your name").fill("anna")
    page.get_by_label("Reviewer key").fill(ROOM)
    page.keyboard.press("Enter")
    page.wait_for_selector("#photo[data-id]:not([data-id=''])")
    draw = random.Random(2)
    taken: list[float] = []
    second, start = 0, time.monotonic()
    while len(taken) < reviews:
        what, latency_ms = page.evaluate(PRESS, draw.choice(BIN_KEYS))
        if what == "asks":
            second += 1
            what, latency_ms = page.evaluate(PRESS, "1")
        if what == "rest":
            break
        taken.append(latency_ms)
    minutes = (time.monotonic() - start) / 60
    taken.sort()
    print(
        f"{len(taken)} photos, {second} of them by two keys: {len(taken) / minutes:.0f} a minute; "
        f"from the key to the next photo {median(taken):.0f} ms, "
        f"{taken[int(0.95 * len(taken))]:.0f} at 95%, {taken[-1]:.0f} at most"
    )


if __name__ == "__main__":
    main()
