"""Site files: which bins a site has, what belongs into each, and what a mistake costs there.

    schema: 1
    site: two-bins               # the file's name without .yaml
    version: "1"                 # of the rules; every answer quotes it
    languages: [en]              # of all texts; the first where a client wants none of them
    name: {en: Two bins}
    bins:
      mixed: {colour: "#2e7d32", name: {en: Recycling}, text: {en: Clean and dry.}, threshold: 0.6}
      rest: {colour: "#424242", name: {en: Rubbish}, text: {en: All that is left.}}
    manual: {colour: "#b71c1c", name: {en: Ask us}, text: {en: Somebody has a look.}}
    superclasses: {recyclable: mixed, organic: rest, hazardous: manual, residual: rest}
    items: {newspaper: mixed}    # subclasses of the context bank; they go before superclasses
    costs:
      manual: 0.3                # that a person looks, where 1 is an ordinary mistake
      wrong: 1.0                 # of a thing in a bin that is not its own
      of: {rest: {mixed: 2.0}}   # what belongs into the first, in the second
    hazards: {superclasses: [hazardous], items: [], threshold: 0.05}

Bins are data: a rule that is changed needs no training and no restart.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, Literal, Self

import yaml
from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    StringConstraints,
    ValidationError,
    model_validator,
)

from service.errors import SuperbinError
from service.kinds import near_kinds
from service.validation import told_problems

SHIPPED = Path(__file__).resolve().parent / "rules"  # the folder of those that Superbin brings
SUFFIX = ".yaml"
MANUAL = "manual"  # the one choice that every site has
MAX_BYTES = 262_144
_UNNAMED = '"<byte string>"'  # what PyYAML calls what it reads
WORD = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Word = Annotated[str, StringConstraints(pattern=WORD)]
Language = Annotated[str, StringConstraints(pattern=r"^[a-z]{2,3}(-[A-Za-z0-9]{2,8})*$")]
Line = Annotated[str, StringConstraints(min_length=1, max_length=500)]
Share = Annotated[float, Field(ge=0.0, le=1.0)]
Cost = Annotated[float, Field(ge=0.0, le=1e6, allow_inf_nan=False)]
Texts = dict[Language, Line]


class SiteError(SuperbinError):
    """A site file is missing or cannot be used."""

    reason = "site"


class SiteUnread(SiteError):
    """A site file is there and cannot be read now, whatever is in it."""


class _Rules(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class Place(_Rules):
    """Somewhere that a photo's thing may be sent to, as people see it."""

    colour: Annotated[str, StringConstraints(pattern=r"^#[0-9a-fA-F]{6}$")]
    name: Texts
    text: Texts


class Bin(Place):
    """A bin; it takes a thing only where that belongs there with at least this probability."""

    threshold: Share = 0.0


class Costs(_Rules):
    """What becomes of a thing, in units of one ordinary mistake."""

    manual: Cost = 0.3
    wrong: Cost = 1.0
    of: dict[Word, dict[Word, Cost]] = Field(default_factory=dict)


class Hazards(_Rules):
    """What must not be sorted by a machine that is in doubt, and from which probability on."""

    superclasses: tuple[str, ...] = ()
    items: tuple[str, ...] = ()
    threshold: Share = 0.05


class Coverage(_Rules):
    """Sets of bins of which one is right with a guaranteed probability (split conformal).

    A set holds every bin of at least `least` probability, as `superbin policy tune` found on
    `photos` photos of `split`.
    """

    level: Annotated[float, Field(gt=0.0, lt=1.0)]
    least: Share
    split: str
    photos: Annotated[int, Field(ge=1)]


class Site(_Rules):
    """One site's rules."""

    schema_version: Literal[1] = Field(alias="schema")
    site: Word
    version: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    languages: Annotated[tuple[Language, ...], Field(min_length=1)]
    name: Texts
    bins: Annotated[dict[Word, Bin], Field(min_length=2)]
    manual: Place
    superclasses: Annotated[dict[str, Word], Field(min_length=1)]
    items: dict[str, Word] = Field(default_factory=dict)
    costs: Costs = Costs()
    hazards: Hazards = Hazards()
    coverage: Coverage | None = None

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if MANUAL in self.bins:
            raise ValueError(f"bins: {MANUAL} is no bin; describe it under {MANUAL}:")
        for where, targets in (("superclasses", self.superclasses), ("items", self.items)):
            for name, target in targets.items():
                if target != MANUAL and target not in self.bins:
                    raise ValueError(f"{where}.{name}: expected {self._choices()}, got {target!r}")
        for true, row in self.costs.of.items():
            for place in {true, *row} - ({MANUAL} - set(row)):
                if place not in self.bins:
                    raise ValueError(
                        f"costs.of.{true}: expected bins of {list(self.bins)}, got {place!r}"
                    )
            if true in row:
                raise ValueError(f"costs.of.{true}.{true}: what is in its own bin costs nothing")
        strays = set(self.hazards.superclasses) - set(self.superclasses)
        if strays:
            raise ValueError(f"hazards.superclasses: not under superclasses: {sorted(strays)}")
        for where, texts in self._texts():
            if set(texts) != set(self.languages):
                raise ValueError(
                    f"{where}: expected the languages {list(self.languages)}, got {list(texts)}"
                )
        return self

    def _choices(self) -> str:
        return f"one of {[*self.bins, MANUAL]}"

    def _texts(self) -> Iterator[tuple[str, Texts]]:
        yield "name", self.name
        places: dict[str, Place] = {f"bins.{name}": one for name, one in self.bins.items()}
        for where, place in (places | {MANUAL: self.manual}).items():
            yield f"{where}.name", place.name
            yield f"{where}.text", place.text

    def place(self, choice: str) -> Place:
        """A bin, or the manual choice."""
        return self.manual if choice == MANUAL else self.bins[choice]


