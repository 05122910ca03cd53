"""Drift as Prometheus scrapes it; series end with the model that they were about."""

from __future__ import annotations

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Gauge

from service.drift import Reading

LABELS = ("model", "site", "line", "camera")


class DriftGauges:
    """Gauges by model and tags; what was not told is an empty label.

    Of several workers, each of which sees its share of the photos, and of several versions of a
    model, the highest score counts, the lowest shift, and the sum of the photos.
    """

    def __init__(self, registry: CollectorRegistry, shared: bool) -> None:
        self._shared = shared
        self._score = Gauge(
            "superbin_drift_score",
            "How far photos are from the bundle's reference; 1 is the alarm's threshold.",
            LABELS,
            registry=registry,
            multiprocess_mode="livemax",
        )
        self._photos = Gauge(
            "superbin_drift_photos",
            "Photos watched since the score's window began.",
            LABELS,
            registry=registry,
            multiprocess_mode="livesum",
        )
        self._shift = Gauge(
            "superbin_drift_confidence_shift",
            "Mean confidence less the usual one, by predicted superclass.",
            (*LABELS, "superclass"),
            registry=registry,
            multiprocess_mode="livemin",
        )
        self._published: set[tuple[Gauge, tuple[str, ...]]] = set()

    def publish(self, readings: Iterable[tuple[str, Reading]]) -> None:
        """Write down what these say, and forget the rest."""
        current: dict[tuple[Gauge, tuple[str, ...]], float] = {}
        for model, reading in readings:
            tags = reading.tags
            labels = (model, tags.site or "", tags.line or "", tags.camera or "")
            score, photos = (self._score, labels), (self._photos, labels)
            current[score] = max(reading.score, current.get(score, 0.0))
            current[photos] = reading.photos + current.get(photos, 0)
            for superclass, shift in reading.shifts.items():
                shifts = self._shift, (*labels, superclass)
                current[shifts] = min(shift, current.get(shifts, shift))
        for gauge, gone in self._published - current.keys():
            if self._shared:  # its file cannot forget
                gauge.labels(*gone).set(0.0)
            else:
                gauge.remove(*gone)
        for (gauge, series), value in current.items():
            gauge.labels(*series).set(value)
        self._published = set(current)
