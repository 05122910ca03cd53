"""CARD.md: what a person must know of a model before relying on it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from service.bundle import Correction, Manifest, Metric
from service.familiarity import BACKGROUND_WEIGHT, STATISTIC_LESS_BACKGROUND
from training.doubt_reference import ENOUGH
from training.markdown import markdown_table

CARD = "CARD.md"
REVIEWED = "review"  # the source of items that a correction brought
DOUBTS = "## Doubts"
ITEMS = "## Items"
MOSTLY = 0.5
_BLIND = (
    " So what this model refers to says little of items, and a site with bins finer than its "
    "superclasses sends most of their photos to a person."
)
_DRIFT = """## Drift

The bundle knows how its answers to the photos of val are spread (`drift-*.npz`), and the service
tells by site, line and camera when they no longer are (`GET /v1/drift`). That is against the photos
that it was made from: another camera may look like drift from its first day, until `superbin
reference` is run on photos of theirs."""


def write_card(
    path: Path, manifest: Manifest, reports: dict[str, dict[str, Any]], about: Path | None
) -> None:
    """Write the card.

    Args:
        manifest: of the bundle, with its metrics.
        reports: `training.evaluate.summarise` of the default variant, by split.
        about: Markdown on data, licences, intended use and known failures, which only a person
            can write; the card says so where there is none.
    """
    text = (
        about.read_text(encoding="utf-8").strip()
        if about
        else (
            "## Data, licences, use\n\nNothing was written about these: give a Markdown file to "
            "`superbin export --card`."
        )
    )
    path.write_text(card_text(path.parent, manifest, reports, text), encoding="utf-8")


def card_text(
    folder: Path,
    manifest: Manifest,
    reports: dict[str, dict[str, Any]],
    about: str,
    changed: str | None = None,
) -> str:
    """The card's Markdown.

    Args:
        folder: of the bundle, whose pictures are shown.
        about: as for `write_card`, the text itself.
        changed: a section on what is different from the version before.
    """
    parts = [_head(manifest), *([changed] if changed else [])]
    if manifest.metrics:
        parts += [_overall(manifest), *map(_by_superclass, reports.values())]
    own = {case.file for case in manifest.self_test}
    files = [file for file in sorted(folder.glob("*.png")) if file.name not in own]
    parts += [f"![{file.stem}]({file.name})" for file in files]
    drift = _DRIFT if manifest.drift else ""
    parts += [_decision(manifest, reports), about, doubts_section(manifest)]
    parts += [items_section(manifest), drift]
    parts.append(_origin(manifest))
    return "\n\n".join(part for part in parts if part) + "\n"


def _head(manifest: Manifest) -> str:
    spec = manifest.preprocessing
    guide = f", and a sorting guide of {len(manifest.guide)} things" if manifest.guide else ""
    return (
        f"# {manifest.name}/{manifest.version}\n\n"
        f"Sorts a photo into {len(manifest.superclasses)} superclasses "
        f"({', '.join(manifest.superclasses)}). Input {spec.width} x {spec.height} pixels "
        f"({spec.fit}); a context bank of {_bank(manifest)}{guide}; the default variant is "
        f"{manifest.default_variant}."
    )


def _bank(manifest: Manifest) -> str:
    reviewed = 0
    if manifest.provenance.corrections:
        reviewed = sum(item.source == REVIEWED for item in manifest.bank.items)
    photos = f"{len(manifest.bank.items) - reviewed:,} training photos"
    rule = manifest.bank.selection
    chosen = f"all {photos}" if rule == "all" else f"{photos}, chosen by {rule}"
    return f"{chosen}, and {reviewed:,} reviewed ones" if reviewed else chosen


def _overall(manifest: Manifest) -> str:
    head = ("figure", "split", "photos", "mode", "variant", "value", "95% interval")
    return (
        "## Figures\n\n"
        "Photos one by one, through the ONNX file, unless the row says other.\n\n"
        f"{markdown_table(head, map(_row, manifest.metrics))}"
    )


def _row(metric: Metric) -> list[str]:
    low, high = metric.interval or (None, None)
    interval = "" if low is None or high is None else f"{low:.2%} to {high:.2%}"
    value = f"{metric.value:.4f}" if metric.name.startswith("ece") else f"{metric.value:.2%}"
    name = metric.name.replace("_", " ")
    photos = str(metric.photos)
    return [name, metric.split, photos, metric.mode, metric.variant, value, interval]


def _by_superclass(report: dict[str, Any]) -> str:
    superclasses = [
        [name, str(row["photos"]), _percent(row["recall"]), _percent(row["precision"])]
        for name, row in report["superclasses"].items()
    ]
    sources = [
        [name, str(row["photos"]), _percent(row["accuracy"])]
        for name, row in report["sources"].items()
    ]
    weak = sorted(report["subclasses"].items(), key=lambda item: item[1]["accuracy"])[:5]
    kinds = ", ".join(f"{name} {row['accuracy']:.0%} of {row['photos']}" for name, row in weak)
    return "\n\n".join(
        [
            f"### Per superclass on {report['split']}",
            markdown_table(("superclass", "photos", "recall", "precision"), superclasses),
            markdown_table(("source", "photos", "accuracy"), sources),
            f"Weakest kinds: {kinds}.",
        ]
    )


def _decision(manifest: Manifest, reports: dict[str, dict[str, Any]]) -> str:
    calibration = manifest.calibration
    lines = [
        "## Confidence",
        "",
        f"Temperature {calibration.temperature:.3f} and threshold "
        f"{calibration.confidence_threshold:.4f} were fitted on {calibration.photos} photos of "
        f"{calibration.split}, for at most {calibration.wanted_error_rate:.1%} errors among the "
        "photos that are sorted.",
    ]
    for split, report in reports.items():
        decisions = report["decisions"]
        wrong = decisions["error_rate_of_sorted"]
        decided = (
            "no photo was sorted: all go to a person"
            if wrong is None
            else f"{decisions['sorted_share']:.1%} of the photos were sorted and {wrong:.1%} of "
            "those were wrong"
        )
        ece = f"{report['ece_after_calibration']:.4f}"
        lines.append(f"On {split}, {decided}; the calibration error (ECE) was {ece}.")
    return "\n".join(lines)


def doubts_section(manifest: Manifest) -> str:
    """What is doubted whatever the model says, where the bundle has limits."""
    quality, familiar = manifest.quality, manifest.familiarity
    if quality is None or familiar is None:
        return ""
    holds = f"`{familiar.file}` holds those embeddings. " if familiar.file else ""
    compared = less = ""
    if familiar.statistic == STATISTIC_LESS_BACKGROUND:
        compared = ", or nearly as much like the background, pictures of what is of no superclass"
        less = f" less {BACKGROUND_WEIGHT} of that of the background's"
    judged = f"the {familiar.photos} photos of {familiar.split}"
    if familiar.photos < ENOUGH:
        judged = f"photos like {judged}, which are few to tell by, should"
    return (
        f"{DOUBTS}\n\n"
        "Left to a person whatever the model says, by measures of the pixels that it sees: a photo "
        f"whose bright parts (95th percentile of luminance) are below {quality.least_light:.0f} of "
        f"255; one with more than {quality.most_clipped:.1%} of its pixels overexposed; one whose "
        f"edges are weaker than {quality.least_sharpness:.1f} grey levels in some direction; one "
        f"whose parts differ by less than {quality.least_contrast:.1f} (empty). And one that is "
        f"like nothing in the bank{compared}: a density of the bank's embeddings{less} "
        f"(`{familiar.statistic}`, T = {familiar.temperature}) below {familiar.threshold:.4f}, "
        f"which {familiar.accepted_share:.1%} of {judged} reach. {holds}What is of no superclass "
        "and yet like it, such as a thing that is still of use, is hardly told apart."
    )


def items_section(manifest: Manifest) -> str:
    """How sure answers are of items, where that was fitted."""
    spread = manifest.item_spread
    if spread is None:
        return ""
    return (
        f"{ITEMS}\n\n"
        "Bins that a site names for items go by the references of an answer. Their weights are "
        f"tempered (temperature {spread.temperature:.2f}), and {spread.unnamed:.1%} of a "
        "superclass's probability goes to all of its items, as often as they are in the bank: with "
        f"these the items of {spread.photos} photos of {spread.split} are likeliest."
        + (_BLIND if spread.unnamed > MOSTLY else "")
    )


def rename_card(bundle: Path, before: str, now: str) -> None:
    """Give a bundle's card, if it has one, the title of another version: both `name/version`."""
    file = bundle / CARD
    if file.is_file():
        text = file.read_text(encoding="utf-8")
        file.write_text(text.replace(f"# {before}\n", f"# {now}\n", 1), encoding="utf-8")


