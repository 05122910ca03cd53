"""How soon a changed camera is flagged, how often an unchanged one is, and what a photo costs.

Photos go through the service's own decoding, classifier and windows, in process. What the model
says of each and how it looks is kept in the output folder, so that streams of 20,000 are drawn in
seconds. A change is applied to a jittered photo, which is then encoded once more; that by itself is
no change and has a row of its own.
"""

from __future__ import annotations

import io
import json
import re
import time
import zlib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import typer
from PIL import Image
from scipy.stats import beta

from service import logs
from service.appearance import Appearance, measure_appearance
from service.bundle import Bundle, read_bundle
from service.classifier import Answers, Classifier
from service.doubts import open_doubts, own_limits
from service.drift import CHECK_EVERY, DriftMonitor
from service.drift_reference import read_reference
from service.preprocess import decode
from service.tags import UNTOLD
from training.camera_changes import CHANGES, CameraChange, encoded, jittered
from training.data.photos import Photo, PhotoSet, photo_bytes, read_photos

PROCESSES = 2
TAKES = {"val": 8, "test": 4}  # jittered versions of each photo
CHANGED_PHOTOS = 300  # for each change and strength
RUN_PHOTOS, RUNS = 20_000, 60
BEFORE, AFTER = 500, 500  # photos of a stream before its camera changes, and after
DRAWS = 30
MIX_PHOTOS, MIX_RUNS = 5_000, 4
NEVER = 10**9
FIGURE = re.compile(r" \([\d.]+[^)]*\)")
AGAIN = CameraChange("encoded again", "", lambda image, strength, random: image, (90.0,))
MEASURED = (*CHANGES, AGAIN)

Take = tuple[int, str, float]  # row of the photo, change or take, strength
_classifier: Classifier


@dataclass(frozen=True)
class Pool:
    """Answers of photos, how they look, and which of the split's photos each is."""

    answers: Answers
    appearance: npt.NDArray[np.float32]
    rows: npt.NDArray[np.int64]

    def __getitem__(self, part: slice) -> Pool:
        return Pool(self.answers[part], self.appearance[part], self.rows[part])

    def show(self, monitor: DriftMonitor, row: int) -> None:
        """One photo, as the service does it."""
        monitor.observe(UNTOLD, self.answers[row : row + 1], self.appearance[row])

    def draw(self, random: np.random.Generator, count: int, weights: Any = None) -> Iterator[int]:
        """With replacement; `weights` of the split's photos."""
        share = None if weights is None else weights[self.rows] / weights[self.rows].sum()
        yield from random.choice(len(self.rows), count, p=share).tolist()


def main(
    path: Annotated[Path, typer.Argument()],
    data: Annotated[Path, typer.Option()],
    out: Annotated[Path, typer.Option()],
    split: Annotated[str, typer.Option(help="Whose photos the changed cameras take.")] = "test",
) -> None:
    logs.configure("error")  # thousands of alarms are meant to be raised
    out.mkdir(parents=True, exist_ok=True)
    bundle, photos = read_bundle(path), read_photos(data)
    pools = {split: _jittered(bundle, photos, split, out) for split in TAKES}
    changed = _changed(bundle, photos, split, out)
    report = {
        "bundle": bundle.id,
        "split": split,
        "false_alarms": {split: _false_alarms(bundle, pool) for split, pool in pools.items()},
        "changes": [_flagged(bundle, pools[split], pool, *key) for key, pool in changed.items()],
        "mixes": _mixes(bundle, pools["val"], photos.split("val")),
        "cost_us": _cost(bundle, pools["val"]),
        "measuring_us": _measuring_cost(bundle, photos),
        "measuring_between_runs_us": {
            turn: _cost_between_runs(bundle, photos, turn) for turn in (1, 4)
        },
    }
    (out / "drift.json").write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
    _print(report)
    _draw(bundle, pools[split], changed, out / "drift.png")


def _monitor(bundle: Bundle) -> DriftMonitor:
    reference = read_reference(bundle)
    assert reference is not None, f"{bundle.id} has no reference"
    return DriftMonitor(bundle.manifest.name, bundle.manifest.superclasses, reference, 1)


