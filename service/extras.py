"""How packages that are missing are installed: the extras of this project."""

from __future__ import annotations


def how_to_install(*extras: str) -> str:
    """The command for a checkout, as the guides have it; `extras` are those of pyproject.toml."""
    return f".venv/bin/pip install -c constraints.txt -e '.[{','.join(extras)}]' in the repository"
