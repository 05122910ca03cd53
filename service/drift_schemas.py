"""The words of the HTTP API for drift, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import Field

from service.schemas import ModelId, Part


class DriftPart(Part):
    """One of the things that are watched, and what has become of it."""

    part: Literal["embedding", "confidence", "likeness", "appearance"]
    score: float = Field(description="1 is the alarm's threshold.")
    words: str = Field(description="What it does, in plain words.")


class DriftPlace(Part):
    """How the photos of one combination of tags look to the model."""

    site: str | None
    line: str | None
    camera: str | None
    score: float = Field(description="The highest of its parts; 1 is the alarm's threshold.")
    alarm: bool
    photos: int = Field(description="That were watched since then.")
    enough: bool = Field(description="Whether there are photos enough for a score, else it is 0.")
    since: datetime
    last: datetime = Field(description="When the last photo came; the score stays as it was.")
    moved: list[DriftPart] = Field(description="What moved most comes first.")
    confidence_shift: dict[str, float] = Field(
        description="Mean confidence less the usual one, by predicted superclass."
    )


class DriftModel(Part):
    """What is watched of one model."""

    model: ModelId
    watched: bool = Field(description="False where the bundle has no reference, or it is off.")
    window: int | None = Field(description="Photos that a score looks back on.")
    places: list[DriftPlace] = Field(description="The highest score first.")


class DriftAnswer(Part):
    """Drift by model, site, line and camera."""

    workers: int = Field(description="Processes that serve, each with its share of the photos.")
    models: list[DriftModel]
