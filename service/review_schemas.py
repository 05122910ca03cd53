"""What the service answers about reviews and feedback."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from service.kinds import KIND
from service.review.records import Kind, Reason
from service.schemas import Part

NO_SUPERCLASS = "Null: the photo shows `no_refuse`, or else is of no use."


class FeedbackAnswer(Part):
    """What came of feedback."""

    request_id: str = Field(description="Of the request that was corrected.")
    photo: int
    superclass: str | None = Field(description="Null: it is no refuse.")
    no_refuse: bool
    recorded: bool = Field(
        description="Whether it counts as a review of that photo, or will once that is written."
    )
    kept: bool = Field(
        description="Whether the photo itself is kept, so that people and training can see it."
    )
    settled: bool = Field(
        description="Whether people have settled what the photo shows, and so it can be learned "
        "from. A share of the photos waits for a second person, as others do on which people "
        "disagree; the same client's next word does not count as another's."
    )
    known: bool = Field(description="Whether any photo of that request is kept, or on its way.")
    known_kind: bool | None = Field(
        description="Whether a model or a site knows the subclass; a new one is kept as it is "
        "spelt. Null where none was told."
    )
    near_kinds: list[str] = Field(
        description="Where it is new, known ones, and new ones of reviewed photos, that are spelt "
        "almost so: it may be misspelt."
    )
    kind_superclasses: list[str] = Field(
        description="Where the models' banks have the subclass under other superclasses alone, "
        "those: one of the two may be a slip."
    )
    detail: str = Field(description="What became of it, in a sentence.")


class ReviewChoice(Part):
    """What a reviewer can say of a photo."""

    superclass: str | None = Field(description="Null: the photo is of no use.")
    label: str
    key: str = Field(description="On a keyboard.")


class ReviewMeaning(Part):
    """What a bin can stand for: what training learns from."""

    superclass: str
    subclass: str | None
    label: str
    key: str = Field(description="On a keyboard, after the bin's.")


class ReviewBin(Part):
    """A bin of a site, as a reviewer can say it."""

    bin: str = Field(description="Of the site file; `manual` where a person has to look.")
    label: str
    text: str
    colour: str
    key: str = Field(description="On a keyboard.")
    meanings: list[ReviewMeaning] = Field(
        description="Where there is one, the bin says it; else a second key does."
    )


class ReviewSite(Part):
    """A site's bins, in the language that the client likes best of the site's."""

    site: str
    version: str
    language: str
    name: str
    bins: list[ReviewBin]
    others: list[ReviewChoice] = Field(description="Superclasses that none of its bins takes.")


class ReviewLike(Part):
    """A reviewed photo that is like another one."""

    id: int
    similarity: float = Field(description="Cosine of the embeddings, -1 to 1.")
    superclass: str | None = Field(description="What people said. Null: it is no refuse.")
    subclass: str | None


class ReviewSimilar(Part):
    """Reviewed photos that are most like a photo, nearest first."""

    photos: list[ReviewLike]


class ReviewReference(Part):
    """An item of the context bank that the model compared the photo with."""

    id: str
    superclass: str
    subclass: str | None
    weight: float


class ReviewGuess(Part):
    """What the model said."""

    model: str
    superclass: str
    confidence: float
    decision: str
    probabilities: dict[str, float]
    references: list[ReviewReference]


class ReviewTask(Part):
    """A photo before a reviewer, who alone has it for a while."""

    id: int
    width: int
    height: int
    reason: Reason
    kept_at: datetime
    site: str | None
    line: str | None
    camera: str | None
    guess: ReviewGuess


class ReviewKind(Part):
    """A kind as it was typed, against those that are known."""

    kind: str = Field(description="As it is spelt where it is known.")
    known: bool = Field(description="Whether a model or a site knows it.")
    near: list[str] = Field(
        description="Where it is new, known ones, and new ones of reviewed photos, that are spelt "
        "almost so."
    )
    fit: bool = Field(description=f"Whether it is known, or may be a new kind: {KIND}.")
    superclasses: list[str] = Field(
        [], description="Under which the models' banks have it: under another it may be a slip."
    )


class ReviewSaid(Part):
    """What a reviewer said of a photo."""

    task: ReviewTask
    path: str = Field(description="Of the photo in an export, and so the id of what is learned.")
    superclass: str | None = Field(description=NO_SUPERCLASS)
    subclass: str | None
    bin: str | None = Field(description="Of the photo's site, where one was said.")
    no_refuse: bool
    at: datetime


class ReviewVerdicts(Part):
    """What a reviewer said and has not taken back, the newest first."""

    verdicts: list[ReviewSaid]
    sites: dict[str, ReviewSite] = Field(description="As those of the queue.")


class ReviewVote(Part):
    """What somebody said of a photo and has not taken back."""

    reviewer: str = Field(description="`client:NAME` where it was a client's feedback.")
    kind: Kind
    superclass: str | None = Field(description=NO_SUPERCLASS)
    subclass: str | None
    bin: str | None = Field(description="Of the photo's site, where one was said.")
    no_refuse: bool
    at: datetime


class ReviewSettled(Part):
    """What people have settled that a photo shows."""

    superclass: str | None = Field(description=NO_SUPERCLASS)
    subclass: str | None
    no_refuse: bool


class ReviewFound(Part):
    """A photo as an export names it, and who said what of it."""

    task: ReviewTask
    path: str = Field(description="Of the photo in an export.")
    request_id: str = Field(
        description="Of the request by which it first came; with `photo`, what a client's feedback "
        "names."
    )
    photo: int = Field(description="Its place in that request, from 0.")
    settled: ReviewSettled | None = Field(description="Null where people have not.")
    votes: list[ReviewVote] = Field(description="Oldest first.")


class ReviewProgress(Part):
    """How far it has come."""

    left: int = Field(description="Photos that wait for this reviewer.")
    skipped: int = Field(description="Photos that this reviewer left for later.")
    done: int = Field(description="By this reviewer.")
    today: int = Field(description="Of those, since `since`.")
    photos: int = Field(description="In the store.")
    reviewed: int = Field(description="Photos that people have settled.")
    no_refuse: int = Field(description="Of those, photos of no refuse.")
    unsettled: int = Field(
        description="Photos that several people saw and do not agree on; clients' feedback counts."
    )
    disputed: int = Field(description="Photos of which clients say otherwise than a reviewer.")
    double: int = Field(description="Pairs of reviews of one photo by two people.")
    agreed: int = Field(description="Of those, in how many both say the same.")
    kappa: float | None = Field(description="Cohen's, over those pairs; null where not known.")


class ReviewQueue(Part):
    """The next photos, and how far it has come."""

    tasks: list[ReviewTask]
    choices: list[ReviewChoice]
    no_refuse: ReviewChoice = Field(
        description="What can be said beside these, by `no_refuse` and a superclass of null."
    )
    sites: dict[str, ReviewSite] = Field(
        description="Of the photos' sites those that have rules: their bins are the choices."
    )
    kinds: list[str] = Field(description="That the models or sites know, to choose from.")
    kind_superclasses: dict[str, list[str]] = Field(
        description="Under which superclasses the models' banks have a kind: under another it may "
        "be a slip."
    )
    progress: ReviewProgress
