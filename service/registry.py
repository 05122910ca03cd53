"""The models that answer: loaded beside each other, swapped while requests run, rolled back.

A new version is verified, tried and warmed before it gets a single request; one that fails is
refused and the old one serves on. What was begun with the old one is finished by it.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import structlog

from service.bundle import MANIFEST, Manifest, sha256_of
from service.catalogue import list_models, next_start
from service.drift import Reading
from service.errors import BundleError, SuperbinError
from service.loaded import LoadedModel as LoadedModel
from service.loaded import open_model
from service.metrics import Metrics
from service.models_folder import FolderWatch, find_bundles, resolve_bundle, version_key
from service.rounds import every
from service.schemas import BrokenModel, ModelInfo
from service.settings import Settings
from service.site_rules import SiteUnfit

log = structlog.get_logger()


class ModelUnknown(SuperbinError):
    """No model of this name and version is served."""

    reason = "unknown_model"


class ModelRefused(SuperbinError):
    """A bundle was asked for that cannot be served; what served before serves on."""

    reason = "model_refused"


@dataclass(eq=False)
class Slot:
    """A place for one model: of a name the newest version, or the one that was asked for."""

    model: LoadedModel
    follows: bool  # newer versions in the folder
    history: list[str] = field(default_factory=list)  # versions that served before, oldest first


class Registry:
    """Every slot, the first of which answers where no model is named. For one event loop."""

    def __init__(
        self, settings: Settings, metrics: Metrics, vet: Callable[[Manifest], None]
    ) -> None:
        """Nothing is loaded before `start`.

        Args:
            vet: raises SiteUnfit for a model that must not answer where no model is named.
        """
        self._settings = settings
        self._metrics = metrics
        self._vet = vet
        self._slots: list[Slot] = []
        self._loading = asyncio.Lock()
        self._retiring: set[asyncio.Task[None]] = set()
        self._folder = FolderWatch(settings.models_dir)
        # SHA-256 of the manifests of what was opened to serve, and of what was older then.
        self._known: dict[Path, str] = {}
        self.models: list[ModelInfo | BrokenModel] = []

    @property
    def default(self) -> LoadedModel:
        """What answers where no model is named."""
        return self._slots[0].model

    @property
    def served(self) -> list[LoadedModel]:
        """Every model that answers, the default one first."""
        return [slot.model for slot in self._slots]

    def find(self, reference: str | None) -> LoadedModel:
        """The model of `name` or `name/version`, or the default one.

        Raises:
            ModelUnknown: with those that are served.
        """
        if reference is None:
            return self.default
        for slot in self._slots:
            if reference in (slot.model.manifest.name, slot.model.bundle.id):
                return slot.model
        raise self._unknown(reference)

    def at_next_start(self, name: str) -> list[str]:
        """Each `name/version` that a start would serve, by settings and folder as last seen."""
        meant = (one for one in self._settings.models if one.partition("/")[0] == name)
        found = (next_start(self.models, reference) for reference in meant)
        return [f"{one.name}/{one.version}" for one in found if one]

    def drift_readings(self) -> Iterator[tuple[str, Reading]]:
        """How every combination of tags stands, with the name of its model."""
        for monitor in (model.drift for model in self.served):
            if monitor:
                yield from ((monitor.model, reading) for reading in monitor.readings())

    async def start(self) -> None:
        """Load what the settings name.

        Raises:
            BundleError, ProviderError, SiteUnfit: where one cannot run as asked.
        """
        self._folder.look()
        for reference in self._settings.models:
            model = await self._open_best(reference, by_default=not self._slots)
            self._slots.append(Slot(model, follows="/" not in reference))
            self._metrics.model(model.sessions)
        await self._list()

    async def _open_best(self, reference: str, *, by_default: bool) -> LoadedModel:
        """The version that was named, or else the newest that is sound.

        A bad version that is put beside a good one is then no outage at the next start either.

        Raises:
            BundleError, ProviderError, SiteUnfit: where there is none, of the newest.
        """
        newest = resolve_bundle(self._settings.models_dir, reference)
        paths = [newest]
        if "/" not in reference:
            others = find_bundles(self._settings.models_dir)
            paths = sorted((p for p in others if p.parent == newest.parent), key=_version)
        refused: BundleError | SiteUnfit | None = None
        for path in reversed(paths):
            try:
                return await self._open(path, by_default=by_default)
            except (BundleError, SiteUnfit) as error:
                refused = refused or error
                self._refuse(f"{path.parent.name}/{path.name}", error)
        assert refused is not None
        raise refused

    def _refuse(self, reference: str, error: SuperbinError) -> None:
        self._metrics.load("refused")
        log.error("model refused", model=reference, error=str(error))

    async def load(self, name: str, version: str | None = None) -> LoadedModel:
        """Serve a version of a model, by default the newest; where it serves already, it is kept.

        Raises:
            ModelRefused: where it cannot be served; nothing has changed then.
        """
        async with self._loading:
            return await self._load(name, version, self._slot(name))

    async def _load(self, name: str, version: str | None, slot: Slot | None) -> LoadedModel:
        reference = name if version is None else f"{name}/{version}"
        try:
            path = resolve_bundle(self._settings.models_dir, reference)
            if slot and slot.model.bundle.path == path:
                await self._list()
                return slot.model
            model = await self._open(path, by_default=slot is self._slots[0])
        except SuperbinError as error:
            self._refuse(reference, error)
            raise ModelRefused(f"{reference} is refused: {error}") from error
        self._swap(slot, model)
        await self._list()
        return model

    async def open(self, name: str, version: str | None) -> LoadedModel:
        """A model that is loaded and answers nobody.

        Raises:
            ModelRefused: where it cannot be loaded.
        """
        reference = name if version is None else f"{name}/{version}"
        async with self._loading:
            try:
                path = resolve_bundle(self._settings.models_dir, reference)
                return await open_model(path, self._settings, self._metrics)
            except SuperbinError as error:
                raise ModelRefused(f"{reference} is refused: {error}") from error

    async def roll_back(self, name: str) -> LoadedModel:
        """Serve the version that served before the current one.

        Raises:
            ModelUnknown: where no model of this name is served.
            ModelRefused: where none served before, or it cannot be loaded again.
        """
        async with self._loading:
            slot = self._slot(name)
            if slot is None:
                raise self._unknown(name)
            follower = self._follower(name)
            if not slot.history and follower and follower.history:
                slot = follower  # it alone has changed
            if not slot.history:
                raise ModelRefused(f"no version of {name} served before {slot.model.bundle.id}")
            model = await self._load(name, slot.history[-1], slot)
            del slot.history[-2:]  # the one that it was, and the one that was left
            return model

    async def watch(self) -> None:
        """Load newer versions as they appear in the folder; runs until it is cancelled."""
        await every(self._settings.watch_s, "looking for newer models", self._look_again)

    async def _look_again(self) -> None:
        fresh = await asyncio.to_thread(self._folder.look)
        for name in sorted({path.parent.name for path in fresh}):
            if slot := self._follower(name):
                await self._follow(slot, [p for p in fresh if p.parent.name == name])
        if fresh:
            await self._list()

    async def _follow(self, slot: Slot, fresh: list[Path]) -> None:
        """Serve the newest sound one of these versions, if it is newer than what serves."""
        for path in sorted(fresh, key=_version, reverse=True):  # a bad one hides none
            with suppress(ModelRefused):  # logged and counted already
                async with self._loading:  # after whatever else was being loaded
                    if _version(path) <= _version(slot.model.bundle.path):
                        return
                    if await asyncio.to_thread(self._was_left, path):
                        continue
                    await self._load(path.parent.name, path.name, slot)
                return

    def _was_left(self, path: Path) -> bool:
        """Whether a bundle, or a newer one, was to serve before: somebody loaded another since.

        Its files may have other times now, as where a folder is copied over itself.
        """
        with suppress(OSError):
            return self._known.get(path) == sha256_of(path / MANIFEST)
        return False

    async def close(self) -> None:
        """Finish what was begun, then let go of everything."""
        for slot in self._slots:
            self._retire(slot.model)
        await asyncio.gather(*self._retiring)

    def _unknown(self, reference: str) -> ModelUnknown:
        served = ", ".join(slot.model.bundle.id for slot in self._slots)
        return ModelUnknown(f"expected a model of {served}, got {reference[:128]!r}")

    def _slot(self, name: str) -> Slot | None:
        """What answers to a name alone."""
        return next((slot for slot in self._slots if slot.model.manifest.name == name), None)

    def _follower(self, name: str) -> Slot | None:
        """What follows a name's newest version, of which there is one at most."""
        named = (slot for slot in self._slots if slot.model.manifest.name == name)
        return next((slot for slot in named if slot.follows), None)

    def _swap(self, slot: Slot | None, model: LoadedModel) -> None:
        self._metrics.load("loaded")
        self._metrics.model(model.sessions)
        if slot is None:
            self._slots.append(Slot(model, follows=True))
            log.info("model loaded", model=model.bundle.id)
            return
        old, slot.model = slot.model, model
        slot.history.append(old.manifest.version)
        self._metrics.forget(old.sessions)
        for one in self.served:  # another slot may serve what this one left
            self._metrics.model(one.sessions)
        log.info("model swapped", model=model.bundle.id, before=old.bundle.id)
        self._retire(old)

    def _retire(self, model: LoadedModel) -> None:
        task = asyncio.create_task(model.retire(), name=f"retire {model.bundle.id}")
        self._retiring.add(task)
        task.add_done_callback(self._retiring.discard)

    async def _open(self, path: Path, *, by_default: bool) -> LoadedModel:
        vet = self._vet if by_default else None
        older = await asyncio.to_thread(self._older, path)
        model = await open_model(path, self._settings, self._metrics, vet)
        self._known |= older | {path: model.bundle.manifest_sha256}
        return model

    def _older(self, path: Path) -> dict[Path, str]:
        """SHA-256 of the manifests of a bundle's older versions."""
        found = {}
        for one in find_bundles(self._settings.models_dir):
            if one.parent == path.parent and _version(one) < _version(path):
                with suppress(OSError):
                    found[one] = sha256_of(one / MANIFEST)
        return found

    async def _list(self) -> None:
        loaded = [slot.model.sessions.first for slot in self._slots]
        self.models = await asyncio.to_thread(
            list_models, self._settings, default=self.default.bundle.path, loaded=loaded
        )


def _version(path: Path) -> tuple[tuple[int, str], ...]:
    return version_key(path.name)
