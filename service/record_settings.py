"""What is kept of answers: drift's windows, photos for review, and counts for reports."""

from __future__ import annotations

from pydantic import BaseModel, Field

MOST_DAYS = 36_500.0


class DriftSettings(BaseModel):
    """What is watched for drift."""

    drift: bool = Field(
        True, description="Watch for drift by site, line and camera, where the bundle can tell."
    )
    max_tags: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Combinations of site, line and camera that are watched each by itself, in one "
        "process and model; what comes on top is counted as other, until one has had no photo for "
        "a day.",
    )
    drift_photos_s: float = Field(
        50.0,
        gt=0.0,
        le=1e6,
        description="Photos a second of such a combination that are watched, once its window was "
        "full; more say nothing new.",
    )


class ReviewSettings(BaseModel):
    """Photos that are kept for people to look at."""

    review_url: str | None = Field(
        None,
        description="Database that photos for review are listed in, such as "
        "sqlite:////data/review.db or postgresql://user@host/name; without one no "
        "photo is kept.",
    )
    review_photos: str | None = Field(
        None,
        description="Where those photos lie: a folder, or a URL such as s3://bucket/photos.",
    )
    review_uncertain_share: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Share of the photos whose decision is manual that is kept for review.",
    )
    review_contested_share: float = Field(
        1.0,
        ge=0.0,
        le=1.0,
        description="Share of the sorted photos whose strongest references are of another "
        "superclass that is kept.",
    )
    review_random_share: float = Field(
        0.01,
        ge=0.0,
        le=1.0,
        description="Share of all other photos that is kept.",
    )
    review_days: float = Field(
        30.0,
        gt=0.0,
        le=MOST_DAYS,
        description="Days that a photo is kept which no reviewer reviews; feedback is no review "
        "here.",
    )
    review_reviewed_days: float = Field(
        365.0,
        ge=0.0,
        le=MOST_DAYS,
        description="Days that a photo is kept once it is reviewed; 0 is for ever.",
    )
    review_max_photos: int = Field(
        20_000,
        ge=1,
        le=1_000_000_000,
        description="Photos kept at most; the oldest that no reviewer reviewed go first.",
    )
    review_max_bytes: int = Field(
        2_000_000_000,
        ge=1_000_000,
        le=10**15,
        description="Bytes of photos kept at most; the oldest that no reviewer reviewed go first.",
    )
    review_long_side_px: int = Field(
        1024,
        ge=64,
        le=8192,
        description="Longer side of the copy that is kept, in pixels, at most.",
    )
    review_jpeg_quality: int = Field(
        90,
        ge=30,
        le=95,
        description="Quality of the copy's JPEG.",
    )
    review_held_out_share: float = Field(
        0.2,
        ge=0.0,
        le=1.0,
        description="Share of the kept photos, by their hash, that is for measuring and never for "
        "training.",
    )
    review_double_share: float = Field(
        0.1,
        ge=0.0,
        le=1.0,
        description="Share of the kept photos, by their hash, that two people are asked about.",
    )
    review_lease_s: float = Field(
        300.0,
        gt=0.0,
        le=86_400.0,
        description="Seconds that a photo is one reviewer's alone.",
    )
    review_queue_photos: int = Field(
        64,
        ge=1,
        description="Photos that may wait to be written; more are dropped, and counted.",
    )
    review_queue_bytes: int = Field(
        64_000_000,
        ge=1,
        description="Bytes of photos that may wait to be written.",
    )
    review_export_photos: int = Field(
        5_000,
        ge=1,
        description="Photos in one export over HTTP at most, the newest, and as many of no refuse; "
        "the command line has no such limit.",
    )
    feedback_rate_s: float = Field(
        10.0,
        ge=0.0,
        le=1e6,
        description="Feedback a second that one key, or one address, may send; 0 is no limit.",
    )


class ReportSettings(BaseModel):
    """Counts that are kept for reports."""

    tally_url: str | None = Field(
        None,
        description="Database that answers are counted in for reports, such as "
        "sqlite:////data/composition.db or postgresql://user@host/name; it may be the review's; "
        "without one nothing is counted.",
    )
    tally_interval_s: float = Field(
        5.0,
        gt=0.0,
        le=3600.0,
        description="Seconds between two writes of the counts: what a process that is killed may "
        "lose.",
    )
    tally_days: float = Field(
        400.0, ge=0.0, le=MOST_DAYS, description="Days that counts are kept; 0 is for ever."
    )
    tally_max_places: int = Field(
        64,
        ge=1,
        description="Combinations of site, line and camera that are counted each by itself; the "
        "line and camera of others become other.",
    )
    tally_max_keys: int = Field(
        20_000,
        ge=1,
        description="Different counts that one process keeps while the database is away; more are "
        "dropped, and counted.",
    )
    report_max_rows: int = Field(
        10_000,
        ge=1,
        description="Rows of one report over HTTP at most; the command line has no such limit.",
    )
