"""The command line: answers for files, lists of bundles, and commands of other packages."""

from __future__ import annotations

import json
import os
import pty
import subprocess
import sys
from contextlib import suppress
from importlib.metadata import EntryPoint, version
from pathlib import Path
from typing import Any

import pytest
import typer
from typer.testing import CliRunner

from service import cli
from service.composition.store import CompositionStore
from service.composition.tally import Tally
from service.tags import UNTOLD
from tests.composition import answered
from tests.photo_factory import noise
from tests.tiny_bundle import add_guide, write_bundle
from tests.tiny_site import write_site

PHOTOS = Path(__file__).parent.parent / "photos"
runner = CliRunner()


@pytest.fixture(autouse=True)
def _settings(monkeypatch: pytest.MonkeyPatch, models_dir: Path) -> None:
    monkeypatch.setenv("SUPERBIN_MODELS_DIR", str(models_dir))
    monkeypatch.setenv("SUPERBIN_MODEL", "tiny")


def test_files_are_classified_without_a_server_and_bad_ones_named(tmp_path: Path) -> None:
    bad = tmp_path / "bad.jpg"
    bad.write_bytes(noise(1)[:-300])
    missing = tmp_path / "missing.jpg"
    paths = [str(PHOTOS / "glass.jpg"), str(bad), str(missing), str(PHOTOS / "metal.jpg")]
    result = runner.invoke(cli.app, ["classify", *paths, "--json"])
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["photo"] for line in lines] == paths
    assert ["superclass" in line for line in lines] == [True, False, False, True]
    assert "do not decode" in lines[1]["error"]
    assert "No such file" in lines[2]["error"]
    assert sum(lines[0]["probabilities"].values()) == pytest.approx(1, abs=1e-5)


def test_a_table_is_for_people(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["classify", str(PHOTOS / "glass.jpg"), "/dev/null"])
    assert result.exit_code == 1
    assert "superclass" in result.stdout
    assert "/dev/null" not in result.stdout
    assert result.stderr == "error: /dev/null: expected a file, and this is no regular one\n"


def in_ascii(*words: str | bytes | Path, encoding: str = "ascii") -> Any:
    """The command where stdout takes another encoding than file names have."""
    return subprocess.run(
        [sys.executable, "-c", "from service.cli import main; main()", *words],
        env=os.environ
        | {"LC_ALL": "C", "PYTHONUTF8": "0", "PYTHONIOENCODING": encoding, "COLUMNS": "300"},
        capture_output=True,
    )


@pytest.mark.parametrize("encoding", ["ascii", "utf-8"])
def test_a_name_that_the_terminal_has_no_letters_for_is_shown_all_the_same(
    tmp_path: Path, models_dir: Path, encoding: str
) -> None:
    photo = os.fsencode(tmp_path) + b"/a\xff.jpg"
    Path(os.fsdecode(photo)).write_bytes((PHOTOS / "glass.jpg").read_bytes())
    shown = in_ascii("classify", photo, encoding=encoding)
    assert (shown.returncode, shown.stderr) == (0, b"")
    assert b"/a\\udcff.jpg" in shown.stdout


def test_json_holds_every_name_whatever_letters_the_terminal_has(
    tmp_path: Path, models_dir: Path
) -> None:
    name = "müll\udcff"
    in_c = os.fsencode(name).decode("ascii", "surrogateescape")  # as LC_ALL=C has it
    photo, broken = tmp_path / f"{name}.jpg", tmp_path / "models" / name / "1"
    photo.write_bytes((PHOTOS / "glass.jpg").read_bytes())
    broken.mkdir(parents=True)
    (broken / "manifest.json").write_text("{")
    write_site(tmp_path)

    def told(*words: str | Path) -> Any:
        shown = in_ascii(*words, "--json")
        assert b"Traceback" not in shown.stderr
        return json.loads(shown.stdout)

    assert Path(told("classify", photo)["photo"]).stem == in_c
    assert told("models", "--models-dir", tmp_path / "models")["name"] == in_c
    assert told("sites", "--sites-dir", tmp_path)["bins"]["rest"]["name"]["de"] == "Restmüll"


def test_a_report_is_escaped_as_json_and_refused_as_csv_where_the_terminal_lacks_letters(
    tmp_path: Path,
) -> None:
    url = f"sqlite:///{tmp_path}/counts.db"
    tally = Tally(max_places=8, max_keys=8, now=lambda: 1_700_000_000.0)
    tally.count(answered(superclass="müll"), UNTOLD, "tiny/1")
    batch = tally.take()
    assert batch is not None
    store = CompositionStore(url)
    store.add("a test", batch)
    store.close()
    words = ("report", "--url", url, "--from", "2020-01-01", "--to", "2100-01-01", "--by", "bin")
    shown = in_ascii(*words, "--format", "json")
    assert [row["bin"] for row in json.loads(shown.stdout)["rows"]] == ["müll"]
    refused = in_ascii(*words, "--format", "csv")
    assert refused.returncode == 1
    told = b"superbin: stdout takes ascii and has no letter for '\\xfc': name a file with --out"
    assert refused.stderr.startswith(told)


