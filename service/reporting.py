"""Reports in the service: from the settings to the thread that writes the counts down."""

from __future__ import annotations

import structlog

from service.composition.answer import CompositionUnavailable, TallyOff
from service.composition.recorder import Recorder
from service.composition.tally import Tally
from service.extras import how_to_install
from service.metrics import Metrics
from service.review.records import StoreError
from service.serving import Serving
from service.settings import Settings

log = structlog.get_logger()


def open_recorder(settings: Settings, metrics: Metrics) -> Recorder | None:
    """What counts answers into the database of the settings; None where they name none.

    A database that is away does not stop the start: counts wait for it.

    Raises:
        StoreError: where the URL cannot be used, or the tables are of another version.
    """
    if settings.tally_url is None:
        return None
    try:
        from service.composition.store import CompositionStore
    except ImportError as error:
        raise StoreError(
            f"SUPERBIN_TALLY_URL needs packages that are not installed ({error}): "
            f"{how_to_install('report')}"
        ) from error
    store = CompositionStore(settings.tally_url)
    try:
        store.prepare()
    except CompositionUnavailable as error:
        log.error("counts wait: the database is away", error=str(error))
    tally = Tally(settings.tally_max_places, settings.tally_max_keys)
    return Recorder(store, tally, settings.tally_interval_s, settings.tally_days, metrics)


def recorder_of(held: Serving) -> Recorder:
    """What counts answers.

    Raises:
        TallyOff: where nothing does.
    """
    if held.recorder is None:
        raise TallyOff("expected a database of counts, and none is set: SUPERBIN_TALLY_URL")
    return held.recorder
