"""Site files against a model before they are served: what cannot be used, and what is odd."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

from service.bundle import read_manifest
from service.models_folder import known_superclasses, resolve_bundle
from service.site_rules import SiteUnfit, read_rules
from service.sites import Site, SiteError, find_site, find_sites, told_unknown, unknown_items


@dataclass
class Checked:
    """What was found: sites that can be served, what is wrong with others, what is odd."""

    sites: list[Site] = field(default_factory=list)
    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Kind:
    """A name for things that sites may give a bin of their own, and its photos in the bank."""

    name: str
    superclass: str
    photos: int


class SiteCheck:
    """A model that site files have to fit, and those beside it."""

    def __init__(self, models_dir: Path, reference: str) -> None:
        """Read the manifests.

        Args:
            reference: the model, `name` or `name/version`.

        Raises:
            BundleError: where it is not there or cannot be read.
        """
        self._reference = reference
        self._manifest = read_manifest(resolve_bundle(models_dir, reference))
        self._superclasses = known_superclasses(models_dir)
        items = self._manifest.bank.items
        self._kinds = {item.subclass for item in items if item.subclass}

    def kinds(self) -> list[Kind]:
        """What the model's bank has names for, by superclass and name."""
        items = self._manifest.bank.items
        counts = Counter((item.superclass, item.subclass) for item in items if item.subclass)
        return [Kind(name, superclass, n) for (superclass, name), n in sorted(counts.items())]

    def check(self, sites: Iterable[str] | None, folder: Path) -> Checked:
        """Read them all; each has to say where every superclass of the model belongs.

        Args:
            sites: files, or names of those in the folder; by default all of these.
        """
        checked = Checked()
        for one in sites or map(str, find_sites(folder)):
            try:
                file = find_site(one, folder)
                rules = read_rules(file)
                checked.warnings += self._odd(rules.site)
                rules.sorter(self._manifest)
            except SiteError as error:
                checked.errors.append(str(error))
            except SiteUnfit as error:
                checked.errors.append(f"{one} with {self._reference}: {error}")
            else:
                checked.sites.append(rules.site)
        return checked

    def _odd(self, site: Site) -> Iterator[str]:
        """Names that sort nothing: most often they are misspelt."""
        strays = [name for name in site.superclasses if name not in self._superclasses]
        if strays:
            told = told_unknown(strays, self._superclasses)
            yield f"{site.site}: no model knows the superclass {told}"
        if items := unknown_items(site, self._kinds):
            yield f"{site.site}: {self._reference} knows no {told_unknown(items, self._kinds)}"
