"""Dataset folders in both forms: what is read, what is refused, and how splits are drawn."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.bundle import read_manifest
from tests.tiny_bundle import write_bundle, write_manifest
from tests.training_runs import ConfigMaker
from training.data.folds import read_photos_as
from training.data.photos import LAYOUTS, MAPS, Photo, PhotoSet, labels_digest, read_photos
from training.errors import DataError
from training.outcome import photos_for

GOOD = """path,superclass,split
a.jpg,organic,train
b.jpg,organic,val
c.jpg,metal,train
d.jpg,metal,val
"""


def folder(
    root: Path, labels: str, *, absent: tuple[str, ...] = (), encoding: str = "utf-8"
) -> Path:
    """A dataset of empty files, one for each line of its labels."""
    root.mkdir(exist_ok=True)
    (root / "labels.csv").write_text(labels, encoding=encoding)
    for line in labels.splitlines()[1:]:
        name = line.partition(",")[0]
        if name and name not in absent and ".." not in name and not name.startswith("/"):
            (root / name).parent.mkdir(parents=True, exist_ok=True)
            (root / name).touch()
    return root


def many(superclasses: int = 2, each: int = 200, start: int = 0) -> str:
    lines = ["path,superclass"]
    for k in range(superclasses):
        lines += [f"{k}/{start + index:04}.jpg,class-{k}" for index in range(each)]
    return "\n".join(lines) + "\n"


def splits(photos: PhotoSet) -> dict[str, str | None]:
    return {photo.path: photo.split for photo in photos.photos}


def test_all_columns_are_read_in_any_order(tmp_path: Path) -> None:
    labels = (
        "superclass,path,split,subclass,source\n"
        "organic,x/a.jpg,train,apple,ours\norganic,b.jpg,val,,\n"
        "metal,c.jpg,train,can,theirs\nmetal,d.jpg,val,can,theirs\n"
    )
    root = folder(tmp_path, labels)
    for name in ("x/a.jpg", "b.jpg", "c.jpg", "d.jpg"):
        (root / name).parent.mkdir(exist_ok=True)
        (root / name).touch()
    read = read_photos(root)
    assert read.superclasses == ("metal", "organic")
    assert read.photos[0] == Photo("x/a.jpg", "organic", "apple", "ours", "train")
    assert read.photos[1] == Photo("b.jpg", "organic", None, None, "val")
    assert [photo.path for photo in read.split("val")] == ["b.jpg", "d.jpg"]
    assert read.missing == ()


def test_path_and_superclass_are_enough(tmp_path: Path) -> None:
    read = read_photos(folder(tmp_path, many(each=40)))
    assert {photo.superclass for photo in read.split("train")} == {"class-0", "class-1"}
    assert {photo.superclass for photo in read.split("val")} == {"class-0", "class-1"}
    assert all(photo.subclass is None and photo.source is None for photo in read.photos)


def test_a_byte_order_mark_as_spreadsheets_write_it_is_no_part_of_a_name(tmp_path: Path) -> None:
    assert len(read_photos(folder(tmp_path, GOOD, encoding="utf-8-sig")).photos) == 4


@pytest.mark.parametrize(
    ("labels", "expected"),
    [
        (
            GOOD + "e.jpg,metal,testing\n",
            r"line 6: expected a split of train, val, test, .*testing",
        ),
        (GOOD + "../e.jpg,metal,train\n", r"line 6: expected a path below the folder, got \.\./e"),
        (GOOD + "x/../../e.jpg,metal,train\n", "line 6: expected a path below the folder"),
        (GOOD + "/e.jpg,metal,train\n", "line 6: expected a path below the folder"),
        (GOOD + ",metal,train\n", "line 6: path and superclass are required"),
        (GOOD + "e.jpg,,train\n", "line 6: path and superclass are required"),
        (GOOD + "e,f.jpg,metal,train\n", "line 6: expected 3 values"),
        (GOOD + "a.jpg,organic,train\n", r"listed twice, first a\.jpg"),
        (GOOD.replace("split", "fold"), "expected the columns .* got path,superclass,fold"),
        (GOOD.replace("superclass", "label"), "expected the columns"),
        ("", "got nothing"),
        ("path,superclass,superclass,split\n", "each once, got path,superclass,superclass,split"),
        (
            GOOD + 'e.jpg,"metal,train\n' + "f.jpg,metal,train\n" * 10_000,
            r"labels\.csv, line \d+: field larger than field limit .*a double quote left open",
        ),
        ("path,superclass\n", "none of the 0 photos"),
        (GOOD.replace("metal", "organic"), "at least two superclasses"),
        (GOOD.replace("metal,val", "metal,test"), "the val split has no photo of metal"),
        (GOOD.replace("metal,train", "metal,test"), "the train split has no photo of metal"),
    ],
)
def test_unusable_labels_are_refused_with_the_place(
    tmp_path: Path, labels: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read_photos(folder(tmp_path, labels))


def test_labels_that_are_not_utf_8_are_refused(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD)
    (root / "labels.csv").write_text(GOOD.replace("metal", "métal"), encoding="latin-1")
    with pytest.raises(DataError, match="UTF-8"):
        read_photos(root)


def test_photos_that_do_not_exist_are_reported_and_left_out(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD + "e.jpg,metal,train\n", absent=("e.jpg",))
    read = read_photos(root)
    assert read.missing == ("e.jpg",)
    assert "e.jpg" not in splits(read)


def test_a_folder_in_neither_form_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"neither a labels\.csv .* nor a superclasses\.toml"):
        read_photos(tmp_path)
    with pytest.raises(DataError, match="which is none"):
        read_photos(tmp_path / "absent")
    with pytest.raises(DataError, match=r"none of the 4 photos .* exists"):
        read_photos(folder(tmp_path, GOOD, absent=("a.jpg", "b.jpg", "c.jpg", "d.jpg")))


def test_every_shipped_map_is_some_layouts_and_no_layout_names_another() -> None:
    named = [name for layout in LAYOUTS for name in layout.maps]
    assert sorted(named) == sorted(file.stem for file in MAPS.glob("*.toml"))


def test_superclasses_are_in_one_order_whatever_the_order_of_the_lines(tmp_path: Path) -> None:
    head, *lines = GOOD.splitlines()
    backwards = "\n".join([head, *reversed(lines)])
    one, other = (folder(tmp_path / n, text) for n, text in (("a", GOOD), ("b", backwards)))
    assert read_photos(one).superclasses == read_photos(other).superclasses


def folders(root: Path, record: str, **photos: int) -> Path:
    root.mkdir(exist_ok=True)
    (root / "superclasses.toml").write_text(record, encoding="utf-8")
    for name, count in photos.items():
        (root / name).mkdir()
        for index in range(count):
            (root / name / f"{index:02}.JPG").touch()
        (root / name / "notes.txt").touch()
    return root


MAP = '[superclasses]\norganic = ["apple", "tea"]\nmetal = ["can"]\n'


def test_folders_are_subclasses_and_the_map_gives_their_superclass(tmp_path: Path) -> None:
    root = folders(tmp_path, MAP, apple=20, tea=20, can=20)
    (root / ".thumbnails").mkdir()  # as file managers leave behind
    read = read_photos(root)
    assert read.superclasses == ("metal", "organic")
    assert len(read.photos) == 60  # and no notes.txt
    assert {(photo.subclass, photo.superclass) for photo in read.photos} == {
        ("apple", "organic"),
        ("tea", "organic"),
        ("can", "metal"),
    }


def test_a_photo_whose_name_is_not_utf_8_is_left_out_and_named_legibly(tmp_path: Path) -> None:
    root = folders(tmp_path, MAP, apple=20, tea=20, can=20)
    (root / "can" / "00.JPG").rename(root / "can" / "m\udcfcll.jpg")
    read = read_photos(root)
    assert len(read.photos) == 59
    assert read.unusable() == {r"can/m\xfcll.jpg": "its name is not in UTF-8"}
    labels_digest(read.photos)
    (root / "t\udcfcte").mkdir()
    with pytest.raises(DataError, match=r"no superclass for the folders t\\xfcte"):
        read_photos(root)


def test_a_map_may_begin_with_a_byte_order_mark(tmp_path: Path) -> None:
    root = folders(tmp_path, f"\ufeff{MAP}", apple=20, tea=20, can=20)
    assert read_photos(root).superclasses == ("metal", "organic")


def test_a_map_elsewhere_regroups_the_same_folders(tmp_path: Path) -> None:
    root = folders(tmp_path / "data", MAP, apple=20, tea=20, can=20)
    other = tmp_path / "other.toml"
    other.write_text('[superclasses]\ndrink = ["tea", "can"]\nfruit = ["apple"]\n')
    assert read_photos(root, superclass_map=other).superclasses == ("drink", "fruit")


@pytest.mark.parametrize(
    ("record", "expected"),
    [
        (MAP.replace(', "tea"', ""), "names no superclass for the folders tea"),
        (MAP.replace('"can"', '"can", "tin"'), "does not have: tin"),
        (MAP.replace('"can"', '"can", "tea"'), "tea .*metal.*organic|tea .*organic.*metal"),
        ("superclasses = 3", r"expected a table \[superclasses\]"),
        ("[other]", r"expected a table \[superclasses\]"),
        ("[superclasses", "is not TOML"),
        ('[superclasses]\nmetal = [["can"]]', r"expected a table \[superclasses\]"),
        ('[superclasses]\nmetal = "can"', r"expected a table \[superclasses\]"),
    ],
)
def test_a_map_that_does_not_fit_the_folders_is_refused(
    tmp_path: Path, record: str, expected: str
) -> None:
    with pytest.raises(DataError, match=expected):
        read_photos(folders(tmp_path, record, apple=20, tea=20, can=20))


def test_drawn_splits_have_about_the_wanted_shares_of_each_superclass(tmp_path: Path) -> None:
    read = read_photos(folder(tmp_path, many(each=400)), val_fraction=0.2, test_fraction=0.1)
    for superclass in read.superclasses:
        for split, share in (("val", 0.2), ("test", 0.1)):
            found = sum(photo.superclass == superclass for photo in read.split(split)) / 400
            assert found == pytest.approx(share, abs=0.06)


def test_a_drawn_split_stays_when_photos_are_added(tmp_path: Path) -> None:
    before = splits(read_photos(folder(tmp_path, many(each=100))))
    after = splits(read_photos(folder(tmp_path, many(each=150))))
    assert {path: after[path] for path in before} == before


@settings(deadline=None, max_examples=15)
@given(each=st.integers(8, 16), more=st.integers(1, 12), start=st.integers(0, 999))
def test_a_small_set_still_gets_val_and_test_photos_and_no_photo_leaves_the_test_split(
    tmp_path_factory: pytest.TempPathFactory, each: int, more: int, start: int
) -> None:
    root = tmp_path_factory.mktemp("small")
    before = splits(read_photos(folder(root, many(each=each, start=start))))
    for k in range(2):
        assert {before[p] for p in before if p.startswith(f"{k}/")} >= {"train", "val", "test"}
    after = splits(read_photos(folder(root, many(each=each + more, start=start))))
    moved = {(before[p], after[p]) for p in before if before[p] != after[p]}
    assert moved <= {("val", "train"), ("test", "train")}


def test_a_named_split_is_never_redrawn(tmp_path: Path) -> None:
    assert splits(read_photos(folder(tmp_path, GOOD), val_fraction=0.9)) == {
        "a.jpg": "train",
        "b.jpg": "val",
        "c.jpg": "train",
        "d.jpg": "val",
    }


def test_the_summary_tells_one_labelling_from_another(tmp_path: Path) -> None:
    summary = read_photos(folder(tmp_path, GOOD)).summary()
    assert summary["photos"] == 4
    assert summary["splits"] == {
        "train": {"organic": 1, "metal": 1},
        "val": {"organic": 1, "metal": 1},
        "test": {},
    }
    again = read_photos(folder(tmp_path, GOOD)).summary()
    assert again == summary
    relabelled = GOOD.replace("a.jpg,organic", "a.jpg,metal").replace(
        "c.jpg,metal", "c.jpg,organic"
    )
    other = read_photos(folder(tmp_path, relabelled)).summary()
    assert other["labels_sha256"] != summary["labels_sha256"]


def test_equal_photos_are_in_one_split(tmp_path: Path) -> None:
    labels = many(each=60) + "".join(f"copies/{i:04}.jpg,class-{i % 2}\n" for i in range(60))
    root = folder(tmp_path, labels)
    for i in range(60):
        (root / "0" / f"{i:04}.jpg").write_bytes(bytes([i, i]))
        (root / "copies" / f"{i:04}.jpg").write_bytes(bytes([i, i]))
    read = read_photos(root)
    found = splits(read)
    pairs = [(found[f"0/{i:04}.jpg"], found[f"copies/{i:04}.jpg"]) for i in range(60)]
    assert all(one == other for one, other in pairs)
    assert {"train", "val"} <= {one for one, _ in pairs}  # both by chance
    assert read.copies == ()


@pytest.mark.parametrize("number", range(8))
def test_what_a_small_superclass_lends_has_no_copy_in_train(number: int, tmp_path: Path) -> None:
    copies = "".join(f"{number}-{i}.jpg,small\n" for i in range(3))
    root = folder(tmp_path, f"{many()}{copies}alone-{number}.jpg,small\n")
    for i in range(3):
        (root / f"{number}-{i}.jpg").write_bytes(b"the same")
    read = read_photos(root, val_fraction=0.001, test_fraction=0.001)
    assert read.copies == ()
    assert splits(read)[f"alone-{number}.jpg"] == "val"


def test_equal_photos_of_two_superclasses_are_told(tmp_path: Path) -> None:
    root = folder(tmp_path, GOOD)
    for name in "ac":
        (root / f"{name}.jpg").write_bytes(b"the same")
    ((later, first),) = read_photos(root).contradictions
    assert (later.path, first.path) == ("c.jpg", "a.jpg")


def test_equal_photos_whose_splits_are_given_are_told(tmp_path: Path) -> None:
    labels = GOOD + "e.jpg,metal,test\nf.jpg,metal,\ng.jpg,metal,test\n"
    root = folder(tmp_path, labels)
    for name, content in zip("abcdefg", (b"a", b"a", b"c", b"d", b"c", b"c", b"d"), strict=True):
        (root / f"{name}.jpg").write_bytes(content)
    read = read_photos(root)
    assert splits(read)["f.jpg"] == "train"  # as c.jpg, and not as e.jpg
    assert {(later.path, first.path) for later, first in read.copies} == {
        ("b.jpg", "a.jpg"),
        ("e.jpg", "c.jpg"),
        ("g.jpg", "d.jpg"),
    }


def test_a_bin_without_a_photo_is_missed_where_it_is_to_be_learned(tmp_path: Path) -> None:
    record = '[superclasses]\nfruit = ["apple"]\ndrink = ["tea"]\nbulky = ["tyre"]\n'
    root = folders(tmp_path, record, apple=20, tea=20, tyre=0)
    for name in ("a.tif", "b.jfif", "Thumbs.db"):
        (root / "tyre" / name).touch()
    with pytest.raises(DataError, match="the train split has no photo of bulky"):
        read_photos(root)
    measured = read_photos(root, to_learn=False)
    assert measured.superclasses == ("drink", "fruit")
    assert list(measured.unusable()) == ["tyre/a.tif", "tyre/b.jfif"]
    labels = GOOD + "e.jpg,glass,train\nf.jpg,glass,val\n"
    with pytest.raises(DataError, match="the train split has no photo of glass"):
        read_photos(folder(tmp_path / "labels", labels, absent=("e.jpg", "f.jpg")))


def test_two_ways_to_write_a_path_are_one_photo(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"1 paths are listed twice, first a\.jpg"):
        read_photos(folder(tmp_path, GOOD + "./a.jpg,organic,test\n"))


def test_a_bundle_is_measured_on_the_splits_that_its_model_was_trained_with(
    tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    """Others of its photos would be those that it has learned from, or was calibrated on."""
    root = folder(tmp_path, many(each=40))
    path = write_bundle(tmp_path / "models")
    manifest = read_manifest(path)
    record = tiny_config(data={"val_fraction": 0.3, "test_fraction": 0.2}).model_dump(mode="json")
    provenance = manifest.provenance.model_copy(update={"config": record})
    write_manifest(path, manifest.model_copy(update={"provenance": provenance}))
    measured = photos_for(path, root, None)
    assert splits(measured) == splits(read_photos(root, val_fraction=0.3, test_fraction=0.2))
    assert splits(measured) != splits(read_photos(root))


def test_photos_of_one_split_are_enough_to_measure_on(
    tiny_config: ConfigMaker, tmp_path: Path
) -> None:
    root = folder(tmp_path, "path,superclass,split\na1.jpg,a,test\nb1.jpg,b,test\n")
    with pytest.raises(DataError, match="the train split has no photo of a, b"):
        read_photos_as(root, tiny_config())
    assert len(read_photos_as(root, tiny_config(), to_learn=False).split("test")) == 2