def _scores(monitor: DriftMonitor, pool: Pool, drawn: Iterator[int]) -> list[float]:
    """After each photo that is checked."""
    found = []
    for count, row in enumerate(drawn, 1):
        pool.show(monitor, row)
        if count % CHECK_EVERY == 0:
            found.append(float(monitor._windows[UNTOLD].scores().max()))
    return found


# --- What the model says of photos, and how they look


def _jittered(bundle: Bundle, photos: PhotoSet, split: str, out: Path) -> Pool:
    count = len(photos.split(split))
    takes = [(row, f"take {i}", 0.0) for i in range(TAKES[split]) for row in range(count)]
    return _pool(bundle, photos, split, takes, out / f"{split}.npz")


def _changed(
    bundle: Bundle, photos: PhotoSet, split: str, out: Path
) -> dict[tuple[CameraChange, float], Pool]:
    count = len(photos.split(split))
    rows = np.random.default_rng(1).permutation(count)[:CHANGED_PHOTOS].tolist()
    keys = [(change, strength) for change in MEASURED for strength in change.strengths]
    takes = [(row, change.name, strength) for change, strength in keys for row in rows]
    whole = _pool(bundle, photos, split, takes, out / f"changed-{split}.npz")
    size = len(rows)
    parts = [slice(i * size, (i + 1) * size) for i in range(len(keys))]
    return {key: whole[part] for key, part in zip(keys, parts, strict=True)}


def _pool(bundle: Bundle, photos: PhotoSet, split: str, takes: list[Take], file: Path) -> Pool:
    """All takes, from `file` where it is there."""
    rows = np.array([row for row, _, _ in takes])
    if not file.is_file():
        given = (bundle.path, photos.root, photos.split(split))
        with get_context("spawn").Pool(PROCESSES, _open, given) as workers:
            looked = workers.map(_look, takes, chunksize=32)
        answers, appearances = zip(*looked, strict=True)
        names = vars(answers[0])
        joined = {name: np.concatenate([getattr(a, name) for a in answers]) for name in names}
        np.savez(file, appearance=np.stack(appearances), **joined)
    with np.load(file) as stored:
        arrays = {name: stored[name] for name in stored.files}
    appearance = arrays.pop("appearance")
    return Pool(Answers(**arrays), appearance, rows)


def _open(path: Path, root: Path, photos: tuple[Photo, ...]) -> None:
    global _classifier, _root, _photos
    _classifier, _root, _photos = Classifier(read_bundle(path), threads=1), root, photos


def _look(take: Take) -> tuple[Answers, Appearance]:
    row, name, strength = take
    random = np.random.default_rng([zlib.crc32(name.encode()), int(strength * 100), row, 7])
    with Image.open(io.BytesIO(photo_bytes(_root, _photos[row]))) as image:
        photo = jittered(image.convert("RGB"), random)
    for change in MEASURED:
        if change.name == name:
            with Image.open(io.BytesIO(photo)) as image:
                photo = encoded(change.apply(image.convert("RGB"), strength, random), 90)
    pixels = decode(photo, _classifier.bundle.manifest.preprocessing)
    return _classifier.run(pixels[np.newaxis]), measure_appearance(pixels)


# --- Figures


def _false_alarms(bundle: Bundle, pool: Pool) -> dict[str, Any]:
    """Runs in which a score ever reached 1, and the highest scores."""
    highest = []
    for run in range(RUNS):
        random = np.random.default_rng([11, run])
        highest.append(max(_scores(_monitor(bundle), pool, pool.draw(random, RUN_PHOTOS))))
    alarms = sum(score >= 1.0 for score in highest)
    # Clopper and Pearson's interval, 95%.
    low = float(beta.ppf(0.025, alarms, RUNS - alarms + 1)) if alarms else 0.0
    high = float(beta.ppf(0.975, alarms + 1, RUNS - alarms)) if alarms < RUNS else 1.0
    return {
        "runs": RUNS,
        "photos": RUN_PHOTOS,
        "alarms": alarms,
        "interval": [low, high],
        "median_highest": float(np.median(highest)),
        "highest": max(highest),
    }


