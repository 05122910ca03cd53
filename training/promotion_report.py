"""A comparison of two bundles as a table, Markdown, JSON and bars."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib import pyplot as plt

from training.checkpoint import write_json
from training.comparison import Compared
from training.figures import save_picture
from training.markdown import markdown_table
from training.paired import Paired

DECIDING = {
    "balanced_accuracy": "balanced accuracy",
    "sorted_share": "at the threshold or above (doubts not counted)",
    "wrong_of_sorted": "wrong among those",
}
HEAD = (
    "superclass",
    "photos",
    "old recall (95%)",
    "new recall (95%)",
    "lost, gained",
    "difference (95%, paired)",
    "McNemar's p",
    "shown to keep to the margin",
)
INTERVALS = (
    "95% intervals: of a recall, its Beta posterior under Jeffreys' prior; of accuracy, those of "
    "the recalls together, at these photos' mix of superclasses, as superbin evaluate has it; of a "
    "difference, from the pairs of answers to the same photo."
)
REPORT, FIGURES, PICTURE = "PROMOTION.md", "promotion.json", "promotion.png"


@dataclass(frozen=True)
class Verdict:
    """What came of a comparison.

    Attributes:
        old, new: `name/version`; new is the candidate's.
        margin: loss in recall that is let pass, of 1.
        refused: why, superclass by superclass; empty where the candidate passed.
        about: what was compared: hashes, data, command, hardware.
    """

    old: str
    new: str
    margin: float
    compared: tuple[Compared, ...]
    refused: tuple[str, ...]
    about: dict[str, Any]

    def text(self) -> str:
        """The report's Markdown."""
        parts = [f"# {self.new} against {self.old}: {self._outcome()}", self._rule()]
        parts += [_table(one, self.margin) for one in self.compared]
        parts += [self._on_the_margin(), _about(self.about)]
        return "\n\n".join(parts) + "\n"

    def write(self, folder: Path) -> None:
        """Write the report, the figures and the picture."""
        folder.mkdir(parents=True, exist_ok=True)
        (folder / REPORT).write_text(self.text(), encoding="utf-8")
        write_json(folder / FIGURES, asdict(self))
        save_picture(_draw(self), folder / PICTURE)

    def _outcome(self) -> str:
        """In the title, so that nobody takes what chance may have let pass for proven."""
        if self.refused:
            return "refused"
        shown = {
            superclass
            for one in self.compared
            for superclass, p in one.superclasses.items()
            if p.surely_within(self.margin)
        }
        every = dict.fromkeys(name for one in self.compared for name in one.superclasses)
        if unshown := [name for name in every if name not in shown]:
            return f"passed, with too few photos to be sure of {', '.join(unshown)}"
        return "passed"

    def _rule(self) -> str:
        rule = (
            f"A candidate is refused where its recall of any superclass is lower by more than "
            f"{100 * self.margin:g} points."
        )
        return "\n".join([rule, "", *(f"- refused: {one}" for one in self.refused)]).strip()

    def _on_the_margin(self) -> str:
        few = {
            f"{superclass} ({one.name}, {p.photos} photos: {100 / p.photos:.1f} points each)"
            for one in self.compared
            for superclass, p in one.superclasses.items()
            if 1 / p.photos > self.margin
        }
        if not few:
            return "## What the margin means\n\nEvery superclass has photos enough to measure it."
        return (
            "## What the margin means\n\nOne photo weighs more than the margin in "
            f"{'; '.join(sorted(few))}. There the rule lets no net loss pass, not even of one "
            "photo, which also chance brings about; and a candidate that passes has not been shown "
            "to keep to the margin. The interval of the difference, over pairs of answers to the "
            "same photo, says what is known; McNemar's p says how easily chance alone would divide "
            "the photos on which the two differ so unevenly. More photos of these superclasses, "
            "held out, would tell."
        )


def _table(one: Compared, margin: float) -> str:
    rows = [_row(name, p, margin) for name, p in one.superclasses.items()]
    rows.append(_row("all (accuracy)", one.overall, margin))
    deciding = [
        [name, _percent(getattr(one.old, key)), _percent(getattr(one.new, key))]
        for key, name in DECIDING.items()
    ]
    left_out = (
        f"{one.left_out} of {one.left_out + one.overall.photos} photos are left out for both "
        "models, since the bank of one of them has them, the same ones or near copies: they would "
        "be answered by themselves."
    )
    return "\n\n".join(
        [
            f"## {one.name.capitalize()}: {one.overall.photos} photos",
            *([left_out] if one.left_out else []),
            markdown_table(HEAD, rows),
            INTERVALS,
            markdown_table(("", "old", "new"), deciding),
        ]
    )


def _row(name: str, p: Paired, margin: float) -> list[str]:
    shown = "yes" if p.surely_within(margin) else "no"
    low, high = (100 * end for end in p.interval)
    return [
        name,
        str(p.photos),
        f"{p.old:.1%} ({_ends(p.old_interval)})",
        f"{p.new:.1%} ({_ends(p.new_interval)})",
        f"{p.lost}, {p.gained}",
        f"{100 * p.difference:+.1f} ({low:+.1f} to {high:+.1f})",
        f"{p.p:.2f}",
        shown,
    ]


def _ends(interval: tuple[float, float]) -> str:
    return f"{100 * interval[0]:.1f} to {100 * interval[1]:.1f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.2%}"


def _about(about: dict[str, Any]) -> str:
    return "\n".join(["## What was compared", "", *(f"- {k}: {v}" for k, v in about.items())])


def _draw(verdict: Verdict) -> Any:
    """Recall by superclass, old beside new, with 95% intervals; a panel for each set."""
    sets = verdict.compared
    width = max(len(one.superclasses) for one in sets)
    figure, panels = plt.subplots(
        1, len(sets), figsize=((2 + 1.3 * width) * len(sets), 4), squeeze=False
    )
    for axes, one in zip(panels[0], sets, strict=True):
        places = np.arange(len(one.superclasses))
        for offset, model, which in ((-0.2, verdict.old, "old"), (0.2, verdict.new, "new")):
            recall = np.array([getattr(p, which) for p in one.superclasses.values()])
            ends = np.array([getattr(p, f"{which}_interval") for p in one.superclasses.values()])
            doubt = np.abs(ends.T - recall)
            bars = axes.bar(places + offset, recall, 0.38, yerr=doubt, capsize=3, label=model)
            axes.bar_label(bars, [f"{r:.1%}" for r in recall], fontsize=7, label_type="center")
        names = [f"{name}\n({p.photos})" for name, p in one.superclasses.items()]
        axes.set_xticks(places, names)
        axes.set(ylim=(0, 1.08), title=f"Recall, {one.name} (photos)")
        axes.legend(loc="lower right")
    return figure
