"""What Prometheus can scrape; names and labels are part of the API, dashboards rely on them."""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector

from service.schemas import Classification
from service.sessions import Sessions

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PHOTOS = (1, 2, 4, 8, 12, 16, 24, 32, 64)
CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
STAGES = ("decode", "queue", "infer")


class Metrics:
    """The metrics of one application, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._requests = Counter(
            "superbin_requests_total",
            "Requests answered.",
            ("route", "method", "code"),
            registry=registry,
        )
        self._request_seconds = Histogram(
            "superbin_request_duration_seconds",
            "From a request's headers to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=registry,
        )
        self._by_request: dict[tuple[str, str, int], tuple[Counter, Histogram]] = {}
        self._stage_seconds = Histogram(
            "superbin_stage_duration_seconds",
            "Decoding one photo, its wait for the model, running one batch.",
            ("stage",),
            buckets=SECONDS,
            registry=registry,
        )
        self._batch_photos = Histogram(
            "superbin_batch_photos", "Photos that ran together.", buckets=PHOTOS, registry=registry
        )
        self._predictions = Counter(
            "superbin_predictions_total",
            "Photos classified.",
            ("superclass", "decision"),
            registry=registry,
        )
        self._confidence = Histogram(
            "superbin_confidence",
            "Calibrated confidence of the predicted superclass.",
            ("superclass",),
            buckets=CONFIDENCE,
            registry=registry,
        )
        self._rejections = Counter(
            "superbin_rejections_total",
            "Photos and requests refused.",
            ("reason",),
            registry=registry,
        )
        self._queue_photos = Gauge(
            "superbin_queue_photos", "Photos admitted and not yet answered.", registry=registry
        )
        self._queue_bytes = Gauge(
            "superbin_queue_bytes",
            "Bytes of bodies admitted and not yet answered.",
            registry=registry,
        )
        self._drain_rate = Gauge(
            "superbin_drain_photos_per_second",
            "Rate at which photos were answered while others waited.",
            registry=registry,
        )
        self._session_seconds = Counter(
            "superbin_session_busy_seconds_total",
            "Time that the model's sessions spent running batches.",
            registry=registry,
        )
        self._model_info = Gauge(
            "superbin_model_info",
            "The model that answers.",
            ("name", "version", "variant", "sha256", "provider"),
            registry=registry,
        )
        self._loads = Counter(
            "superbin_model_loads_total",
            "Models that were loaded, or refused, while serving.",
            ("outcome",),
            registry=registry,
        )
        self._shadow = Counter(
            "superbin_shadow_photos_total",
            "Photos that a shadow model saw, by whether it agreed with the answer that was given.",
            ("model", "outcome"),
            registry=registry,
        )
        self._ready = Gauge(
            "superbin_ready", "1 from warm-up to shutdown, else 0.", registry=registry
        )
        for outcome in ("loaded", "refused"):
            self._loads.labels(outcome)
        # Present from the first scrape on; looked up once, since that costs more than to observe.
        self._stages = {stage: self._stage_seconds.labels(stage) for stage in STAGES}

    def request(self, route: str, method: str, code: int, seconds: float) -> None:
        """Count a finished request; `route` is a template, never a raw path."""
        counters = self._by_request.get((route, method, code))
        if counters is None:
            known = method if method in METHODS else "other"
            counters = (
                self._requests.labels(route, known, str(code)),
                self._request_seconds.labels(route),
            )
            if known == method:  # others would fill the memory, one by one
                self._by_request[route, method, code] = counters
        counters[0].inc()
        counters[1].observe(seconds)

    def stage(self, stage: str, seconds: float) -> None:
        """Observe one of `STAGES`."""
        self._stages[stage].observe(seconds)

    def batch(self, photos: int, seconds: float) -> None:
        """Observe a batch that ran."""
        self._batch_photos.observe(photos)
        self._session_seconds.inc(seconds)
        self.stage("infer", seconds)

    def prediction(self, result: Classification) -> None:
        """Count an answer."""
        self._predictions.labels(result.superclass, result.decision).inc()
        self._confidence.labels(result.superclass).observe(result.confidence)

    def rejection(self, reason: str) -> None:
        """Count a refused photo or request."""
        self._rejections.labels(reason).inc()

    def queue(self, photos: Callable[[], float], nbytes: Callable[[], float]) -> None:
        """Ask these at each scrape how much is admitted."""
        self._queue_photos.set_function(photos)
        self._queue_bytes.set_function(nbytes)

    def drain_rate(self, photos_per_second: Callable[[], float]) -> None:
        """Ask this at each scrape how fast photos are answered."""
        self._drain_rate.set_function(photos_per_second)

    def ready(self, ready: bool) -> None:
        """Say whether requests are welcome."""
        self._ready.set(ready)

    def load(self, outcome: Literal["loaded", "refused"]) -> None:
        """Count a model that was loaded, or refused, while serving."""
        self._loads.labels(outcome).inc()

    def shadow(self, model: str, outcome: str, photos: int) -> None:
        """Count photos that a shadow saw, or had to skip."""
        self._shadow.labels(model, outcome).inc(photos)

    def forget(self, sessions: Sessions) -> None:
        """A model answers no more."""
        self._model_info.remove(*_model_labels(sessions))

    def model(self, sessions: Sessions) -> None:
        """Publish a model that answers, and where it runs."""
        manifest = sessions.first.bundle.manifest
        self._model_info.labels(*_model_labels(sessions)).set(1)
        for superclass in manifest.superclasses:
            for decision in ("sort", "manual"):
                self._predictions.labels(superclass, decision)


def _model_labels(sessions: Sessions) -> tuple[str, ...]:
    first = sessions.first
    manifest = first.bundle.manifest
    file = manifest.files[manifest.variants[first.variant]]
    return manifest.name, manifest.version, first.variant, file.sha256, sessions.provider
