"""Which reasons for doubt are wanted, and their limits: how `SUPERBIN_DOUBTS` is read."""

from __future__ import annotations

import math
from typing import cast, get_args

from service.schemas import DoubtReason

DOUBTED: dict[DoubtReason, tuple[float, float]] = {  # what each measure can be
    "too_dark": (0, 255),
    "too_bright": (0, 1),
    "blurred": (0, 510),
    "empty": (0, 221),
    "unfamiliar": (-2, 2),
}


def read_doubts(text: str) -> dict[DoubtReason, float | None]:
    """Reasons to doubt a photo, each with the limit that was set for it or None.

    Raises:
        ValueError: with what was expected.
    """
    known = get_args(DoubtReason)
    limits: dict[DoubtReason, float | None] = {}
    for part in [] if text.strip() == "none" else text.split(","):
        reason, _, limit = (word.strip() for word in part.partition("="))
        try:
            value = float(limit) if "=" in part else None
        except ValueError:
            value = math.nan
        if reason in limits:
            raise ValueError(f"expected each reason once, got {reason} twice")
        limits[cast(DoubtReason, reason)] = value
        if reason not in known or not math.isfinite(value or 0.0):
            raise ValueError(
                f"expected none, or some of {', '.join(known)}, each with or without =LIMIT"
            )
        least, most = DOUBTED[cast(DoubtReason, reason)]
        if value is not None and not least <= value <= most:
            raise ValueError(f"expected a limit of {least:g} to {most:g} for {reason}")
    return limits
