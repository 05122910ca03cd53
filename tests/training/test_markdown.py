"""Tables of Markdown keep their columns, whatever the names in them are."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
from markdown_it import MarkdownIt

from training.card import _by_superclass
from training.compare import _row
from training.comparison import Compared, Deciding
from training.markdown import markdown_table
from training.paired import pair
from training.promotion_report import Verdict
from training.table_report import write_table
from training.tables import Budget, plan, read_table
from training.unseen_report import FIGURES, write_unseen_report

NAME = "cans|tins"


def cells(text: str) -> list[list[list[str]]]:
    """What a reader of Markdown sees: tables, their rows, cell by cell, the head first."""
    tables: list[list[list[str]]] = []
    tokens = MarkdownIt().enable("table").parse(text)
    for before, token in pairwise(tokens):
        if before.type == "table_open":
            tables.append([])
        if before.type == "tr_open":
            tables[-1].append([])
        if before.type in ("th_open", "td_open"):
            tables[-1][-1].append("".join(part.content for part in token.children or ()))
    return tables


def test_a_cell_holds_any_text() -> None:
    rows = [[NAME, ""], ["two\nlines", "|"], ["", "a | b |"]]
    (table,) = cells(markdown_table(("", "of|all"), rows))
    assert table == [["", "of|all"], [NAME, ""], ["two lines", "|"], ["", "a | b |"]]


def test_a_bar_in_a_superclass_breaks_no_table_of_a_card_or_a_promotion() -> None:
    figures = {"photos": 4, "recall": 0.5, "precision": None, "accuracy": 0.5}
    report = {key: {NAME: figures} for key in ("superclasses", "sources", "subclasses")}
    per, sources = cells(_by_superclass({"split": "test", **report}))
    assert per[1] == [NAME, "4", "50.0%", "-"]
    assert sources[1] == [NAME, "4", "50.0%"]
    right = pair(np.ones(4, dtype=bool), np.ones(4, dtype=bool))
    deciding = Deciding(1.0, 1.0, None)
    compared = Compared("test", {NAME: right}, right, deciding, deciding)
    table, decided = cells(Verdict("m/1", "m/2", 0.01, (compared,), (), {}).text())
    assert {len(row) for row in table} == {8}
    assert table[1][:2] == [NAME, "4"]
    assert decided[0] == ["", "old", "new"]


def test_a_bar_in_a_record_or_a_superclass_breaks_no_table_of_runs(tmp_path: Path) -> None:
    head = ("record", "context", "figure", "mean", "deviation", "by seed")
    (compared,) = cells(markdown_table(head, [_row(NAME, "bank", "balanced_accuracy", [0.5, 1.0])]))
    assert compared[1][0] == NAME
    row = {"record": "r", "seed": 0, "fold": "1", "coverage": [1.0], "accuracy_at_coverage": [1.0]}
    row |= {**dict.fromkeys(FIGURES, 0.5), "recall": {NAME: 0.25}}
    (unseen,) = cells(write_unseen_report([row], tmp_path, "refuse", "superbin unseen refuse"))
    assert [unseen[0][-1], unseen[1][-1]] == [f"recall, {NAME}", "25.0%"]
    file = tmp_path / "bars.toml"
    file.write_text(
        'title = "Bars"\nrecord = "cifar"\n[columns]\n"a|b" = { superclasses = "isotropy" }\n'
        f'[rows]\n"{NAME}" = {{ paper = [94.0] }}\n'
    )
    runs = plan(read_table(str(file)), tmp_path, [], Budget(seeds=1))
    (made,) = cells(write_table(read_table(str(file)), runs, tmp_path, Budget(seeds=1)))
    assert made[1][:3] == [NAME, "a|b", "94.0"]
