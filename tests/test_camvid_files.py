"""Files in CamVid's layout: what is written, and what is said of files that are wrong."""

import numpy as np
import pytest
from PIL import Image

from course_utils.data import VOID, camvid, camvid_files, load
from course_utils.data.camvid_files import check_files, training_files, write_layout
from course_utils.errors import CourseError

CODES = ["sky", "road", "Void"]


def label_of(image):
    return image.parent.parent / "labels" / f"{image.stem}_P{image.suffix}"


@pytest.fixture
def folder(tmp_path):
    """A small set in CamVid's layout: three images with their labels."""
    for part in ("images", "labels"):
        (tmp_path / part).mkdir()
    for number in range(3):
        save(tmp_path / "images" / f"{number}.png", np.zeros((6, 8, 3)))
        save(tmp_path / "labels" / f"{number}_P.png", np.full((6, 8), number))
    return tmp_path


def save(path, array):
    Image.fromarray(np.asarray(array, np.uint8)).save(path)


def looked_at(folder, codes=CODES):
    return check_files(training_files(folder), label_of, codes)


def test_scenes_are_written_as_files_and_read_back_as_they_were(tmp_path):
    train, valid = load("scenes", "train", count=3), load("scenes", "valid", count=2)
    write_layout(tmp_path / "set", train, valid)
    assert camvid.layout(tmp_path / "set") == "fastai"
    codes = camvid.read_codes(tmp_path / "set" / "codes.txt")
    assert codes == [*train.classes, "Void"]
    listed = (tmp_path / "set" / "valid.txt").read_text().split()
    files = training_files(tmp_path / "set")
    assert [file.name in listed for file in files] == [False] * 3 + [True] * 2
    for number, file in enumerate(files[:3]):
        assert (np.asarray(Image.open(file)) == train.images[number]).all()
        labels = np.asarray(Image.open(label_of(file)))
        assert (np.where(labels == len(codes) - 1, VOID, labels) == train.masks[number]).all()


def test_scenes_are_written_once(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    monkeypatch.setattr(camvid_files, "TRAIN", 2)
    monkeypatch.setattr(camvid_files, "VALID", 1)
    first = camvid_files.camvid_files("scenes")
    stamp = (first / "codes.txt").stat().st_mtime_ns
    assert camvid_files.camvid_files("scenes") == first
    assert (first / "codes.txt").stat().st_mtime_ns == stamp
    assert [path.name for path in tmp_path.iterdir()] == [first.name], "no draft is left"


def test_a_set_that_is_not_here_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match="course data fetch camvid-fastai"):
        camvid_files.camvid_files("camvid")


def test_the_test_images_of_everyone_else_are_left_out(folder):
    save(folder / "images" / "0001TP_008550.png", np.zeros((6, 8, 3)))
    save(folder / "images" / "Seq05VD_f00030.png", np.zeros((6, 8, 3)))
    assert [file.name for file in training_files(folder)] == ["0.png", "1.png", "2.png"]


def test_pixels_are_counted_by_code(folder):
    assert looked_at(folder) == {0: 48, 1: 48, 2: 48}


WRONG = {
    "a mask of 0 and 255, and codes.txt names 3 codes": {
        "labels/1_P.png": np.tile([0, 255], (6, 4)),
    },
    "holds the value 7, and codes.txt names 3 codes, 0 to 2": {
        "labels/1_P.png": np.full((6, 8), 7)
    },
    "a picture in colours": {"labels/1_P.png": np.zeros((6, 8, 3))},
    "is 4x3, its image 8x6 pixels": {"labels/1_P.png": np.zeros((3, 4))},
}


@pytest.mark.parametrize("says", WRONG)
def test_a_label_that_is_wrong_is_named_in_one_line(folder, says):
    for name, array in WRONG[says].items():
        save(folder / name, array)
    with pytest.raises(CourseError, match=f"1_P.png .*{says}") as refusal:
        looked_at(folder)
    assert "\n" not in str(refusal.value)


def test_a_value_that_a_gpu_would_stop_at_is_said_to_be_one(folder):
    save(folder / "labels" / "2_P.png", np.full((6, 8), 200))
    with pytest.raises(CourseError, match="device-side assert, which names no file"):
        looked_at(folder)


def test_a_label_that_is_missing_is_named(folder):
    (folder / "labels" / "1_P.png").unlink()
    with pytest.raises(CourseError, match=r"1.png has no label: .*1_P.png.*_P before the suffix"):
        looked_at(folder)


@pytest.mark.parametrize("codes", [["sky", "road", "car"], ["sky", "sky", "Void"], []])
def test_a_codes_file_of_another_set_is_refused(folder, codes):
    with pytest.raises(CourseError, match="must name each code once, one a line, and one of them"):
        looked_at(folder, codes)


def test_images_of_different_sizes_are_told(folder, capsys):
    save(folder / "images" / "2.png", np.zeros((4, 4, 3)))
    save(folder / "labels" / "2_P.png", np.zeros((4, 4)))
    looked_at(folder)
    said = capsys.readouterr().out
    assert "the images differ in size (2 of 8x6, 1 of 4x4)" in said
    assert "item_tfms" in said
