"""What corrections do, and what wrong ones do: figures, a table and a picture.

    python -m tests.benchmarks.correction DATA OUT [SHARE]

For each kind of `refuse` a model by matching is made that has no photo of it. Then k of its train
photos, drawn at random, join the bank, and its test photos are asked for, beside those of every
other kind. On frozen float32 features, as `superbin unseen` has them, with the head, temperature
and threshold of models/refuse/4; so a draw takes no time, and spread can be told from chance. With
a SHARE below 1 the bank has only so many of its photos to begin with, and nothing is trained
beside.
"""

from __future__ import annotations

import copy
import json
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import numpy.typing as npt
import torch
import typer
from matplotlib import pyplot as plt

from service.bundle import read_manifest
from training.bank_keys import MOST_WEIGHT as WEIGHT
from training.config import Config
from training.data.folds import Folds, read_folds, read_photos_as
from training.data.photos import PhotoSet, label_indices
from training.data.store import open_store
from training.figures import save_picture
from training.methods.matching import Matching
from training.methods.sclre import SCLRE
from training.outcome import softmax
from training.records import load_config
from training.unseen import features_of, train_head
from training.words import teach_words

Array = npt.NDArray[Any]
COUNTS = (1, 2, 5, 10, 20, 50)
WEIGHTS = (1.0, 3.0, 10.0, 30.0)
WRONG = (1, 5)
RIGHT_BESIDE = 20  # right corrections beside the wrong ones
DRAWS, RETRAINED_DRAWS = 10, 2
RETRAINED_COUNTS = (5, 20)
DRAWN_KINDS = ("battery", "ceramic_bowl", "cloth", "trash")
RETRAINED_KINDS = ("battery", "beverage_carton", "cloth", "fluorescent_lamp")
BUNDLE, RECORD = Path("models/refuse/4"), "unseen-words"


@dataclass(frozen=True)
class Photos:
    """Every photo: features [n, D], superclass [n], kind [n], split [n]."""

    x: torch.Tensor
    labels: Array
    kinds: Array
    splits: Array

    def rows(self, split: str, kind: str, inside: bool) -> Array:
        return np.flatnonzero((self.splits == split) & ((self.kinds == kind) == inside))


@dataclass(frozen=True)
class Asked:
    """Photos of one split that are of the kind, or of every other."""

    name: str
    rows: Array


class Corrected:
    """A model by matching without one kind, and what it says once items have joined its bank."""

    def __init__(
        self, photos: Photos, known: Array, config: Config, superclasses: tuple[str, ...]
    ) -> None:
        self.head = Matching(photos.x.shape[1], len(superclasses), config.matching).eval()
        teach_words(self.head, config, superclasses)
        self.photos = photos
        with torch.no_grad():
            self.head.fill_bank(photos.x[known], torch.from_numpy(photos.labels[known]))
            self.z = self.head.represent(photos.x).numpy()
            self.sharpness = float(self.head.log_temperature.exp())
        self._base: dict[bytes, Array] = {}

    def logits(self, asked: Asked, added: Array, labels: Array, weight: float) -> Array:
        """float64 [n, K]: the log of each superclass's share, as `Matching.answer_from` has it."""
        key = asked.rows.tobytes()
        if key not in self._base:
            self._base[key] = self._before(self.photos.x[asked.rows]).numpy()
        total = self._base[key].copy()
        scores = (self.z[asked.rows] @ self.z[added].T - 1.0) / self.sharpness + np.log(weight)
        for k in np.unique(labels):
            mine = np.logaddexp.reduce(scores[:, labels == k].astype(np.float64), axis=1)
            total[:, k] = np.logaddexp(total[:, k], mine)
        return total

    @torch.no_grad()
    def _before(self, x: torch.Tensor) -> torch.Tensor:
        """What the bank has without corrections, and what a photo says of itself: log, [n, K]."""
        found = self.head.log_weights(x).double()
        if self.head.guide is None:
            return found
        own = self.head.guide(x).probabilities.double().log()
        return torch.logaddexp(found, own + self.head.own_log_weight)


