"""The words of `GET /v1/composition`, field by field."""

from __future__ import annotations

from datetime import datetime
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from service.errors import SuperbinError
from service.review.records import StoreUnavailable

By = Literal["hour", "day", "site", "line", "camera", "model", "superclass", "bin", "reason"]


class TallyOff(SuperbinError):
    """Answers are not counted."""

    reason = "tally_off"


class CompositionUnavailable(StoreUnavailable):
    """The database of the counts cannot be reached right now."""

    reason = "composition_unavailable"


class ReportMalformed(SuperbinError):
    """A report of no time."""

    reason = "malformed_report"


class SiteUncounted(SuperbinError):
    """A site that has no rules, and of which nothing was ever counted."""

    reason = "unknown_site"


class ReportTooLarge(SuperbinError):
    """A report of more rows than one answer may have."""

    reason = "report_too_large"


class _Answer(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class CompositionFigures(_Answer):
    """Counts, and what follows from them."""

    photos: int
    manual: int = Field(description="Of those, sent to a person.")
    alerts: int = Field(description="Photos on which there may be something hazardous.")
    expected_wrong: float = Field(
        description="Things in a bin that belong elsewhere, as the probabilities have it: the sum "
        "of 1 - probability of the chosen bin."
    )
    contamination: float | None = Field(
        description="Estimated share of things that belong elsewhere: `expected_wrong` of what "
        "went into bins; null where nothing did. It is as good as the model is calibrated."
    )


class CompositionRow(CompositionFigures):
    """One group; what is not asked for by `by` is left out, and null is what nobody told."""

    hour: datetime | None = Field(None, description="Its beginning, UTC.")
    day: datetime | None = Field(None, description="Its beginning, UTC.")
    site: str | None = None
    line: str | None = Field(None, description="`other` for those beyond the limit.")
    camera: str | None = Field(None, description="`other` for those beyond the limit.")
    model: str | None = Field(None, description="`name/version`.")
    superclass: str | None = None
    bin: str | None = Field(
        None,
        description="Of the site; without a site's rules the superclass; or `manual`.",
    )
    reason: str | None = Field(
        None, description="The first one why a person has to look; null where nobody has to."
    )
    share: float = Field(
        description="Of the photos of the rows that have the same values in `share_of`."
    )


class CompositionPlace(_Answer):
    """Where photos came from."""

    site: str | None
    line: str | None


class CompositionAnswer(_Answer):
    """What came, and where it went."""

    since: datetime = Field(description="Beginning of the first hour.")
    until: datetime = Field(description="End of the last hour.")
    by: list[By]
    share_of: list[By] = Field(
        description="Rows with the same values in these have shares that add up to 1; where there "
        "are none, all rows. A superclass, bin or reason has a share of its time and place; else "
        "a site, line, camera or model has one of its time, and a time alone one of everything."
    )
    total: CompositionFigures
    rows: list[CompositionRow] = Field(description="In the order of their values in `by`.")
    places: list[CompositionPlace] = Field(
        default=[],
        description="Only where nothing came from the site or line that was asked for: where "
        "photos came from in that time, up to 100 places.",
    )
