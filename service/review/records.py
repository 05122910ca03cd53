"""What goes into the review store and what comes out of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from service.errors import SuperbinError
from service.preprocess import PhotoLimits

Reason = Literal["uncertain", "contested", "random"]
Kind = Literal["review", "feedback"]
DAY_S = 86_400.0
EXPORT_FOLDER = "photos"


class StoreError(SuperbinError):
    """The store cannot be opened as asked."""


class StoreUnavailable(SuperbinError):
    """The database or the photos cannot be reached right now.

    Attributes:
        disk_full: whether that is since the database's disk is full.
    """

    reason = "review_unavailable"
    disk_full = False


class StoreFull(SuperbinError):
    """Reviewed photos alone fill the store."""

    reason = "review_full"


class PhotoGone(SuperbinError):
    """There is no such photo, or no more."""

    reason = "photo_gone"


class PhotoAmbiguous(SuperbinError):
    """Several photos go by the same request and position."""

    reason = "ambiguous_photo"


@dataclass(frozen=True)
class Rules:
    """How photos are kept, for how long and how many.

    Attributes:
        long_side_px, jpeg_quality: of the copy that is kept.
        limits: of what comes in.
        max_photos, max_bytes: of the whole store; the oldest of which nobody said anything go
            first, then those of which only clients did.
        retention_days: of photos that no reviewer reviewed, whatever clients said of them.
        reviewed_retention_days: of the others, from the review on; 0 is for ever.
        held_out_share: of the photos, by their hash, that are for measuring only.
        double_share: of the photos, by their hash, that two people are asked about.
        lease_s: for how long a photo is one reviewer's.
    """

    long_side_px: int = 1024
    jpeg_quality: int = 90
    limits: PhotoLimits = field(default_factory=PhotoLimits)
    max_photos: int = 20_000
    max_bytes: int = 2_000_000_000
    retention_days: float = 30.0
    reviewed_retention_days: float = 365.0
    held_out_share: float = 0.2
    double_share: float = 0.1
    lease_s: float = 300.0


@dataclass(frozen=True)
class Reference:
    """An item of the context bank, as the answer named it."""

    id: str
    superclass: str
    subclass: str | None
    weight: float


@dataclass(frozen=True)
class NewPhoto:
    """A photo as it came, and what was said of it.

    Attributes:
        data: the encoded photo; the store keeps a clean copy.
        position: in its request, from 0.
        model: `name/version`.
        probabilities: by superclass.
        embedding: float32 bytes, little-endian, unit length; None where not known.
        answered_at: seconds since 1970; what clients said of its place before is of another photo.
        client: who sent it, and alone may say what it shows; None where anybody may.
    """

    data: bytes
    request_id: str
    position: int
    reason: Reason
    model: str
    superclass: str
    confidence: float
    decision: str
    probabilities: Mapping[str, float]
    references: Sequence[Reference] = ()
    embedding: bytes | None = None
    site: str | None = None
    line: str | None = None
    camera: str | None = None
    answered_at: float = 0.0
    client: str | None = None


@dataclass(frozen=True)
class Added:
    """What came of `Store.add`.

    Attributes:
        duplicate: whether the photo was there already.
        removed: photos that went to make room.
    """

    id: int
    duplicate: bool
    removed: int = 0


@dataclass(frozen=True)
class Verdict:
    """What a person says that a photo shows.

    Attributes:
        superclass: None where the photo shows no refuse, or is of no use: nobody can tell.
        subclass, item: free words, such as `can` and `cola can, crushed`.
        bin: of the photo's site, where that is what was said.
        no_refuse: whether it shows something, and that is of no superclass: a cat, a hand, an
            empty table.
    """

    superclass: str | None
    subclass: str | None = None
    item: str | None = None
    bin: str | None = None
    no_refuse: bool = False


@dataclass(frozen=True)
class Vote:
    """A verdict, who gave it and when."""

    reviewer: str
    verdict: Verdict
    kind: Kind
    at: datetime


@dataclass(frozen=True)
class KeptPhoto:
    """A photo in the store. Times are UTC.

    Attributes:
        sha256: of the bytes that are kept, and so of their file's name.
        superclass, confidence, decision, probabilities: the model's answer.
        held_out: whether it is for measuring only, and must never be learned from.
        load: reads the JPEG. Raises StoreUnavailable, PhotoGone.
    """

    id: int
    sha256: str
    nbytes: int
    width: int
    height: int
    request_id: str
    position: int
    reason: Reason
    model: str
    superclass: str
    confidence: float
    decision: str
    probabilities: dict[str, float]
    references: tuple[Reference, ...]
    embedding: bytes | None
    site: str | None
    line: str | None
    camera: str | None
    kept_at: datetime
    held_out: bool
    load: Callable[[], bytes] = field(repr=False)

    @property
    def export_path(self) -> str:
        """Below the folder of an export."""
        return f"{EXPORT_FOLDER}/{self.sha256}.jpg"


@dataclass(frozen=True)
class ReviewedPhoto:
    """A photo whose superclass people have settled.

    Attributes:
        superclass, subclass, item: what they said; never None for the superclass.
        votes: all that stand, oldest first.
    """

    photo: KeptPhoto
    superclass: str
    subclass: str | None
    item: str | None
    votes: tuple[Vote, ...]
    reviewed_at: datetime

    @property
    def held_out(self) -> bool:
        """Whether it is for measuring only."""
        return self.photo.held_out

    def load(self) -> bytes:
        """The JPEG."""
        return self.photo.load()


@dataclass(frozen=True)
class Feedback:
    """What came of feedback.

    Attributes:
        photo_id: None where the photo is not kept.
        request_known: whether any photo of the same request, and client, is kept.
        settled: whether people have settled the photo with that.
        asked_on: whether somebody else is asked about it.
    """

    photo_id: int | None
    request_known: bool
    settled: bool = False
    asked_on: bool = False


@dataclass(frozen=True)
class SimilarPhoto:
    """A photo that people have settled, and how like another one it is.

    Attributes:
        similarity: cosine of the embeddings, -1 to 1.
        superclass: None where it is no refuse.
    """

    photo_id: int
    similarity: float
    superclass: str | None
    subclass: str | None
