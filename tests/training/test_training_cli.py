"""The training commands as a user meets them, in processes of their own."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service.locks import locked
from tests.training_runs import toml
from training import checkpoint
from training.cli import register

SUPERBIN = str(Path(sys.executable).with_name("superbin"))
WITHOUT_TORCH = """
import sys

class NoTorch:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] == "torch":
            raise ModuleNotFoundError("No module named 'torch'", name="torch")

sys.meta_path.insert(0, NoTorch())
"""


def superbin(*arguments: str, path: Path | None = None) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "200", "NO_COLOR": "1"}
    if path is not None:
        environment["PYTHONPATH"] = str(path)
    return subprocess.run(
        [SUPERBIN, *arguments], capture_output=True, text=True, env=environment, check=False
    )


@pytest.fixture
def record(tmp_path: Path, tiny_record: Callable[..., dict[str, Any]]) -> Path:
    file = tmp_path / "tiny.toml"
    file.write_text(toml(tiny_record(backbone={"pretrained": True}, train={"epochs": 8})))
    return file


def invoke(*arguments: str) -> tuple[int, str]:
    """The same commands in this process, where no process of their own is needed."""
    app = typer.Typer()
    register(app)
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.output


def test_ctrl_c_saves_the_run_and_says_how_to_go_on_and_that_finishes_it(
    make_dataset: Callable[..., Path], record: Path, tmp_path: Path
) -> None:
    data, out = make_dataset(), tmp_path / "run"
    arguments = ["train", str(record), "--data", str(data), "--out", str(out)]
    arguments += ["--set", "train.precision=fp32", "--device", "cpu"]
    process = subprocess.Popen(
        [SUPERBIN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    assert process.stdout.readline().startswith("step 3: val accuracy")  # of 24
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    step = checkpoint.load(out / checkpoint.CHECKPOINT)["progress"]["step"]
    assert 3 <= step < 24
    assert f"stopped at step {step} of 24, all of it saved. To go on:" in errors
    command = errors.strip().splitlines()[-1].strip()
    assert command == " ".join(["superbin", *arguments, "--resume"])
    assert not (out / checkpoint.MODEL).exists()

    resumed = superbin(*command.split()[1:])
    assert resumed.returncode == 0, resumed.stderr
    assert f"Next: superbin calibrate {out} --data {data}, then" in resumed.stdout
    history = [json.loads(line) for line in (out / checkpoint.HISTORY).read_text().splitlines()]
    assert [line["step"] for line in history] == list(range(3, 25, 3))
    _, state = checkpoint.load_model(out)
    assert len(state["bank"]) == 6
    written = checkpoint.read_record(out)
    assert written["command"] == " ".join(["superbin", *arguments])
    assert written["dataset"]["photos"] == 39


def test_ctrl_c_before_the_first_step_says_how_to_go_on_too(
    make_dataset: Callable[..., Path], record: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["train", str(record), "--data", str(make_dataset()), "--out", str(out)]
    process = subprocess.Popen([SUPERBIN, *arguments], stderr=subprocess.PIPE, text=True)
    while not (out / checkpoint.RECORD).exists():
        assert process.poll() is None
        time.sleep(0.001)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate()
    assert process.returncode == 130, errors
    assert "Traceback" not in errors
    assert errors.strip().splitlines()[-1].strip() == " ".join(["superbin", *arguments, "--resume"])


@pytest.mark.parametrize("review", [[], ["--from-review", "reviewed"]])
def test_a_folder_of_review_photos_without_a_store_is_refused_but_in_the_environment(
    review: list[str],
    make_dataset: Callable[..., Path],
    record: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    told = "--review-photos says where the photos of a review store lie: expected --from-review"
    trained = ["train", str(record), "--data", str(make_dataset()), "--out", str(tmp_path / "run")]
    trained += ["--set", "seed=-1"]
    versions = [["correct", "models/x/1"], ["promote", "models/x/2", "--over", "x", "--data", "y"]]
    for words in (trained, *versions):
        code, output = invoke(*words, *review, "--review-photos", "kept")
        assert code == 2
        assert told in output
    monkeypatch.setenv("SUPERBIN_REVIEW_PHOTOS", "kept")
    code, output = invoke(*trained, *review)
    assert code == 2
    assert "seed: " in output
    assert told not in output


def test_a_run_that_never_began_leaves_its_folder_free(
    make_dataset: Callable[..., Path], record: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["train", str(record), "--data", str(make_dataset()), "--out", str(out)]
    arguments += ["--set", "train.epochs=0.3", "--device", "cpu"]
    out.mkdir()
    (out / checkpoint.RECORD).write_text("{}")  # as after Ctrl-C while photos were decoded
    code, output = invoke(*arguments)
    assert code == 0, output
    assert checkpoint.read_config(out).name


def test_a_run_is_not_overwritten_nor_resumed_with_another_record_or_over_other_photos(
    make_dataset: Callable[..., Path], record: Path, tmp_path: Path
) -> None:
    data, out = make_dataset(), tmp_path / "run"
    arguments = ["train", str(record), "--data", str(data), "--out", str(out)]
    arguments += ["--set", "train.epochs=0.3", "--device", "cpu"]
    assert invoke(*arguments)[0] == 0
    before = {file: file.read_bytes() for file in out.iterdir()}
    code, output = invoke(*arguments)
    assert code == 2
    assert "already holds a run; add --resume" in output
    code, output = invoke(*arguments, "--set", "seed=1")
    assert code == 2
    assert "already holds a run, of another record; name another folder" in output
    code, output = invoke(*arguments, "--set", "seed=1", "--resume")
    assert code == 2
    assert "was started with another record: seed was 0 and is 1" in output
    labels = (data / "labels.csv").read_text()
    (data / "labels.csv").write_text(labels.replace("moss,train", "amber,train", 1))
    code, output = invoke(*arguments, "--resume")
    assert code == 2
    assert "has changed since" in output
    assert {file: file.read_bytes() for file in out.iterdir()} == before


def test_a_folder_is_trained_into_by_one_process_at_a_time(
    make_dataset: Callable[..., Path], record: Path, tmp_path: Path
) -> None:
    out = tmp_path / "run"
    arguments = ["train", str(record), "--data", str(make_dataset()), "--out", str(out)]
    arguments += ["--set", "train.epochs=0.3", "--device", "cpu"]
    with locked(out):
        code, output = invoke(*arguments)
        assert code == 2
        assert f"another process is at work on {out}" in output
        assert not (out / checkpoint.RECORD).exists()
    assert invoke(*arguments)[0] == 0


@pytest.mark.parametrize(
    ("change", "expected"),
    [
        (["--set", "train.epoch=1"], "train.epoch: no such key, did you mean epochs?"),
        (["--set", "backbone.name=resnet19"], "backbone.name: Input should be 'resnet18'"),
        (["--device", "cuda:99"], "'cuda:99' was asked for"),
        (["--data", "nowhere"], "expected a folder of photos, got nowhere"),
        (["--resume"], "expected a run folder with a record.json"),
    ],
)
def test_a_users_mistake_is_explained_in_one_line_with_status_2(
    make_dataset: Callable[..., Path],
    record: Path,
    tmp_path: Path,
    change: list[str],
    expected: str,
) -> None:
    arguments = ["train", str(record), "--data", str(make_dataset()), "--out", str(tmp_path / "r")]
    code, output = invoke(*arguments, *change)
    assert code == 2
    assert expected in output
    assert "Traceback" not in output
    *progress, message = output.strip().splitlines()
    assert message.startswith("error: ")
    assert all(line.startswith("decoding: ") for line in progress)


@pytest.fixture
def without_torch(tmp_path: Path) -> Path:
    """A folder that, on PYTHONPATH, makes torch impossible to import."""
    folder = tmp_path / "blocked"
    folder.mkdir()
    (folder / "sitecustomize.py").write_text(WITHOUT_TORCH)
    return folder


def test_without_torch_train_says_what_to_install(without_torch: Path, tmp_path: Path) -> None:
    got = superbin("train", "x", "--data", "y", "--out", str(tmp_path / "z"), path=without_torch)
    assert got.returncode == 2
    assert "needs torch, which is not installed" in got.stderr
    assert "pip install -c constraints.txt -e '.[cpu,train]'" in got.stderr
    assert "Traceback" not in got.stderr


def test_without_torch_help_and_models_work(without_torch: Path, tmp_path: Path) -> None:
    helped = superbin("--help", path=without_torch)
    assert helped.returncode == 0, helped.stderr
    for command in ("train", "evaluate", "calibrate", "export", "serve", "classify", "models"):
        assert command in helped.stdout
    assert helped.stderr == ""
    listed = superbin("models", "--models-dir", str(tmp_path), path=without_torch)
    assert listed.returncode == 0, listed.stderr


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["evaluate", "--help"]])
def test_help_imports_nothing_heavy(arguments: list[str]) -> None:
    script = (
        "import sys\n"
        "from service.cli import main\n"
        "try:\n"
        f"    main({arguments!r})\n"
        "except SystemExit as end:\n"
        "    assert not end.code, end.code\n"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}), file=sys.stderr)\n"
    )
    got = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    loaded = set(got.stderr.split())
    assert "typer" in loaded
    heavy = {"torch", "numpy", "onnxruntime", "fastapi", "PIL", "sklearn", "scipy", "uvicorn"}
    assert loaded.isdisjoint(heavy), loaded & heavy


def test_a_path_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    file = tmp_path / "a-file"
    file.touch()
    got = superbin("reproduce", "table-3", "--data", str(tmp_path), "--out", str(file / "below"))
    assert got.returncode == 1
    assert got.stderr == f"superbin: {file / 'below'}: Not a directory\n"
