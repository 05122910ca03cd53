"""Models as Prometheus scrapes them: which answer, which were loaded, what a shadow saw."""

from __future__ import annotations

from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.sessions import Sessions


class ModelMetrics:
    """Those of the models of one process."""

    def __init__(self, registry: CollectorRegistry, shared: bool) -> None:
        self._shared = shared
        self._info = Gauge(
            "superbin_model_info",
            "The model that answers, in how many processes.",
            ("name", "version", "variant", "sha256", "manifest_sha256", "provider"),
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._loads = Counter(
            "superbin_model_loads_total",
            "Models that were loaded, or refused, while serving.",
            ("outcome",),
            registry=registry,
        )
        self._shadowed = Counter(
            "superbin_shadow_photos_total",
            "Photos that a shadow model saw, by whether it agreed with the answer that was given.",
            ("model", "outcome"),
            registry=registry,
        )
        for outcome in ("loaded", "refused"):
            self._loads.labels(outcome)

    def load(self, outcome: Literal["loaded", "refused"]) -> None:
        """Count a model that was loaded, or refused, while serving."""
        self._loads.labels(outcome).inc()

    def shadow(self, model: str, outcome: str, photos: int) -> None:
        """Count photos that a shadow saw, or had to skip."""
        self._shadowed.labels(model, outcome).inc(photos)

    def publish(self, sessions: Sessions) -> None:
        """A model answers from now on."""
        self._info.labels(*_labels(sessions)).set(1)

    def forget(self, sessions: Sessions) -> None:
        """A model answers no more."""
        if self._shared:  # its file cannot forget
            self._info.labels(*_labels(sessions)).set(0)
        else:
            self._info.remove(*_labels(sessions))


def _labels(sessions: Sessions) -> tuple[str, ...]:
    first = sessions.first
    bundle, manifest = first.bundle, first.bundle.manifest
    file = manifest.files[manifest.variants[first.variant]]
    digests = file.sha256, bundle.manifest_sha256
    return manifest.name, manifest.version, first.variant, *digests, sessions.provider
