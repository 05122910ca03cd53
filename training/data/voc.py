"""PASCAL VOC 2012 in its official layout: `JPEGImages`, `Annotations` and `ImageSets/Main`.

A photo shows several objects and is to have one label: the class of the object with the largest
box; objects marked `difficult` count only where there is no other. The official val split is test
here, since the official test labels were never published; val is drawn from train by a hash.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from xml.etree import ElementTree

from training.data.photo import Found, LeftOut, Photo, is_name, read_text
from training.errors import DataError

INNER = Path("VOCdevkit") / "VOC2012"
SETS = {"train": "train", "val": "test"}  # official split -> split here
PARTS = ("JPEGImages", "Annotations", "ImageSets/Main")
SIDES = ("xmin", "ymin", "xmax", "ymax")


def find_voc(root: Path) -> Path | None:
    """The folder `VOC2012`: `root` itself, or the one that the archive unpacks to."""
    for folder in (root, root / INNER, root / INNER.name):
        if all((folder / part).is_dir() for part in PARTS):
            return folder
    return None


def read_voc(found: Found) -> Iterator[Photo | LeftOut]:
    """The photos of train and val; the subclass is the class of the object that counts.

    Raises:
        DataError: where a list or an annotation is none of this layout.
    """
    for official, split in SETS.items():
        file = found.folder / "ImageSets" / "Main" / f"{official}.txt"
        for number, line in enumerate(read_text(file).splitlines(), 1):
            name = line.strip()
            if not name:
                continue
            if not is_name(name):
                raise DataError(f"{file}, line {number}: expected a photo's name, got {name!r}")
            image = f"JPEGImages/{name}.jpg"
            label = largest_object(found.folder / "Annotations" / f"{name}.xml")
            if label is None:
                yield LeftOut(found.path(image), "no object is annotated")
            else:
                yield found.draw_val(found.label(image, label, label, "voc2012", split), image)


def largest_object(file: Path) -> str | None:
    """Class of the largest box of an annotation, of those not difficult where there are such.

    Document types, and with them entities, are refused: no annotation of VOC has one, and they are
    how a small file unfolds to a large one.

    Raises:
        DataError: where the file is no annotation.
    """
    text = read_text(file)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise DataError(f"{file}: expected an annotation without a document type or entities")
    try:
        objects = [_object(one) for one in ElementTree.fromstring(text).iterfind("object")]
    except (ElementTree.ParseError, ValueError, TypeError) as error:
        raise DataError(
            f"{file}: expected <object>s, each with <name> and <bndbox>: {error}"
        ) from error
    easy = [one for one in objects if not one[0]] or objects
    return max(easy, key=lambda one: one[1])[2] if easy else None


def _object(element: ElementTree.Element) -> tuple[bool, float, str]:
    """Whether it is difficult, the area of its box in pixels, and its class."""
    name, box = element.findtext("name"), element.find("bndbox")
    if not name or box is None:
        raise ValueError("one lacks its name or its box")
    left, top, right, bottom = (float(box.findtext(side) or "") for side in SIDES)
    difficult = (element.findtext("difficult") or "0").strip() == "1"
    return difficult, (right - left) * (bottom - top), name.strip()
