"""IDD Lite: a tiny copy of its layout, made here; the real one where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course_utils.data import VOID, catalogue, find, idd_lite, load
from course_utils.errors import CourseError

REAL = Path(os.environ.get("COURSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


def make_idd_lite(place: Path) -> Path:
    """Write three images of train in two sequences, one of val and one of test without a mask."""
    root = place / "idd20k_lite"
    rng = np.random.default_rng(0)
    values = np.array([*range(7), VOID], np.uint8)
    frames = [("train", "0", "024541"), ("train", "0", "024703"), ("train", "7", "024541")]
    for split, sequence, frame in [*frames, ("val", "1", "119082"), ("test", "2", "902541")]:
        image = rng.integers(0, 256, (227, 320, 3), np.uint8)
        save(root / "leftImg8bit" / split / sequence / f"{frame}_image.jpg", image)
        if split != "test":
            mask = values[np.indices((227, 320)).sum(0) // 40 % 8]
            save(root / "gtFine" / split / sequence / f"{frame}_label.png", mask)
            save(root / "gtFine" / split / sequence / f"{frame}_inst_label.png", mask)
    return root


@pytest.fixture
def folder(tmp_path):
    return make_idd_lite(tmp_path)


def test_it_is_found_by_name_and_loaded_at_a_size_that_networks_can_halve(folder, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(folder.parent))
    data = load("idd_lite", "train")
    assert data.classes == idd_lite.CLASSES == tuple(catalogue.entry("idd_lite")["classes"])
    assert len(data) == 3
    assert data.size == (224, 320)
    assert find("idd_lite") == folder


def test_masks_hold_the_classes_and_void_at_any_size(folder):
    for size in (None, (224, 320), (112, 160)):
        data = idd_lite.files("valid", folder).load(size)
        assert data.size == (size or (227, 320))
        assert set(np.unique(data.masks)) == {*range(7), VOID}


def test_frames_of_one_number_in_two_sequences_are_two(folder):
    one, _, other = idd_lite.files("train", folder).load(None).images
    assert (one != other).any()
    assert len(idd_lite.files("train", folder).load(None, 2)) == 2


def test_without_the_set_it_is_said_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match=r"idd_lite is not in .* Register at .*COURSE_DATA"):
        load("idd_lite", "train")


@pytest.mark.parametrize(
    ("split", "told"), [("test", "not public: measure on 'valid'"), ("val", "are: train, valid")]
)
def test_splits_that_there_are_not(folder, split, told):
    with pytest.raises(CourseError, match=told):
        idd_lite.files(split, folder).load(None)


@pytest.mark.parametrize(
    ("gone", "told"),
    [
        ("gtFine/train/0/024703_label.png", r"024703_image.jpg has no partner 0/024703_label.png"),
        ("leftImg8bit/train/7/024541_image.jpg", r"024541_label.png has no partner 7/024541_image"),
    ],
)
def test_a_missing_partner_is_named(folder, gone, told):
    (folder / gone).unlink()
    with pytest.raises(CourseError, match=told):
        idd_lite.files("train", folder).load(None)


def test_a_strange_value_is_named(folder):
    save(folder / "gtFine/val/1/119082_label.png", np.full((227, 320), 7, np.uint8))
    with pytest.raises(CourseError, match=r"holds the value 7, which is no class of 'idd_lite'"):
        idd_lite.files("valid", folder).load(None)


def test_an_empty_folder_is_named(folder):
    for path in (folder / "gtFine" / "val").rglob("*.png"):
        path.unlink()
    with pytest.raises(CourseError, match="holds no <sequence>/<id>_label files"):
        idd_lite.files("valid", folder).load(None)


@pytest.mark.skipif(not (REAL / "idd20k_lite").is_dir(), reason="IDD Lite is not here")
def test_the_real_set_has_its_published_numbers():
    sets = {
        name: idd_lite.files(name, REAL / "idd20k_lite").load((28, 40))
        for name in ("train", "valid")
    }
    assert {name: len(data) for name, data in sets.items()} == {"train": 1403, "valid": 204}
    assert set(np.unique(sets["valid"].masks)) == {*range(7), VOID}
