"""Photos that people have reviewed: a folder in one of the forms of one's own photos.

Those of the split `train` (or of none) are there to learn from; all others are held out, to measure
by, and are never learned. What `no_refuse.csv` lists is of no superclass, and for a background.
Where equal photos are called different superclasses, the last line of
the list is believed, as a verdict that was added to it later, and the others are left out.
"""

from __future__ import annotations

import hashlib
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from service.extras import how_to_install
from training.data.no_refuse import fit_for_background
from training.data.own import LABELS, read_folders, read_labels, read_no_refuse
from training.data.photo import LeftOut, Photo
from training.data.photos import PhotoSet, photo_bytes, photo_file
from training.data.repeats import repeats
from training.data.superclass_map import MAP
from training.errors import DataError
from training.kind_warnings import kind_warnings
from training.scratch import short_lived

REVIEW = "review"  # the source of such photos, and where their ids begin
COPIES = "superbin-review-"  # how the names of folders begin that hold a store's photos for now
MEASURED_BY = ("val", "test")


@dataclass(frozen=True)
class ReviewFolder:
    """A folder of reviewed photos, and what the user called it where it is a store's for now."""

    path: Path
    name: str = ""

    def __str__(self) -> str:
        return self.name or str(self.path)


@dataclass(frozen=True)
class Reviewed:
    """Reviewed photos, by what they may be used for.

    Attributes:
        name: what the user called them.
        learned: to learn from.
        held_out: to measure by.
        left_out: path to what is wrong with it.
        held_out_missing: photos to measure by whose files are missing.
        no_refuse: what is of no superclass, for a background.
        no_refuse_held_out: the same, to measure by.
    """

    name: str
    learned: tuple[Photo, ...]
    held_out: tuple[Photo, ...]
    left_out: dict[str, str]
    held_out_missing: int
    no_refuse: tuple[Photo, ...] = ()
    no_refuse_held_out: tuple[Photo, ...] = ()

    def digest(self) -> str:
        """SHA-256 of the list of those to learn from: names, superclasses and bytes."""
        lines = [f"{p.path},{p.superclass},{p.subclass or ''},{_digest(p)}" for p in self.learned]
        return hashlib.sha256("\n".join(sorted(lines)).encode()).hexdigest()


@contextmanager
def review_folder(reference: str, photos: str | None) -> Iterator[ReviewFolder]:
    """A folder of reviewed photos: the one that is named, or a store's, for as long as it is used.

    Args:
        reference: a folder of labelled photos, or the URL of a review store's database.
        photos: where the store keeps its photos.

    Raises:
        DataError: where it is neither.
        StoreError: where the store is not there, or the files of none of its reviewed photos are.
    """
    if "://" not in reference:
        named = ReviewFolder(Path(reference))
        _form(named)
        yield named
        return
    if photos is None:
        raise DataError(
            f"{reference} is a store's database: expected --review-photos, or "
            "SUPERBIN_REVIEW_PHOTOS, which says where its photos lie"
        )
    # No longer than it is needed: how long photos are kept is for the store to say.
    with short_lived(COPIES) as folder:
        name = _export(reference, photos, folder)
        yield ReviewFolder(folder, name)


def _export(url: str, photos: str, folder: Path) -> str:
    """Copy a store's reviewed photos and say what is left out; what to call the store."""
    try:
        from service.review.export import export
        from service.review.opening import read_store
    except ImportError as error:
        raise DataError(
            f"{url}: a review store needs packages that are not installed ({error}): "
            f"{how_to_install('review')}"
        ) from error
    with read_store(url, photos) as store:
        missing = export(store, folder, lists_missing=True).missing
        halfway, name = store.counts().halfway, store.database_name
    if missing:
        print(
            f"warning: {missing} reviewed photos of {name} are left out, since their files are "
            f"missing in {photos}",
            file=sys.stderr,
        )
    if halfway:
        print(
            f"left out: {halfway} photos of {name} that one person reviewed and that wait for a "
            "second",
            flush=True,
        )
    return name


def read_review(folder: ReviewFolder, superclasses: tuple[str, ...]) -> Reviewed:
    """The reviewed photos of a folder.

    Args:
        superclasses: those that a model, or the data, know.

    Raises:
        DataError: where they are in no form that is read, a line is unusable, or names another
            superclass.
    """
    root = folder.path
    listed, refused = [], {}
    for one in _form(folder)():
        if isinstance(one, LeftOut):
            refused[f"{REVIEW}/{one.path}"] = one.reason
        else:
            listed.append(_of_review(root, one))
    photos = tuple(listed)
    if strays := sorted({photo.superclass for photo in photos} - set(superclasses)):
        raise DataError(
            f"{folder}: expected superclasses of {', '.join(superclasses)}, got {', '.join(strays)}"
        )
    if repeated := [path for path, n in Counter(p.path for p in photos).items() if n > 1]:
        raise DataError(f"{folder}: {len(repeated)} paths are listed twice, first {repeated[0]}")
    present = [photo for photo in photos if photo_file(root, photo).is_file()]
    missing = [photo for photo in photos if not photo_file(root, photo).is_file()]
    contradicted = _contradicted(present)
    for path, why in contradicted.items():
        print(f"warning: {path} is left out: {why}", file=sys.stderr)
    believed = [photo for photo in present if photo.path not in contradicted]
    named = [_of_review(root, one) for one in read_no_refuse(root)]
    foreign, unfit = fit_for_background(named, present)
    return Reviewed(
        name=str(folder),
        learned=tuple(photo for photo in believed if _learnable(photo)),
        held_out=tuple(photo for photo in believed if not _learnable(photo)),
        left_out=dict.fromkeys(sorted(p.path for p in missing), "missing")
        | contradicted
        | refused
        | unfit,
        held_out_missing=sum(not _learnable(photo) for photo in missing),
        no_refuse=tuple(photo for photo in foreign if _learnable(photo)),
        no_refuse_held_out=tuple(photo for photo in foreign if not _learnable(photo)),
    )


