"""Tables: planned from data files, filled by real runs, gone on with where they were stopped."""

from __future__ import annotations

import json
import shutil
import signal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
from typer.testing import CliRunner

from tests.tiny_cifar import fine_names, write_cifar
from tests.training_runs import signal_in_step
from training import checkpoint
from training.cli import register
from training.data.cifar100 import FOLDER
from training.data.photos import MAPS
from training.errors import ConfigError, DataError, RunError
from training.fit import Interrupted
from training.records import load_config
from training.reproduce import reproduce
from training.table_report import report_of
from training.tables import TABLES, Budget, Table, plan, read_table

SHIPPED = sorted(file.stem for file in TABLES.glob("*.toml"))
RECORD = """
name = "tiny"
[data]
px = 16
cache_px = 16
[backbone]
name = "resnet18"
pretrained = false
[sclre]
hidden = 32
width = 16
heads = 4
key_width = 16
[bank]
size = 8
[train]
epochs = 4
batch = 32
head_lr = 0.01
precision = "fp32"
"""
TABLE = """
title = "Tiny"
record = "{record}"
set = ["train.ema=0.0"]
[columns]
Real = {{ superclasses = "isotropy" }}
Fake = {{ superclasses = "isotropy-fake" }}
[rows]
cross-entropy = {{ set = ["method=cross_entropy"], paper = [94.0, 43.5] }}
GEORGE = {{ set = ["method=george"], first_stage = "cross-entropy" }}
"SimCLR, fine-tuned" = {{ set = ["method=cross_entropy"], weights = "cross-entropy" }}
SCLRE = {{ set = ["method=sclre"] }}
"""
ONE = Budget(share=0.25, seeds=1)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_cifar(tmp_path_factory.mktemp("cifar"), {"train": 40, "test": 6})


@pytest.fixture
def table(tmp_path: Path) -> Path:
    record = tmp_path / "tiny.toml"
    record.write_text(RECORD)
    file = tmp_path / "tiny-table.toml"
    file.write_text(TABLE.format(record=record))
    return file


def fill(table: Path, data: Path, out: Path, budget: Budget = ONE, **options: Any) -> str:
    return reproduce(
        str(table),
        data,
        out,
        overrides=options.pop("overrides", []),
        budget=budget,
        device="cpu",
        command="a test",
        **options,
    )


def lines(out: Path, name: str = "tiny-table") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = json.loads((out / f"{name}.json").read_text())["lines"]
    return found


def epochs(table: Table, row: str) -> float:
    """Of a row: its own, or the record's."""
    own = [key.partition("=")[2] for key in table.rows[row].set if key.startswith("train.epochs=")]
    return float(own[0]) if own else load_config(table.record).train.epochs


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_table_can_be_planned(name: str, tmp_path: Path) -> None:
    table = read_table(name)
    runs = plan(table, tmp_path, [], Budget(share=0.5, seeds=2))
    assert len(runs) == 2 * len(table.rows) * len(table.columns)
    known = {run.folder for run in runs}
    for run in runs:
        assert (MAPS / f"{run.superclasses}.toml").is_file()
        assert run.config.train.epochs == 0.5 * epochs(table, run.row)
        assert set(run.needs) <= known


def test_the_shipped_tables_ask_for_what_the_paper_names() -> None:
    assert [
        *(
            "ablation",
            "bank-curve",
            "datasets",
            "methods",
            "pretrained",
            "table-3",
            "table-4",
            "table-5",
            "table-6",
        ),
    ] == SHIPPED
    sixth = read_table("table-6")
    runs = plan(sixth, Path(), [], Budget(seeds=1))
    names = {run.config.backbone.name for run in runs}
    assert names == {f"resnet{depth}" for depth in (18, 34, 50, 101, 152)}
    methods = plan(read_table("methods"), Path(), [], Budget(seeds=1))
    assert {run.config.method for run in methods} == {
        *("cross_entropy", "george", "supcon", "simclr", "moco", "sclre"),
    }


