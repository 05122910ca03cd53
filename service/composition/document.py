"""A report as one HTML file that needs nothing else: the page's parts, and the figures."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from pathlib import Path

from service.composition.answer import CompositionAnswer
from service.composition.formats import as_json
from service.sites import MANUAL, Place, Site

STATIC = Path(__file__).resolve().parent.parent / "static"
STYLES = ("style.css", "report.css")
SCRIPTS = (
    "report-figures.js",
    "report-charts.js",
    "report-colours.js",
    "report-view.js",
    "report-file.js",
)
BY = ("site", "bin", "reason")  # and a time: what the charts are drawn from

_HEAD = re.compile(r'  <link rel="icon".*?</script>\n', re.DOTALL)
_IMPORT = re.compile(r"^import .*$\n?", re.MULTILINE)
_EXPORT = re.compile(r"^export ", re.MULTILINE)


def as_html(answer: CompositionAnswer, sites: Sequence[Site], line: str | None) -> str:
    """The file.

    Args:
        answer: by `BY` and `hour`, or `day`.
        sites: whose bins have names and colours.
        line: that the figures are of, if they are of one.
    """
    saved = json.loads(as_json(answer))
    saved |= {"daily": "day" in answer.by, "sites": [_site(one) for one in sites]}
    style = "".join((STATIC / name).read_text(encoding="utf-8") for name in STYLES)
    script = _bundle()
    policy = (
        f"default-src 'none'; img-src data:; style-src {_hash(style)}; script-src {_hash(script)}"
    )
    icon = "data:image/svg+xml;base64," + base64.b64encode(
        (STATIC / "icon.svg").read_bytes()
    ).decode("ascii")
    head = (
        f'  <meta http-equiv="Content-Security-Policy" content="{policy}">\n'
        f'  <link rel="icon" href="{icon}" type="image/svg+xml">\n'
        f"  <style>{style}</style>\n"
    )
    page = (STATIC / "report.html").read_text(encoding="utf-8")
    page = _HEAD.sub(lambda _: head, page)
    for ours, theirs in (
        ('<body class="reporting">', '<body class="reporting of-file">'),
        ('<a href="docs">For developers</a>', _of_what(answer, line)),
        ('class="brand" href="./"', 'class="brand"'),
        ("static/icon.svg", icon),
    ):
        page = page.replace(ours, theirs)
    data = json.dumps(saved, separators=(",", ":")).replace("<", "\\u003c")
    end = (
        f'<script type="application/json" id="saved">{data}</script>\n'
        f'<script type="module">{script}</script>\n</body>'
    )
    return page.replace("</body>", end)


def _bundle() -> str:
    """The page's modules as one: they name nothing twice."""
    parts = [(STATIC / name).read_text(encoding="utf-8") for name in SCRIPTS]
    return "".join(_EXPORT.sub("", _IMPORT.sub("", part)) for part in parts)


def _hash(text: str) -> str:
    digest = base64.b64encode(hashlib.sha256(text.encode("utf-8")).digest()).decode("ascii")
    return f"'sha256-{digest}'"


def _of_what(answer: CompositionAnswer, line: str | None) -> str:
    """Tags are letters, digits, dots, dashes and underscores, so nothing is to be escaped."""
    told = f"{answer.since:%Y-%m-%d %H:%M} to {answer.until:%Y-%m-%d %H:%M} UTC"
    return f'<p class="quiet">{told}{f", line {line}" if line else ""}</p>'


def _site(site: Site) -> dict[str, object]:
    places: dict[str, Place] = {**site.bins, MANUAL: site.manual}
    return {
        "site": site.site,
        "name": site.name,
        "languages": site.languages,
        "choices": [
            {"choice": name, "colour": place.colour, "name": place.name}
            for name, place in places.items()
        ],
    }
