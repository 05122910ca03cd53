"""Tables of a paper as data: which runs each cell needs, and what the paper has there.

A table is a TOML file. Every row meets every column; both may say which superclasses to use and
which keys of the record to set.

    title = "Accuracy of two methods"
    record = "cifar"
    [columns]
    CIFAR100-4 = { superclasses = "cifar100-4" }
    [rows]
    cross-entropy = { set = ["method=cross_entropy"], paper = [76.0] }
    SCLRE = { set = ["method=sclre"], paper = [84.0] }

`weights` and `first_stage` name the row (in the same column, with the same seed) whose finished run
becomes `backbone.weights` or `george.first_stage`.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from training import shipped
from training.config import Config
from training.errors import ConfigError
from training.records import load_config

TABLES = Path(__file__).parent / "tables"
FIRST_RUN = {"weights": "backbone.weights", "first_stage": "george.first_stage"}


class _Part(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)

    superclasses: str | None = None
    set: tuple[str, ...] = ()


class Row(_Part):
    """A method, in most tables; `paper` has a figure for each column, in per cent."""

    paper: tuple[float, ...] = ()
    weights: str | None = None
    first_stage: str | None = None


class Table(BaseModel):
    """A table's file."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str
    title: str
    record: str
    figure: Literal["accuracy", "superclasses", "answers", "bank-curve"] = "accuracy"
    asked: str | None = Field(default=None, description="of `answers`: the subclass asked about")
    set: tuple[str, ...] = ()
    columns: dict[str, _Part]
    rows: dict[str, Row]
    paper: dict[str, dict[str, dict[str, float]]] = {}  # row, column, superclass


@dataclass(frozen=True)
class Budget:
    """How much of a table is done.

    Attributes:
        share: of the record's epochs.
        seeds: runs of each cell.
        only: names of rows or columns, or parts of them; where there are any, other cells stay
            empty.
    """

    share: float = 1.0
    seeds: int = 3
    only: tuple[str, ...] = ()


@dataclass(frozen=True)
class Run:
    """One training run of a table, with the record that it is made by.

    Attributes:
        superclasses: the map, for `superbin train --superclasses`.
        folder: name below the results folder; runs of one record share it over tables.
        needs: folders of the runs that have to be finished before.
    """

    row: str
    column: str
    seed: int
    superclasses: str
    config: Config
    folder: str
    needs: tuple[str, ...]


def read_table(reference: str) -> Table:
    """Read a table's file, or one under `training/tables` by its name.

    Raises:
        ConfigError: where there is none, or it is not of the documented form.
    """
    file = shipped.find(reference, TABLES, "a table's file", ConfigError)
    try:
        table = Table.model_validate({"name": file.stem, **shipped.read(file, ConfigError)})
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise ConfigError(f"{file}: {key}: {problem['msg']}, got {problem['input']!r}") from error
    _check(table, file)
    return table


def _check(table: Table, file: Path) -> None:
    for name, row in table.rows.items():
        if row.paper and len(row.paper) != len(table.columns):
            raise ConfigError(
                f"{file}: rows.{name}.paper: expected a figure for each of "
                f"{len(table.columns)} columns, got {len(row.paper)}"
            )
        earlier = list(table.rows)[: list(table.rows).index(name)]
        for first in (row.weights, row.first_stage):
            if first is not None and first not in earlier:
                raise ConfigError(f"{file}: rows.{name}: expected a row above it, got {first!r}")
        for column, part in table.columns.items():
            if (row.superclasses is None) == (part.superclasses is None):
                raise ConfigError(
                    f"{file}: expected superclasses in the row {name} or in the column {column}, "
                    "and not in both"
                )


def plan(table: Table, results: Path, overrides: list[str], budget: Budget) -> list[Run]:
    """All runs of a table, row by row, those that others begin with before them.

    Args:
        results: folder of the runs, which other runs' records refer to.
        overrides: `key=value` for all of them, over what the table sets.

    Raises:
        ConfigError: where a record cannot be made.
    """
    runs: dict[tuple[str, str, int], Run] = {}
    for name, row in table.rows.items():
        for column, part in table.columns.items():
            for seed in range(budget.seeds):
                firsts = {
                    key: runs[first, column, seed].folder
                    for field, key in FIRST_RUN.items()
                    if (first := getattr(row, field)) is not None
                }
                settings = [*table.set, *part.set, *row.set, *overrides, f"seed={seed}"]
                superclasses = row.superclasses or part.superclasses
                assert superclasses is not None  # `_check` has looked
                title = f"{name} {column}"
                named, placed = (
                    [f'{key}="{place / folder}"' for key, folder in firsts.items()]
                    for place in (Path(), results)
                )
                # Named without the place of the results, which may be moved.
                folder = _folder(_record(table, settings + named, budget, title), superclasses)
                config = _record(table, settings + placed, budget, title)
                needs = tuple(firsts.values())
                run = Run(name, column, seed, superclasses, config, folder, needs)
                runs[name, column, seed] = run
    return list(runs.values())


def _record(table: Table, settings: list[str], budget: Budget, name: str) -> Config:
    config = load_config(table.record, settings)
    train = config.train.model_copy(update={"epochs": config.train.epochs * budget.share})
    slug = re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-")
    return config.model_copy(update={"name": slug, "train": train})


def _folder(config: Config, superclasses: str) -> str:
    """Named by what the run is made by: the same record is never run twice, another never mixed.

    Keys that are as they are by default take no part, so that a new key renames nothing.
    """
    text = config.model_copy(update={"name": "run"}).model_dump_json(exclude_defaults=True)
    digest = hashlib.sha256(f"{superclasses}\n{text}".encode()).hexdigest()[:8]
    return f"{Path(superclasses).stem}-{config.method}-{digest}-s{config.seed}"
