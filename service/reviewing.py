"""The review loop in the service: from the settings to a store, and from an answer into it."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Sequence
from typing import TYPE_CHECKING

import structlog

from service.capture import Capture, Origin
from service.extras import how_to_install
from service.intake import Intake
from service.kinds import is_kind, near_kinds, plain_kind
from service.languages import pick_language
from service.metrics import Metrics
from service.photos import Outcome
from service.review.records import KeptPhoto, Rules, StoreError, Verdict, Vote
from service.review_bins import NO_REFUSE_KEY, key_at, site_bins
from service.review_schemas import (
    ReviewChoice,
    ReviewFound,
    ReviewGuess,
    ReviewKind,
    ReviewProgress,
    ReviewReference,
    ReviewSettled,
    ReviewSite,
    ReviewTask,
    ReviewVote,
)
from service.review_words import ReviewOff
from service.rulebook import SiteUnknown
from service.schemas import Classification
from service.selection import Shares
from service.serving import Serving
from service.settings import Settings
from service.sites import site_kinds
from service.uploads import Upload

if TYPE_CHECKING:  # its packages may be missing
    from service.review.store import Store

log = structlog.get_logger()


def open_capture(settings: Settings, metrics: Metrics) -> Capture | None:
    """The store that the settings name, ready to be written; None where they name none.

    Raises:
        StoreError: where it cannot be opened.
    """
    if settings.review_url is None or settings.review_photos is None:
        return None
    try:
        from service.review.opening import open_store
    except ImportError as error:
        raise StoreError(
            f"SUPERBIN_REVIEW_URL needs packages that are not installed ({error}): "
            f"{how_to_install('review')}"
        ) from error
    store = open_store(settings.review_url, settings.review_photos, review_rules(settings))
    log.info(
        "photos are kept for review",
        database=store.database_name,
        photos=store.photos_url,
        there=store.counts().photos,
    )
    shares = Shares(
        settings.review_uncertain_share,
        settings.review_contested_share,
        settings.review_random_share,
    )
    return Capture(
        store, shares, settings.review_queue_photos, settings.review_queue_bytes, metrics
    )


def review_rules(settings: Settings) -> Rules:
    """What the settings say of how photos are kept."""
    return Rules(
        long_side_px=settings.review_long_side_px,
        jpeg_quality=settings.review_jpeg_quality,
        limits=settings.photo_limits,
        max_photos=settings.review_max_photos,
        max_bytes=settings.review_max_bytes,
        retention_days=settings.review_days,
        reviewed_retention_days=settings.review_reviewed_days,
        held_out_share=settings.review_held_out_share,
        double_share=settings.review_double_share,
        lease_s=settings.review_lease_s,
    )


def capture_of(held: Serving) -> Capture:
    """Where photos are kept.

    Raises:
        ReviewOff: where they are not.
    """
    if held.capture is None:
        raise ReviewOff(
            "expected a review store, and none is set: SUPERBIN_REVIEW_URL and "
            "SUPERBIN_REVIEW_PHOTOS name one"
        )
    return held.capture


def known_superclasses(held: Serving) -> list[str]:
    """Those of every model that is served, in the models' order."""
    served = held.registry.served
    return list(dict.fromkeys(one for model in served for one in model.manifest.superclasses))


def known_kinds(held: Serving) -> list[str]:
    """Subclasses of every served model's bank, and what sites have rules for, by name."""
    items = (item for model in held.registry.served for item in model.manifest.bank.items)
    kinds = {item.subclass for item in items if item.subclass}
    return sorted(kinds.union(*(site_kinds(rules.site) for rules in held.rulebook.all)))


def spelt_kind(kind: str, kinds: Iterable[str], told: Iterable[str] = ()) -> ReviewKind:
    """A kind as a person typed it, against those that are known and those that people told."""
    spelt = {plain_kind(one): one for one in kinds}
    found = spelt.get(plain_kind(kind))
    also = {plain_kind(one): one for one in told} | spelt
    near = [] if found else [one for one in near_kinds(kind, also.values()) if one != kind]
    return ReviewKind(
        kind=found or kind,
        known=found is not None,
        near=near,
        fit=found is not None or is_kind(kind.strip()),
    )


def superclasses_of_kind(held: Serving, kind: str) -> Counter[str]:
    """How many items the banks of served models have of a kind, by superclass."""
    items = (item for model in held.registry.served for item in model.manifest.bank.items)
    return Counter(item.superclass for item in items if item.subclass == kind)


