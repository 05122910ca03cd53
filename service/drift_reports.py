"""Drift in the words of the API; any worker answers for all of them, by files that they share."""

from __future__ import annotations

import os
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path

from pydantic import TypeAdapter

from service.drift import Reading
from service.drift_schemas import DriftModel, DriftPart, DriftPlace
from service.registry import LoadedModel, Registry

DIGITS = 4
FILE = "drift_{pid}.json"

_MODELS = TypeAdapter(list[DriftModel])


def own_report(registry: Registry) -> list[DriftModel]:
    """What this process has seen."""
    return [_model(model) for model in registry.served]


def share_report(registry: Registry, folder: Path) -> None:
    """Write it down for the other workers, whole or not at all."""
    file = folder / FILE.format(pid=os.getpid())
    part = file.with_suffix(".part")
    part.write_bytes(_MODELS.dump_json(own_report(registry)))
    part.replace(file)


def whole_report(registry: Registry, folder: Path) -> list[DriftModel]:
    """What all workers have seen: of this one now, of the others a second ago."""
    own = folder / FILE.format(pid=os.getpid())
    others: list[DriftModel] = []
    for file in sorted(folder.glob(FILE.format(pid="*"))):
        if file != own:
            with suppress(FileNotFoundError):  # it has ended in between
                others += _MODELS.validate_json(file.read_bytes())
    return [_merged(model, others) for model in own_report(registry)]


def forget_report(pid: int, folder: Path) -> None:
    """A worker has ended, and its windows with it."""
    (folder / FILE.format(pid=pid)).unlink(missing_ok=True)


def _merged(model: DriftModel, others: Iterable[DriftModel]) -> DriftModel:
    """With the places that others saw of the same version; the highest score speaks for each."""
    places: dict[tuple[str | None, ...], list[DriftPlace]] = {}
    for one in (model, *(other for other in others if other.model == model.model)):
        for place in one.places:
            places.setdefault((place.site, place.line, place.camera), []).append(place)
    merged = [_of_all(same) for same in places.values()]
    merged.sort(key=lambda place: -place.score)
    return model.model_copy(update={"places": merged})


def _of_all(places: list[DriftPlace]) -> DriftPlace:
    worst = max(places, key=lambda place: place.score)
    photos = sum(place.photos for place in places)
    since = min(place.since for place in places)
    last = max(place.last for place in places)
    enough = any(place.enough for place in places)
    told = {"photos": photos, "since": since, "last": last, "enough": enough}
    return worst.model_copy(update=told)


def _model(model: LoadedModel) -> DriftModel:
    monitor = model.drift
    return DriftModel(
        model=model.id,
        watched=monitor is not None,
        window=int(monitor.reference.window) if monitor else None,
        places=[_place(reading) for reading in monitor.readings()] if monitor else [],
    )


def _place(reading: Reading) -> DriftPlace:
    return DriftPlace(
        site=reading.tags.site,
        line=reading.tags.line,
        camera=reading.tags.camera,
        score=round(reading.score, DIGITS),
        alarm=reading.score >= 1.0,
        photos=reading.photos,
        enough=reading.enough,
        since=reading.since,
        last=reading.last,
        moved=[
            DriftPart.model_validate(
                {"part": part.part, "score": round(part.score, DIGITS), "words": part.words}
            )
            for part in reading.parts
            if reading.enough
        ],
        confidence_shift={name: round(shift, DIGITS) for name, shift in reading.shifts.items()},
    )