@dataclass(frozen=True)
class Decision:
    """The calibrated temperature and threshold of the bundle."""

    temperature: float
    threshold: float

    def figures(self, logits: Array, labels: Array) -> dict[str, float]:
        probabilities = softmax(logits / self.temperature)
        right = probabilities.argmax(axis=1) == labels
        passed = probabilities.max(axis=1) >= self.threshold
        return {
            "accuracy": float(right.mean()),
            "sorted": float(passed.mean()),
            "sorted_wrong": float((passed & ~right).mean()),
        }


def main(root: Path, out: Path, share: Annotated[float, typer.Argument()] = 1.0) -> None:
    """What corrections do, and what wrong ones do."""
    out.mkdir(parents=True, exist_ok=True)
    file = out / "correction.json"
    if not file.is_file():  # else only the table and the picture are made again
        rows = list(measure(root, out, share))
        file.write_text(json.dumps(rows, indent=1) + "\n", encoding="utf-8")
    rows = json.loads(file.read_text(encoding="utf-8"))
    table = write_table(rows)
    (out / "correction.md").write_text(table + "\n", encoding="utf-8")
    save_picture(draw(rows), out / "correction.png")
    print(table)


def measure(root: Path, out: Path, share: float) -> Iterator[dict[str, Any]]:
    """A row for each kind, way, draw, number and weight."""
    config, folds = load_config(RECORD), read_folds("refuse")
    data = read_photos_as(root, config)
    photos = thinned(gather(config, data, folds, out), share)
    calibration = read_manifest(BUNDLE).calibration
    decision = Decision(calibration.temperature, calibration.confidence_threshold)
    known = np.flatnonzero(photos.splits == "train")
    whole = Corrected(photos, known, config, data.superclasses)
    for kind in sorted(set(photos.kinds)):
        yield from measure_kind(kind, photos, whole, config, data.superclasses, decision)
        print(kind, flush=True)
    if share == 1.0:
        yield from retrain(photos, data.superclasses, decision)


def thinned(photos: Photos, share: float) -> Photos:
    """With a share of the train photos; the others may still be drawn as corrections."""
    train = np.random.default_rng(3).permutation(np.flatnonzero(photos.splits == "train"))
    splits = photos.splits.astype(object)
    splits[train[round(share * len(train)) :]] = "drawn"
    return replace(photos, splits=splits)


def gather(config: Config, data: PhotoSet, folds: Folds, out: Path) -> Photos:
    features, places = features_of(config, data, out, "cpu")
    store = open_store(data.root, data.photos, config.data.served())
    rows = torch.tensor([places[photo.path] for photo in store.photos])
    return Photos(
        features[rows],
        label_indices(store.photos, data),
        np.array([folds.kind(photo) for photo in store.photos]),
        np.array([photo.split for photo in store.photos]),
    )


