"""`superbin policy tune`, put together."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from service.bundle import read_manifest
from service.site_rules import read_rules
from service.sites import SHIPPED, SUFFIX, find_site
from training.data.folds import read_photos_of
from training.errors import ConfigError
from training.export import portable
from training.policy import fit_coverage, fit_thresholds, gather
from training.policy_report import DIGITS, draw, report, tell, write_report, write_site


@dataclass(frozen=True)
class Wish:
    """What the rules are to keep to, and on which photos that is found and reported."""

    error_rate: float
    coverage: float | None
    split: str
    reported: tuple[str, ...]


def tune_site(
    site: str,
    bundle: Path,
    data: Path,
    out: Path,
    wish: Wish,
    version: str | None,
    command: str,
    *,
    overwrite: bool = False,
) -> str:
    """Write the tuned site file `out`, and beside it a folder with pictures and figures.

    Returns:
        The report as text.

    Raises:
        ConfigError, SiteError, SiteUnfit, BundleError, DataError: where they do not fit together.
    """
    if out.suffix != SUFFIX:
        raise ConfigError(f"--out: expected a site file such as mine{SUFFIX}, got {out}")
    if wish.coverage is not None and not 0.0 < wish.coverage < 1.0:
        raise ConfigError(f"--coverage: expected a share between 0 and 1, got {wish.coverage}")
    source = find_site(site, SHIPPED)
    if out.exists() and out.samefile(source):
        raise ConfigError(
            f"--out: expected another file than the one that is tuned, got {out} again; name one "
            "such as tuned.yaml, look at it, and put it in the old one's place"
        )
    if out.exists() and not overwrite:
        raise ConfigError(f"--out: {out} exists; name another, or give --overwrite")
    rules = read_rules(source)
    photos = read_photos_of(read_manifest(bundle), data)
    splits = dict.fromkeys((wish.split, *wish.reported))
    for split in splits:
        photos.some_of(split)  # a misspelt one is told before any photo is answered
    evidence = {split: gather(bundle, rules, photos, split) for split in splits}
    fitting = evidence[wish.split]
    thresholds = round_up(fit_thresholds(fitting, wish.error_rate))
    values: dict[str, Any] = {
        "version": version or f"{rules.site.version}+{fitting.split}-{wish.error_rate:g}"
    }
    least = None
    if wish.coverage is not None:
        least = float(np.floor(fit_coverage(fitting, wish.coverage) * 10**DIGITS) / 10**DIGITS)
        cover = {"level": wish.coverage, "least": least, "split": wish.split}
        values["coverage"] = cover | {"photos": len(fitting)}
    by_bin = dict(zip(rules.site.bins, thresholds.tolist(), strict=True))
    tuned = write_site(source, out, values, by_bin)
    folder = out.with_suffix("")
    folder.mkdir(exist_ok=True)
    figures = report(evidence, thresholds, least)
    draw(evidence, thresholds, folder)
    write_report(folder, {"command": portable(command), "site": source.stem, "figures": figures})
    return f"{tell(figures, tuned)}\nwritten: {out}, and pictures in {folder}"


def round_up(thresholds: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """To digits that a person can read; never down, which would let more pass."""
    return np.minimum(1.0, np.ceil(thresholds * 10**DIGITS) / 10**DIGITS)
