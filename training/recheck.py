"""A changed bundle measured again: its figures, and whether its threshold still keeps its word.

The temperature is part of the graph, which stays as it is. The threshold is the manifest's, so it
can be fitted anew; by default it is only checked, because a few items move few photos.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from service.bundle import Bundle, Manifest, Metric, read_bundle
from service.fitted import Calibration
from training.bundle_metrics import agreement_with_fp32, bundle_metrics
from training.calibrate import SPLIT, fit_threshold, least_confidence
from training.data.photos import PhotoSet
from training.errors import DataError
from training.evaluate import summarise
from training.outcome import Outcome, measure_bundle
from training.paired import MARGIN, is_worse
from training.served_bank import new_to_bank

SPLITS = ("val", "test")


@dataclass(frozen=True)
class Recheck:
    """Figures of the new version, and of the one before on the same photos.

    Attributes:
        outcomes: of the default variant, by split; before: of the parent's.
    """

    calibration: Calibration
    metrics: tuple[Metric, ...]
    outcomes: dict[str, Outcome]
    before: dict[str, Outcome]

    def onto(self, manifest: Manifest) -> Manifest:
        """The manifest with these figures."""
        return manifest.model_copy(
            update={"metrics": self.metrics, "calibration": self.calibration}
        )

    def reports(self) -> dict[str, dict[str, Any]]:
        """`training.evaluate.summarise` of each split, by the new threshold."""
        calibration = self.calibration.model_dump(mode="json")
        return {
            split: summarise(replace(outcome, calibration=calibration))
            for split, outcome in self.outcomes.items()
        }

    def told(self) -> str:
        """Before and after, a line for each split."""
        lines = []
        for split, report in self.reports().items():
            old = summarise(self.before[split])
            pairs = [
                ("accuracy", old["accuracy"], report["accuracy"]),
                ("balanced accuracy", old["balanced_accuracy"], report["balanced_accuracy"]),
                ("sorted", *(one["decisions"]["sorted_share"] for one in (old, report))),
                (
                    "wrong among those",
                    *(one["decisions"]["error_rate_of_sorted"] or 0.0 for one in (old, report)),
                ),
            ]
            told = ", ".join(f"{name} {a:.2%} to {b:.2%}" for name, a, b in pairs)
            lines.append(f"{split}, {report['photos']} photos: {told}")
        return "\n".join([*lines, *self._warnings()])

    def losses(self) -> list[str]:
        """A line for each split on which more is lost than `superbin promote` lets pass."""
        lines = []
        for split, report in self.reports().items():
            pairs = _recalls(summarise(self.before[split])), _recalls(report)
            told = [
                f"{what} {old:.2%} to {pairs[1][what]:.2%}"
                for what, old in pairs[0].items()
                if is_worse(pairs[1][what] - old)
            ]
            if told:
                lines.append(
                    f"warning: worse than its parent on {split}: {', '.join(told)}; superbin "
                    f"promote refuses what loses more than {100 * MARGIN:g} point of a "
                    "superclass's recall on test"
                )
        return lines

    def _warnings(self) -> list[str]:
        wanted = self.calibration.wanted_error_rate
        report = self.reports().get(SPLIT)
        errors = report["decisions"]["error_rate_of_sorted"] if report else None
        if errors is None or errors <= wanted:
            return []
        return [
            f"of the photos of {SPLIT} that are sorted {errors:.2%} are wrong, and {wanted:.2%} "
            "were wanted; --recalibrate fits the threshold anew"
        ]


def _recalls(report: dict[str, Any]) -> dict[str, float]:
    """The mean, and that of each superclass that has photos."""
    each = {f"recall of {name}": one["recall"] for name, one in report["superclasses"].items()}
    found = {"balanced accuracy": report["balanced_accuracy"], **each}
    return {name: recall for name, recall in found.items() if recall is not None}


def recheck(parent: Bundle, part: Path, data: PhotoSet, *, recalibrate: bool) -> Recheck:
    """Measure the bundle at `part` in all variants, and its parent, on val and test.

    Raises:
        DataError: where there is neither split, or nothing of val to fit a threshold on that the
            bank does not have.
    """
    splits = [split for split in SPLITS if data.split(split)]
    if not splits or (recalibrate and SPLIT not in splits):
        raise DataError(f"expected photos of the split {SPLIT} in {data.root}, got none")
    variants = parent.manifest.variants
    measured = {
        (variant, split): measure_bundle(part, data, split, variant=variant)
        for variant in variants
        for split in splits
    }
    outcomes = {split: measured[parent.manifest.default_variant, split] for split in splits}
    before = {split: measure_bundle(parent.path, data, split) for split in splits}
    calibration = parent.manifest.calibration
    if recalibrate:
        calibration = _fitted(calibration, outcomes[SPLIT], read_bundle(part))
    metrics = bundle_metrics(outcomes, measured, agreement_with_fp32(measured))
    return Recheck(calibration, tuple(metrics), outcomes, before)


def _fitted(calibration: Calibration, outcome: Outcome, bundle: Bundle) -> Calibration:
    new = outcome.only(
        new_to_bank(bundle, outcome.photos, outcome.embedding, f"threshold from {SPLIT}")
    )
    wanted = calibration.wanted_error_rate
    least = least_confidence(wanted)
    threshold, share = fit_threshold(new.probabilities(), new.labels, wanted, least)
    if not share:
        print(f"no threshold of {least:g} or more keeps errors to {wanted:.2%}: all go to manual")
    return calibration.model_copy(
        update={
            "confidence_threshold": threshold,
            "split": SPLIT,
            "photos": len(new.labels),
        }
    )
