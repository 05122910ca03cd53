"""How often files that may change while serving did, and whether they could be used."""

from __future__ import annotations

from prometheus_client import CollectorRegistry, Counter


class FileMetrics:
    """Site files and files of keys, by `loaded` and `refused`."""

    def __init__(self, registry: CollectorRegistry) -> None:
        self.sites = Counter(
            "superbin_site_loads_total",
            "Site files that were taken over, or refused, while serving.",
            ("outcome",),
            registry=registry,
        )
        self.keys = Counter(
            "superbin_key_loads_total",
            "Files of keys that were taken over, or refused, while serving.",
            ("outcome",),
            registry=registry,
        )
        for counter in (self.sites, self.keys):
            for outcome in ("loaded", "refused"):  # present from the first scrape on
                counter.labels(outcome)