def test_tables_share_runs_of_the_same_record_and_no_others(tmp_path: Path) -> None:
    def folders(name: str, out: Path = tmp_path, **budget: Any) -> dict[tuple[str, str], str]:
        runs = plan(read_table(name), out, [], Budget(seeds=1, **budget))
        return {(run.row, run.column): run.folder for run in runs}

    third, fourth, ablation = folders("table-3"), folders("table-4"), folders("ablation")
    assert third["SCLRE", "CIFAR100-4"] == fourth["SCLRE", "CIFAR100-4"]
    assert third["SCLRE", "CIFAR100-4"] == ablation["SCLRE", "CIFAR100-4"]
    assert len({*third.values(), *ablation.values()}) == 9 + 7 - 2
    assert not {*third.values()} & {*folders("table-3", share=0.5).values()}
    assert folders("table-3", out=tmp_path / "moved") == third


def test_a_table_is_filled_and_what_is_done_is_not_done_again(
    table: Path, data: Path, tmp_path: Path
) -> None:
    out = tmp_path / "results"
    text = fill(table, data, out)
    assert text == (out / "tiny-table.md").read_text()
    assert "| cross-entropy | Real | 94.0 |" in text
    assert "0.25 of its epochs; resnet18 (imagenet stem) at 16 px" in text
    assert "8 of 8 runs are done" in text
    pictures = sorted(file.name for file in out.glob("*.png"))
    assert pictures == ["tiny-table-isotropy-fake.png", "tiny-table-isotropy.png"]
    assert all(f"]({name})" in text for name in pictures)
    found = {(line["method"], line["problem"]): line for line in lines(out)}
    assert found["cross-entropy", "Fake"]["paper"] == 43.5
    for (method, _), line in found.items():
        assert line["epochs"] == 1.0
        report = json.loads(report_of(out / "runs" / line["runs"][0]).read_text())
        assert line["accuracy (bank)"]["mean"] == report["accuracy"]
        assert (line["accuracy (batch protocol)"] is None) == (method != "SCLRE")
    folders = sorted((out / "runs").iterdir())
    assert len(folders) == 8
    assert not any((folder / checkpoint.CHECKPOINT).exists() for folder in folders)
    before = [(folder / checkpoint.MODEL).stat().st_mtime_ns for folder in folders]
    assert fill(table, data, out) == text
    assert [(folder / checkpoint.MODEL).stat().st_mtime_ns for folder in folders] == before
    george = next(folder for folder in folders if "george" in folder.name)
    assert (george / checkpoint.SUBCLASSES).is_file()
    tuned = checkpoint.read_config(
        out / "runs" / found["SimCLR, fine-tuned", "Real"]["runs"][0]
    ).backbone.weights
    assert tuned == str(out / "runs" / found["cross-entropy", "Real"]["runs"][0])


def test_a_table_that_was_stopped_goes_on(table: Path, data: Path, tmp_path: Path) -> None:
    out = tmp_path / "results"
    budget = Budget(share=0.5, seeds=1, only=("sclre",))
    with signal_in_step(3, signal.SIGTERM), pytest.raises(Interrupted):
        fill(table, data, out, budget)
    assert all(line["accuracy (bank)"] is None for line in lines(out))
    (begun,) = (out / "runs").iterdir()
    assert checkpoint.load(begun / checkpoint.CHECKPOINT)["progress"]["step"] == 3
    fill(table, data, out, budget)
    whole = tmp_path / "whole"
    fill(table, data, whole, budget)
    assert lines(out) == lines(whole)


