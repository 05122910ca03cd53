"""From a question to an answer: groups of the store, their shares and estimated contamination."""

from __future__ import annotations

import difflib
from collections import Counter
from collections.abc import Collection, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast, get_args

from service.composition.answer import (
    By,
    CompositionAnswer,
    CompositionFigures,
    CompositionPlace,
    CompositionRow,
    ReportMalformed,
    ReportTooLarge,
    SiteUncounted,
)
from service.composition.question import Group, Question
from service.composition.tally import HOUR_S

if TYPE_CHECKING:  # which needs packages that are there only where reports are wanted
    from service.composition.store import CompositionStore

COLUMNS: tuple[By, ...] = get_args(By)
TIMES = ("hour", "day")
PLACES = ("site", "line", "camera", "model")
KINDS = ("superclass", "bin", "reason")
DEFAULT_BY: tuple[By, ...] = ("site", "bin")
DEFAULT_TIME = timedelta(days=7)
DIGITS = 6
MOST_PLACES = 100

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_FIRST, _LAST = datetime(1, 1, 1, tzinfo=UTC), datetime(9999, 12, 31, tzinfo=UTC)


def ask(
    since: datetime | None,
    until: datetime | None,
    by: Sequence[By],
    site: str | None,
    line: str | None,
) -> Question:
    """A question about whole hours: `since` is rounded down, `until` up.

    Args:
        since: aware; None is a week before `until`.
        until: aware; None is now.
        by: groups; the same twice is once.

    Raises:
        ReportMalformed: where that is no time.
    """
    last = datetime.now(UTC) if until is None else until
    try:
        first = last - DEFAULT_TIME if since is None else since
    except OverflowError:
        first = last
    start, end = _seconds(first), _seconds(last)
    if start >= end:
        raise ReportMalformed(
            f"expected from before to, got from {first.isoformat()} to {last.isoformat()}"
        )
    start -= start % HOUR_S
    end += -end % HOUR_S
    return Question(start, end, tuple(dict.fromkeys(by)), site, line)


def answer(
    store: CompositionStore, question: Question, max_rows: int, sites: Collection[str] = ()
) -> CompositionAnswer:
    """What the store knows.

    Args:
        sites: that have rules, and so are none that was mistyped.

    Raises:
        ReportTooLarge: where that is more than `max_rows` rows.
        SiteUncounted: where the question is of a site that neither has rules nor was ever counted.
        StoreError, CompositionUnavailable: where it cannot be asked.
    """
    groups, total = store.groups(question, max_rows + 1)
    if len(groups) > max_rows:
        raise ReportTooLarge(
            f"expected at most {max_rows:,} rows, and by {', '.join(question.by)} there are more "
            f"from {time_of(question.since).isoformat()} to {time_of(question.until).isoformat()}: "
            "ask for less time, for one site or line, or by less"
        )
    elsewhere: dict[str, Any] = {}
    if not total.photos and (question.site or question.line) is not None:
        _check_site(store, question.site, sites)
        elsewhere["places"] = _places(store, question)
    of = share_of(cast("tuple[By, ...]", question.by))
    wholes: Counter[tuple[Any, ...]] = Counter()
    for one in groups:
        wholes[_whole(one, of)] += one.photos
    return CompositionAnswer(
        since=time_of(question.since),
        until=time_of(question.until),
        by=list(question.by),
        share_of=of,
        total=CompositionFigures(**_figures(total)),
        rows=[_row(one, wholes[_whole(one, of)]) for one in groups],
        **elsewhere,
    )


def _check_site(store: CompositionStore, site: str | None, sites: Collection[str]) -> None:
    if not site or site in sites:
        return
    known = sorted({*sites, *store.sites()})
    if site in known:
        return
    near = difflib.get_close_matches(site, known, 1)
    hint = f": did you mean {near[0]}?" if near else ""
    raise SiteUncounted(
        f"site: expected one that has rules or was ever counted, {', '.join(known) or 'of none'}, "
        f"got {site!r}{hint}"
    )


def _places(store: CompositionStore, question: Question) -> list[CompositionPlace]:
    found = store.sources(question, MOST_PLACES)
    return [CompositionPlace(site=site or None, line=line or None) for site, line in found]


def share_of(by: Sequence[By]) -> list[By]:
    """What rows have in common that add up to a whole; nothing where that is everything.

    Kinds make up the whole of a time and place, places that of a time, and times everything.
    """
    for parts in (KINDS, PLACES):
        if not set(parts).isdisjoint(by):
            return [name for name in by if name not in parts]
    return []


def read_time(text: str) -> datetime:
    """A day or a time in ISO 8601, UTC where it names no zone.

    Raises:
        ReportMalformed: where it is none.
    """
    try:
        found = datetime.fromisoformat(text.upper())  # t and z are allowed by RFC 3339
    except ValueError as error:
        raise ReportMalformed(
            f"expected a time such as 2026-11-25 or 2026-11-25T06:00+01:00, got {text[:80]!r}"
        ) from error
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def time_of(seconds: int) -> datetime:
    """Seconds since 1970 as a time, UTC; the first or last day that there is where it is beyond."""
    try:
        return _EPOCH + timedelta(seconds=seconds)
    except OverflowError:
        return _LAST if seconds > 0 else _FIRST


def _seconds(time: datetime) -> int:
    return int((time - _EPOCH) // timedelta(seconds=1))


def _whole(one: Group, of: Sequence[By]) -> tuple[Any, ...]:
    return tuple(one.of[name] for name in of)


def _row(one: Group, whole: int) -> CompositionRow:
    told = {
        name: time_of(value) if name in TIMES else value or None for name, value in one.of.items()
    }
    share = round(one.photos / whole, DIGITS) if whole else 0.0
    return CompositionRow(**told, **_figures(one), share=share)


def _figures(one: Group) -> dict[str, Any]:
    into_bins = one.photos - one.manual
    return {
        "photos": one.photos,
        "manual": one.manual,
        "alerts": one.alerts,
        "expected_wrong": round(one.expected_wrong, DIGITS),
        "contamination": round(one.expected_wrong / into_bins, DIGITS) if into_bins else None,
    }