def put_section(bundle: Path, section: str) -> None:
    """Give a bundle's card a section in place of its own of that heading, else before its last."""
    file = bundle / CARD
    heading = section.split("\n", 1)[0]
    text = file.read_text(encoding="utf-8")
    if f"{heading}\n" in text:
        before, _, rest = text.partition(f"{heading}\n")
        _, mark, after = rest.partition("\n## ")
    else:
        before, mark, after = text.rpartition("\n## ")
        before += "\n"
    part = file.with_suffix(".part")
    part.write_text(f"{before}{section}\n{mark}{after}", encoding="utf-8")
    part.replace(file)


def _origin(manifest: Manifest) -> str:
    origin = manifest.provenance
    packages = ", ".join(f"{name} {version}" for name, version in origin.packages.items())
    return (
        "## Provenance\n\n"
        f"    {origin.command}\n\n"
        f"Commit {origin.git_commit or 'unknown'}, seed {origin.seed}, "
        f"{origin.trained_at:%Y-%m-%d}, {origin.hardware}; {packages}."
        + "".join(map(_correction, origin.corrections))
    )


def _correction(one: Correction) -> str:
    return (
        f"\n\n    {one.command}\n\n{one.corrected_at:%Y-%m-%d}, from {one.parent} (manifest "
        f"{one.parent_manifest_sha256[:12]}): {one.added} added, {one.removed} removed."
    )


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
