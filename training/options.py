"""Options that several of training's commands have."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

DataOption = Annotated[
    Path,
    typer.Option("--data", help="Folder of labelled photos, in a form of training/README.md."),
]
MapOption = Annotated[
    Path | None,
    typer.Option(
        "--superclasses",
        help="TOML map of subclasses, or a shipped one (cifar100-4); default: in --data.",
    ),
]
DeviceOption = Annotated[str, typer.Option(help="auto, cpu, cuda or cuda:N.")]
SetOption = Annotated[
    list[str] | None, typer.Option("--set", help="Override: section.key=value. Repeatable.")
]
