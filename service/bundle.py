"""A model bundle: a folder `<name>/<version>/` with a manifest, the ONNX files and a model card.

The manifest is the contract between training, which writes bundles, and the service, which reads
them. Unknown fields are refused, and every file that it lists is checked against its SHA-256.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from pathlib import Path
from typing import Any, Literal, Self

from pydantic import Field, ValidationError, model_validator

from service.errors import BundleError
from service.fitted import (
    Calibration,
    FamiliarityLimit,
    ItemSpread,
    QualityLimits,
    Record,
)
from service.preprocess import Preprocessing

SCHEMA_VERSION = 1
MANIFEST = "manifest.json"
FP32 = "fp32"  # the variant that is as it was trained
MODEL = "model.onnx"  # always the default variant
NAME_PATTERN = r"^[a-z0-9][a-z0-9._-]{0,63}$"

INPUT_IMAGES = "images"  # uint8 [N, H, W, 3]
INPUT_BANK_KEYS = "bank_keys"  # float32 [M, heads * key width], default-valued
INPUT_BANK_VALUES = "bank_values"  # float32 [M, embedding width], default-valued
INPUT_BACKGROUND_KEYS = "background_keys"  # float32 [B, embedding width], of a graph that has it
OUTPUT_PROBABILITIES = "probabilities"  # float32 [N, K], calibrated
OUTPUT_EMBEDDING = "embedding"  # float32 [N, embedding width], unit length
OUTPUT_REFERENCES = "references"  # int64 [N, R], indices into the bank
OUTPUT_REFERENCE_WEIGHTS = "reference_weights"  # float32 [N, R], mean over heads
OUTPUT_SELF_WEIGHT = "self_weight"  # float32 [N], what the photo gave to itself, or to the guide
OUTPUT_THINGS = "things"  # int64 [N, T], indices into the guide, of a bundle that has one
OUTPUT_THING_WEIGHTS = "thing_weights"  # float32 [N, T], their parts of self_weight
OUTPUT_FAMILIARITY = "familiarity"  # float32 [N], of a graph that has it: `service.familiarity`
OUTPUTS = (
    OUTPUT_PROBABILITIES,
    OUTPUT_EMBEDDING,
    OUTPUT_REFERENCES,
    OUTPUT_REFERENCE_WEIGHTS,
    OUTPUT_SELF_WEIGHT,
)
GUIDE_OUTPUTS = (OUTPUT_THINGS, OUTPUT_THING_WEIGHTS)


class BankItem(Record):
    """A training photo that queries attend to; its place in the list is its index in the graph."""

    id: str
    superclass: str
    subclass: str | None = None
    source: str | None = None
    # How many items it counts as: a correction by matching, whose value in the bank is as heavy
    weight: float = Field(default=1.0, gt=0.0, exclude_if=lambda weight: weight == 1.0)


class Bank(Record):
    """The frozen context bank, and how its items were chosen.

    Its keys and values are the graph's own, or those of `file` (`service.bank`), which then stand
    in their place: so a corrected bank needs no new graph.
    """

    selection: str
    items: tuple[BankItem, ...] = Field(min_length=1)
    file: str | None = None


class GuideThing(Record):
    """A thing that a sorting guide names; its place in the list is its index in the graph."""

    name: str
    superclass: str


class FileRecord(Record):
    """What a file of the bundle must hash to."""

    sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    bytes: int = Field(ge=0)


class Metric(Record):
    """One measured figure, with all that is needed to read it."""

    name: str
    value: float
    split: str
    photos: int = Field(ge=1)
    mode: Literal["bank", "batch", "lone"] = "bank"
    variant: str = FP32
    interval: tuple[float, float] | None = None  # 95%, see training.metrics


class SelfTest(Record):
    """A photo in the bundle, and the probabilities that the default variant gave it, by place."""

    file: str
    probabilities: tuple[float, ...]
    # What the other variants gave it; older bundles do not tell.
    others: dict[str, tuple[float, ...]] = Field(default={}, exclude_if=lambda others: not others)


class Correction(Record):
    """One change of the bank since the model was trained: what it began from and what it did."""

    parent: str  # name/version
    parent_manifest_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")
    command: str
    corrected_at: datetime
    added: int = Field(ge=0)
    removed: int = Field(ge=0)
    # Pictures of what is of no superclass
    background: int = Field(default=0, ge=0, exclude_if=lambda pictures: pictures == 0)
    weight: float | None = None  # that the added have, where it is not the method's own
    items_sha256: str = Field(pattern=r"^[0-9a-f]{64}$")  # of the list of what was added, removed


class Provenance(Record):
    """Where a model comes from, to the commit and the seed, and what was corrected since."""

    command: str
    git_commit: str | None
    seed: int
    trained_at: datetime
    hardware: str
    packages: dict[str, str]
    config: dict[str, Any]
    dataset: dict[str, Any]
    corrections: tuple[Correction, ...] = ()  # oldest first


class Manifest(Record):
    """All that the service must know of a model beside its graph."""

    schema_version: Literal[1] = 1
    name: str = Field(pattern=NAME_PATTERN)
    version: str = Field(pattern=NAME_PATTERN)
    superclasses: tuple[str, ...] = Field(min_length=2)
    preprocessing: Preprocessing
    calibration: Calibration
    bank: Bank
    default_variant: str
    variants: dict[str, str] = Field(min_length=1)  # variant -> file name
    files: dict[str, FileRecord]
    provenance: Provenance
    metrics: tuple[Metric, ...] = ()
    self_test: tuple[SelfTest, ...] = ()
    quality: QualityLimits | None = None  # a bundle without doubts no photo for its quality
    familiarity: FamiliarityLimit | None = None  # nor for what it shows
    item_spread: ItemSpread | None = None  # without it items are as probable as they are cited
    drift: str | None = None  # file of `service.drift_reference`
    guide: tuple[GuideThing, ...] = ()  # what a photo that is like no bank item is held against

    @model_validator(mode="after")
    def _coherent(self) -> Self:
        if len(set(self.superclasses)) != len(self.superclasses):
            raise ValueError(f"superclasses must differ, got {list(self.superclasses)}")
        strays = {item.superclass for item in self.bank.items} - set(self.superclasses)
        if strays:
            raise ValueError(f"bank items name superclasses that are not listed: {sorted(strays)}")
        if strays := {thing.superclass for thing in self.guide} - set(self.superclasses):
            raise ValueError(f"the guide names superclasses that are not listed: {sorted(strays)}")
        if self.variants.get(self.default_variant) != MODEL:
            raise ValueError(
                f"the default variant {self.default_variant!r} must be {MODEL}, got {self.variants}"
            )
        for file in [*self.variants.values(), *self.files]:
            if Path(file).name != file or file in {"", ".", "..", MANIFEST}:
                raise ValueError(f"expected the plain name of a file in the bundle, got {file!r}")
        unlisted = set(self.variants.values()) - set(self.files)
        if unlisted:
            raise ValueError(f"variants without a SHA-256 under files: {sorted(unlisted)}")
        if self.bank.file is not None and self.bank.file not in self.files:
            raise ValueError(f"bank without a SHA-256 under files: {self.bank.file!r}")
        if self.drift is not None and self.drift not in self.files:
            raise ValueError(f"expected a listed file as drift, got {self.drift!r}")
        for case in self.self_test:
            for told in (case.probabilities, *case.others.values()):
                if case.file not in self.files or len(told) != len(self.superclasses):
                    raise ValueError(
                        f"expected a self-test of a listed file and {len(self.superclasses)} "
                        f"probabilities, got {case.file!r} and {len(told)}"
                    )
        if self.familiarity and (self.familiarity.file or MODEL) not in self.files:
            raise ValueError(
                f"familiarity without a SHA-256 under files: {self.familiarity.file!r}"
            )
        return self


@dataclass(frozen=True)
class Bundle:
    """A bundle on disk whose manifest was read and whose files were verified."""

    path: Path
    manifest: Manifest
    read_sha256: str | None = None  # of the manifest's bytes; None where it was not read from them

    @property
    def id(self) -> str:
        """`name/version`."""
        return f"{self.manifest.name}/{self.manifest.version}"

    @cached_property
    def manifest_sha256(self) -> str:
        """Of the manifest's file as it was read: it has the digest of all that answers."""
        return self.read_sha256 or sha256_of(self.path / MANIFEST)

    def model_path(self, variant: str | None = None) -> Path:
        """The ONNX file of a variant, by default of the default one.

        Raises:
            BundleError: where the bundle has no such variant.
        """
        name = variant or self.manifest.default_variant
        if name not in self.manifest.variants:
            raise BundleError(
                f"{self.id}: expected a variant of {sorted(self.manifest.variants)}, got {name!r}"
            )
        return self.path / self.manifest.variants[name]