def superclasses_of_kinds(held: Serving) -> dict[str, list[str]]:
    """Under which superclasses the banks of served models have each kind, by kind."""
    found = defaultdict(set)
    for superclass, kinds in _kinds_by_superclass(held).items():
        for kind in kinds:
            found[kind].add(superclass)
    return {kind: sorted(found[kind]) for kind in sorted(found)}


def review_task(photo: KeptPhoto) -> ReviewTask:
    """A photo, for whoever looks at it."""
    references = [ReviewReference(**vars(one)) for one in photo.references]
    return ReviewTask(
        id=photo.id,
        width=photo.width,
        height=photo.height,
        reason=photo.reason,
        kept_at=photo.kept_at,
        site=photo.site,
        line=photo.line,
        camera=photo.camera,
        guess=ReviewGuess(
            model=photo.model,
            superclass=photo.superclass,
            confidence=photo.confidence,
            decision=photo.decision,
            probabilities=photo.probabilities,
            references=references,
        ),
    )


def review_found(photo: KeptPhoto, settled: Verdict | None, votes: Sequence[Vote]) -> ReviewFound:
    """A photo, for whoever asks who said what of it."""
    return ReviewFound(
        task=review_task(photo),
        path=photo.export_path,
        request_id=photo.request_id,
        photo=photo.position,
        settled=settled
        and ReviewSettled(
            superclass=settled.superclass,
            subclass=settled.subclass,
            no_refuse=settled.no_refuse,
        ),
        votes=[
            ReviewVote(
                reviewer=vote.reviewer,
                kind=vote.kind,
                superclass=vote.verdict.superclass,
                subclass=vote.verdict.subclass,
                bin=vote.verdict.bin,
                no_refuse=vote.verdict.no_refuse,
                at=vote.at,
            )
            for vote in votes
        ],
    )


def review_progress(store: Store, reviewer: str, since: float) -> ReviewProgress:
    """How far it has come; `since` is when today began, in seconds since 1970."""
    mine = store.progress(reviewer, since)
    counts, agreement = store.counts(), store.agreement()
    return ReviewProgress(
        left=mine.left,
        skipped=mine.skipped,
        done=mine.done,
        today=mine.today,
        photos=counts.photos,
        reviewed=counts.reviewed,
        no_refuse=counts.no_refuse,
        unsettled=counts.unsettled,
        disputed=counts.disputed,
        double=agreement.photos,
        agreed=agreement.agreed,
        kappa=agreement.kappa,
    )


def review_choices(held: Serving) -> list[ReviewChoice]:
    """What a reviewer can say, each with its key: the superclasses, and that it is of no use."""
    choices = [
        ReviewChoice(superclass=one, label=one, key=key_at(place))
        for place, one in enumerate(known_superclasses(held))
    ]
    return [*choices, ReviewChoice(superclass=None, label="cannot be told", key="0")]


def no_refuse_choice() -> ReviewChoice:
    """That a photo shows what is of no superclass; apart, since its superclass does not tell it."""
    return ReviewChoice(superclass=None, label="no refuse", key=NO_REFUSE_KEY)


def review_sites(
    held: Serving, names: Iterable[str | None], accepted: str | None
) -> dict[str, ReviewSite]:
    """The bins of those sites that have rules, by site.

    Args:
        accepted: the header `Accept-Language`.
    """
    found = {}
    superclasses, kinds = known_superclasses(held), _kinds_by_superclass(held)
    for name in {one for one in names if one}:
        try:
            rules = held.rulebook.find(name)
        except SiteUnknown:  # its rules are gone: the superclasses remain
            continue
        if rules is not None:
            site = rules.site
            language = pick_language(accepted, site.languages)
            found[name] = site_bins(site, language, superclasses, kinds)
    return found


def _kinds_by_superclass(held: Serving) -> dict[str, Collection[str]]:
    found = defaultdict(set)
    for model in held.registry.served:
        for item in model.manifest.bank.items:
            if item.subclass:
                found[item.superclass].add(item.subclass)
    return dict(found)


def keep_for_review(
    photos: Intake, upload: Upload, outcome: Outcome, answer: Classification
) -> Classification:
    """Put a copy of a photo aside where it is worth a look; the answer says whether it was."""
    admitted = photos.admitted
    capture = admitted.held.capture
    if capture is None:
        return answer
    position = next(i for i, one in enumerate(photos.uploads) if one is upload)
    origin = Origin(
        admitted.request.state.request_id,
        position,
        photos.model.bundle.id,
        admitted.tags,
        admitted.held.keys.sender(admitted.client),
    )
    reason = capture.consider(answer, outcome.answers, upload.data, origin)
    return answer.model_copy(update={"review": reason}) if reason else answer
