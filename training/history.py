"""The picture of a run: loss, accuracy on val, and how photos lie on the sphere, epoch by epoch."""

from __future__ import annotations

from typing import Any

from matplotlib import pyplot as plt

PANELS = (
    ("loss of the last batch", ("loss", "contrastive", "cross_entropy", "target")),
    ("val", ("val_accuracy", "val_balanced")),
    ("alignment of positive pairs, uniformity", ("alignment", "uniformity")),
    ("similarity of attention", ("attention_similarity", "attention_similarity_apart")),
)


def draw_history(lines: list[dict[str, Any]]) -> Any:
    """Panels over steps; one that the method has nothing for is left out.

    Args:
        lines: of `history.jsonl`.
    """
    panels = [(title, [k for k in keys if k in lines[-1]]) for title, keys in PANELS]
    panels = [(title, keys) for title, keys in panels if keys]
    figure, axes = plt.subplots(1, len(panels), figsize=(4 * len(panels), 3.4), squeeze=False)
    for place, (title, keys) in zip(axes[0], panels, strict=True):
        for key in keys:
            steps = [line["step"] for line in lines if key in line]
            values = [line[key] for line in lines if key in line]
            place.plot(steps, values, marker="o", markersize=3, label=key.replace("_", " "))
        place.set(title=title, xlabel="step")
        place.legend(fontsize=7)
    return figure
