"""Maps from subclasses to superclasses: files under `training/data/maps`, or one's own.

[superclasses]
organic = ["apple_core", "tea_bag"]
recyclable = ["can", "newspaper"]
"""

from __future__ import annotations

from pathlib import Path

from training import shipped
from training.errors import DataError

MAP = "superclasses.toml"
MAPS = Path(__file__).parent / "maps"


def map_file(root: Path, given: Path | None) -> Path:
    """The map that was named, by its file or its name under `MAPS`; else the one in the folder."""
    return root / MAP if given is None else shipped.find(str(given), MAPS, "a map", DataError)


def read_map(file: Path) -> dict[str, str]:
    """Subclass to superclass.

    Raises:
        DataError: where the file is not of the documented form.
    """
    form = f'{file}: expected a table [superclasses] with lines name = ["subclass", ...]'
    record = shipped.read(file, DataError).get("superclasses")
    if not isinstance(record, dict):
        raise DataError(f"{form}, got {record!r}")
    owner: dict[str, str] = {}
    for superclass, subclasses in record.items():
        if not (isinstance(subclasses, list) and all(isinstance(s, str) for s in subclasses)):
            raise DataError(f"{form}, got {superclass} = {subclasses!r}")
        for subclass in subclasses:
            if owner.setdefault(subclass, superclass) != superclass:
                raise DataError(f"{file} puts {subclass} in {owner[subclass]} and in {superclass}")
    return owner