def sha256_of(path: Path) -> str:
    """SHA-256 of a file, as lower-case hex."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def record_of(path: Path) -> FileRecord:
    """The manifest's record of a file as it is now."""
    return FileRecord(sha256=sha256_of(path), bytes=path.stat().st_size)


def read_manifest(path: Path) -> Manifest:
    """Read and validate `path/manifest.json`.

    Raises:
        BundleError: where it is missing, is not JSON, or does not fit the schema.
    """
    return _read_manifest(path)[0]


def _read_manifest(path: Path) -> tuple[Manifest, bytes]:
    """With its bytes, since they are what was checked."""
    file = path / MANIFEST
    try:
        text = file.read_bytes()
    except OSError as error:
        raise BundleError(f"expected a bundle's {MANIFEST} at {file}: {error.strerror}") from error
    try:
        return Manifest.model_validate_json(text), text
    except ValidationError as error:
        problems = "; ".join(
            f"{'.'.join(map(str, p['loc'])) or 'manifest'}: {p['msg']}" for p in error.errors()
        )
        raise BundleError(
            f"{file} does not fit schema version {SCHEMA_VERSION}: {problems}"
        ) from error


def read_bundle(path: Path) -> Bundle:
    """Read a bundle and verify every file that its manifest lists.

    Raises:
        BundleError: where anything is missing, altered or cannot be read.
    """
    manifest, text = _read_manifest(path)
    for name, record in manifest.files.items():
        file = path / name
        if not file.is_file():
            raise BundleError(f"{file} is listed in {MANIFEST} and missing")
        try:
            found = sha256_of(file)
        except OSError as error:
            raise BundleError(f"{file}: cannot be read: {error.strerror}") from error
        if found != record.sha256:
            raise BundleError(f"{file}: expected SHA-256 {record.sha256}, got {found}")
    return Bundle(path, manifest, hashlib.sha256(text).hexdigest())


def write_manifest(path: Path, manifest: Manifest) -> None:
    """Write `path/manifest.json` whole or not at all."""
    part = path / f".{MANIFEST}.part"
    part.write_text(manifest.model_dump_json(indent=2) + "\n", encoding="utf-8")
    part.replace(path / MANIFEST)
