"""CamVid in both layouts: tiny copies made here, and the real one where it is at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course_utils.data import VOID, camvid, load
from course_utils.errors import CourseError

REAL = Path(os.environ.get("COURSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))

CODES = [
    *("Animal", "Archway", "Bicyclist", "Bridge", "Building", "Car", "CartLuggagePram", "Child"),
    *("Column_Pole", "Fence", "LaneMkgsDriv", "LaneMkgsNonDriv", "Misc_Text"),
    *("MotorcycleScooter", "OtherMoving", "ParkingBlock", "Pedestrian", "Road", "RoadShoulder"),
    *("Sidewalk", "SignSymbol", "Sky", "SUVPickupTruck", "TrafficCone", "TrafficLight", "Train"),
    *("Tree", "Truck_Bus", "Tunnel", "VegetationMisc", "Void", "Wall"),
]


def save(path: Path, array: np.ndarray) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path)


@pytest.fixture
def segnet(tmp_path):
    """A tiny copy of the SegNet layout, whose masks hold the values 0..11."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "camvid" / "CamVid"
    for split, count in (("train", 3), ("val", 2), ("test", 1)):
        for i in range(count):
            mask = np.arange(48, dtype=np.uint8).reshape(6, 8) % 12
            save(folder / split / f"a{i}.png", rng.integers(0, 256, (6, 8, 3), np.uint8))
            save(folder / f"{split}annot" / f"a{i}.png", mask)
    return folder


@pytest.fixture
def fastai(tmp_path):
    """A tiny copy of the fastai layout, whose masks hold all 32 codes."""
    rng = np.random.default_rng(0)
    folder = tmp_path / "camvid"
    for stem in ("0016E5_07959", "0016E5_00390", "0001TP_008520", "0001TP_008550", "Seq05VD_f00"):
        save(folder / "images" / f"{stem}.png", rng.integers(0, 256, (4, 8, 3), np.uint8))
        save(folder / "labels" / f"{stem}_P.png", np.arange(32, dtype=np.uint8).reshape(4, 8))
    (folder / "codes.txt").write_text("\n".join(CODES))
    (folder / "valid.txt").write_text("0016E5_07959.png\n")
    return folder


def test_segnet_values_become_the_11_classes_and_void(segnet):
    data = camvid.files("train", segnet).load(None)
    assert len(data) == 3
    assert data.classes == camvid.CLASSES
    expected = np.arange(48).reshape(6, 8) % 12
    expected[expected == 11] = VOID
    np.testing.assert_array_equal(data.masks[0], expected)


@pytest.mark.parametrize(("split", "count"), [("train", 3), ("valid", 2), ("test", 1)])
def test_segnet_splits(segnet, split, count):
    assert len(camvid.files(split, segnet).load(None)) == count


def test_fastai_codes_become_the_same_11_classes(fastai):
    data = camvid.files("valid", fastai).load(None)
    assert data.classes == camvid.CLASSES
    got = dict(zip(CODES, data.masks[0].ravel().tolist(), strict=True))
    expect = {
        "Sky": "sky",
        "Building": "building",
        "Wall": "building",
        "Bridge": "building",
        "Column_Pole": "pole",
        "TrafficCone": "pole",
        "Road": "road",
        "LaneMkgsDriv": "road",
        "Sidewalk": "pavement",
        "Tree": "tree",
        "VegetationMisc": "tree",
        "SignSymbol": "sign",
        "TrafficLight": "sign",
        "Fence": "fence",
        "Car": "car",
        "Truck_Bus": "car",
        "Pedestrian": "pedestrian",
        "Child": "pedestrian",
        "Bicyclist": "bicyclist",
        "MotorcycleScooter": "bicyclist",
    }
    for code, name in expect.items():
        assert got[code] == camvid.CLASSES.index(name), code
    assert got["Void"] == VOID


def test_every_one_of_the_32_codes_is_mapped():
    assert sorted(camvid.CLASS_OF_CODE) == sorted(CODES)
    assert set(camvid.CLASS_OF_CODE.values()) - {None} == set(camvid.CLASSES)


def test_the_order_of_codes_txt_decides_not_the_order_of_the_map(fastai):
    (fastai / "codes.txt").write_text("\n".join(CODES[::-1]))
    mask = camvid.files("valid", fastai).load(None).masks[0].ravel()
    assert mask[CODES[::-1].index("Sky")] == camvid.CLASSES.index("sky")


def test_fastai_keeps_the_usual_test_frames_out_of_train(fastai):
    assert len(camvid.files("train", fastai).load(None)) == 2
    assert len(camvid.files("test", fastai).load(None)) == 2


def test_fastai_without_test_frames_says_which_layout_has_them(fastai):
    for stem in ("0001TP_008550", "Seq05VD_f00"):
        (fastai / "images" / f"{stem}.png").unlink()
    with pytest.raises(CourseError, match="SegNet layout has all three"):
        camvid.files("test", fastai).load(None)


@pytest.mark.parametrize("layout", ["segnet", "fastai"])
def test_either_layout_is_found_through_the_data_folder(layout, request, tmp_path, monkeypatch):
    folder = request.getfixturevalue(layout)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert camvid.find() == folder
    assert load("camvid", "valid", size=(12, 16), count=1).size == (12, 16)


def test_the_setting_may_name_the_set_itself(segnet, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(segnet))
    assert len(load("camvid", "train", size=(6, 8))) == 3


def test_absent_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match=r"course data fetch camvid.*COURSE_DATA"):
        load("camvid", "train")


def test_unknown_split_names_the_splits(segnet):
    with pytest.raises(CourseError, match="train, valid, test"):
        camvid.files("val", segnet).load(None)


def test_unknown_code_is_refused(fastai):
    (fastai / "codes.txt").write_text("\n".join([*CODES[:-1], "Giraffe"]))
    with pytest.raises(CourseError, match="Giraffe"):
        camvid.files("train", fastai).load(None)


def test_mask_of_the_other_layout_is_refused(segnet):
    save(segnet / "trainannot" / "a1.png", np.full((6, 8), 30, np.uint8))
    with pytest.raises(CourseError, match=r"a1\.png holds the value 30.*\(known: 0\.\.11, 255\)"):
        camvid.files("train", segnet).load(None)


def test_missing_partner_is_named(fastai):
    (fastai / "labels" / "0016E5_00390_P.png").unlink()
    with pytest.raises(CourseError, match=r"0016E5_00390\.png has no mask.*0016E5_00390_P"):
        camvid.files("train", fastai).load(None)


real = pytest.mark.skipif(
    not (REAL / "camvid" / "CamVid").is_dir(), reason="CamVid is not on this machine"
)


@real
@pytest.mark.long
@pytest.mark.parametrize(
    ("split", "count", "sky"), [("train", 367, 0.168), ("valid", 101, 0.092), ("test", 233, 0.171)]
)
def test_real_splits_have_the_published_counts_and_shares(split, count, sky, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(REAL))
    data = load("camvid", split, size=(48, 64))
    assert len(data) == count
    assert np.isin(data.masks, [*range(11), VOID]).all()
    assert np.mean(data.masks == 0) == pytest.approx(sky, abs=0.005)


@real
def test_test_frames_are_told_by_name_as_the_segnet_layout_splits_them():
    folder = REAL / "camvid" / "CamVid"
    stems = {
        split: [path.stem for path in (folder / split).iterdir()] for split in ("train", "test")
    }
    assert all(camvid.is_test_frame(stem) for stem in stems["test"])
    assert not any(camvid.is_test_frame(stem) for stem in stems["train"])
