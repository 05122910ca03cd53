"""Experiment records: strict, explained, and the shipped ones all sound."""

from __future__ import annotations

import tomllib
from pathlib import Path
from typing import Any

import pytest

from service.preprocess import Preprocessing
from training.config import Config
from training.errors import ConfigError
from training.records import CONFIGS, load_config, parse_config

SHIPPED = sorted(file.stem for file in CONFIGS.glob("*.toml"))


def minimal(tmp_path: Path, text: str = "") -> str:
    file = tmp_path / "mine.toml"
    file.write_text(f'name = "mine"\n{text}')
    return str(file)


@pytest.mark.parametrize("name", SHIPPED)
def test_every_shipped_record_loads_under_its_own_name(name: str) -> None:
    record = load_config(name)
    assert record.name == name
    assert load_config(f"{name}.toml") == record
    assert load_config(str(CONFIGS / f"{name}.toml")) == record


@pytest.mark.parametrize("name", SHIPPED)
def test_a_record_survives_the_json_of_a_run(name: str) -> None:
    record = load_config(name)
    assert parse_config(record.model_dump(mode="json")) == record


@pytest.mark.parametrize("task", sorted(n.removesuffix("-sclre") for n in SHIPPED if "sclre" in n))
def test_sclre_and_its_baseline_share_one_recipe(task: str) -> None:
    ours, baseline = (load_config(f"{task}-{n}").model_dump() for n in ("sclre", "cross-entropy"))
    own = {"name", "method", "bank", "sclre"}
    del ours["train"]["head_lr"], baseline["train"]["head_lr"]  # each head has its own
    assert ours["method"] == "sclre"
    assert baseline["method"] == "cross_entropy"
    assert {k: v for k, v in ours.items() if k not in own} == {
        k: v for k, v in baseline.items() if k not in own
    }


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("sead = 1", r"sead: no such key, did you mean seed\?"),
        ("[trian]\nlr = 1", r"trian: no such key, did you mean train\?"),
        ("[train]\nepoch = 3", r"train\.epoch: no such key, did you mean epochs\?"),
        ("[augment]\nzzz = 3", r"augment\.zzz: no such key$"),
        ("[train]\nbatch = 1", r"train\.batch: .*greater than or equal to 2, got 1"),
        ('[train]\nlr = "fast"', r"train\.lr: .*number.* got 'fast'"),
        ("[train]\nlr = nan", r"train\.lr: "),
        ('[bank]\nselection = "best"', r"bank\.selection: .*'herding'.* got 'best'"),
        ('method = "simclur"', r"method: .*'sclre'.* got 'simclur'"),
        ("data = 3", "data: "),
        ("seed = 1\nseed = 2", "is not TOML"),
        ("[train]\nepoch = 3\nlr = -1", r"lr: .*; .*epoch|epoch: .*; .*lr"),
    ],
)
def test_what_cannot_be_run_is_refused_by_its_key(tmp_path: Path, text: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(minimal(tmp_path, text))


def test_a_record_without_a_name_or_with_one_that_is_no_file_name_is_refused() -> None:
    with pytest.raises(ConfigError, match="name: Field required"):
        parse_config({})
    for name in ("../up", "Upper", ""):
        with pytest.raises(ConfigError, match="name: "):
            parse_config({"name": name})


def test_an_unknown_reference_lists_the_shipped_records() -> None:
    with pytest.raises(ConfigError, match=r"one of .*refuse-sclre.*, got 'refuse-scrle'"):
        load_config("refuse-scrle")


@pytest.mark.parametrize(
    ("override", "key", "value"),
    [
        ("seed=3", ("seed",), 3),
        ("train.lr=1e-4", ("train", "lr"), 1e-4),
        ("train.epochs=0.5", ("train", "epochs"), 0.5),
        ("backbone.pretrained=false", ("backbone", "pretrained"), False),
        ("backbone.name=resnet18", ("backbone", "name"), "resnet18"),
        ('backbone.name="resnet18"', ("backbone", "name"), "resnet18"),
        ("train.sizes=[[0.0, 32], [0.5, 64]]", ("train", "sizes"), ((0.0, 32), (0.5, 64))),
        ("train.sizes=[]", ("train", "sizes"), ()),
        ("name=mine-2", ("name",), "mine-2"),
        (" bank.size = 8", ("bank", "size"), 8),
    ],
)
def test_an_override_wins_over_the_file(
    tmp_path: Path, override: str, key: tuple[str, ...], value: Any
) -> None:
    record = load_config(minimal(tmp_path, "seed = 1\n[train]\nlr = 1.0"), [override])
    found: Any = record.model_dump()
    for part in key:
        found = found[part]
    assert found == value
    assert type(found) is type(value)


def test_overrides_change_nothing_else_and_the_last_one_wins() -> None:
    before = load_config("refuse-sclre").model_dump()
    after = load_config("refuse-sclre", ["train.lr=1", "train.lr=2", "seed=9"]).model_dump()
    assert after["train"]["lr"] == 2
    assert after["seed"] == 9
    after["train"]["lr"], after["seed"] = before["train"]["lr"], before["seed"]
    assert after == before


@pytest.mark.parametrize(
    ("override", "expected"),
    [
        ("train.lr", "expected --set key=value, got 'train.lr'"),
        ("seed.lr=1", "seed is a value and has no keys"),
        ("train.lrr=1", r"train\.lrr: no such key, did you mean lr\?"),
        ("train.lr=", r"train\.lr: "),
        ("train.epochs=inf", r"train\.epochs: .*finite number, got inf"),
        ("train.sizes=[[0.0, 0]]", r"train\.sizes\.0\.1: .*greater than or equal to 16, got 0"),
        ("train.sizes=[[0.0, 1]]", r"train\.sizes\.0\.1: .*greater than or equal to 16, got 1"),
        ("train.sizes=[[1.5, 32]]", r"train\.sizes\.0\.0: .*less than or equal to 1, got 1\.5"),
        ("seed=99999999999999999999", "seed: .*less than 4294967296, got 99999999999999999999"),
        ("seed=true", "seed: .*expected no yes or no, got true"),
        ("train.epochs=true", r"train\.epochs: .*expected no yes or no, got true"),
        ("data.hold_out=false", r"data\.hold_out: .*expected no yes or no, got false"),
    ],
)
def test_a_bad_override_is_refused(tmp_path: Path, override: str, expected: str) -> None:
    with pytest.raises(ConfigError, match=expected):
        load_config(minimal(tmp_path, "seed = 1"), [override])


def test_the_served_photo_is_that_of_the_record_and_the_cached_one_is_whole() -> None:
    record = parse_config(
        {"name": "x", "data": {"px": 32, "cache_px": 40, "fit": "crop", "crop_fraction": 0.9}}
    )
    assert record.data.served() == Preprocessing(height=32, width=32, fit="crop", crop_fraction=0.9)
    assert record.data.cached() == Preprocessing(height=40, width=40, fit="squash")


def test_the_defaults_of_sclre_are_the_papers() -> None:
    sclre = Config(name="x").sclre
    assert (sclre.hidden, sclre.width, sclre.heads, sclre.key_width) == (512, 128, 8, 256)
    assert (sclre.alpha, sclre.target_weight, sclre.temperature) == (0.5, 0.2, 0.5)


def test_the_baselines_file_names_no_part_of_sclre() -> None:
    record = tomllib.loads((CONFIGS / "refuse-cross-entropy.toml").read_text())
    assert not {"sclre", "bank"} & set(record)
