"""Settings of the service: `SUPERBIN_*` environment variables, checked before anything starts."""

from __future__ import annotations

import difflib
import os
import re
from collections import Counter
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self, get_args

from pydantic import Field, ValidationError, field_validator, model_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

from service.access_settings import AccessSettings
from service.bundle import FP32, Bundle
from service.cores import available_cores
from service.devices import CPU, DEVICES, EXPECTED, on_gpu, session_devices
from service.doubt_settings import read_doubts
from service.errors import SuperbinError
from service.limit_settings import LimitSettings
from service.models_folder import DEFAULT_MODEL, default_models_dir
from service.preprocess import PhotoLimits
from service.record_settings import DriftSettings, ReportSettings, ReviewSettings
from service.schemas import DoubtReason
from service.sites import SHIPPED as SHIPPED_SITES

PREFIX = "SUPERBIN_"
FOLLOWS_FROM_ANOTHER = "default_factory_not_called"  # and says nothing of its own


class SettingsError(SuperbinError):
    """A variable is misspelt or its value cannot be used."""


class Settings(
    AccessSettings, LimitSettings, DriftSettings, ReviewSettings, ReportSettings, BaseSettings
):
    """Everything that can be set, each as `SUPERBIN_<NAME>`."""

    model_config = SettingsConfigDict(
        env_prefix=PREFIX,
        env_ignore_empty=True,
        extra="forbid",
        frozen=True,
        allow_inf_nan=False,
    )

    host: str = Field("127.0.0.1", description="Address to listen on; 0.0.0.0 for all of them.")
    port: int = Field(8000, ge=0, le=65535, description="Port to listen on; 0 takes a free one.")
    grpc_port: int | None = Field(
        None,
        ge=0,
        le=65535,
        description="Port of the Open Inference Protocol over gRPC; 0 takes a free one; without "
        "one there is none.",
    )
    log_level: Literal["debug", "info", "warning", "error"] = Field(
        "info", description="Least severe lines to log; probes and scrapes are logged at debug."
    )

    models_dir: Path = Field(
        default_factory=default_models_dir,
        description="Folder of model bundles, <name>/<version>/.",
    )
    model: str = Field(
        DEFAULT_MODEL,
        min_length=1,
        description="Bundles to serve, by commas: a name, for its newest version, or name/version; "
        "the first answers where a request names none.",
    )
    watch_s: float = Field(
        10.0,
        ge=0.0,
        le=86_400.0,
        description="Seconds between looks for newer models, changed site files and changed keys; "
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
        None,
        description="Which of the bundle's graphs to run; by default the bundle's own choice, and "
        "fp32 on a GPU.",
    )
    device: str = Field(
        "cpu",
        description="Where to run: cpu, cpu:N for N sessions alone, at most one a thread, cuda:I "
        "or tensorrt:I for a GPU, or several by commas. A GPU that is not there stops the start.",
    )
    workers: int = Field(
        1,
        ge=1,
        le=1024,
        description="Processes that serve; limits of the queue and rates hold for each of them.",
    )
    threads: int = Field(
        default_factory=lambda known: max(1, available_cores() // known.get("workers", 1)),
        ge=1,
        le=4096,
        description="Threads of ONNX Runtime, over all sessions of a model in one process; by "
        "default its share of the available cores.",
    )
    decode_workers: int | None = Field(
        None,
        ge=0,
        le=4096,
        description="Threads that decode photos; 0: each session decodes its own. By default 0 "
        "where each thread of a CPU has a session, as with cpu, and else as many as "
        "SUPERBIN_THREADS.",
    )

    doubts: str = Field(
        ",".join(get_args(DoubtReason)),
        description="Why a photo may be left to a person whatever the model says, by commas; none "
        "for never. too_dark=60 sets a limit in place of the model's own.",
    )

    otlp_endpoint: str | None = Field(
        None,
        pattern=r"^https?://\S+$",
        description="Where traces go by OTLP over HTTP, such as http://host:4318; off without.",
    )
    drain_delay_s: float = Field(
        1.0,
        ge=0.0,
        le=3600.0,
        description="Seconds between SIGTERM, when readiness fails, and closing the port; Ctrl-C "
        "closes it at once.",
    )
    grace_period_s: int = Field(
        8,
        ge=0,
        le=3600,
        description="Seconds that running requests get to finish once the port is closed.",
    )

    @field_validator("model")
    @classmethod
    def _each_model_once(cls, model: str) -> str:
        (most, times), *_ = Counter(_parts(model)).most_common()
        if times > 1:
            raise ValueError(f"expected each model once, with {most} {times} times")
        return model

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

    def variant_of(self, bundle: Bundle) -> str:
        """Which of a bundle's graphs to run: the one that is set, or what suits the devices.

        On a GPU that is fp32, where there is one: ONNX Runtime's CUDA provider has no convolution
        of int8, and dequantizes its biases on the CPU.
        """
        if self.variant:
            return self.variant
        manifest = bundle.manifest
        return (
            FP32 if on_gpu(self.device) and FP32 in manifest.variants else manifest.default_variant
        )

    @property
    def models(self) -> tuple[str, ...]:
        """`model`, one by one."""
        return _parts(self.model)

    @property
    def doubt_limits(self) -> dict[DoubtReason, float | None]:
        """`doubts`, one by one: the limit that was set, or None for the model's own."""
        return read_doubts(self.doubts)

    @cached_property
    def photo_limits(self) -> PhotoLimits:
        """What one photo may cost."""
        return PhotoLimits(
            max_bytes=self.max_photo_bytes,
            max_pixels=self.max_photo_pixels,
            max_decode_bytes=self.max_decode_bytes,
        )

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


def _parts(text: str) -> tuple[str, ...]:
    return tuple(one.strip() for one in text.split(","))


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
