"""The card of a corrected version: what changed, what was measured, and what its parent's says."""

from __future__ import annotations

import re
from pathlib import Path

from service.bundle import Bundle, Manifest
from training.card import CARD, card_text
from training.figures import draw_report
from training.recheck import Recheck

ABOUT = re.compile(r"^## Confidence\n.*?(?=^## )(?P<about>.*?)(?=^## Provenance$)", re.S | re.M)
OWN = re.compile(
    r"^## (Doubts|Drift)\n.*?(?=^## |\Z)", re.S | re.M
)  # written anew for each version
WRITTEN = "*What follows was written for "


def write_corrected_card(
    part: Path, parent: Bundle, manifest: Manifest, told: list[str], checked: Recheck | None
) -> None:
    """Write the card, and the pictures where there are figures, into the bundle at `part`."""
    if checked is not None:
        draw_report(list(checked.outcomes.values())[-1], part)
    lines = [f"- {line}" for line in told]
    changed = "\n".join(
        [
            "## What changed",
            "",
            f"The bank of {parent.id} was corrected; its graphs are the same, byte by byte, and "
            "nothing was trained.",
            "",
            *lines,
            "",
            _measured(parent, checked),
        ]
    )
    reports = checked.reports() if checked else {}
    text = card_text(part, manifest, reports, _about(parent), changed)
    (part / CARD).write_text(text, encoding="utf-8")


def _measured(parent: Bundle, checked: Recheck | None) -> str:
    if checked is not None:
        told = checked.told().splitlines()
        return "\n".join(
            ["Before and after, through the default variant:", ""] + [f"- {t}" for t in told]
        )
    old = [m for m in parent.manifest.metrics if m.name == "accuracy" and m.mode == "bank"]
    figures = ", ".join(f"{m.value:.2%} on {m.split} ({m.variant})" for m in old)
    theirs = f" {parent.id} had an accuracy of {figures}." if figures else ""
    return f"This version has not been measured (`--data` does).{theirs}"


def _about(parent: Bundle) -> str:
    """What a person wrote of the parent, marked as that."""
    file = parent.path / CARD
    found = ABOUT.search(file.read_text(encoding="utf-8")) if file.is_file() else None
    about = OWN.sub("", found["about"]).strip() if found else ""
    if not about:
        return f"## Data, licences, use\n\nAs for {parent.id}."
    if about.startswith(WRITTEN):
        return about
    return f"{WRITTEN}{parent.id}, before its bank was corrected.*\n\n{about}"
