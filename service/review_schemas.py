"""The words of the HTTP API about review and feedback."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from service.review.records import Reason
from service.schemas import Part


class FeedbackAnswer(Part):
    """What came of feedback."""

    request_id: str = Field(description="Of the request that was corrected.")
    photo: int
    superclass: str
    recorded: bool = Field(description="Always true: else there is a problem instead.")
    kept: bool = Field(
        description="Whether the photo itself is kept, so that people and training can see it."
    )


class ReviewChoice(Part):
    """What a reviewer can say of a photo."""

    superclass: str | None = Field(description="Null: the photo is of no use.")
    label: str
    key: str = Field(description="On a keyboard.")


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


class ReviewProgress(Part):
    """How far it has come."""

    left: int = Field(description="Photos that wait for this reviewer.")
    skipped: int = Field(description="Photos that this reviewer left for later.")
    done: int = Field(description="By this reviewer.")
    today: int = Field(description="Of those, since `since`.")
    photos: int = Field(description="In the store.")
    reviewed: int = Field(description="Photos that people have settled.")
    unsettled: int = Field(description="Photos that several people saw and do not agree on.")
    double: int = Field(description="Pairs of reviews of one photo by two people.")
    agreed: int = Field(description="Of those, in how many both say the same.")
    kappa: float | None = Field(description="Cohen's, over those pairs; null where not known.")


class ReviewQueue(Part):
    """The next photos, and how far it has come."""

    tasks: list[ReviewTask]
    choices: list[ReviewChoice]
    kinds: list[str] = Field(description="Subclasses that the models know, to choose from.")
    progress: ReviewProgress
