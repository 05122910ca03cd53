"""Embeddings on a plane: the same each time, of few photos too, and with or without umap-learn."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import typer
from PIL import Image
from typer.testing import CliRunner

from tests.training_runs import run
from training.checkpoint import RECORD, read_record, write_json
from training.cli import register
from training.data.photos import read_photos
from training.embedding_figures import draw_embedding, draw_subclasses, look_of
from training.evaluate import evaluate_target
from training.outcome import Outcome
from training.projection import BY_TSNE, BY_UMAP, project
from training.side_by_side import Panel, draw_side_by_side
from training.subclass_points import POINTS, SubclassPoints, read_points
from training.table_pictures import draw_pictures, panels_of
from training.table_report import picture_names, report_of
from training.tables import Budget, Run, plan, read_table

BOTH = [BY_TSNE, BY_UMAP]
PICTURES = ["embedding.png", "subclasses.png"]
BY_UMAP_TOO = ["embedding-umap.png", "subclasses-umap.png"]
WITHOUT_UMAP = """
import sys

class NoUmap:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "umap":
            raise ModuleNotFoundError("No module named 'umap'", name="umap")

sys.meta_path.insert(0, NoUmap())
"""
SUPERBIN = str(Path(sys.executable).with_name("superbin"))


def unit(photos: int, seed: int = 0) -> np.ndarray:
    values = np.random.default_rng(seed).normal(size=(photos, 16)).astype(np.float32)
    return values / np.linalg.norm(values, axis=1, keepdims=True)


def superbin(*arguments: str | Path, path: Path) -> subprocess.CompletedProcess[str]:
    """A process of its own, with what `path` has in place of what is installed."""
    inherited = os.environ.get("PYTHONPATH")
    found = os.pathsep.join([str(path), *([inherited] if inherited else [])])
    return subprocess.run(
        [SUPERBIN, *map(str, arguments)],
        capture_output=True,
        text=True,
        env={**os.environ, "PYTHONPATH": found, "COLUMNS": "200", "NO_COLOR": "1"},
        check=False,
    )


def compare(*arguments: str | Path) -> tuple[int, str]:
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, ["compare", *map(str, arguments)])
    return result.exit_code, result.output


@pytest.fixture
def data(make_dataset: Callable[..., Path]) -> Path:
    return make_dataset(test=12)  # of each superclass, fewer than UMAP's neighbours


@pytest.fixture
def trained(data: Path, tmp_path: Path, tiny_config: Callable[..., Any]) -> Path:
    run(tiny_config(train={"epochs": 0.3}), read_photos(data), tmp_path / "run")
    return tmp_path / "run"


def another(trained: Path, out: Path, **changes: Any) -> Path:
    """A copy of a run, as if it were of another record."""
    shutil.copytree(trained, out)
    record = read_record(out)
    write_json(out / RECORD, {**record, "config": {**record["config"], **changes}})
    return out


@pytest.mark.parametrize("photos", [3, 10, 15, 40])
def test_a_projection_is_the_same_each_time(photos: int) -> None:
    once = project(unit(photos))
    np.random.seed(photos)
    torch.manual_seed(photos)
    again = project(unit(photos))
    assert list(once) == BOTH
    for method in BOTH:
        assert once[method].shape == (photos, 2)
        assert np.isfinite(once[method]).all()
        np.testing.assert_array_equal(once[method], again[method])


def test_embeddings_that_are_all_alike_are_laid_out_too() -> None:
    for plane in project(np.repeat(unit(1), 20, axis=0)).values():
        assert np.isfinite(plane).all()


def test_groups_stay_groups() -> None:
    centres, groups = np.eye(4, 16), np.repeat(np.arange(4), 25)
    noise = np.random.default_rng(0).normal(scale=0.02, size=(100, 16))
    for method, plane in project((centres[groups] + noise).astype(np.float32)).items():
        apart = np.linalg.norm(plane[:, None] - plane[None], axis=2)
        np.fill_diagonal(apart, np.inf)
        assert (groups[apart.argmin(axis=1)] == groups).all(), method


def test_an_evaluation_draws_both_and_the_same_ones_again(data: Path, trained: Path) -> None:
    folder = trained / "evaluation-test"
    evaluate_target(trained, data, "test", None, None, "cpu")
    before = {name: (folder / name).read_bytes() for name in [*PICTURES, *BY_UMAP_TOO, POINTS]}
    for name in [*PICTURES, *BY_UMAP_TOO]:
        with Image.open(folder / name) as picture:
            assert np.asarray(picture.convert("L")).std() > 5  # not blank
    points = read_points(folder)
    assert points is not None
    assert list(points.planes) == BOTH
    assert sorted(set(points.subclasses)) == ["amber-0", "amber-1"]
    assert len(set(points.photos)) == len(points.planes[BY_UMAP]) == 12
    evaluate_target(trained, data, "test", None, None, "cpu")
    assert {name: (folder / name).read_bytes() for name in before} == before


def test_nothing_of_umap_reaches_people(data: Path, trained: Path, tmp_path: Path) -> None:
    done = superbin("evaluate", trained, "--data", data, "--device", "cpu", path=tmp_path)
    assert done.returncode == 0, done.stderr
    told = done.stdout + done.stderr
    assert not [word for word in ("Warn", "warn", "UMAP", "umap-learn", "numba") if word in told]
    assert (trained / "evaluation-test" / "subclasses-umap.png").is_file()


def test_torch_keeps_its_threads() -> None:
    """numba takes all cores; where a process was given one, the next run would take far longer."""
    asked = """
