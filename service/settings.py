"""Settings of the service: `SUPERBIN_*` environment variables, checked before anything starts."""

from __future__ import annotations

import difflib
import math
import os
import re
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, cast, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.devices import CPU, DEVICES, EXPECTED, session_devices
from service.errors import SuperbinError
from service.preprocess import PhotoLimits
from service.schemas import DoubtReason
from service.sites import SHIPPED as SHIPPED_SITES

PREFIX = "SUPERBIN_"
PILLOW_MAX_PIXELS = 178_956_970  # beyond it Pillow itself refuses a header
FOLLOWS_FROM_ANOTHER = "default_factory_not_called"  # and says nothing of its own
ORIGINS = r"(\*|https?://[^\s,/*]+(\s*,\s*https?://[^\s,/*]+)*)"
CGROUP_CPU_MAX = Path("/sys/fs/cgroup/cpu.max")


class SettingsError(SuperbinError):
    """A variable is misspelt or its value cannot be used."""


def available_cores() -> int:
    """Cores that this process may use: its affinity, and a container's CPU quota if less."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_CPU_MAX.read_text().split()
        return max(1, min(cores, math.ceil(int(quota) / int(period))))
    except (OSError, ValueError):  # no cgroup v2 here, or the quota is "max"
        return cores


def default_models_dir() -> Path:
    """`models` beside the `service` package where that exists, else in the working directory."""
    beside = Path(__file__).resolve().parent.parent / "models"
    return beside if beside.is_dir() else Path("models")


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
        limits[cast(DoubtReason, reason)] = value
        if reason not in known or not math.isfinite(value or 0.0):
            raise ValueError(
                f"expected none, or some of {', '.join(known)}, each with or without =LIMIT"
            )
    return limits


class Settings(BaseSettings):
    """Everything that can be set, each as `SUPERBIN_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX, env_ignore_empty=True, extra="forbid", frozen=True
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all of them.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe lines to log; probes and scrapes are logged at debug."
    )

    models_dir: Path = Field(
        default_factory=default_models_dir,
        description="Folder of model bundles, <name>/<version>/.",
    )
    model: str = Field(
        "refuse",
        min_length=1,
        description="Bundles to serve, by commas: a name, for its newest version, or name/version; "
        "the first answers where a request names none.",
    )
    watch_s: float = Field(
        10.0,
        ge=0.0,
        description="Seconds between looks for newer models and changed site files in the folders; "
        "0 never looks.",
    )
    sites_dir: Path = Field(
        SHIPPED_SITES,
        description="Folder of site files, which say what goes into which bin; by default those "
        "that Superbin brings.",
    )
    site: str | None = Field(
        None,
        description="Site whose rules hold where neither the request nor its key names one; "
        "without one such photos get a superclass and no bin.",
    )
    variant: str | None = Field(
        None, description="Which of the bundle's graphs to run; by default the bundle's own choice."
    )
    device: str = Field(
        "cpu",
        description="Where to run: cpu, cpu:N for N sessions alone, at most one a thread, cuda:I "
        "or tensorrt:I for a GPU, or several by commas. A GPU that is not there stops the start.",
    )
    workers: int = Field(
        1,
        ge=1,
        description="Processes that serve; limits of the queue and rates hold for each of them.",
    )
    threads: int = Field(
        default_factory=lambda known: max(1, available_cores() // known.get("workers", 1)),
        ge=1,
        description="Threads of ONNX Runtime, over all sessions of one process; by default its "
        "share of the available cores.",
    )
    decode_workers: int | None = Field(
        None,
        ge=0,
        description="Threads that decode photos; 0: each session decodes its own. By default 0 on "
        "a CPU, and the available cores beside a GPU.",
    )

    doubts: str = Field(
        ",".join(get_args(DoubtReason)),
        description="Why a photo may be left to a person whatever the model says, by commas; none "
        "for never. too_dark=60 sets a limit in place of the model's own.",
    )

    keys_file: Path | None = Field(
        None, description="TOML file with API keys; without one anybody may ask."
    )
    cors_origins: str | None = Field(
        None,
        description="Origins whose pages may ask from a browser, by commas, such as "
        "https://app.example; * for any; none without.",
    )
    rate_photos_s: float = Field(
        0.0,
        ge=0.0,
        description="Photos a second that one key, or one address, may bring; 0 is no limit.",
    )
    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where traces go by OTLP over HTTP, such as http://host:4318; off without.",
    )
    max_batch: int = Field(
        16, ge=1, description="Photos run together at most; fewer where more gain nothing."
    )
    max_queue: int = Field(
        128,
        ge=1,
        description="Photos admitted and not yet answered; a request beyond that gets 503.",
    )
    max_queue_bytes: int = Field(
        256_000_000,
        ge=1,
        description="Bytes of bodies admitted and not yet answered; beyond that there is a 503.",
    )
    max_delay_s: float = Field(
        0.0,
        ge=0.0,
        le=10.0,
        description="Seconds that a photo may wait for a fuller batch while the model is idle.",
    )
    interactive_photos: int = Field(
        4, ge=0, description="Requests of more photos than this are bulk and let others go first."
    )
    timeout_s: float = Field(
        30.0,
        gt=0.0,
        le=3600.0,
        description="Seconds from the end of the body to the answer; X-Request-Timeout may ask for "
        "less.",
    )
    header_timeout_s: float = Field(
        10.0,
        gt=0.0,
        description="Seconds that a connection may take to send a request's headers.",
    )
    keep_alive_s: int = Field(
        75,
        ge=1,
        description="Seconds that a connection is kept for the next request; let it be longer than "
        "a load balancer keeps its own.",
    )
    max_header_bytes: int = Field(
        65_536, ge=1024, description="Bytes of a request's headers at most."
    )
    max_connections: int = Field(
        1000,
        ge=1,
        description="Connections at once; one more closes the one that has idled longest.",
    )
    body_timeout_s: float = Field(
        10.0, gt=0.0, description="Seconds that a body may take, and more as long as it flows."
    )
    body_min_rate: int = Field(
        4096, ge=1, description="Bytes a second that earn a body another second each."
    )
    max_photos: int = Field(32, ge=1, description="Photos in one request at most.")
    max_photo_bytes: int = Field(20_000_000, ge=1, description="Bytes of one photo at most.")
    max_photo_pixels: int = Field(
        40_000_000,
        ge=1,
        le=PILLOW_MAX_PIXELS,
        description="Pixels of one photo at most, read from its header before it is decoded.",
    )
    max_request_bytes: int = Field(64_000_000, ge=1, description="Bytes of one request at most.")

    drift: bool = Field(
        True, description="Watch for drift by site, line and camera, where the bundle can tell."
    )
    max_tags: int = Field(
        64,
        ge=1,
        le=10_000,
        description="Combinations of site, line and camera that are watched each by itself, in one "
        "process and model; what comes on top is counted as other.",
    )
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
        description="Days that a photo is kept which nobody reviews.",
    )
    review_reviewed_days: float = Field(
        365.0,
        ge=0.0,
        description="Days that a photo is kept once it is reviewed; 0 is for ever.",
    )
    review_max_photos: int = Field(
        20_000,
        ge=1,
        description="Photos kept at most; the oldest that nobody reviewed go first.",
    )
    review_max_bytes: int = Field(
        2_000_000_000,
        ge=1_000_000,
        description="Bytes of photos kept at most; the oldest that nobody reviewed go first.",
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
        description="Photos in one export over HTTP at most, the newest; the command line has no "
        "such limit.",
    )
    feedback_rate_s: float = Field(
        10.0,
        ge=0.0,
        description="Feedback a second that one key, or one address, may send; 0 is no limit.",
    )

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
        400.0, ge=0.0, description="Days that counts are kept; 0 is for ever."
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

    drain_delay_s: float = Field(
        0.0,
        ge=0.0,
        description="Seconds between SIGTERM, when readiness fails, and closing the port.",
    )
    grace_period_s: int = Field(
        8, ge=0, description="Seconds that running requests get to finish once the port is closed."
    )

    @field_validator("device")
    @classmethod
    def _known_device(cls, device: str) -> str:
        if not re.fullmatch(DEVICES, device):
            raise ValueError(f"expected {EXPECTED}")
        return device

    @field_validator("doubts")
    @classmethod
    def _known_doubts(cls, doubts: str) -> str:
        read_doubts(doubts)
        return doubts

    @field_validator("cors_origins")
    @classmethod
    def _known_origins(cls, origins: str | None) -> str | None:
        if origins is not None and not re.fullmatch(ORIGINS, origins):
            raise ValueError("expected origins such as https://app.example, by commas, or *")
        return origins

    @property
    def models(self) -> tuple[str, ...]:
        """`model`, one by one."""
        return tuple(one.strip() for one in self.model.split(","))

    @property
    def doubt_limits(self) -> dict[DoubtReason, float | None]:
        """`doubts`, one by one: the limit that was set, or None for the model's own."""
        return read_doubts(self.doubts)

    @property
    def origins(self) -> tuple[str, ...]:
        """`cors_origins`, one by one."""
        return tuple(one.strip() for one in (self.cors_origins or "").split(",") if one.strip())

    @cached_property
    def photo_limits(self) -> PhotoLimits:
        """What one photo may cost."""
        return PhotoLimits(max_bytes=self.max_photo_bytes, max_pixels=self.max_photo_pixels)

    @property
    def max_raw_bytes(self) -> int:
        """What a body may be that is one photo."""
        return min(self.max_photo_bytes, self.max_request_bytes)

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        on_cpu = session_devices(self.device).count(CPU)
        if on_cpu > self.threads:
            raise ValueError(
                f"{PREFIX}DEVICE is for a session on each of {PREFIX}THREADS = {self.threads} "
                f"threads of the CPU at most, got {on_cpu} in {self.device}"
            )
        if self.max_queue < self.max_photos:
            raise ValueError(
                f"{PREFIX}MAX_QUEUE must hold a whole request of {PREFIX}MAX_PHOTOS = "
                f"{self.max_photos}, got {self.max_queue}"
            )
        if self.max_queue_bytes < self.max_request_bytes:
            raise ValueError(
                f"{PREFIX}MAX_QUEUE_BYTES must hold a whole request of {PREFIX}MAX_REQUEST_BYTES = "
                f"{self.max_request_bytes}, got {self.max_queue_bytes}"
            )
        if (self.review_url is None) != (self.review_photos is None):
            given = "REVIEW_URL" if self.review_url else "REVIEW_PHOTOS"
            raise ValueError(
                f"expected {PREFIX}REVIEW_URL and {PREFIX}REVIEW_PHOTOS together, got {PREFIX}"
                f"{given} alone"
            )
        return self


def load_settings(**overrides: Any) -> Settings:
    """Read the settings from the environment; `overrides` that are not None win.

    Raises:
        SettingsError: naming the variable, what was expected and what came.
    """
    _refuse_unknown()
    given = {name: value for name, value in overrides.items() if value is not None}
    try:
        return Settings(**given)
    except ValidationError as error:
        problems = [p for p in error.errors() if p["type"] != FOLLOWS_FROM_ANOTHER]
        raise SettingsError("\n".join(map(_problem, problems))) from error


def _refuse_unknown() -> None:
    """A misspelt variable would otherwise leave its default in force without a word."""
    known = {name.upper() for name in Settings.model_fields}
    problems = []
    for variable in sorted(os.environ):
        if not variable.upper().startswith(PREFIX):
            continue
        name = variable.upper().removeprefix(PREFIX)
        if name in known:
            continue
        near = difflib.get_close_matches(name, known, n=1)
        all_known = ", ".join(PREFIX + one for one in sorted(known))
        hint = f"did you mean {PREFIX}{near[0]}?" if near else f"known are {all_known}"
        problems.append(f"unknown variable {variable}: {hint}")
        if name == "SERVICE_HOST":
            problems.append(_SERVICE_LINKS)
    if problems:
        raise SettingsError("\n".join(problems))


def _problem(found: Any) -> str:
    if not found["loc"]:
        return str(found["msg"]).removeprefix("Value error, ")
    name = str(found["loc"][0])
    field = Settings.model_fields.get(name)
    about = f" ({field.description})" if field and field.description else ""
    hint = f"\n{_SERVICE_LINKS}" if str(found["input"]).startswith("tcp://") else ""
    told = str(found["msg"]).removeprefix("Value error, ")
    return f"{PREFIX}{name.upper()}: {told}, got {found['input']!r}{about}{hint}"


_SERVICE_LINKS = (
    "Kubernetes sets such variables for a Service named superbin: "
    "set enableServiceLinks: false in the pod"
)