def test_a_guide_has_its_place_among_what_was_looked_at(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("SUPERBIN_MODELS_DIR", str(tmp_path))
    add_guide(write_bundle(tmp_path))
    words = ["classify", str(PHOTOS / "glass.jpg")]
    (answer,) = map(json.loads, runner.invoke(cli.app, [*words, "--json"]).stdout.splitlines())
    table = runner.invoke(cli.app, words).stdout
    assert f'guide ("paint can") {answer["self_weight"]:.0%}' in table
    assert answer["self_weight"] >= answer["references"][2]["weight"]  # else it would not be there


def test_a_narrow_terminal_cuts_no_name() -> None:
    photo = PHOTOS / "cardboard.jpg"
    shown = on_a_terminal("classify", str(photo), columns=60)
    assert "\N{HORIZONTAL ELLIPSIS}" not in shown
    cells = "".join(line.split("│")[1].strip() for line in shown.splitlines() if "│" in line)
    assert cells == str(photo)


def on_a_terminal(*words: str, columns: int) -> str:
    """What the command writes to a real terminal."""
    ours, its = pty.openpty()
    with os.fdopen(ours, "rb", buffering=0) as screen:
        told = subprocess.Popen(
            [sys.executable, "-c", "from service.cli import main; main()", *words],
            stdout=its,
            env=os.environ | {"COLUMNS": str(columns), "NO_COLOR": "1"},
        )
        os.close(its)
        shown = b""
        with suppress(OSError):  # the end of a terminal whose other side is closed
            while part := screen.read(65536):
                shown += part
        assert told.wait() == 0
    return shown.decode()


def test_a_pipe_gets_each_row_in_one_line_and_why_it_is_for_a_person(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    monkeypatch.setenv("SUPERBIN_DOUBTS", "too_dark=255")
    photo = tmp_path / f"{'long' * 40}.jpg"
    photo.write_bytes((PHOTOS / "cardboard.jpg").read_bytes())
    result = runner.invoke(cli.app, ["classify", str(photo)])
    assert result.exit_code == 0, result.output
    (row,) = [line for line in result.stdout.splitlines() if str(photo) in line]
    assert "manual: too_dark" in row


def test_good_photos_alone_give_status_0() -> None:
    result = runner.invoke(cli.app, ["classify", str(PHOTOS / "paper.jpg"), "--model", "tiny/1"])
    assert result.exit_code == 0


def test_a_model_that_is_not_there_is_told_in_a_line() -> None:
    result = runner.invoke(cli.app, ["classify", str(PHOTOS / "paper.jpg"), "--model", "none/7"])
    assert result.exit_code == 1
    assert "which has: tiny/1" in result.stderr


def test_bundles_are_listed_with_their_state(tmp_path: Path) -> None:
    write_bundle(tmp_path)
    (write_bundle(tmp_path, version="2") / "CARD.md").write_text("altered")
    result = runner.invoke(cli.app, ["models", "--models-dir", str(tmp_path), "--json"])
    assert result.exit_code == 1
    first, second = map(json.loads, result.stdout.splitlines())
    assert first["version"] == "1"
    assert first["default"]  # the newest sound one
    assert not second["default"]
    assert "expected SHA-256" in second["error"]
    shown = runner.invoke(cli.app, ["models", "--models-dir", str(tmp_path)])
    assert "verified" in shown.stdout
    assert "broken" in shown.stdout
    assert "error: tiny/2: CARD.md: expected SHA-256" in shown.stderr


def test_no_bundles_are_said_to_be_none(tmp_path: Path) -> None:
    result = runner.invoke(cli.app, ["models", "--models-dir", str(tmp_path)])
    assert result.exit_code == 0
    assert "No bundles" in result.stderr
    missing = runner.invoke(cli.app, ["models", "--models-dir", str(tmp_path / "nowhere")])
    assert missing.exit_code == 1
    assert "expected a folder of bundles" in missing.stderr


def _greeting(to: typer.Typer) -> None:
    to.command("greet")(lambda: print("hello"))


def test_other_packages_add_commands_and_a_broken_one_only_loses_its_own(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    entries = [
        EntryPoint("absent", "no_such_package.cli:register", cli.GROUP),
        EntryPoint("greeting", f"{__name__}:_greeting", cli.GROUP),
    ]
    monkeypatch.setattr(EntryPoint, "load", lambda self: _load(self))
    monkeypatch.setattr(cli, "entry_points", lambda group: entries)
    app = typer.Typer()
    app.command("other")(lambda: None)
    notes = cli.add_commands(app)
    assert len(notes) == 1
    assert "the commands of 'absent' are not available: No module" in notes[0]
    assert runner.invoke(app, ["greet"]).stdout == "hello\n"


def _load(entry: EntryPoint) -> object:
    if entry.name == "greeting":
        return _greeting
    raise ModuleNotFoundError("No module named 'no_such_package'")


def test_help_imports_nothing_heavy() -> None:
    script = (
        "import sys; from service import cli; cli.entry_points = lambda group: []\n"
        "try: cli.main(['--help'])\n"
        "except SystemExit: pass\n"
        "heavy = {'fastapi', 'numpy', 'onnxruntime', 'pydantic', 'PIL', 'uvicorn', 'torch'}\n"
        "sys.exit(', '.join(heavy & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr
    assert "classify" in found.stdout


def test_serving_needs_no_torch_and_no_training() -> None:
    script = (
        "import sys, service.server, service.app, service.classification\n"
        "sys.exit(', '.join({'torch', 'training', 'onnx'} & set(sys.modules)) or 0)"
    )
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True)
    assert found.returncode == 0, found.stderr


def test_the_command_says_its_version() -> None:
    result = runner.invoke(cli.app, ["--version"])
    assert (result.exit_code, result.stdout) == (0, f"superbin {version('superbin')}\n")
