"""The figures that a bundle's manifest carries, made of what its ONNX files answered."""

from __future__ import annotations

import numpy as np

from service.bundle import Metric
from training.evaluate import accuracy, summarise
from training.outcome import Outcome

FP32, INT8 = "fp32", "int8"


def agreement_with_fp32(measured: dict[tuple[str, str], Outcome]) -> dict[str, float]:
    """Share of photos that int8 answers as fp32 does, by split; `measured` is by variant, split."""
    splits = [split for variant, split in measured if variant == INT8]
    return {
        split: accuracy(measured[INT8, split].predicted, measured[FP32, split].predicted)
        for split in splits
        if (FP32, split) in measured
    }


def bundle_metrics(
    outcomes: dict[str, Outcome],
    measured: dict[tuple[str, str], Outcome],
    agreement: dict[str, float],
) -> list[Metric]:
    """Each figure with split, mode and variant.

    Args:
        outcomes: by split, with the answers in other contexts where a PyTorch model gave them.
        measured: of the ONNX files, by variant and split.
        agreement: what `agreement_with_fp32` gives.
    """
    metrics: list[Metric] = []
    for (variant, split), outcome in measured.items():
        report = summarise(outcome)
        for name in ("accuracy", "balanced_accuracy", "ece_after_calibration"):
            metrics.append(
                Metric(
                    name=name,
                    value=report[name],
                    split=split,
                    photos=report["photos"],
                    variant=variant,
                    interval=report.get(f"{name}_interval"),
                )
            )
    for split, share in agreement.items():
        photos = len(outcomes[split].labels)
        metrics.append(
            Metric(
                name="agreement_with_fp32", value=share, split=split, photos=photos, variant=INT8
            )
        )
        for mode, predictions in outcomes[split].other_contexts.items():
            mean = float(np.mean([accuracy(p, outcomes[split].labels) for p in predictions]))
            metrics.append(
                Metric.model_validate(
                    {
                        "name": "accuracy",
                        "value": mean,
                        "split": split,
                        "photos": photos,
                        "mode": mode,
                        "variant": "pytorch",
                    }
                )
            )
    return metrics
