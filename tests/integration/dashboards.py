"""Grafana's dashboards as data: their panels, and which metrics and labels their queries need."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import promql_parser as promql

from tests.integration.server import ROOT

FOLDER = ROOT / "docker/grafana/dashboards"
BOARDS: dict[str, dict[str, Any]] = {
    file.stem: json.loads(file.read_text()) for file in sorted(FOLDER.glob("*.json"))
}
ANY = ".*"
Needs = dict[str, set[str]]


@dataclass(frozen=True)
class Query:
    """One query of one panel."""

    board: str
    row: str
    panel: str
    ref: str
    expr: str
    legend: str

    def __str__(self) -> str:
        return f"{self.board}: {self.panel} {self.ref}"


def panels_of(board: dict[str, Any]) -> list[dict[str, Any]]:
    """All, with those in rows that are folded, and without the rows."""
    return [panel for _, panel in _with_rows(board)]


def queries() -> list[Query]:
    """Of every panel of every dashboard."""
    return [
        Query(name, row, panel["title"], one["refId"], one["expr"], one["legendFormat"])
        for name, board in BOARDS.items()
        for row, panel in _with_rows(board)
        for one in panel["targets"]
    ]


def _with_rows(board: dict[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    row = ""
    for panel in board["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
            yield from ((row, inner) for inner in panel["panels"])
        else:
            yield row, panel


def filled(expr: str, instance: str = ANY, site: str = ANY) -> str:
    """With the variables as Grafana would fill them in, for a scrape each second."""
    values = {"$__rate_interval": "1m", "$__range": "10m", "$instance": instance, "$site": site}
    for variable, value in values.items():
        expr = expr.replace(variable, value)
    assert "$" not in expr, f"a variable that nothing fills in: {expr}"
    return expr


def labels_in(legend: str) -> set[str]:
    """Those that a legend, such as `{{site}}: {{bin}}`, shows."""
    return set(re.findall(r"{{\s*(\w+)\s*}}", legend))


def needs(expr: str) -> Needs:
    """Each metric of a PromQL expression, with the labels that it is expected to have."""
    found: Needs = defaultdict(set)
    _collect(promql.parse(expr), found)
    return dict(found)


def _collect(node: Any, found: Needs, labels: frozenset[str] = frozenset()) -> None:
    """Walk down; `labels` are asked of every metric beneath."""
    match node:
        case promql.VectorSelector():
            found[node.name or ""] |= labels | {one.name for one in node.matchers.matchers}
        case promql.MatrixSelector():
            _collect(node.vector_selector, found, labels)
        case promql.AggregateExpr():
            _collect(node.expr, found, labels | _named(node.modifier))
        case promql.BinaryExpr():
            matching = node.modifier.matching if node.modifier else None
            for side in (node.lhs, node.rhs):
                _collect(side, found, labels | _named(matching))
        case promql.Call():
            for argument in node.args:
                _collect(argument, found, labels)
        case promql.ParenExpr() | promql.UnaryExpr() | promql.SubqueryExpr():
            _collect(node.expr, found, labels)
        case promql.NumberLiteral() | promql.StringLiteral():
            pass
        case _:
            raise TypeError(f"expected a node of PromQL, got {node!r}")


def _named(modifier: Any) -> frozenset[str]:
    """Labels of `by (...)` and `on (...)`; of `without` and `ignoring` nothing is asked."""
    if modifier is None:
        return frozenset()
    kinds = (promql.AggModifierType.By, promql.LabelModifierType.Include)
    return frozenset(modifier.labels if modifier.type in kinds else ())
