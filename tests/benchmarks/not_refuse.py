"""What of that which is no refuse, or no good photo, is left to a person: tables, JSON, pictures.

    python -m tests.benchmarks.pictures PICTURES
    python -m tests.benchmarks.not_refuse models/refuse/4 --data DIR --pictures PICTURES --out OUT

The statistic and its temperature were chosen on val and one half of the pictures (by the hash of
their source), of which the background of models/refuse/4 is made too; everything that is printed is
of test and the other half, unless it says other.
`--features` adds the backbone's pooled features, which takes another pass over the bank; `--cifar
FOLDER` the test photos of CIFAR-100 (`cifar-100-binary`), enlarged.
"""

from __future__ import annotations

import argparse
import itertools
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import matplotlib
import numpy as np
import numpy.typing as npt
from PIL import Image

from service.bundle import Bundle, read_bundle
from service.classifier import Classifier
from service.doubt_settings import read_doubts
from service.doubts import Doubts, open_doubts
from service.familiarity import (
    BACKGROUND_TEMPERATURE,
    BACKGROUND_WEIGHT,
    Familiarity,
    read_items,
)
from service.preprocess import PhotoLimits, Pixels, decode
from service.schemas import Doubt
from tests.benchmarks import spoil
from tests.benchmarks.likeness import (
    auroc,
    false_positives,
    interval,
    second_half,
    source_of,
    statistics,
)
from tests.benchmarks.pictures import GROUPS, PERHAPS_REFUSE
from training.data.photos import PhotoSet, label_indices, read_photos
from training.data.store import open_store
from training.served_bank import served_bank

matplotlib.use("Agg")
import matplotlib.pyplot as plt

REASONS = "too_dark,too_bright,blurred,empty,unfamiliar"
APART = {PERHAPS_REFUSE, "cifar-100"}
SPOILED = {  # how, the unit, and how much
    "too dark": (spoil.exposed, "stops of light less", (0, -1, -2, -3, -4, -5, -6)),
    "overexposed": (spoil.exposed, "stops of light more", (0, 1, 2, 3, 4)),
    "out of focus": (spoil.defocused, "% of the shorter side", (0, 0.5, 1, 1.5, 2, 3)),
    "moved": (spoil.moved, "% of the shorter side", (0, 2, 4, 6, 10, 15)),
}
SURFACES = (0.0, 0.1, 0.2, 0.4, 0.8)
SURFACE_PHOTOS = 60
CIFAR_FILE = "test.bin"
CIFAR_PHOTOS = 300
FEW, DRAWS = (0, 5, 20), 10  # pictures of a group that join the background of all the others
LETTERS = str.maketrans("0123456789", "abcdefghij")  # names that do not look like a series


@dataclass
class Seen:
    """What came of n photos: P [n, K], E [n, width], doubts by photo."""

    probabilities: npt.NDArray[np.float32]
    embedding: npt.NDArray[np.float32]
    doubts: list[tuple[Doubt, ...]]
    sure: npt.NDArray[np.bool_]  # enough to be sorted
    familiarity: npt.NDArray[np.float32] | None  # where the graph tells it

    def of(self, rows: npt.NDArray[np.bool_]) -> Seen:
        """Some of them."""
        told = None if self.familiarity is None else self.familiarity[rows]
        doubts = [one for one, wanted in zip(self.doubts, rows, strict=True) if wanted]
        return Seen(self.probabilities[rows], self.embedding[rows], doubts, self.sure[rows], told)

    @property
    def doubted(self) -> npt.NDArray[np.bool_]:
        return np.array([bool(one) for one in self.doubts])

    def by_reason(self) -> dict[str, float]:
        """Share of the photos by reason, and `any`."""
        shares = {
            reason: float(np.mean([any(d.reason == reason for d in one) for one in self.doubts]))
            for reason in REASONS.split(",")
        }
        return shares | {"any": float(self.doubted.mean())}


