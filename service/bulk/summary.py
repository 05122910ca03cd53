"""What a run over many files says at its end."""

from __future__ import annotations

import json
import sys
from typing import Any

from service.bulk.inputs import told_left_out
from service.bulk.run import Summary


def show_summary(summary: Summary, as_json: bool) -> None:
    """To a person on stderr, or as one line of JSON on stdout."""
    if as_json:
        print(json.dumps(_flat(summary)))
        return
    for line in summary_lines(summary):
        print(line, file=sys.stderr)


def summary_lines(summary: Summary) -> list[str]:
    """How many photos, how they were answered, what was left out."""
    lines = [f"{summary.out}: {_photos(summary.photos)}, {summary.counts.bad:,} bad"]
    lines += _counts(summary)
    if summary.none_answered:
        lines.append("none could be answered; paths in a list are seen from the current folder")
    if summary.left_out:
        told = told_left_out(summary.left_out)
        lines.append(f"left out of the folders, no photos by their suffix: {told}")
    if summary.added:
        before = summary.photos - summary.added
        lines.append(f"{_photos(summary.added)} added to the {before:,} that had rows")
    if summary.here:
        rate = summary.here / max(summary.seconds, 1e-9)
        lines.append(f"{_photos(summary.here)} in {summary.seconds:.1f} s, {rate:.1f} a second")
    elif not summary.added:
        nothing = "nothing is new: " if summary.added == 0 else ""
        lines.append(f"{nothing}it was whole already; --restart writes it anew")
    return lines


def _flat(summary: Summary) -> dict[str, Any]:
    told = vars(summary) | summary.counts.model_dump()
    del told["counts"]
    return told


def _counts(summary: Summary) -> list[str]:
    """A line for each kind of answer that there is."""
    counts = summary.counts
    told = {
        "superclasses": counts.superclasses.items(),
        "bins": [(summary.bin_names[one], n) for one, n in counts.bins.items()],
        "decisions": counts.decisions.items(),
        "a person looks because of": _spelt(counts.reasons),
        "doubts": _spelt(counts.doubts),
    }
    return [
        f"{what}: " + ", ".join(f"{word} {n:,}" for word, n in those)
        for what, those in told.items()
        if those
    ]


def _spelt(counts: dict[str, int]) -> list[tuple[str, int]]:
    return [(word.replace("_", " "), n) for word, n in counts.items()]


def _photos(number: int) -> str:
    return f"{number:,} photo{'' if number == 1 else 's'}"
