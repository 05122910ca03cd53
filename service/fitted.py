"""Parts of a manifest that were fitted on labelled photos, and where they were.

Each says on which split and on how many photos.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field


class Record(BaseModel):
    """A part of a manifest: unknown fields are refused, and nothing is changed afterwards."""

    model_config = ConfigDict(extra="forbid", frozen=True, protected_namespaces=())


class Calibration(Record):
    """Temperature and threshold, and where they were fitted.

    A photo is sorted where its confidence reaches `confidence_threshold`, the lowest at which the
    photos of `split` that were sorted had an error rate of at most `wanted_error_rate`.
    """

    temperature: float = Field(gt=0.0)
    confidence_threshold: float = Field(ge=0.0, le=1.0)
    wanted_error_rate: float = Field(ge=0.0, le=1.0)
    split: str
    photos: int = Field(ge=1)


class QualityLimits(Record):
    """Where a photo is doubted for its light, sharpness or content; see `service.quality`.

    Each begins at the percentile of `split` that leaves `accepted_share` of its photos, and is
    moved away from them by a margin.
    """

    least_light: float = Field(ge=0.0, le=255.0)
    most_clipped: float = Field(ge=0.0, le=1.0)
    least_sharpness: float = Field(ge=0.0)
    least_contrast: float = Field(ge=0.0)
    accepted_share: float = Field(gt=0.0, le=1.0)
    split: str
    photos: int = Field(ge=1)


class FamiliarityLimit(Record):
    """Where a photo is doubted for being like nothing in the bank; see `service.familiarity`.

    `file` is an array, float16 [M, E]: the embeddings of the bank's items, in their order. Without
    one the graph tells it, of the bank that it answers by, and of a background where it has one.
    """

    file: str | None = None
    statistic: Literal["log_mean_exp_cosine", "log_mean_exp_cosine_less_background"]
    temperature: float = Field(gt=0.0)
    threshold: float
    accepted_share: float = Field(gt=0.0, le=1.0)
    split: str
    photos: int = Field(ge=1)


class ItemSpread(Record):
    """How the probability of a superclass is spread over its items; see `service.sorting`.

    The references of an answer are weighted to tell superclasses apart, and are too sure of items:
    with `temperature` on top of the graph's they are less so, and `unnamed` goes to all items of
    the superclass, each as often as it is in the bank. Both make the items of `split` likeliest.
    """

    temperature: float = Field(gt=0.0)
    unnamed: float = Field(ge=0.0, le=1.0)
    split: str
    photos: int = Field(ge=1)