@dataclass(frozen=True)
class Model:
    """A bundle as it is served."""

    classifier: Classifier
    doubts: Doubts

    def see(self, photos: Any) -> Seen:
        """One after the other."""
        probabilities, embedding, doubts, told = [], [], [], []
        for pixels in photos:
            answers = self.classifier.run(np.ascontiguousarray(pixels)[np.newaxis])
            probabilities.append(answers.probabilities[0])
            embedding.append(answers.embedding[0])
            doubts.append(self.doubts.of(pixels, answers))
            if answers.familiarity is not None:
                told.append(answers.familiarity[0])
        p = np.array(probabilities)
        threshold = self.classifier.bundle.manifest.calibration.confidence_threshold
        sure = p.max(axis=1) >= threshold
        return Seen(p, np.array(embedding), doubts, sure, np.array(told) if told else None)

    def resized(self, pixels: Pixels) -> Pixels:
        """As `decode` does."""
        spec = self.classifier.bundle.manifest.preprocessing
        image = Image.fromarray(pixels).resize((spec.width, spec.height), Image.Resampling.BILINEAR)
        return np.asarray(image)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("bundle", type=Path)
    for name in ("data", "pictures", "out"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--cifar", type=Path)
    parser.add_argument("--features", action="store_true")
    parser.add_argument("--every", type=int, default=4, help="of the test photos to spoil")
    asked = parser.parse_args()
    if asked.cifar and not (asked.cifar / CIFAR_FILE).is_file():
        parser.error(f"expected {CIFAR_FILE} of CIFAR-100's binary version in {asked.cifar}")
    bundle = read_bundle(asked.bundle)
    model = Model(Classifier(bundle, threads=1), open_doubts(bundle, read_doubts(REASONS)))
    data = read_photos(asked.data)
    asked.out.mkdir(parents=True, exist_ok=True)
    known = {split: seen_split(model, data, split) for split in ("val", "test")}
    report: dict[str, Any] = {"bundle": bundle.id, "accepted": accepted(known["test"], data)}
    report |= pictures(model, known, asked, data)
    report["spoiled"] = spoiled(model, data, asked.every)
    report["surfaces"] = {
        str(strength): figures(surfaces(model, strength)) for strength in SURFACES
    }
    draw_spoiled(report["spoiled"], asked.out / "spoiled.png")
    (asked.out / "not-refuse.json").write_text(json.dumps(report, indent=2) + "\n")
    print_tables(report)


def seen_split(model: Model, data: PhotoSet, split: str) -> Seen:
    """A split of the refuse data."""
    spec = model.classifier.bundle.manifest.preprocessing
    return model.see(open_store(data.root, data.split(split), spec).pixels)


def accepted(seen: Seen, data: PhotoSet) -> dict[str, Any]:
    """What doubt costs where there is nothing to doubt, and what it brings."""
    return {"photos": len(seen.doubts), "doubted": seen.by_reason()} | sorting(
        seen, label_indices(data.split("test"), data)
    )


def sorting(seen: Seen, labels: npt.NDArray[np.int64]) -> dict[str, float]:
    """Share sorted and its error, by confidence alone and with doubts."""
    wrong = seen.probabilities.argmax(axis=1) != labels
    both = seen.sure & ~seen.doubted
    return {
        "accuracy": float(1.0 - wrong.mean()),
        "sorted_before": float(seen.sure.mean()),
        "error_before": float(wrong[seen.sure].mean()) if seen.sure.any() else 0.0,
        "sorted": float(both.mean()),
        "error": float(wrong[both].mean()) if both.any() else 0.0,
    }


def figures(seen: Seen) -> dict[str, Any]:
    """Of what has no right answer."""
    both = seen.sure & ~seen.doubted
    return {
        "photos": len(seen.doubts),
        "sorted_before": float(seen.sure.mean()),
        "sorted": float(both.mean()),
        "doubted": seen.by_reason(),
    }


def pictures(
    model: Model, known: dict[str, Seen], asked: argparse.Namespace, data: PhotoSet
) -> dict[str, Any]:
    """Statistics compared, and groups by the one that is served."""
    manifest = model.classifier.bundle.manifest
    assert manifest.familiarity is not None
    groups = {group: sorted((asked.pictures / group).iterdir()) for group in GROUPS}
    limits = PhotoLimits(max_pixels=100_000_000)
    loaded = {
        group: [decode(file.read_bytes(), manifest.preprocessing, limits) for file in files]
        for group, files in groups.items()
    }
    names = {group: [file.name for file in files] for group, files in groups.items()}
    if asked.cifar:
        loaded["cifar-100"] = cifar(model, asked.cifar)
        names["cifar-100"] = [str(i).translate(LETTERS) for i in range(CIFAR_PHOTOS)]
    seen = {group: model.see(photos) for group, photos in loaded.items()}
    reported = {group: np.array([second_half(group, n) for n in names[group]]) for group in seen}
    bundle, file = model.classifier.bundle, manifest.familiarity.file
    items = read_items(bundle.path / file, bundle) if file else served_bank(bundle).keys
    places = {name: i for i, name in enumerate(manifest.superclasses)}
    labels = np.array([places[item.superclass] for item in manifest.bank.items])
    chosen_t = manifest.familiarity.temperature
    scores = {
        name: {
            **{split: of(one.embedding, one.probabilities) for split, one in known.items()},
            **{group: of(one.embedding, one.probabilities) for group, one in seen.items()},
        }
        for name, of in statistics(items.astype(float), labels, chosen_t).items()
    }
    if asked.features:
        scores |= by_features(model, data, loaded, chosen_t)
    counted = [group for group in seen if group not in APART]
    chosen = next(name for name in scores if name.endswith("(chosen)"))
    if seen["scenes"].familiarity is not None:
        chosen = "as served"
        scores[chosen] = {name: one.familiarity for name, one in {**known, **seen}.items()}
    draw(scores, chosen, counted, reported, asked.out)
    return {
        "statistics": {
            name: {
                half: compare(values, counted, reported, names, half == "report")
                for half in ("tune", "report")
            }
            for name, values in scores.items()
        },
        "groups": {
            group: figures(one.of(reported[group]))
            | {"sources": len({source_of(n) for n in names[group]})}
            | compare(scores[chosen], [group], reported, names, True)
            for group, one in seen.items()
            if reported[group].any()
        },
        "all": figures_of_all([seen[group].of(reported[group]) for group in counted]),
        "without their group": foreign(bundle, items, known["val"], seen, reported, counted),
    }


def figures_of_all(groups: list[Seen]) -> dict[str, Any]:
    """Of several groups together."""
    photos = [len(one.doubts) for one in groups]
    each = [figures(one) for one in groups if one.doubts]
    weights = [count for count in photos if count]
    return {"photos": sum(photos)} | {
        name: float(np.average([one[name] for one in each], weights=weights))
        for name in ("sorted_before", "sorted")
    }


def foreign(
    bundle: Bundle,
    items: npt.NDArray[np.float32],
    val: Seen,
    seen: dict[str, Seen],
    reported: dict[str, Any],
    counted: list[str],
) -> dict[str, dict[int, float]]:
    """What is found of each group by a background of all the others and a few pictures of its own.

    So to say of kinds of pictures that nobody thought of, and of what helps. Where 99% of val are
    accepted; mean of `DRAWS`. Nothing for a bundle without a background. The few are of the half
    that is not reported; of a group that is all of one source, others of that source are asked for.
    """
    if served_bank(bundle).background is None:
        return {}
    known = Familiarity(items.astype(np.float32), BACKGROUND_TEMPERATURE)
    near = {group: known.of(seen[group].embedding) for group in counted}
    near_val = known.of(val.embedding)
    found: dict[str, dict[int, float]] = {}
    for group in counted:
        rest = [seen[g].embedding[~reported[g]] for g in counted if g != group]
        shares: dict[int, list[float]] = {count: [] for count in FEW}
        for count, draw in itertools.product(FEW, range(DRAWS)):
            asked, own = reported[group].copy(), np.flatnonzero(~reported[group])
            if not len(own):
                own = np.flatnonzero(asked)
            drawn = np.random.default_rng(draw).permutation(own)[:count]
            asked[drawn] = False
            if not asked.any():
                continue
            others = np.concatenate([*rest, seen[group].embedding[drawn]])
            far = Familiarity(others, BACKGROUND_TEMPERATURE)
            limit = np.quantile(near_val - BACKGROUND_WEIGHT * far.of(val.embedding), 0.01)
            score = near[group] - BACKGROUND_WEIGHT * far.of(seen[group].embedding)
            shares[count].append(float((score[asked] < limit).mean()))
        if shares[0]:
            found[group] = {count: float(np.mean(of)) for count, of in shares.items()}
    weights = [reported[group].sum() for group in found]
    whole = {n: float(np.average([of[n] for of in found.values()], weights=weights)) for n in FEW}
    return found | {"all": whole}


def compare(
    values: dict[str, Any],
    groups: list[str],
    reported: dict[str, Any],
    names: dict[str, list[str]],
    report: bool,
) -> dict[str, Any]:
    """AUROC and FPR at 95% TPR; against test on the half that is reported, else against val."""
    known = values["test" if report else "val"]
    other = np.concatenate([values[g][reported[g] == report] for g in groups])
    sources = [
        source_of(name)
        for g in groups
        for name, mine in zip(names[g], reported[g] == report, strict=True)
        if mine
    ]
    limit = np.quantile(values["val"], 0.01)
    return {
        "pictures": len(other),
        "independent": len(set(sources)),
        "auroc": auroc(known, other),
        "auroc_interval": interval(auroc, known, other, sources),
        "fpr95": false_positives(known, other),
        "fpr95_interval": interval(false_positives, known, other, sources),
        "found_at_99": float((other < limit).mean()),
    }


def by_features(
    model: Model, data: PhotoSet, loaded: dict[str, Any], chosen_t: float
) -> dict[str, dict[str, Any]]:
    """The same density over the backbone's pooled features, standardised, for information."""
    import onnx
    import onnxruntime as ort

    bundle = model.classifier.bundle
    graph = onnx.load(bundle.model_path())
    pooled = [n for n in graph.graph.node if n.op_type in {"GlobalAveragePool", "ReduceMean"}][-1]
    graph.graph.output.append(onnx.helper.make_empty_tensor_value_info(pooled.output[0]))
    session = ort.InferenceSession(graph.SerializeToString(), providers=["CPUExecutionProvider"])

    def features(photos: Any) -> npt.NDArray[np.float64]:
        rows = [session.run([pooled.output[0]], {"images": p[np.newaxis]})[0] for p in photos]
        return np.concatenate(rows).reshape(len(rows), -1).astype(float)

    spec = bundle.manifest.preprocessing
    splits = {
        s: open_store(data.root, data.split(s), spec).pixels for s in ("train", "val", "test")
    }
    train = features(splits["train"])
    mean, deviation = train.mean(axis=0), train.std(axis=0) + 1e-3

    def unit(rows: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        standard = (rows - mean) / deviation
        return np.asarray(standard / np.linalg.norm(standard, axis=1, keepdims=True))

    known = unit(train)
    photos = {"val": splits["val"], "test": splits["test"], **loaded}
    seen = {name: unit(features(of)) for name, of in photos.items()}
    none = np.zeros((1, 1))
    of = statistics(known, np.zeros(len(known), dtype=np.int64), chosen_t)
    return {
        f"pooled features: {name}": {group: of[name](rows, none) for group, rows in seen.items()}
        for name in of
        if name == "mean of 5 nearest" or name.startswith("log-mean-exp, T = 0.03")
    }


def cifar(model: Model, folder: Path) -> list[Pixels]:
    """Test photos of CIFAR-100, enlarged."""
    rows = np.fromfile(folder / CIFAR_FILE, dtype=np.uint8).reshape(-1, 3074)[:CIFAR_PHOTOS, 2:]
    return [model.resized(row.reshape(3, 32, 32).transpose(1, 2, 0)) for row in rows]


def spoiled(model: Model, data: PhotoSet, every: int) -> dict[str, Any]:
    """Test photos made worse in the camera's resolution, by kind and strength."""
    photos = data.split("test")[::every]
    labels = label_indices(photos, data)
    found: dict[str, Any] = {}
    for kind, (make, unit, strengths) in SPOILED.items():
        found[kind] = {"unit": unit, "strengths": {}}
        for strength in strengths:
            made = []
            for place, photo in enumerate(photos):
                with Image.open(data.root / photo.path) as image:
                    pixels = np.asarray(image.convert("RGB"))
                if strength:
                    pixels = make(pixels, strength, np.random.default_rng((0, place)))
                made.append(model.resized(pixels))
            seen = model.see(made)
            one = sorting(seen, labels) | {"doubted": seen.by_reason(), "photos": len(photos)}
            found[kind]["strengths"][str(strength)] = one
            print(kind, strength, one["accuracy"], one["doubted"], flush=True)
    return found


def surfaces(model: Model, strength: float) -> Seen:
    """Belts and tables with nothing on them."""
    return model.see(
        model.resized(spoil.surface(strength, np.random.default_rng((1, place))))
        for place in range(SURFACE_PHOTOS)
    )


def draw(
    scores: dict[str, Any], chosen: str, groups: list[str], reported: dict[str, Any], out: Path
) -> None:
    """Histograms of test and of the groups, and ROC curves of some statistics."""
    figure, axes = plt.subplots(figsize=(8, 4.5), layout="constrained")
    values = scores[chosen]
    bins = np.linspace(min(map(np.min, values.values())), max(map(np.max, values.values())), 61)
    axes.hist(values["test"], bins, density=True, alpha=0.5, label="refuse, test")
    for group in groups:
        axes.hist(values[group][reported[group]], bins, density=True, histtype="step", label=group)
    axes.axvline(np.quantile(values["val"], 0.01), color="black", linestyle="--", label="limit")
    axes.set(xlabel="familiarity", ylabel="density")
    axes.legend(fontsize=8)
    figure.savefig(out / "familiarity.png", dpi=110)
    plt.close(figure)
    figure, axes = plt.subplots(figsize=(5.5, 5), layout="constrained")
    shown = [n for n in scores if n.startswith(("confidence", "nearest", "relative"))] + [chosen]
    for name in shown:
        known = np.sort(scores[name]["test"])[::-1]
        other = np.concatenate([scores[name][g][reported[g]] for g in groups])
        false = [(other >= limit).mean() for limit in known]
        axes.plot(false, np.arange(1, len(known) + 1) / len(known), label=name)
    axes.set(xlabel="not refuse and accepted", ylabel="refuse (test) accepted")
    axes.legend(fontsize=8)
    figure.savefig(out / "roc.png", dpi=110)
    plt.close(figure)


def draw_spoiled(found: dict[str, Any], path: Path) -> None:
    """Accuracy, and what is doubted, against strength."""
    figure, grid = plt.subplots(2, 2, figsize=(9, 6.5), layout="constrained", sharey=True)
    for axes, (kind, one) in zip(grid.flat, found.items(), strict=True):
        x = [abs(float(s)) for s in one["strengths"]]
        rows = list(one["strengths"].values())
        axes.plot(x, [r["accuracy"] for r in rows], "k-o", label="accuracy of the model")
        axes.plot(x, [r["doubted"]["any"] for r in rows], "C3-o", label="doubted")
        axes.plot(x, [r["error_before"] for r in rows], "C0--", label="error of sorted, before")
        axes.plot(x, [r["error"] for r in rows], "C0-", label="error of sorted, with doubts")
        axes.set(title=kind, xlabel=one["unit"], ylim=(-0.03, 1.03))
        axes.grid(alpha=0.3)
    grid[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def print_tables(report: dict[str, Any]) -> None:
    """All of it as Markdown."""
    print(json.dumps(report["accepted"], indent=2))
    print("\n| statistic | AUROC | FPR at 95% TPR | found where 99% of val are accepted |")
    print("|---|---|---|---|")
    for name, halves in report["statistics"].items():
        print(f"| {name} | {_row(halves['report'])} |")
    print("\n| group | pictures (sources) | AUROC | FPR95 | found | doubted | sorted before, now |")
    print("|---|---|---|---|---|---|---|")
    for group, one in report["groups"].items():
        print(
            f"| {group} | {one['photos']} ({one['sources']}) | {_row(one)} "
            f"| {one['doubted']['any']:.0%} | {one['sorted_before']:.0%}, {one['sorted']:.0%} |"
        )
    one = report["all"]
    print(f"all, {one['photos']}: sorted {one['sorted_before']:.0%}, {one['sorted']:.0%}")
    for group, few in report["without their group"].items():
        told = ", ".join(f"{count}: {share:.0%}" for count, share in few.items())
        print(f"found with so many pictures of its own: {group} {told}")
    for strength, one in report["surfaces"].items():
        print(
            f"surface {strength}: {one['doubted']}, {one['sorted_before']:.0%}, {one['sorted']:.0%}"
        )


def _row(one: dict[str, Any]) -> str:
    low, high = one["auroc_interval"]
    least, most = one["fpr95_interval"]
    return (
        f"{one['auroc']:.3f} ({low:.3f} to {high:.3f}) | {one['fpr95']:.0%} ({least:.0%} to "
        f"{most:.0%}) | {one['found_at_99']:.0%}"
    )


if __name__ == "__main__":
    main()
