"""A site's rules as they are in force: read from its file, with a sorter for each model."""

from __future__ import annotations

import hashlib
import weakref
from dataclasses import dataclass, field
from pathlib import Path

from service.bundle import Manifest
from service.errors import SuperbinError
from service.sites import Site, SiteError, read_site
from service.sorting import Sorter

DIGEST_LETTERS = 12


class SiteUnfit(SuperbinError):
    """A site's rules do not say where all of a model's superclasses belong."""

    reason = "site_unfit"


@dataclass(eq=False)
class Rules:
    """One site's rules as they are in force, and a sorter for each model that was asked with them.

    Attributes:
        digest: of the file, so that an answer tells rules apart that have the same version.
    """

    site: Site
    digest: str
    sorters: dict[int, tuple[weakref.ref[Manifest], Sorter]] = field(default_factory=dict)  # by id

    def sorter(self, manifest: Manifest) -> Sorter:
        """For a model, made once; those of models that are gone make room for it.

        Raises:
            SiteUnfit: where some of its superclasses have no bin.
        """
        model, known = self.sorters.get(id(manifest), (None, None))
        if known and model and model() is manifest:
            return known
        items, spread = manifest.bank.items, manifest.item_spread
        try:
            made = Sorter(self.site, manifest.superclasses, items, spread)
        except SiteError as error:
            raise SiteUnfit(str(error)) from error
        used = {key: one for key, one in self.sorters.items() if one[0]() is not None}
        self.sorters = used | {id(manifest): (weakref.ref(manifest), made)}
        return made


def read_rules(file: Path) -> Rules:
    """A site file's rules.

    Raises:
        SiteError: where it cannot be used.
    """
    site, data = read_site(file)
    return Rules(site, hashlib.sha256(data).hexdigest()[:DIGEST_LETTERS])
