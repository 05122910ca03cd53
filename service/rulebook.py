"""The site files of a folder, read anew when one changes; a bad one leaves its old rules."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from pathlib import Path

import structlog

from service.bundle import Manifest
from service.errors import SuperbinError
from service.metrics import Metrics
from service.rounds import every
from service.settings import SettingsError
from service.site_rules import Rules, SiteUnfit, read_rules
from service.sites import (
    Site,
    SiteError,
    SiteUnread,
    find_sites,
    missing_superclasses,
    unknown_items,
)

log = structlog.get_logger()

NEVER = (0, -1)  # the mark of a file that is listed and not there, or cannot be read


class SiteUnknown(SuperbinError):
    """No site of this name has rules here."""

    reason = "unknown_site"


class Rulebook:
    """Every site's rules, by name; and those that hold where a request names no site."""

    def __init__(
        self,
        folder: Path,
        default: str | None,
        model: Callable[[], Manifest | None],
        metrics: Metrics,
    ) -> None:
        """Read all site files; one that cannot be used is refused and hurts no other.

        Args:
            default: the site of a request that names none.
            model: what answers where a request names none, once there is one; rules are looked at
                with it.
        """
        self.folder = folder
        self._model = model
        self._metrics = metrics
        self._seen: dict[Path, tuple[int, int]] = {}
        self._rules: dict[str, Rules] = {}
        self._refused: dict[str, str] = {}
        self.default = default
        self._needed = {default} if default else set()
        self._missed: set[str] = set()
        self.look()

    @property
    def all(self) -> list[Rules]:
        """By name."""
        rules = self._rules
        return [rules[name] for name in sorted(rules)]

    def names(self) -> str:
        """Which sites there are, in words."""
        none = "none" if self._refused else f"none, for {self.folder} holds no site file"
        return ", ".join(sorted(self._rules)) or none

    def find(self, name: str | None) -> Rules | None:
        """A site's rules; where none is named those of the default one, if there is one.

        Raises:
            SiteUnknown: with those that there are.
        """
        name = name or self.default
        if name is None:
            return None
        rules = self._rules.get(name)
        if rules is None:
            why = self._refused.get(name)
            told = f", whose file is refused: {why}" if why else ""
            raise SiteUnknown(f"expected a site of {self.names()}, got {name!r}{told}")
        return rules

    def need(self, names: Iterable[str]) -> None:
        """Say whose rules stay where their file goes, as those of the default one do."""
        self._needed = {*names} | ({self.default} if self.default else set())

    def require(self, named: Mapping[str, str | None]) -> None:
        """Whether there are rules for these sites.

        Args:
            named: names of sites by who wants them, None for the default one.

        Raises:
            SettingsError: naming who wants it, and which there are.
        """
        if not self.folder.is_dir():
            raise SettingsError(
                f"SUPERBIN_SITES_DIR: expected a folder of site files, got {self.folder}"
            )
        for source, name in named.items():
            try:
                self.find(name)
            except SiteUnknown as error:
                raise SettingsError(f"{source}: {error}") from error

    def meet(self, model: Manifest, named: Iterable[str | None]) -> None:
        """Log what the first model makes of rules that were read before it was loaded.

        Args:
            named: the sites in use, None for the default one.
        """
        for rules in self.all:
            try:
                rules.sorter(model)
            except SiteUnfit as error:
                _mention_unfit(model, error)
        for name in named:
            if rules_in_use := self.find(name):
                self.mention_unknown(rules_in_use.site)

    def vet(self, model: Manifest, named: Mapping[str, str | None]) -> None:
        """Whether the sites in use can sort what a model says; all their photos would be refused.

        Args:
            named: names of those sites by who wants them, None for the default one. One that has
                no rules any more is no model's fault.

        Raises:
            SiteUnfit: naming who wants it, and what the site lacks.
        """
        for source, name in named.items():
            rules = None
            with suppress(SiteUnknown):
                rules = self.find(name)
            try:
                if rules:
                    rules.sorter(model)
            except SiteUnfit as error:
                raise SiteUnfit(f"{source}: {error}") from error

    def vet_served(self, named: Mapping[str, str | None]) -> None:
        """As `vet`, with the model that answers where a request names none, once there is one."""
        if model := self._model():
            self.vet(model, named)

    async def watch(self, every_s: float) -> None:
        """Read what has changed in the folder; runs until it is cancelled."""
        await every(every_s, "looking for changed sites", self._look_again)

    async def _look_again(self) -> None:
        for site in await asyncio.to_thread(self.look):  # a long file takes seconds
            self.mention_unknown(site)

    def look(self) -> list[Site]:
        """Take over the files that are new or changed, and let go of those that are gone.

        From any thread, but one at a time.

        Returns:
            the sites that were taken over.
        """
        taken = []
        for file in self._changed():
            try:
                self._read(file)
            except (SiteError, SiteUnfit) as error:
                told = str(error).replace(f"{file.parent}/", "")
                if isinstance(error, SiteUnread):
                    self._seen[file] = NEVER  # it is tried again, and told once
                    if told == self._refused.get(file.stem):
                        continue
                self._refused[file.stem] = told
                self._metrics.site_load("refused")
                log.error("site refused", file=file.name, error=str(error))
            else:
                self._refused.pop(file.stem, None)
                if self._model():  # the first look is that of the start
                    self._metrics.site_load("loaded")
                site = self._rules[file.stem].site
                log.info("site loaded", site=file.stem, version=site.version)
                taken.append(site)
        there = {file.stem for file in self._seen}
        gone = set(self._rules) - there
        kept = gone & self._needed if _can_be_listed(self.folder) else gone
        for name in sorted(kept - self._missed):
            log.error("site file gone, and its rules stay in force", site=name)
        self._missed = kept
        for name in sorted(gone - kept):
            log.warning("site removed", site=name)
            self._rules = {one: rules for one, rules in self._rules.items() if one != name}
        self._refused = {name: why for name, why in self._refused.items() if name in there}
        return taken

    def mention_unknown(self, site: Site) -> None:
        """Log the items of a site that the model does not know: no error, but odd."""
        model = self._model()
        kinds = {item.subclass for item in model.bank.items if item.subclass} if model else set()
        unknown = unknown_items(site, kinds) if kinds else []
        if unknown:
            log.warning("items that the model does not know", site=site.site, items=unknown)

    def _changed(self) -> list[Path]:
        before, self._seen = self._seen, {}
        for file in find_sites(self.folder):
            try:
                stat = file.stat()
            except OSError:  # it is being replaced, or cannot be reached: its rules stay
                self._seen[file] = NEVER
                continue
            self._seen[file] = (stat.st_mtime_ns, stat.st_size)
        return [file for file, mark in self._seen.items() if before.get(file) != mark]

    def _read(self, file: Path) -> None:
        """Take over a file's rules.

        Rules may be another model's; but what sorts this model's photos is not let go of for what
        would refuse all of them.

        Raises:
            SiteError, SiteUnfit: where the rules of before stay, if there are any.
        """
        rules, before = read_rules(file), self._rules.get(file.stem)
        if model := self._model():
            try:
                rules.sorter(model)
            except SiteUnfit as error:
                if before and not missing_superclasses(before.site, model.superclasses):
                    raise
                _mention_unfit(model, error)
        self._rules = self._rules | {file.stem: rules}  # another thread may be reading them
        self._metrics.site(file.stem)


def _can_be_listed(folder: Path) -> bool:
    try:
        with os.scandir(folder):
            return True
    except OSError:
        return False


def _mention_unfit(model: Manifest, error: SiteUnfit) -> None:
    told = f"{model.name}/{model.version}"
    log.warning("site does not fit the model", model=told, error=str(error))