def _of_review(root: Path, photo: Photo) -> Photo:
    return replace(photo, path=f"{REVIEW}/{photo.path}", source=REVIEW, file=root / photo.path)


def _form(folder: ReviewFolder) -> Callable[[], Iterator[Photo | LeftOut]]:
    """What reads a folder's photos.

    Raises:
        DataError: where it has neither form.
    """
    root = folder.path
    if (root / LABELS).is_file():
        return partial(read_labels, root / LABELS)
    if (root / MAP).is_file():
        return partial(read_folders, root, root / MAP)
    raise DataError(
        f"expected reviewed photos: a folder with a {LABELS} (path,superclass[,subclass,split]), "
        f"one with folders of photos by kind and a {MAP}, or the URL of a review store's "
        f"database, got {str(folder)!r}"
    )


def _contradicted(photos: list[Photo]) -> dict[str, str]:
    """Path to what speaks against a photo: an equal one of another superclass, later in the list.

    An empty file is equal to none.
    """
    found = {}
    for places in repeats([_file(photo) for photo in photos]).values():
        *earlier, last = (photos[place] for place in places)
        for one in earlier:
            if one.superclass != last.superclass:
                found[one.path] = (
                    f"called {one.superclass}, and {last.path}, the same photo in a later line, "
                    f"{last.superclass}"
                )
    return found


def _learnable(photo: Photo) -> bool:
    return photo.split in (None, "train")


def without_measured(reviewed: Reviewed, data: PhotoSet) -> Reviewed:
    """The reviewed photos without those that are photos of `val` or `test`, byte by byte.

    A figure on these splits would mean nothing once they are learned.
    """
    digests = {photo.path: _digest(photo) for photo in (*reviewed.learned, *reviewed.no_refuse)}
    measured = _same_files(data, MEASURED_BY, set(digests.values()))
    told = {path: "a photo of val or test" for path, one in digests.items() if one in measured}
    fair, foreign = (
        tuple(photo for photo in photos if photo.path not in told)
        for photos in (reviewed.learned, reviewed.no_refuse)
    )
    return replace(reviewed, learned=fair, no_refuse=foreign, left_out=reviewed.left_out | told)


def join_train(data: PhotoSet, reviewed: Reviewed) -> PhotoSet:
    """The data with the reviewed photos in `train`; of a photo that is in both, the review's label.

    Raises:
        DataError: where no reviewed photo is left to be learned from.
    """
    fair = without_measured(reviewed, data)
    if not fair.learned:
        raise DataError(f"{reviewed.name} has no reviewed photo that may be learned from")
    found = _same_files(data, ("train",), {_digest(photo) for photo in fair.learned})
    known = {path for paths in found.values() for path in paths}
    kept = tuple(photo for photo in data.photos if photo.path not in known)
    joined = tuple(replace(photo, split="train") for photo in fair.learned)
    record = {
        "photos": len(joined),
        "superclasses": dict(Counter(photo.superclass for photo in joined)),
        "subclasses": dict(Counter(photo.subclass or "unnamed" for photo in joined)),
        "in_place_of": len(known),
        "held_out": len(fair.held_out),
        "no_refuse": len(fair.no_refuse),
        "left_out": fair.left_out,
        "sha256": fair.digest(),
    }
    return replace(data, photos=kept + joined, review=record)


def _file(photo: Photo) -> Path:
    assert photo.file is not None  # all reviewed photos have one
    return photo.file


def _digest(photo: Photo) -> str:
    return hashlib.sha256(_file(photo).read_bytes()).hexdigest()


def _same_files(data: PhotoSet, splits: tuple[str, ...], digests: set[str]) -> dict[str, list[str]]:
    """Digest to the paths of the data's photos that have one of these digests."""
    found: dict[str, list[str]] = {}
    for photo in data.photos:
        if photo.split in splits:
            digest = hashlib.sha256(photo_bytes(data.root, photo)).hexdigest()
            if digest in digests:
                found.setdefault(digest, []).append(photo.path)
    return found


@contextmanager
def joined_photos(data: PhotoSet, reference: str, photos: str | None) -> Iterator[PhotoSet]:
    """`join_train` of what `review_folder` gives, for as long as it is used."""
    with review_folder(reference, photos) as folder:
        reviewed = read_review(folder, data.superclasses)
        known = [(photo.superclass, photo.subclass) for photo in data.split("train")]
        if any(kind for _, kind in known):
            for warning in kind_warnings(reviewed.learned, known, "the train split"):
                print(warning, file=sys.stderr)
        joined = join_train(data, reviewed)
        print(f"reviewed photos in train: {joined.review}", flush=True)
        yield joined
