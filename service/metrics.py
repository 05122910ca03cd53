"""What Prometheus can scrape; names and labels are part of the API, dashboards rely on them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from functools import cache
from pathlib import Path
from typing import Literal, get_args

from prometheus_client import (
    CollectorRegistry,
    Counter,
    Gauge,
    Histogram,
    ProcessCollector,
    generate_latest,
)
from prometheus_client.multiprocess import MultiProcessCollector

from service.drift import Reading
from service.drift_metrics import DriftGauges
from service.file_metrics import FileMetrics
from service.logs import stdout
from service.model_metrics import ModelMetrics
from service.review.figures import Agreement, Counts
from service.review_metrics import Cause, ReviewMetrics
from service.schemas import Classification, DoubtReason
from service.sessions import Sessions
from service.worker_metrics import FOLDER, Processes

SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)
PHOTOS = (1, 2, 4, 8, 12, 16, 24, 32, 64)
CONFIDENCE = (0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.85, 0.9, 0.95, 0.98, 0.99, 1.0)
METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "GRPC"})
STAGES = ("decode", "queue", "infer")


class Metrics:
    """The metrics of one application, in a registry of their own.

    Where `FOLDER` is set they are kept in files there, and those of all workers are scraped as one.
    """

    def __init__(self) -> None:
        folder = os.environ.get(FOLDER)
        self.folder = Path(folder) if folder else None
        self.shared = folder is not None
        registry = CollectorRegistry()
        self._scraped = registry
        if folder is None:
            ProcessCollector(registry=registry)
        else:
            self._scraped = CollectorRegistry()
            MultiProcessCollector(self._scraped, folder)  # type: ignore[no-untyped-call]
            self._scraped.register(Processes(Path(folder)))
        self._sources: list[tuple[Gauge, Callable[[], float]]] = []
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
            ("model", "superclass", "decision"),
            registry=registry,
        )
        self._doubts = Counter(
            "superbin_doubts_total",
            "Photos that were doubted and so left to a person, by each reason.",
            ("reason",),
            registry=registry,
        )
        for reason in get_args(DoubtReason):
            self._doubts.labels(reason)
        self._confidence = Histogram(
            "superbin_confidence",
            "Calibrated confidence of the predicted superclass.",
            ("model", "superclass"),
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
            "superbin_queue_photos",
            "Photos admitted and not yet answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._queue_bytes = Gauge(
            "superbin_queue_bytes",
            "Bytes of bodies admitted and not yet answered.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._drain_rate = Gauge(
            "superbin_drain_photos_per_second",
            "Rate at which the default model answered while photos waited.",
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._session_seconds = Counter(
            "superbin_session_busy_seconds_total",
            "Time that the model's sessions spent running batches.",
            registry=registry,
        )
        self._models = ModelMetrics(registry, self.shared)
        self._drift = DriftGauges(registry, self.shared)
        self._drift_source: Callable[[], Iterable[tuple[str, Reading]]] = tuple
        self._sorted = Counter(
            "superbin_sorted_total",
            "Photos by site and bin; where a person has to look, the first reason why.",
            ("site", "bin", "reason"),
            registry=registry,
        )
        self._alerts = Counter(
            "superbin_hazard_alerts_total",
            "Photos on which there may be something hazardous.",
            ("site",),
            registry=registry,
        )
        self._files = FileMetrics(registry)
        self._review = ReviewMetrics(registry)
        self._tally = Counter(
            "superbin_tally_photos_total",
            "Photos that were counted for reports, by what became of their counts.",
            ("outcome",),
            registry=registry,
        )
        self._ready = Gauge(
            "superbin_ready",
            "1 where requests are welcome, else 0.",
            registry=registry,
            multiprocess_mode="livemin",
        )
        lost = Counter(
            "superbin_log_lines_lost_total",
            "Log lines that could not be written.",
            registry=registry,
        )
        stdout.lose = lost.inc
        # Looked up once, since that costs more than to observe.
        self._predicted = cache(self._predictions.labels)
        self._confident = cache(self._confidence.labels)
        # Present from the first scrape on as well.
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

    def prediction(self, model: str, result: Classification) -> None:
        """Count an answer of a model (`name/version`)."""
        self._predicted(model, result.superclass, result.decision).inc()
        self._confident(model, result.superclass).observe(result.confidence)
        for doubt in result.doubts:
            self._doubts.labels(doubt.reason).inc()
        if (sorting := result.sorting) is not None:
            self._into(sorting.site, sorting.bin, sorting.reasons[0] if sorting.reasons else "")
            if sorting.alert:
                self._alerts.labels(sorting.site).inc()

    def _into(self, site: str, choice: str, reason: str) -> None:
        self._sorted.labels(site, choice, reason).inc()

    def rejection(self, reason: str) -> None:
        """Count a refused photo or request."""
        self._rejections.labels(reason).inc()

    def queue(self, photos: Callable[[], float], nbytes: Callable[[], float]) -> None:
        """Ask these how much is admitted whenever it is to be known."""
        self._sources += [(self._queue_photos, photos), (self._queue_bytes, nbytes)]

    def readiness(self, ready: Callable[[], bool]) -> None:
        """Ask this whether requests are welcome, whenever it is to be known."""
        self._sources.append((self._ready, ready))

    def drain_rate(self, photos_per_second: Callable[[], float]) -> None:
        """Ask this how fast photos are answered whenever it is to be known."""
        self._sources.append((self._drain_rate, photos_per_second))

    def drift(self, readings: Callable[[], Iterable[tuple[str, Reading]]]) -> None:
        """Ask this for models' names and their readings whenever they are to be known."""
        self._drift_source = readings

    def refresh(self) -> None:
        """Write down what has to be asked for; other workers scrape what was written last."""
        self._drift.publish(self._drift_source())
        for gauge, source in self._sources:
            gauge.set(source())

    def scrape(self) -> bytes:
        """Everything, in Prometheus' text format."""
        self.refresh()
        return generate_latest(self._scraped)

    def ready(self, ready: bool) -> None:
        """Say whether requests are welcome."""
        self._ready.set(ready)

    def load(self, outcome: Literal["loaded", "refused"]) -> None:
        """Count a model that was loaded, or refused, while serving."""
        self._models.load(outcome)

    def site_load(self, outcome: Literal["loaded", "refused"]) -> None:
        """Count a site file that was taken over, or refused, while serving."""
        self._files.sites.labels(outcome).inc()

    def key_load(self, outcome: Literal["loaded", "refused"]) -> None:
        """Count a keys file that was taken over, or refused, while serving."""
        self._files.keys.labels(outcome).inc()

    def site(self, name: str) -> None:
        """Publish a site, so that its alerts count from 0."""
        self._alerts.labels(name)

    def shadow(self, model: str, outcome: str, photos: int) -> None:
        """Count photos that a shadow saw, or had to skip."""
        self._models.shadow(model, outcome, photos)

    def review_begins(self) -> None:
        """Count from 0 what review photos came to."""
        self._review.begin()

    def review_photo(self, outcome: str) -> None:
        """Count a photo that was to be kept for review, by what became of it."""
        self._review.photos.labels(outcome).inc()

    def review_removed(self, cause: Cause, photos: int) -> None:
        """Count photos that went from the review store."""
        self._review.removed.labels(cause).inc(photos)

    def review_feedback(self, outcome: str) -> None:
        """Count feedback, by whether its photo is kept."""
        self._review.feedback.labels(outcome).inc()

    def review_store(self, counts: Counts, agreement: Agreement) -> None:
        """Publish how much the review store has."""
        self._review.store(counts, agreement)

    def tally(self, outcome: Literal["written", "dropped", "lost"], photos: int) -> None:
        """Count photos by what became of their counts."""
        self._tally.labels(outcome).inc(photos)

    def forget(self, sessions: Sessions) -> None:
        """A model answers no more."""
        self._models.forget(sessions)

    def model(self, sessions: Sessions) -> None:
        """Publish a model that answers, and where it runs."""
        bundle = sessions.first.bundle
        self._models.publish(sessions)
        for superclass in bundle.manifest.superclasses:
            for decision in ("sort", "manual"):
                self._predictions.labels(bundle.id, superclass, decision)
