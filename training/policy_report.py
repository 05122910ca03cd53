"""What `superbin policy tune` leaves: the site file, a report in JSON, and pictures."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from service.sites import Site, parse_site
from training.calibrate import worst_error_rate
from training.checkpoint import write_json
from training.figures import save_picture
from training.outcome import Array
from training.policy import Evidence, Policy, assess, covered, curve, own_thresholds

DIGITS = 4


def write_site(
    source: Path, out: Path, values: dict[str, Any], thresholds: Mapping[str, float]
) -> Site:
    """Copy a site file with other values, comments and order kept; named after `out`.

    Args:
        values: by key; a key that is not there is added.
        thresholds: by bin, whose names may have dots.

    Raises:
        SiteError: where the result is no site.
    """
    yaml = YAML()
    yaml.width = 4096  # lines stay as they are
    yaml.preserve_quotes = True
    rules = yaml.load(source.read_text(encoding="utf-8"))
    for key, value in ({"site": out.stem} | values).items():
        # What YAML's older readers take for yes, no or a number is none.
        rules[key] = DoubleQuotedScalarString(value) if isinstance(value, str) else value
    for name, threshold in thresholds.items():
        rules["bins"][name]["threshold"] = threshold
    out.parent.mkdir(parents=True, exist_ok=True)
    part_file = out.with_name(f".{out.name}.part")
    try:
        with part_file.open("w", encoding="utf-8") as stream:
            yaml.dump(rules, stream)
        site = parse_site(part_file.read_bytes(), str(out))
        part_file.replace(out)
    finally:
        part_file.unlink(missing_ok=True)
    return site


def report(evidence: dict[str, Evidence], thresholds: Array, least: float | None) -> dict[str, Any]:
    """Figures of each split, with the site's own thresholds and with the fitted ones."""
    found: dict[str, Any] = {}
    for split, one in evidence.items():
        own = assess(one, one.choices(own_thresholds(one)))
        fitted = assess(one, one.choices(thresholds))
        found[split] = {"as_it_was": _figures(own), "tuned": _figures(fitted)}
        if least is not None:
            share, size = covered(one, least)
            found[split]["coverage"] = {"share": share, "mean_size": size}
    return found


def _figures(policy: Policy) -> dict[str, Any]:
    worst = worst_error_rate(policy.wrong, policy.sorted) if policy.sorted else 1.0
    rate = None if math.isnan(policy.error_rate) else policy.error_rate  # JSON has no NaN
    return asdict(policy) | {"error_rate": rate, "error_rate_at_most": worst}


def draw(evidence: dict[str, Evidence], thresholds: Array, folder: Path) -> None:
    """`policy.png`: what manual sorting buys; `bins.png`: what went where on the last split."""
    save_picture(_draw_curve(evidence, thresholds), folder / "policy.png")
    last = list(evidence.values())[-1]
    save_picture(_draw_bins(last, last.choices(thresholds)), folder / "bins.png")


def _draw_curve(evidence: dict[str, Evidence], thresholds: Array) -> Any:
    figure, axes = plt.subplots(1, 2, figsize=(11, 4.2))
    for colour, (split, one) in enumerate(evidence.items()):
        policies = [policy for policy in curve(one) if policy.sorted]
        manual = [policy.manual for policy in policies]
        own = assess(one, one.choices(own_thresholds(one)))
        fitted = assess(one, one.choices(thresholds))
        for axis, name in ((axes[0], "error_rate"), (axes[1], "contamination")):
            values = [getattr(policy, name) for policy in policies]
            axis.plot(manual, values, color=f"C{colour}", label=f"{split} ({len(one)} photos)")
            for marker, point in (("o", own), ("*", fitted)):
                axis.plot(
                    point.manual, getattr(point, name), marker, color=f"C{colour}", markersize=10
                )
        total = [policy.cost for policy in policies]
        axes[1].plot(manual, total, ":", color=f"C{colour}", label=f"{split}, people included")
    axes[0].plot([], [], "o", color="grey", label="the site's thresholds as they were")
    axes[0].plot([], [], "*", color="grey", label="tuned", markersize=10)
    axes[0].set(xlabel="share that a person sees", ylabel="error rate of what is sorted")
    axes[1].set(xlabel="share that a person sees", ylabel="cost a photo (1: an ordinary mistake)")
    site = next(iter(evidence.values())).sorter.site.site
    for axis in axes:
        axis.set(xlim=(0, 1), ylim=(0, None))
        axis.legend(fontsize=8)
        axis.grid(alpha=0.3)
    figure.suptitle(f"What manual sorting buys: {site}")
    return figure


def _draw_bins(evidence: Evidence, choices: Array) -> Any:
    names = evidence.sorter.choices
    counts = np.zeros((len(names), len(names)), dtype=int)
    np.add.at(counts, (evidence.true, choices), 1)
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    figure, axes = plt.subplots(figsize=(2.4 + 0.8 * len(names), 1.8 + 0.7 * len(names)))
    axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    for row, column in np.ndindex(*counts.shape):
        ink = "white" if shares[row, column] > 0.5 else "black"
        axes.text(column, row, str(counts[row, column]), ha="center", va="center", color=ink)
    axes.set_xticks(range(len(names)), names, rotation=30, ha="right")
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="sent to", ylabel="belongs into")
    axes.set_title(f"{evidence.sorter.site.site} on {evidence.split}, tuned")
    return figure


def tell(figures: dict[str, Any], site: Site) -> str:
    """The report as lines of text."""
    lines = [f"{'':14}{'manual':>8}{'sorted':>8}{'wrong':>7}{'errors':>8}{'at most':>9}{'cost':>8}"]
    for split, one in figures.items():
        for name in ("as_it_was", "tuned"):
            row = one[name]
            title = f"{split}, {'tuned' if name == 'tuned' else 'before'}"
            rate = "none" if row["error_rate"] is None else f"{row['error_rate']:.2%}"
            lines.append(
                f"{title:14}{row['manual']:>8.1%}{row['sorted']:>8}{row['wrong']:>7}"
                f"{rate:>8}{row['error_rate_at_most']:>9.2%}{row['cost']:>8.4f}"
            )
        if "coverage" in one:
            cover = one["coverage"]
            lines.append(
                f"{split}: the right bin is in the set for {cover['share']:.1%}, "
                f"{cover['mean_size']:.2f} bins in a set"
            )
    closed = [name for name, one in site.bins.items() if one.threshold >= 1.0]
    if closed:
        lines.append(
            f"warning: no threshold keeps to the wanted rate in {', '.join(closed)}, which take "
            "now only what is certain; there may be too few photos, or a higher --error-rate may do"
        )
    told = ", ".join(f"{name} {one.threshold:.4f}" for name, one in site.bins.items())
    lines.append(f"thresholds: {told}")
    return "\n".join(lines)


def write_report(folder: Path, values: dict[str, Any]) -> None:
    """`policy.json`."""
    write_json(folder / "policy.json", values)
