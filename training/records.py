"""Experiment records: TOML files, validated, with `--set section.key=value` on top."""

from __future__ import annotations

import difflib
import tomllib
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from training import shipped
from training.config import SHIPPED_BACKGROUND, Config
from training.errors import ConfigError

CONFIGS = Path(__file__).parent / "configs"
LITE_GROUPS = 18  # of EfficientNet-Lite0, all of them
WITH_WORDS = ("efficientnet_lite0", "efficientnet_lite1", "efficientnet_lite2")


def load_config(reference: str, overrides: list[str] | None = None) -> Config:
    """Read a record and apply overrides.

    Args:
        reference: a TOML file, or the name of one under `training/configs`.
        overrides: `key=value` or `section.key=value`, the value in TOML's notation.

    Raises:
        ConfigError: for a missing file, bad TOML, an unknown key or a value out of range.
    """
    record = shipped.read(shipped.find(reference, CONFIGS, "a TOML file", ConfigError), ConfigError)
    for override in overrides or []:
        _apply(record, override)
    return parse_config(record)


def parse_config(record: dict[str, Any]) -> Config:
    """Validate a record.

    Raises:
        ConfigError: naming each offending key, and the nearest known one.
    """
    try:
        config = Config.model_validate(record)
    except ValidationError as error:
        raise ConfigError("; ".join(_explain(problem) for problem in error.errors())) from error
    if config.matching.words is not None:
        _check_words(config)
    if config.matching.background:
        _check_background(config)
    return config


def _check_background(config: Config) -> None:
    if config.method != "matching":
        raise ConfigError(
            'matching.background: expected method = "matching", which alone compares with one, '
            f"got {config.method!r}"
        )
    if config.matching.background != SHIPPED_BACKGROUND:
        return
    backbone, data = config.backbone, config.data
    told = {
        "backbone.name": (backbone.name, "efficientnet_lite0"),
        "backbone.pretrained": (backbone.pretrained, True),
        "backbone.weights": (backbone.weights, None),
        "backbone.frozen_groups": (min(backbone.frozen_groups, LITE_GROUPS), LITE_GROUPS),
        "data.px": (data.px, 256),
        "data.fit": (data.fit, "squash"),
    }
    if wrong := [f"{key} = {got}" for key, (got, wanted) in told.items() if got != wanted]:
        raise ConfigError(
            f"matching.background: {SHIPPED_BACKGROUND!r} is what efficientnet_lite0 makes of 256 "
            f"x 256 pixels (squash) as ImageNet has left it, got {', '.join(wrong)}; name a folder "
            "of pictures, or leave it empty (--set matching.background=)"
        )


def _check_words(config: Config) -> None:
    if config.method != "matching":
        raise ConfigError(
            f'matching.words: expected method = "matching", which alone takes words, got '
            f"{config.method!r}; refuse-words is such a record"
        )
    spec = config.backbone
    if spec.name not in WITH_WORDS or not spec.pretrained or spec.weights is not None:
        was = "" if spec.pretrained else " with pretrained = false"
        was += f" with weights of {spec.weights}" if spec.weights is not None else ""
        raise ConfigError(
            f"matching.words: expected a backbone of {', '.join(WITH_WORDS)} with its ImageNet "
            f"weights, by which words are understood, got {spec.name}{was}"
        )


def record_changes(before: dict[str, Any], now: dict[str, Any], place: str = "") -> list[str]:
    """`key was A and is B` for each key in which two resolved records differ."""
    changes = []
    for key in sorted({*before, *now}):
        old, new, name = before.get(key), now.get(key), f"{place}{key}"
        if isinstance(old, dict) and isinstance(new, dict):
            changes += record_changes(old, new, f"{name}.")
        elif old != new:
            changes.append(f"{name} was {old!r} and is {new!r}")
    return changes


def _apply(record: dict[str, Any], override: str) -> None:
    key, equals, value = override.partition("=")
    if not equals:
        raise ConfigError(f"expected --set key=value, got {override!r}")
    try:
        parsed = tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        parsed = value  # a bare word is a string
    *sections, last = key.strip().split(".")
    for section in sections:
        record = record.setdefault(section, {})
        if not isinstance(record, dict):
            raise ConfigError(f"--set {override}: {section} is a value and has no keys")
    record[last] = parsed


def _explain(problem: Any) -> str:
    key = ".".join(map(str, problem["loc"]))
    if problem["type"] != "extra_forbidden":
        return f"{key}: {problem['msg']}, got {problem['input']!r}"
    section = Config.model_fields.get(str(problem["loc"][0]))
    fields = getattr(section.annotation, "model_fields", {}) if section else Config.model_fields
    near = difflib.get_close_matches(str(problem["loc"][-1]), fields, 1)
    return f"{key}: no such key" + (f", did you mean {near[0]}?" if near else "")
