"""The bundles in the models folder: which there are, which are sound, which one is served."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from service.bundle import Bundle, read_bundle
from service.classifier import Classifier
from service.errors import BundleError
from service.models_folder import find_bundles
from service.schemas import BrokenModel, ModelInfo
from service.settings import Settings


def open_bundle(path: Path) -> Bundle:
    """Read and verify a bundle, and that it is the one that its folder says.

    Raises:
        BundleError: where anything is missing, altered or misplaced.
    """
    bundle = read_bundle(path)
    expected = f"{path.parent.name}/{path.name}"
    if bundle.id != expected:
        raise BundleError(f"{path}: expected the manifest of {expected}, got that of {bundle.id}")
    return bundle


def list_models(
    settings: Settings, *, default: Path | None = None, loaded: Sequence[Classifier] = ()
) -> list[ModelInfo | BrokenModel]:
    """Every bundle, verified; one that is not sound is listed with what is wrong with it.

    Args:
        settings: where to look, and which graph would run.
        default: folder of the bundle that answers where none is named.
        loaded: the classifiers that run.
    """
    found: list[ModelInfo | BrokenModel] = []
    for path in find_bundles(settings.models_dir):
        is_default = path == default
        try:
            bundle = open_bundle(path)
        except BundleError as error:
            told = str(error).replace(f"{path}/", "")  # clients need not know our folders
            found.append(
                BrokenModel(
                    name=path.parent.name, version=path.name, default=is_default, error=told
                )
            )
            continue
        running = next((one for one in loaded if one.bundle.path == path), None)
        # What answers may be another than what has come into its folder since.
        found.append(_info(running.bundle if running else bundle, is_default, settings, running))
    return found


def next_start(found: Sequence[ModelInfo | BrokenModel], reference: str) -> ModelInfo | None:
    """What a start would serve, if anything: of a name the newest sound one, or that version."""
    sound = [
        one
        for one in found
        if isinstance(one, ModelInfo) and reference in (one.name, f"{one.name}/{one.version}")
    ]
    return sound[-1] if sound else None


def with_default(
    found: Sequence[ModelInfo | BrokenModel], reference: str
) -> list[ModelInfo | BrokenModel]:
    """With the one marked that a start would serve (`next_start`)."""
    meant = next_start(found, reference)
    return [one.model_copy(update={"default": one is meant}) for one in found]


def _info(
    bundle: Bundle, default: bool, settings: Settings, running: Classifier | None
) -> ModelInfo:
    manifest = bundle.manifest
    variant = running.variant if running else settings.variant_of(bundle)
    if variant not in manifest.variants:  # it would be refused
        variant = manifest.default_variant
    return ModelInfo(
        name=manifest.name,
        version=manifest.version,
        default=default,
        superclasses=list(manifest.superclasses),
        input_height=manifest.preprocessing.height,
        input_width=manifest.preprocessing.width,
        variants=sorted(manifest.variants),
        variant=variant,
        sha256=manifest.files[manifest.variants[variant]].sha256,
        manifest_sha256=bundle.manifest_sha256,
        confidence_threshold=manifest.calibration.confidence_threshold,
        wanted_error_rate=manifest.calibration.wanted_error_rate,
        bank_items=len(manifest.bank.items),
        guide_things=len(manifest.guide),
        provider=running.provider if running else None,
    )
