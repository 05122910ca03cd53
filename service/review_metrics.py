"""The review store as Prometheus scrapes it."""

from __future__ import annotations

from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge

from service.review.figures import Agreement, Counts

Cause = Literal["age", "reviewed_age", "room"]
MODE: Literal["mostrecent"] = "mostrecent"


class ReviewMetrics:
    """Those of the review store, which all workers share: the latest figure is everybody's."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.photos = Counter(
            "superbin_review_photos_total",
            "Photos that were to be kept for review, by what became of them.",
            ("outcome",),
            registry=registry,
        )
        self.removed = Counter(
            "superbin_review_removed_photos_total",
            "Photos that went from the review store, by why.",
            ("cause",),
            registry=registry,
        )
        self.feedback = Counter(
            "superbin_feedback_total",
            "Feedback by clients, by whether its photo is kept for review.",
            ("outcome",),
            registry=registry,
        )
        self._gauges = {
            name: Gauge(f"superbin_review_{name}", what, registry=registry, multiprocess_mode=MODE)
            for name, what in (
                ("stored_photos", "Photos in the review store."),
                ("stored_bytes", "Bytes of photos in the review store."),
                ("queue_photos", "Photos that wait for a person."),
                ("reviewed_photos", "Photos in the store that people have settled."),
                ("unsettled_photos", "Photos that several people saw and do not agree on."),
                ("agreement", "Share of double reviews in which both reviewers agree."),
                ("kappa", "Cohen's kappa of double reviews."),
            )
        }

    def begin(self) -> None:
        """Publish what people look for, so that it counts from 0 where there is a store."""
        for outcome in ("failed", "full"):
            self.photos.labels(outcome)
        for cause in get_args(Cause):
            self.removed.labels(cause)

    def store(self, counts: Counts, agreement: Agreement) -> None:
        """Set the gauges; agreement that is not known yet is no number."""
        nan = float("nan")
        values = {
            "stored_photos": counts.photos,
            "stored_bytes": counts.nbytes,
            "queue_photos": counts.queue,
            "reviewed_photos": counts.reviewed,
            "unsettled_photos": counts.unsettled,
            "agreement": agreement.agreed / agreement.photos if agreement.photos else nan,
            "kappa": nan if agreement.kappa is None else agreement.kappa,
        }
        for name, value in values.items():
            self._gauges[name].set(value)
