"""What fits, and what does not, in the words of the house: expected this, got that."""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from typing import Any

_SIZE = re.compile(r"(?=[0-9])0*+([0-9]{0,18})")
_SHOWN = 40  # characters of what came
_EXPECTED = (
    ("Input should be a valid tuple", "expected a list"),
    ("Input should be a valid list", "expected a list"),
    ("Input should be a valid dictionary", "expected keys with values"),
    ("Tuple should ", "expected a list that should "),
    ("Dictionary should ", "expected keys with values that should "),
    ("Input should be ", "expected "),
    ("String should ", "expected a string that should "),
    ("List should ", "expected a list that should "),
)


def read_size(text: str) -> int | None:
    """A number of bytes as a header has it; None where it is none below 10^18.

    A header has room for more digits than Python reads.
    """
    found = _SIZE.fullmatch(text)
    return int(found[1] or 0) if found else None


def told_problems(
    problems: Sequence[Any], schema: dict[str, Any] | None = None, whole: str = "the body"
) -> str:
    """Every problem of a `ValidationError.errors()`, in a line.

    Args:
        schema: the JSON schema of what was validated, which knows the type of what is missing.
        whole: what was validated, in words.
    """
    return "; ".join(_told(one, schema or {}, whole) for one in problems)


def _told(problem: Any, schema: dict[str, Any], whole: str) -> str:
    where = ".".join(str(part) for part in problem["loc"] if part != "[key]") or whole
    if problem["type"] == "missing":
        return f"{where}: expected {_type_of(problem['loc'][-1], schema)}, got nothing"
    if problem["type"] == "extra_forbidden":
        known = ", ".join(schema.get("properties", ()))
        return f"{where}: expected no such field" + (f" but {known}" if known else "")
    message = str(problem["msg"]).removeprefix("Value error, ")
    if not problem["loc"] and problem["type"] == "value_error":
        return message  # of several parts, which it names
    for prefix, ours in _EXPECTED:
        if message.startswith(prefix):
            message = ours + message.removeprefix(prefix)
            break
    return f"{where}: {message}, got {_shown(problem.get('input'))}"


def _type_of(name: object, schema: dict[str, Any]) -> str:
    found = schema.get("properties", {}).get(name, {})
    kinds = [one.get("type") for one in (found, *found.get("anyOf", ()))]
    articles = {"string": "a string", "integer": "an integer", "number": "a number"}
    told = [articles.get(kind, kind) for kind in kinds if kind is not None]
    return " or ".join(told) or "a value"


def _shown(value: object) -> str:
    """As JSON has it, cut short: what came was JSON, or a word of the query."""
    try:
        text = json.dumps(value, ensure_ascii=False)
    except (TypeError, ValueError):
        text = repr(value)
    return text if len(text) <= _SHOWN else f"{text[:_SHOWN]}..."