def _flagged(
    bundle: Bundle, usual: Pool, changed: Pool, change: CameraChange, strength: float
) -> dict[str, Any]:
    """Photos from the change to the first score of 1, in a stream and in a window that is new."""
    delays: dict[int, list[int]] = {BEFORE: [], 0: []}
    named = 0
    told: Counter[str] = Counter()
    for draw in range(DRAWS):
        random = np.random.default_rng([13, draw])
        for before, found in delays.items():
            monitor = _monitor(bundle)
            for row in usual.draw(random, before):
                usual.show(monitor, row)
            scores = _scores(monitor, changed, changed.draw(random, AFTER))
            first = next((i for i, score in enumerate(scores) if score >= 1.0), None)
            found.append(NEVER if first is None else (first + 1) * CHECK_EVERY)
        named += bool(change.words) and change.words in monitor._windows[UNTOLD].likest()
        (reading,) = monitor.readings()
        told[FIGURE.sub("", reading.parts[0].words)] += 1
    return {
        "change": change.name,
        "strength": strength,
        "flagged": sum(delay <= AFTER for delay in delays[BEFORE]) / DRAWS,
        "median": float(np.median(delays[BEFORE])),
        "worst": max(delays[BEFORE]),
        "new_window_flagged": sum(delay <= AFTER for delay in delays[0]) / DRAWS,
        "new_window_median": float(np.median(delays[0])),
        "new_window_worst": max(delays[0]),
        "named": named / DRAWS,
        "told": told.most_common(1)[0][0],
    }


def _mixes(bundle: Bundle, pool: Pool, photos: tuple[Photo, ...]) -> list[dict[str, Any]]:
    """Scores where nothing changes but how often each thing comes."""
    found = []
    for name, weights in _weights(photos).items():
        highest, over = [], []
        for run in range(MIX_RUNS):
            random = np.random.default_rng([17, run])
            scores = _scores(_monitor(bundle), pool, pool.draw(random, MIX_PHOTOS, weights))
            highest.append(max(scores))
            over.append(float(np.mean(np.array(scores) >= 1.0)))
        found.append({"mix": name, "highest": max(highest), "time_in_alarm": float(np.mean(over))})
    return found


def _weights(photos: tuple[Photo, ...]) -> dict[str, npt.NDArray[np.float64]]:
    glass = np.array(["glass" in (photo.subclass or "") for photo in photos])
    superclass = np.array([photo.superclass for photo in photos])
    kind = np.array([photo.subclass or "" for photo in photos])
    source = np.array([photo.source or "" for photo in photos])
    found = {"glass 3 times as often": 1.0 + 2.0 * glass, "10 times": 1.0 + 9.0 * glass}
    found["nothing but glass"] = glass * 1.0
    found |= {f"nothing but {name}": (superclass == name) * 1.0 for name in np.unique(superclass)}
    found["each superclass as often"] = 1.0 / _count(superclass)
    found["each kind as often"] = 1.0 / _count(kind)
    kinds, which = np.unique(kind, return_inverse=True)
    random = np.random.default_rng(19)
    for day in range(6):  # every mix of kinds as likely as every other
        shares = random.dirichlet(np.ones(len(kinds)))
        found[f"random mix of kinds {day + 1}"] = shares[which] / _count(kind)
    return found | {f"source {name}": (source == name) * 1.0 for name in np.unique(source)}


def _count(names: npt.NDArray[np.str_]) -> npt.NDArray[np.int64]:
    """How many photos are of the same name as each."""
    _, which, counts = np.unique(names, return_inverse=True, return_counts=True)
    return counts[which]


def _cost(bundle: Bundle, pool: Pool) -> float:
    """Microseconds of CPU a photo, checks and all: the least of five rounds."""
    monitor = _monitor(bundle)
    photos = [(pool.answers[row : row + 1], pool.appearance[row]) for row in range(2000)]
    seconds = []
    for _ in range(5):
        started = time.process_time()
        for answers, appearance in photos:
            monitor.observe(UNTOLD, answers, appearance)
        seconds.append(time.process_time() - started)
    return 1e6 * min(seconds) / len(photos)


