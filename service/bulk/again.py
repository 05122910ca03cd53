"""Whether what was begun, or a file that is there, is what a command asks for."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from service.bulk.merged import is_as_left
from service.bulk.plan import Asked, Model, Plan
from service.errors import BulkError


def check_same(asked: Asked, plan: Plan) -> None:
    """That a command goes on with a run, and is not about something else.

    Raises:
        BulkError: with what differs.
    """
    if told := _differing(asked, plan.model, plan.source, plan.settings):
        raise BulkError(f"this run was begun {told}: --restart begins anew")
    if asked.chunk not in (None, plan.chunk):
        raise BulkError(
            f"this run was begun with --chunk {plan.chunk}, and now it is {asked.chunk}: without "
            "--chunk it goes on, --restart begins anew"
        )


def check_whole(asked: Asked, out: Path, there: dict[str, str]) -> None:
    """That a file is what the command would write.

    Args:
        there: what the file says of itself.

    Raises:
        BulkError: with what differs.
    """
    told: str | None
    if not is_as_left(out, there):
        told = (
            "and not as a run of this version left it (it was changed since, or is of another "
            "program or version)"
        )
    else:
        named = {"name": there["model"], **there}
        model = Model(**{name: named[name] for name in Model.model_fields})
        told = _differing(asked, model, there["source"], json.loads(there["settings"]))
        told = told and f"made {told}"
    if told:
        raise BulkError(f"{out} is there already, {told}: --restart writes it anew")


def _differing(asked: Asked, model: Model, source: str, settings: dict[str, Any]) -> str | None:
    """What was otherwise when it was begun, and what it is now; None where all is the same."""
    if model != asked.model:
        told = f"by the model {_model(model)}, and now it is {_model(asked.model)}"
        return told if model.id == asked.model.id else f"{told}; --model {model.id} asks that one"
    if source != asked.inputs.digest():
        return "for other photos, or relative names were seen from another folder"
    for name, now in asked.answering.items():
        if (before := settings.get(name)) != now:
            return f"{_setting(name, before)}, and now it is {_setting(name, now)}"
    return None


def _model(model: Model) -> str:
    return f"{model.id} ({model.variant}, manifest {model.manifest_sha256[:12]})"


def _setting(name: str, value: Any) -> str:
    """As whoever types the command sets it."""
    if name in ("site", "device"):
        return f"without --{name}" if value is None else f"with --{name} {value}"
    return f"with SUPERBIN_{name.upper()}={value}"
