"""A small site for the superclasses of `tests.tiny_bundle`, with changes by dotted keys."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from service.sites import Site, parse_site

TINY: dict[str, Any] = {
    "schema": 1,
    "site": "tiny",
    "version": "1",
    "languages": ["en", "de"],
    "name": {"en": "Two bins", "de": "Zwei Tonnen"},
    "bins": {
        "mixed": {
            "colour": "#2e7d32",
            "name": {"en": "Recycling", "de": "Wertstoff"},
            "text": {"en": "Clean and dry.", "de": "Sauber und trocken."},
            "threshold": 0.6,
        },
        "rest": {
            "colour": "#424242",
            "name": {"en": "Rubbish", "de": "Restmüll"},
            "text": {"en": "All that is left.", "de": "Alles übrige."},
        },
    },
    "manual": {
        "colour": "#b71c1c",
        "name": {"en": "Ask us", "de": "Nachfragen"},
        "text": {"en": "Somebody has a look.", "de": "Jemand sieht nach."},
    },
    "superclasses": {
        "recyclable": "mixed",
        "organic": "rest",
        "residual": "rest",
        "hazardous": "manual",
    },
    "items": {},
    "costs": {"manual": 0.3, "wrong": 1.0, "of": {"manual": {"mixed": 20.0, "rest": 8.0}}},
    "hazards": {"superclasses": ["hazardous"], "items": [], "threshold": 0.05},
}


def site_text(changes: Mapping[str, object] | None = None) -> str:
    """The site's YAML; `{"costs.manual": 0.1}` changes one value."""
    rules = copy.deepcopy(TINY)
    for key, value in (changes or {}).items():
        *path, last = key.split(".")
        at = rules
        for part in path:
            at = at[part]
        at[last] = value
    return yaml.safe_dump(rules, sort_keys=False, allow_unicode=True)


def tiny_site(changes: Mapping[str, object] | None = None) -> Site:
    """The site."""
    return parse_site(site_text(changes).encode(), "tiny.yaml")


def write_site(folder: Path, changes: Mapping[str, object] | None = None) -> Path:
    """Write the site file, named as it should be, whole or not at all."""
    site = tiny_site(changes)
    file, part = folder / f"{site.site}.yaml", folder / f".{site.site}.part"
    part.write_text(site_text(changes), encoding="utf-8")
    part.replace(file)
    return file
