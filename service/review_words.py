"""What clients and reviewers send, checked and bounded, and what is refused of it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Annotated, TypeVar

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    StrictBool,
    StringConstraints,
    ValidationError,
)

from service.errors import SuperbinError
from service.kinds import KIND, is_kind, plain_kind
from service.review.records import Verdict
from service.validation import told_problems

MAX_BODY_BYTES = 4096
MOST_TASKS = 16


class ReviewOff(SuperbinError):
    """No store is set."""

    reason = "review_off"


class ReviewMalformed(SuperbinError):
    """A body or a header that does not fit."""

    reason = "malformed_review"


class SuperclassUnknown(SuperbinError):
    """A superclass that no served model has."""

    reason = "unknown_superclass"


class BinUnfit(SuperbinError):
    """A bin that the photo's site does not have, or that the superclass does not lead to."""

    reason = "unfit_bin"


class _Words(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


Word = Annotated[
    str, StringConstraints(min_length=1, max_length=64, pattern=r"^[^\x00-\x1f\x7f]+$")
]
Kind = Annotated[Word, StringConstraints(strip_whitespace=True)]
Words = Annotated[
    str, StringConstraints(min_length=1, max_length=200, pattern=r"^[^\x00-\x1f\x7f]+$")
]


def _number(given: object) -> object:
    """What JSON has as a number: `15.0` is a whole one, `true` and `"1"` are none."""
    if isinstance(given, bool) or not isinstance(given, int | float):
        raise ValueError("expected a whole number")
    return given


NO_REFUSE = (
    "Whether it shows what is of no superclass, as a hand or an empty table: no superclass, "
    "subclass or bin goes with that."
)
Whole = Annotated[int, BeforeValidator(_number)]


class FeedbackBody(_Words):
    """What a photo that was classified really shows."""

    request_id: str = Field(
        pattern=r"^[A-Za-z0-9._:/+=@-]{1,128}$", description="Of the answer that is corrected."
    )
    photo: Whole = Field(0, ge=0, le=10_000, description="Its place in that request, from 0.")
    superclass: Word | None = Field(None, description="The right bin; needed unless `no_refuse`.")
    subclass: Kind | None = Field(
        None, description=f"The kind of thing, in a word: one that is known, or {KIND}."
    )
    item: Words | None = Field(None, description="The thing, in a few words.")
    no_refuse: StrictBool = Field(False, description=NO_REFUSE)


class VerdictBody(_Words):
    """What a reviewer says of a photo."""

    superclass: Word | None = Field(
        description="Null: the photo is of no use, or shows `no_refuse`."
    )
    subclass: Kind | None = Field(
        None, description=f"The kind of thing, in a word: one that is known, or {KIND}."
    )
    item: Words | None = Field(None, description="The thing, in a few words.")
    bin: Word | None = Field(None, description="Of the photo's site, where one was said.")
    no_refuse: StrictBool = Field(False, description=NO_REFUSE)


class TakeBody(_Words):
    """Which photos a reviewer wants before them."""

    limit: Whole = Field(4, ge=1, le=MOST_TASKS, description="Photos at once.")
    skipped: bool = Field(False, description="Those that this reviewer skipped, too.")
    after: Whole = Field(0, ge=0, le=2**53, description="Only photos whose id is greater.")
    since: float = Field(
        0.0, ge=0.0, le=1e11, description="When today began, in seconds since 1970."
    )


Body = TypeVar("Body", bound=BaseModel)


def read_words(kind: type[Body], data: bytes) -> Body:
    """A body of JSON.

    Raises:
        ReviewMalformed: with what was expected and what came.
    """
    try:
        return kind.model_validate_json(data)
    except ValidationError as error:
        told = told_problems(error.errors(), kind.model_json_schema())
        raise ReviewMalformed(told[:1000]) from error


def checked(body: FeedbackBody | VerdictBody, known: list[str], kinds: Iterable[str]) -> Verdict:
    """A verdict on a superclass that there is, or on none.

    Args:
        body: what came.
        known: superclasses.
        kinds: that are known, as they are spelt; `Glass bottle` is their `glass_bottle`.

    Raises:
        SuperclassUnknown: with those that there are.
        ReviewMalformed: for a new kind that is none, and for no refuse that is called something.
    """
    if body.no_refuse:
        return _foreign(body)
    if body.superclass is None and isinstance(body, FeedbackBody):
        raise ReviewMalformed(
            f"superclass: expected one of {', '.join(known)}, or no_refuse, got nothing"
        )
    if body.superclass is not None and body.superclass not in known:
        raise SuperclassUnknown(
            f"superclass: expected one of {', '.join(known)}, got {body.superclass!r}"
        )
    subclass = body.subclass
    if subclass is not None:
        spelt = {plain_kind(kind): kind for kind in kinds}
        found = spelt.get(plain_kind(subclass))
        if found is None and not is_kind(subclass):
            raise ReviewMalformed(f"subclass: expected {KIND}, got {subclass!r}")
        subclass = found or subclass
    return Verdict(body.superclass, subclass, body.item, getattr(body, "bin", None))


def _foreign(body: FeedbackBody | VerdictBody) -> Verdict:
    for name in ("superclass", "subclass", "bin"):
        if (given := getattr(body, name, None)) is not None:
            raise ReviewMalformed(f"{name}: expected none beside no_refuse, got {given!r}")
    return Verdict(None, item=body.item, no_refuse=True)