import torch
from training.projection import project
project(torch.rand(40, 4).numpy())
print(torch.get_num_threads())
"""
    command = [sys.executable, "-c", asked]
    environment = os.environ | {"OMP_NUM_THREADS": "1"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["1"]


def test_without_umap_one_line_says_how_to_get_it(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    folder = trained / "evaluation-test"
    folder.mkdir()
    for name in BY_UMAP_TOO:
        (folder / name).write_text("of an earlier evaluation")
    (tmp_path / "blocked").mkdir()
    (tmp_path / "blocked" / "sitecustomize.py").write_text(WITHOUT_UMAP)
    arguments = ["evaluate", trained, "--data", data, "--device", "cpu"]
    done = superbin(*arguments, path=tmp_path / "blocked")
    assert done.returncode == 0, done.stderr
    assert [line for line in done.stdout.splitlines() if "umap-learn" in line] == [
        "UMAP pictures need umap-learn, which is not installed: .venv/bin/pip install "
        "-c constraints.txt -e '.[umap]' in the repository"
    ]
    assert all((folder / name).is_file() for name in PICTURES)
    assert not any((folder / name).exists() for name in BY_UMAP_TOO)
    points = read_points(folder)
    assert points is not None
    assert list(points.planes) == [BY_TSNE]


def test_numba_is_not_loaded_before_a_picture_is_drawn() -> None:
    code = "import sys, training.evaluate, training.compare; sys.exit('numba' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


def test_compare_puts_runs_beside_each_other(data: Path, trained: Path, tmp_path: Path) -> None:
    picture = tmp_path / "subclasses.png"
    evaluate_target(trained, data, "test", None, None, "cpu")
    arguments = (trained, another(trained, tmp_path / "other", seed=1), "--picture", picture)
    code, output = compare(*arguments)
    assert code == 0, output
    assert "| tiny | bank (served) | accuracy |" in output
    assert f"picture: {picture}" in output
    with Image.open(picture) as drawn:
        assert drawn.width > drawn.height / 2
    (trained / "evaluation-test" / POINTS).unlink()
    code, output = compare(*arguments)
    assert code == 2
    assert f"superbin evaluate {trained} --split test keeps them" in " ".join(output.split())


@pytest.mark.parametrize("name", ["subclasses.jpg", "nowhere/subclasses.png"])
def test_a_picture_that_cannot_be_written_is_refused(
    name: str, data: Path, trained: Path, tmp_path: Path
) -> None:
    evaluate_target(trained, data, "test", None, None, "cpu")
    code, output = compare(trained, "--picture", tmp_path / name)
    assert code == 2
    assert "expected a name that ends in .png, in a folder, got" in " ".join(output.split())


def test_runs_on_other_photos_are_not_put_beside_each_other(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    evaluate_target(trained, data, "test", None, None, "cpu")
    picture = tmp_path / "subclasses.png"
    other = another(trained, tmp_path / "other", seed=1)
    points = read_points(other / "evaluation-test")
    assert points is not None
    replace(points, photos=points.photos[::-1]).write(other / "evaluation-test")
    code, output = compare(trained, other, "--picture", picture)
    assert code == 2
    assert "expected runs that were evaluated on the same photos" in " ".join(output.split())
    assert not picture.exists()


def test_only_runs_of_one_record_and_the_same_photos_are_its_seeds(
    data: Path, trained: Path, tmp_path: Path
) -> None:
    evaluate_target(trained, data, "test", None, None, "cpu")
    code, output = compare(trained, trained)
    assert code == 2
    assert "expected each seed of tiny once, got seed 0 in" in " ".join(output.split())
    seed = another(trained, tmp_path / "seed", seed=1)
    bank = another(trained, tmp_path / "bank", seed=1, bank={"size": 9})
    code, output = compare(trained, seed, bank)
    assert code == 0, output
    rows = [line for line in output.splitlines() if "bank (served) | accuracy" in line]
    assert [row.partition(" | ")[0] for row in rows] == [
        "| tiny (bank.size=6)",
        "| tiny (bank.size=9)",
    ]
    assert [row.rpartition(" | ")[2].count("%") for row in rows] == [2, 1]
    report = seed / "evaluation-test" / "report.json"
    figures = json.loads(report.read_text())
    write_json(report, {**figures, "dataset": {"name": "photos", "labels_sha256": "0"}})
    code, output = compare(trained, seed)
    assert code == 2
    assert "expected runs that were evaluated on the same photos of test" in " ".join(
        output.split()
    )


def panel(title: str, planes: list[str], subclasses: int = 5, photos: int = 60) -> Panel:
    random = np.random.default_rng(len(title))
    points = SubclassPoints(
        "animals",
        "test",
        tuple(f"{i}.jpg" for i in range(photos)),
        tuple(f"kind {i % subclasses}" for i in range(photos)),
        {name: random.normal(size=(photos, 2)) for name in planes},
    )
    return Panel(title, points, 0.25)


@pytest.mark.parametrize("runs", [1, 2, 4, 5, 9])
def test_every_run_has_a_panel_for_each_method_with_every_photo(runs: int) -> None:
    panels = [panel(f"run-{'x' * i}", BOTH) for i in range(runs)]
    figure = draw_side_by_side(panels)
    shown = [axes for axes in figure.axes if axes.axison]
    assert len(shown) == 2 * runs
    titles = [axes.get_title() for axes in shown if axes.get_title()]
    assert titles == [f"{one.title}\nspread 0.25" for one in panels]
    drawn = {
        tuple(np.sort(np.concatenate([c.get_offsets()[:, 0] for c in axes.collections])))
        for axes in shown
    }
    expected = {tuple(np.sort(one.points.planes[m][:, 0])) for one in panels for m in BOTH}
    assert drawn == expected
    assert all(axes.get_xticks().size == axes.get_yticks().size == 0 for axes in shown)
    (legend,) = figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"kind {i}" for i in range(5)]


def test_a_run_that_was_evaluated_without_umap_says_so_in_its_panel() -> None:
    figure = draw_side_by_side([panel("with", BOTH), panel("without", [BY_TSNE])])
    texts = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert texts == ["evaluated without\numap-learn"]
    alone = draw_side_by_side([panel("without", [BY_TSNE])])
    assert len(alone.axes) == 1


def test_legends_have_names_that_begin_with_an_underscore_too() -> None:
    """Matplotlib leaves out labels that do."""
    one = panel("run", BOTH)
    names = {"kind 0": "_kind"}
    subclasses = tuple(names.get(name, name) for name in one.points.subclasses)
    points = replace(one.points, subclasses=subclasses)
    outcome = Outcome(
        target="run",
        split="test",
        superclasses=("_glass", "paper"),
        photos=(),
        labels=np.array([0, 1, 0]),
        logits=np.eye(2)[[0, 1, 1]],
        embedding=unit(3),
        calibration=None,
        method="sclre",
    )

    def legend(of: Any) -> list[str]:
        return [text.get_text() for text in of.get_texts()]

    by_superclass = draw_embedding(outcome, np.arange(3), np.eye(3)[:, :2], BY_TSNE)
    assert legend(by_superclass.axes[0].get_legend()) == ["_glass", "paper"]
    of_one = draw_subclasses(points, BY_TSNE)
    expected = ["_kind", *(f"kind {i}" for i in range(1, 5))]
    assert legend(of_one.axes[0].get_legend()) == expected
    side_by_side = draw_side_by_side([replace(one, points=points)])
    assert legend(side_by_side.legends[0]) == expected


def finish(cell: Run, out: Path, spread: float, *, photos: int) -> None:
    """What a run of a table that is done leaves for its picture."""
    folder = report_of(out / "runs" / cell.folder).parent
    folder.mkdir(parents=True)
    report = {"superclasses": {"animals": {"subclass_spread": spread}}}
    (folder / "report.json").write_text(json.dumps(report))
    panel("", BOTH, photos=photos).points.write(folder)


def test_a_table_shows_the_first_seed_of_each_cell_and_the_same_photos(tmp_path: Path) -> None:
    table = read_table("table-6")
    runs = plan(table, tmp_path, [], Budget(seeds=2))
    assert list(picture_names(table, runs)) == ["table-6-cifar100-4.png", "table-6-cifar100-7.png"]
    mine = [run for run in runs if run.superclasses == "cifar100-4"]
    done = {0: 0.1, 1: 0.2, 3: 0.3, 4: 0.4}  # the second cell has only its second seed; the third
    for place, spread in done.items():  # was evaluated on other photos
        finish(mine[place], tmp_path, spread, photos=59 if place == 4 else 60)
    assert [(one.title, one.spread) for one in panels_of(table, mine, tmp_path)] == [
        ("CIFAR100-4, cross-entropy, ResNet-18", 0.1),
        ("CIFAR100-4, cross-entropy, ResNet-34", 0.3),
    ]
    draw_pictures(table, runs, tmp_path)
    assert [file.name for file in tmp_path.glob("*.png")] == ["table-6-cifar100-4.png"]


def test_columns_of_one_map_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "sizes.toml"
    file.write_text("""
title = "Two sizes"
record = "cifar"
[columns]
small = { superclasses = "cifar100-4", set = ["data.px=16"] }
large = { superclasses = "cifar100-4", set = ["data.px=32"] }
[rows]
cross-entropy = { set = ["method=cross_entropy"] }
""")
    table = read_table(str(file))
    runs = plan(table, tmp_path, [], Budget(seeds=1))
    for run_of, spread in zip(runs, (0.1, 0.2), strict=True):
        finish(run_of, tmp_path, spread, photos=60)
    assert [(one.title, one.spread) for one in panels_of(table, runs, tmp_path)] == [
        ("cross-entropy, small", 0.1),
        ("cross-entropy, large", 0.2),
    ]


def test_many_subclasses_look_different() -> None:
    assert len({tuple(look_of(place).values()) for place in range(63)}) == 63