def read_site(file: Path) -> tuple[Site, bytes]:
    """Read and check one site file; its bytes too, since they are what was checked.

    Raises:
        SiteError: naming the file, the key, what was expected and what came.
    """
    try:
        with file.open("rb") as stream:
            data = stream.read(MAX_BYTES + 1)
    except OSError as error:
        raise SiteUnread(f"{file}: cannot be read: {error.strerror}") from error
    if len(data) > MAX_BYTES:
        raise SiteError(f"{file}: expected at most {MAX_BYTES:,} bytes, got more")
    site = parse_site(data, str(file))
    if site.site != file.stem:
        raise SiteError(
            f"{file}: site: expected {file.stem!r} as the file is called, got {site.site!r}"
        )
    return site, data


def parse_site(data: bytes, source: str) -> Site:
    """A site from YAML; `source` is what errors call it.

    Raises:
        SiteError: naming the key, what was expected and what came.
    """
    try:
        found = yaml.load(data, _Loader)  # a SafeLoader
    except Exception as error:  # a tag that does not fit raises KeyError, AttributeError, ...
        told = _told(error).replace(_UNNAMED, Path(source).name)
        raise SiteError(f"{source} is no YAML that is read here: {told}") from error
    if found is None:
        raise SiteError(f"{source}: expected keys such as site: and bins:, got an empty file")
    if not isinstance(found, dict):
        raise SiteError(f"{source}: expected keys such as site: and bins:, got {str(found)[:40]!r}")
    try:
        return Site.model_validate(found)
    except ValidationError as error:
        raise SiteError(f"{source}: {told_problems(error.errors(), whole='the file')}") from error


def missing_superclasses(site: Site, superclasses: Iterable[str]) -> list[str]:
    """Superclasses of a model that a site has no place for: no photo can be sorted then."""
    return [name for name in superclasses if name not in site.superclasses]


def site_kinds(site: Site) -> set[str]:
    """Kinds that a site has rules for."""
    return {*site.items, *site.hazards.items}


def unknown_items(site: Site, kinds: Collection[str]) -> list[str]:
    """Items of a site that are none of these kinds: most often they are misspelt."""
    return sorted(site_kinds(site) - set(kinds))


def told_unknown(unknown: Iterable[str], known: Iterable[str]) -> str:
    """Names that nobody knows, each with known ones that are spelt almost so."""
    near = {name: " or ".join(near_kinds(name, known)) for name in unknown}
    return ", ".join(f"{name} ({those}?)" if those else name for name, those in near.items())


def find_sites(folder: Path) -> list[Path]:
    """The site files of a folder, in order; hidden files are none."""
    return sorted(f for f in folder.glob(f"*{SUFFIX}") if not f.name.startswith("."))


def find_site(reference: str | Path, folder: Path) -> Path:
    """A site file as it is, or one of a folder by its name.

    Raises:
        SiteError: where it is neither, with the names that there are.
    """
    for file in (Path(reference), folder / f"{reference}{SUFFIX}"):
        if file.is_file():
            return file
    known = ", ".join(one.stem for one in find_sites(folder)) or "none"
    raise SiteError(f"expected a site file, or a name in {folder} ({known}), got {reference}")


def _told(error: Exception) -> str:
    return " ".join(str(error).split())


class _Loader(yaml.SafeLoader):
    """YAML without what surprises: a key twice, or a part that stands for many others."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.constructor.ConstructorError(
                None, None, "expected everything written out, got an alias (*)", mark
            )
        return super().compose_node(parent, index)

    def construct_mapping(self, node: Any, deep: bool = False) -> Any:
        seen = set()
        for key, _ in node.value:
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    None, None, f"expected each key once, got {key.value!r} again", key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)