def _measuring_cost(bundle: Bundle, photos: PhotoSet) -> float:
    """Microseconds of CPU for the appearance of a photo, as `_cost`."""
    spec = bundle.manifest.preprocessing
    some = [decode(photo_bytes(photos.root, photo), spec) for photo in photos.split("val")[:200]]
    seconds = []
    for _ in range(20):
        started = time.process_time()
        for pixels in some:
            measure_appearance(pixels)
        seconds.append(time.process_time() - started)
    return 1e6 * min(seconds) / len(some)


def _cost_between_runs(bundle: Bundle, photos: PhotoSet, turn: int) -> float:
    """Microseconds of CPU for the appearance of a photo where it is measured in the service.

    After the check for doubts and before the model runs, `turn` photos at a time: the median.
    """
    spec, doubts = bundle.manifest.preprocessing, own_limits(bundle.manifest)
    check = open_doubts(bundle, dict.fromkeys(doubts)).of_pixels
    classifier = Classifier(bundle, threads=1)
    some = [photo_bytes(photos.root, photo) for photo in photos.split("val")[: 100 * turn]]
    seconds = []
    for first in range(0, len(some), turn):
        decoded = [decode(data, spec) for data in some[first : first + turn]]
        check(decoded)
        started = time.thread_time()
        for pixels in decoded:
            measure_appearance(pixels)
        seconds.append((time.thread_time() - started) / turn)
        for pixels in decoded:
            classifier.run(pixels[np.newaxis])
    return 1e6 * float(np.median(seconds))


# --- What comes out


def _photos(value: float) -> str:
    return "-" if value > AFTER else f"{value:.0f}"


def _print(report: dict[str, Any]) -> None:
    between = report["measuring_between_runs_us"]
    print(
        f"{report['bundle']}: {report['cost_us']:.1f} microseconds of CPU a photo, and "
        f"{report['measuring_us']:.1f} for its appearance; between runs of the model "
        + ", ".join(f"{us:.0f} in turns of {turn}" for turn, us in between.items())
    )
    for split, row in report["false_alarms"].items():
        print(
            f"{split}: {row['alarms']} of {row['runs']} runs of {row['photos']} raised an alarm "
            f"(95%: {row['interval'][0]:.0%} to {row['interval'][1]:.0%}); highest score "
            f"{row['highest']:.2f}, median of the highest {row['median_highest']:.2f}"
        )
    print("| change | strength | flagged | median | worst | new window | worst | named | told |")
    print("|---|---|---|---|---|---|---|---|---|")
    for row in report["changes"]:
        print(
            f"| {row['change']} | {row['strength']:g} | {row['flagged']:.0%} "
            f"| {_photos(row['median'])} | {_photos(row['worst'])} "
            f"| {_photos(row['new_window_median'])} | {_photos(row['new_window_worst'])} "
            f"| {row['named']:.0%} | {row['told']} |"
        )
    print("| mix | highest score | time in alarm |")
    print("|---|---|---|")
    for row in report["mixes"]:
        print(f"| {row['mix']} | {row['highest']:.2f} | {row['time_in_alarm']:.0%} |")


def _draw(
    bundle: Bundle, usual: Pool, changed: dict[tuple[CameraChange, float], Pool], file: Path
) -> None:
    """The score over photos, each change at its middle strength."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 5), layout="constrained")
    axes = figure.subplots()
    for number, change in enumerate(CHANGES):
        pool = changed[change, change.strengths[1]]
        random = np.random.default_rng(23)
        monitor = _monitor(bundle)
        scores = _scores(monitor, usual, usual.draw(random, BEFORE))
        scores += _scores(monitor, pool, pool.draw(random, AFTER))
        photos = CHECK_EVERY * np.arange(1, len(scores) + 1) - BEFORE
        axes.plot(photos, scores, label=change.name, linestyle="-:"[number // 10], linewidth=1.2)
    axes.axhline(1.0, color="black", linewidth=0.8)
    axes.axvline(0.0, color="black", linewidth=0.8)
    axes.set(yscale="log", ylim=(0.1, 100), xlabel="photos after the change", ylabel="score")
    axes.legend(ncols=2, fontsize="small")
    figure.savefig(file, dpi=110)


if __name__ == "__main__":
    typer.run(main)