def measure_kind(
    kind: str,
    photos: Photos,
    whole: Corrected,
    config: Config,
    superclasses: tuple[str, ...],
    decision: Decision,
) -> Iterator[dict[str, Any]]:
    """Rows of one kind: no correction, right ones by count and weight, wrong ones."""
    k = len(superclasses)
    without = Corrected(photos, photos.rows("train", kind, False), config, superclasses)
    mine = [photos.rows(split, kind, True) for split in ("train", "drawn")]
    own = np.concatenate(mine)
    label = int(photos.labels[own[0]])
    nothing = np.empty(0, dtype=np.int64)
    asked = [
        Asked(f"{split}_{place}", photos.rows(split, kind, place == "kind"))
        for split in ("val", "test")
        for place in ("kind", "others")
    ]

    def row(
        model: Corrected,
        name: str,
        draw: int,
        added: Array,
        labels: Array,
        weight: float = 1.0,
        **more: Any,
    ) -> dict[str, Any]:
        found = {
            "kind": kind,
            "superclass": superclasses[label],
            "what": name,
            "draw": draw,
            "weight": weight,
            **more,
        }
        for one in asked:
            logits = model.logits(one, added, labels, weight)
            found[one.name] = decision.figures(logits, photos.labels[one.rows])
            found[one.name]["photos"] = len(one.rows)
        return found

    yield row(without, "none", 0, nothing, nothing, count=0)
    yield row(whole, "whole bank", 0, nothing, nothing, count=len(own))
    # What most photos of the kind are taken for: the mistake that a reviewer may agree with.
    taken = without.logits(Asked("train", own), nothing, nothing, 1.0)
    taken[:, label] = -np.inf
    wrong = int(np.bincount(taken.argmax(axis=1), minlength=k).argmax())
    for draw in range(DRAWS):
        drawn = np.random.default_rng((draw, 7)).permutation(own)
        for count in COUNTS:
            for weight in WEIGHTS:
                added = drawn[:count]
                yield row(
                    without,
                    "corrected",
                    draw,
                    added,
                    np.full(len(added), label),
                    weight,
                    count=count,
                )
        if kind in RETRAINED_KINDS and draw < RETRAINED_DRAWS:
            for count in RETRAINED_COUNTS:  # the same photos, and everything is made anew
                known = np.concatenate([photos.rows("train", kind, False), drawn[:count]])
                again = Corrected(photos, known, config, superclasses)
                yield row(again, "bank made anew", draw, nothing, nothing, count=count)
        for bad in WRONG:
            mistaken = drawn[-bad:]
            labels = np.full(bad, wrong)
            added = np.concatenate([drawn[:RIGHT_BESIDE], mistaken])
            both = np.concatenate([np.full(RIGHT_BESIDE, label), labels])
            for weight in WEIGHTS:
                yield row(whole, "wrong, kind known", draw, mistaken, labels, weight, count=bad)
                yield row(without, "wrong beside 20 right", draw, added, both, weight, count=bad)


def retrain(
    photos: Photos, superclasses: tuple[str, ...], decision: Decision
) -> Iterator[dict[str, Any]]:
    """Heads that are learned: with the corrections, and SCLRE's bank with the items added."""
    for kind in RETRAINED_KINDS:
        own, known = photos.rows("train", kind, True), photos.rows("train", kind, False)
        for name in ("unseen-cross-entropy", "unseen-sclre"):
            config = load_config(name)
            for draw in range(RETRAINED_DRAWS if name == "unseen-cross-entropy" else 1):
                drawn = np.random.default_rng((draw, 7)).permutation(own)
                before = None
                for count in (0, *RETRAINED_COUNTS):
                    started = time.perf_counter()
                    train = np.concatenate([known, drawn[:count]])
                    model = _learn(config, photos, train, superclasses, draw)
                    seconds = time.perf_counter() - started
                    before = before or model
                    yield _learned_row(
                        f"{config.method} learned anew",
                        kind,
                        draw,
                        count,
                        seconds,
                        model,
                        photos,
                        decision,
                    )
                    if count and isinstance(before.head, SCLRE):
                        more = _with_items(before, photos.x[drawn[:count]])
                        yield _learned_row(
                            "sclre, items added", kind, draw, count, 0.0, more, photos, decision
                        )


class _Learned:
    """A head over standardised features."""

    def __init__(self, head: Any, mean: torch.Tensor, deviation: torch.Tensor) -> None:
        self.head, self.mean, self.deviation = head, mean, deviation

    def standard(self, x: torch.Tensor) -> torch.Tensor:
        return (x - self.mean) / self.deviation

    def logits(self, x: torch.Tensor) -> Array:
        with torch.no_grad():
            return self.head.answer(self.standard(x), "bank").logits.double().numpy()


def _learn(
    config: Config, photos: Photos, train: Array, superclasses: tuple[str, ...], seed: int
) -> _Learned:
    x = photos.x[train]
    mean, deviation = x.mean(dim=0), x.std(dim=0) + 1e-3
    model = train_head(config, (x - mean) / deviation, photos.labels[train], superclasses, seed)
    return _Learned(model.head, mean, deviation)