def test_only_some_cells_are_filled_with_what_they_begin_with(
    table: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "results"
    budget = Budget(share=0.1, seeds=2, only=("george fake",))
    fill(table, data, out, budget, dry=True)
    assert not (out / "runs").exists()
    planned = capsys.readouterr().out.splitlines()
    assert [line.split(None, 2)[2] for line in planned] == [
        *("cross-entropy-fake, seed 0", "cross-entropy-fake, seed 1"),
        *("george-fake, seed 0", "george-fake, seed 1"),
    ]
    text = fill(table, data, out, budget)
    assert "4 of 16 runs are done" in text
    assert text.count(" ± ") == 1 + 4  # in the note, and two cells with two figures each
    assert capsys.readouterr().out.count("run 4 of 4: george-fake, seed 1") == 1


@pytest.mark.parametrize(
    ("only", "rows"), [("SCLRE", ["sclre"]), ("sclr", ["sclre", "sclre-again"])]
)
def test_a_whole_name_is_that_row_alone(
    only: str,
    rows: list[str],
    table: Path,
    data: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    again = '"SCLRE, again" = { set = ["method=sclre", "train.head_lr=0.02"] }'
    table.write_text(f"{table.read_text()}{again}\n")
    fill(table, data, tmp_path / "results", Budget(seeds=1, only=(only,)), dry=True)
    planned = [line.split(None, 2)[2] for line in capsys.readouterr().out.splitlines()]
    assert planned == [f"{row}-{column}, seed 0" for row in rows for column in ("real", "fake")]


def test_answers_and_superclasses_are_figures_too(table: Path, data: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "results", table.read_text()
    paper = "[paper.cross-entropy.Fake]\nflowers = 43.0\nbottles = 57.0\n"
    budget = Budget(share=0.1, seeds=1, only=("cross-entropy",))
    table.write_text(
        text.replace("record", 'figure = "answers"\nasked = "tulip"\nrecord', 1) + paper
    )
    fill(table, data, out, budget)
    fake = next(line for line in lines(out) if (line["method"], line["problem"])[1] == "Fake")
    assert fake["flowers, paper"] == 43.0
    assert fake["flowers"]["mean"] + fake["bottles"]["mean"] == pytest.approx(1.0)
    report = json.loads(report_of(out / "runs" / fake["runs"][0]).read_text())
    tulips = report["subclasses"]["cifar100/tulip"]
    assert fake["bottles"]["mean"] == tulips["accuracy"]
    assert tulips["photos"] == sum(tulips["answers"].values()) == 6
    table.write_text(text.replace("record", 'figure = "superclasses"\nrecord', 1) + paper)
    fill(table, data, out, budget)
    flowers = [line for line in lines(out) if line.get("superclass") == "flowers"]
    shares = [line["share"]["mean"] for line in flowers]
    assert shares == [0.75, 0.5]  # three and two of four subclasses
    assert (out / "tiny-table-richness.png").stat().st_size > 10_000
    told = "![accuracy of superclasses against how rich they are](tiny-table-richness.png)"
    assert told in (out / "tiny-table.md").read_text()


def test_a_superclass_that_has_no_photo_of_test_has_empty_cells(
    table: Path, data: Path, tmp_path: Path
) -> None:
    own, bottle = tmp_path / "own", fine_names().index("bottle")
    shutil.copytree(data, own)
    test = own / FOLDER / "test.bin"
    rows = np.fromfile(test, dtype=np.uint8).reshape(-1, 2 + 3 * 32 * 32)
    rows[rows[:, 1] != bottle].tofile(test)
    table.write_text(table.read_text().replace("record", 'figure = "superclasses"\nrecord', 1))
    text = fill(table, own, tmp_path / "results", Budget(share=0.1, seeds=1, only=("SCLRE real",)))
    assert "or have no photo of test" in text
    (bottles,) = [
        line for line in lines(tmp_path / "results") if line.get("superclass") == "bottles"
    ]
    assert bottles["share"]["mean"] == 0.0
    assert bottles["accuracy (bank)"] is None
    assert bottles["their spread"] is None


def test_a_bank_curve_is_a_table_too(table: Path, data: Path, tmp_path: Path) -> None:
    out, text = tmp_path / "results", table.read_text()
    table.write_text(text.replace("record", 'figure = "bank-curve"\nrecord', 1))
    fill(table, data, out, Budget(share=0.1, seeds=1, only=("sclre real",)))
    curve = [line for line in lines(out) if "items" in line]
    assert {line["choice"] for line in curve} == {"random", "centroids", "herding"}
    assert all(0 <= line["accuracy (bank)"]["mean"] <= 1 for line in curve)


@pytest.mark.parametrize("figure", ["superclasses", "bank-curve"])
def test_what_was_not_run_has_a_line_with_empty_cells(
    figure: str, table: Path, data: Path, tmp_path: Path
) -> None:
    table.write_text(table.read_text().replace("record", f'figure = "{figure}"\nrecord', 1))
    text = fill(table, data, tmp_path / "results", dry=True)
    assert "| method | problem | seeds | epochs |\n|---|---|---|---|\n" in text
    assert "| SCLRE | Real | 0 | 1 |" in text
    assert not [*(tmp_path / "results").glob("*.png")]


@pytest.mark.parametrize(
    ("before", "after", "told"),
    [
        ("[94.0, 43.5]", "[94.0]", r"rows\.cross-entropy\.paper: expected a figure for each of 2"),
        ('first_stage = "cross-entropy"', 'first_stage = "SCLRE"', "a row above it, got 'SCLRE'"),
        ('{ superclasses = "isotropy" }', "{ }", "expected superclasses in the row cross-entropy"),
        ("title", "titel", "titel: Extra inputs|title: Field required"),
        ("[rows]", "[rows", "is not TOML"),
        ('["method=sclre"]', '["method=slcre"]', "method: .* got 'slcre'"),
    ],
)
def test_a_table_that_makes_no_sense_is_refused(
    table: Path, tmp_path: Path, before: str, after: str, told: str
) -> None:
    table.write_text(table.read_text().replace(before, after))
    with pytest.raises(ConfigError, match=told):
        plan(read_table(str(table)), tmp_path, [], ONE)


def test_an_unknown_table_names_the_known_ones() -> None:
    with pytest.raises(ConfigError, match=r"one of ablation, bank-curve, .*table-6, got 'table-7'"):
        read_table("table-7")


def test_the_command_plans_fills_and_says_how_to_go_on(
    table: Path, data: Path, tmp_path: Path
) -> None:
    app = typer.Typer()
    register(app)
    arguments = [
        *("reproduce", str(table), "--data", str(data), "--out", str(tmp_path / "results")),
        *("--budget", "0.1", "--seeds", "1", "--only", "cross-entropy real", "--device", "cpu"),
    ]
    planned = CliRunner().invoke(app, [*arguments, "--dry-run"])
    assert planned.exit_code == 0, planned.output
    assert "to do  cross-entropy-real, seed 0" in planned.output
    with signal_in_step(1, signal.SIGINT):
        stopped = CliRunner().invoke(app, arguments)
    assert stopped.exit_code == 130
    assert "the same command goes on" in stopped.output
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0, done.output
    assert "1 of 8 runs are done" in done.output


def test_a_run_that_is_done_but_was_made_by_another_record_is_not_passed_off_as_this_one(
    table: Path, data: Path, tmp_path: Path
) -> None:
    out, budget = tmp_path / "results", Budget(share=0.1, seeds=1, only=("sclre real",))
    fill(table, data, out, budget)
    (folder,) = (out / "runs").iterdir()
    record = json.loads((folder / checkpoint.RECORD).read_text())
    record["config"]["train"]["momentum"] = 0.5  # as if that had been the default once
    checkpoint.write_json(folder / checkpoint.RECORD, record)
    with pytest.raises(RunError, match=r"another record: train\.momentum was 0\.5 and is 0\.9"):
        fill(table, data, out, budget)


def test_a_run_that_is_done_but_of_other_photos_is_not_passed_off_as_of_these(
    table: Path, data: Path, tmp_path: Path
) -> None:
    out, budget = tmp_path / "results", Budget(share=0.1, seeds=1, only=("sclre real",))
    fill(table, data, out, budget)
    (tmp_path / "others").mkdir()
    others = write_cifar(tmp_path / "others", {"train": 40, "test": 5})
    with pytest.raises(RunError, match="was made of other photos than those of"):
        fill(table, others, out, budget)


def test_a_wish_that_no_cell_matches_is_told_and_a_missing_folder_too(
    table: Path, data: Path, tmp_path: Path
) -> None:
    nothing = Budget(seeds=1, only=("georg fake",))
    with pytest.raises(ConfigError, match=r"no cell of tiny-table matches georg fake; .*GEORGE"):
        fill(table, data, tmp_path / "out", nothing, dry=True)
    with pytest.raises(DataError, match=r"expected a folder of photos, got .*nowhere"):
        fill(table, tmp_path / "nowhere", tmp_path / "out", dry=True)
    assert not (tmp_path / "out").exists()


def test_what_a_wanted_cell_begins_with_is_planned_however_far_back(
    table: Path, data: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    firsts = 'first_stage = "SCLRE", weights = "SimCLR, fine-tuned"'
    last = f'Tuned = {{ set = ["method=george"], {firsts} }}'
    table.write_text(table.read_text() + last + "\n")
    wanted = Budget(share=0.1, seeds=1, only=("tuned fake",))
    fill(table, data, tmp_path / "out", wanted, dry=True)
    planned = [line.split(None, 2)[2] for line in capsys.readouterr().out.splitlines()]
    rows = ("cross-entropy", "simclr-fine-tuned", "sclre", "tuned")
    assert planned == [f"{row}-fake, seed 0" for row in rows]