def _with_items(model: _Learned, x: torch.Tensor) -> _Learned:
    head = copy.deepcopy(model.head)
    with torch.no_grad():
        keys, values = head.attention.remember(head.projection(model.standard(x)))
    head.bank_keys = torch.cat([head.bank_keys, keys])
    head.bank_values = torch.cat([head.bank_values, values])
    return _Learned(head, model.mean, model.deviation)


def _learned_row(
    name: str,
    kind: str,
    draw: int,
    count: int,
    seconds: float,
    model: _Learned,
    photos: Photos,
    decision: Decision,
) -> dict[str, Any]:
    found: dict[str, Any] = {
        "kind": kind,
        "what": name,
        "draw": draw,
        "count": count,
        "weight": 1.0,
        "seconds": seconds,
    }
    for inside, place in ((True, "kind"), (False, "others")):
        asked = photos.rows("test", kind, inside)
        found[f"test_{place}"] = decision.figures(
            model.logits(photos.x[asked]), photos.labels[asked]
        )
    return found


def mean_of(
    rows: list[dict[str, Any]], place: str, figure: str, **wanted: Any
) -> tuple[float, float]:
    """Mean over kinds, and the standard deviation of that mean over draws."""
    mine = [row for row in rows if all(row.get(key) == value for key, value in wanted.items())]
    draws = sorted({row["draw"] for row in mine})
    means = [np.mean([r[place][figure] for r in mine if r["draw"] == d]) for d in draws]
    return float(np.mean(means)), float(np.std(means, ddof=1)) if len(means) > 1 else 0.0


def write_table(rows: list[dict[str, Any]]) -> str:
    return "\n\n".join([_by_weight(rows), _by_count(rows), _beside_training(rows), _by_kind(rows)])


def _cell(rows: list[dict[str, Any]], place: str, figure: str, **wanted: Any) -> str:
    mean, spread = mean_of(rows, place, figure, **wanted)
    digits = 2 if place.endswith("others") else 1
    told = f" ± {100 * spread:.{digits}f}" if spread else ""
    return f"{100 * mean:.{digits}f}{told}"


def _table(head: list[str], lines: list[list[Any]]) -> str:
    rows = [head, ["---"] * len(head), *lines]
    return "\n".join(f"| {' | '.join(map(str, row))} |" for row in rows)


def _by_weight(rows: list[dict[str, Any]]) -> str:
    head = ["corrections", *(f"weight {w:g}: the kind; everything else" for w in WEIGHTS)]
    places = ("val_kind", "val_others")
    lines = []
    for count in COUNTS:
        wanted = {"what": "corrected", "count": count}
        cells = [
            "; ".join(_cell(rows, place, "accuracy", weight=w, **wanted) for place in places)
            for w in WEIGHTS
        ]
        lines.append([count, *cells])
    return "## By weight, accuracy on val (mean over kinds)\n\n" + _table(head, lines)


SHOWN = (
    ("test_kind", "accuracy", "the kind"),
    ("test_kind", "sorted", "sorted"),
    ("test_kind", "sorted_wrong", "sorted and wrong"),
    ("test_others", "accuracy", "everything else"),
    ("test_others", "sorted_wrong", "sorted and wrong"),
)


def _by_count(rows: list[dict[str, Any]]) -> str:
    ways = [("none", 0, 1.0), *(("corrected", n, w) for w in (WEIGHT, 1.0) for n in COUNTS)]
    ways += [("whole bank", None, 1.0)]
    names = ("wrong, kind known", "wrong beside 20 right")
    ways += [(name, n, w) for name in names for w in (WEIGHT, 1.0) for n in WRONG]
    lines = []
    for what, count, weight in ways:
        wanted = {"what": what, "weight": weight} | ({} if count is None else {"count": count})
        cells = [_cell(rows, place, figure, **wanted) for place, figure, _ in SHOWN]
        lines.append([what, "all" if count is None else count, f"{weight:g}", *cells])
    head = ["what", "photos", "weight", *(name for _, _, name in SHOWN)]
    title = "## Test (mean over 24 kinds, ± standard deviation over draws)"
    return f"{title}\n\n{_table(head, lines)}"


def _beside_training(rows: list[dict[str, Any]]) -> str:
    mine = [row for row in rows if row["kind"] in RETRAINED_KINDS]
    lines = []
    for what in dict.fromkeys(row["what"] for row in mine):
        for count in (0, *RETRAINED_COUNTS):
            for weight in (WEIGHT, 1.0) if what == "corrected" else (1.0,):
                wanted = {"what": what, "count": count, "weight": weight}
                found = [r for r in mine if all(r.get(k) == v for k, v in wanted.items())]
                if not found or "wrong" in what:
                    continue
                cells = [_cell(mine, place, "accuracy", **wanted) for place in PLACES]
                seconds = [row["seconds"] for row in found if row.get("seconds")]
                time_s = f"{np.median(seconds):.0f}" if seconds else ""
                lines.append([what, count, f"{weight:g}", *cells, time_s])
    head = ["what", "photos", "weight", "the kind", "everything else", "seconds for the head"]
    title = f"## Beside training (test, mean over {', '.join(RETRAINED_KINDS)})"
    return f"{title}\n\n{_table(head, lines)}"


PLACES = ("test_kind", "test_others")


def _by_kind(rows: list[dict[str, Any]]) -> str:
    lines = []
    for kind in sorted({row["kind"] for row in rows}):
        mine = [row for row in rows if row["kind"] == kind]
        wanted = {"what": "corrected", "weight": WEIGHT}
        cells = [_cell(mine, "test_kind", "accuracy", count=n, **wanted) for n in COUNTS]
        none = [_cell(mine, place, "accuracy", what="none") for place in PLACES]
        whole = _cell(mine, "test_kind", "accuracy", what="whole bank")
        others = _cell(mine, "test_others", "accuracy", count=20, **wanted)
        photos = mine[0]["test_kind"]["photos"]
        lines.append(
            [kind, mine[0]["superclass"], photos, none[0], *cells, whole, f"{none[1]}, {others}"]
        )
    counts = map(str, COUNTS)
    head = ["kind", "superclass", "photos", "0", *counts, "whole bank", "everything else: 0, 20"]
    title = f"## By kind, weight {WEIGHT:g} (test, ± standard deviation over draws)"
    return f"{title}\n\n{_table(head, lines)}"


def draw(rows: list[dict[str, Any]]) -> Any:
    """Accuracy on the corrected kind and on everything else against the number of corrections."""
    figure, (left, right) = plt.subplots(1, 2, figsize=(12, 4.5))
    for kind in DRAWN_KINDS:
        mine = [row for row in rows if row["kind"] == kind]
        _curve(left, mine, "test_kind", WEIGHT, kind)
    _curve(right, rows, "test_kind", WEIGHT, f"the corrected kind, weight {WEIGHT:g}")
    _curve(right, rows, "test_kind", 1.0, "the corrected kind, weight 1")
    _curve(right, rows, "test_others", WEIGHT, f"everything else, weight {WEIGHT:g}")
    left.set(title=f"Four kinds, weight {WEIGHT:g} (bars: standard deviation over draws)")
    right.set(title="Mean over all 24 kinds")
    for axes in (left, right):
        axes.set_xticks(range(len(COUNTS) + 1), ["0", *map(str, COUNTS)])
        axes.set(xlabel="photos of the kind that joined the bank", ylabel="accuracy, test")
        axes.set(ylim=(0, 1.03))
        axes.legend(loc="lower right")
    return figure


def _curve(axes: Any, rows: list[dict[str, Any]], place: str, weight: float, label: str) -> None:
    points = [mean_of(rows, place, "accuracy", what="none")]
    wanted = {"what": "corrected", "weight": weight}
    points += [mean_of(rows, place, "accuracy", count=count, **wanted) for count in COUNTS]
    means, spreads = zip(*points, strict=True)
    axes.errorbar(range(len(points)), means, spreads, marker="o", capsize=3, label=label)


if __name__ == "__main__":
    typer.run(main)
