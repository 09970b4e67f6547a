"""Each stored set's loader, on a tiny copy of its layout made here; real ones where at hand."""

import os
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from course_utils.data import (
    VOID,
    catalogue,
    find,
    load,
    module_of,
    nuclei,
    pairs,
    people,
    pets,
    voc2012,
)
from course_utils.errors import CourseError

REAL = Path(os.environ.get("COURSE_TEST_DATA", Path(__file__).parents[2] / "shared" / "data"))
GOLDEN = {"train": 810, "valid": 96, "test": 98}
"""How the 1004 photographs of people are split, for ever."""

RNG = np.random.default_rng(0)


def save(path: Path, array: np.ndarray, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


def picture(height: int, width: int) -> np.ndarray:
    return RNG.integers(0, 256, (height, width, 3), np.uint8)


def disc(height: int, width: int, inside: int, outside: int = 0) -> np.ndarray:
    rows, columns = np.ogrid[:height, :width]
    far = (rows - height / 2) ** 2 + (columns - width / 2) ** 2 > (min(height, width) / 3) ** 2
    return np.where(far, outside, inside).astype(np.uint8)


def litter(folder: Path) -> None:
    """Leave in every folder what macOS and Windows leave there."""
    for place in [folder, *(path for path in folder.rglob("*") if path.is_dir())]:
        for name in ("Thumbs.db", ".DS_Store", "._a.png", "._a.jpg"):
            (place / name).write_bytes(b"junk")


def make_pets(place: Path) -> None:
    root = place / "oxford-iiit-pet"
    trimap = disc(9, 8, 1, 2)
    trimap[3] = 3
    names = [f"{breed}_{k}" for breed in ("Abyssinian", "yorkshire_terrier") for k in range(1, 21)]
    for k, name in enumerate(names):
        image = picture(9, 8)
        if k == 0:  # a few files are no JPEG inside, have opacity or one channel
            image = np.dstack([image, np.full((9, 8), 200, np.uint8)])
        save(root / "images" / f"{name}.jpg", image, format="PNG" if k == 0 else "JPEG")
        save(root / "annotations" / "trimaps" / f"{name}.png", trimap)
    (root / "images" / "Abyssinian_1.mat").write_bytes(b"beside the images lie some of these")
    lists = {"trainval": names[:15] + names[20:35], "test": names[15:20] + names[35:]}
    for name, listed in lists.items():
        lines = "".join(f"{stem} 1 1 1\n" for stem in listed)
        (root / "annotations" / f"{name}.txt").write_text(lines)
    (root / "annotations" / "list.txt").write_text("#Image CLASS-ID SPECIES BREED ID\n")


def make_people(place: Path) -> None:
    for k in range(40):
        save(place / "people" / "images" / f"{k:04d}.jpg", picture(12, 8))
        save(place / "people" / "masks" / f"{k:04d}.png", disc(12, 8, 255))


def make_supervisely(place: Path) -> None:
    root = place / "supervisely_person_clean_2667_img" / "supervisely_person_clean_2667_img"
    for k in range(40):
        mask = disc(12, 9 + k % 3, 255)
        save(root / "images" / f"ds{k}_pexels-photo.png", picture(*mask.shape))
        save(
            root / "masks" / f"ds{k}_pexels-photo.png",
            mask if k % 2 else mask[..., None].repeat(3, -1),
        )


def make_nuclei_of_the_archive(place: Path) -> None:
    for k in range(30):
        case = place / "dsb2018" / "stage1_train" / f"{k:04x}f0"
        image = np.dstack([picture(10, 12), np.full((10, 12), 255, np.uint8)])
        save(case / "images" / f"{case.name}.{'PNG' if k % 2 else 'png'}", image)
        for n in range(3):
            mask = np.zeros((10, 12), np.uint8)
            mask[3 * n : 3 * n + 3, 2:6] = 255
            save(case / "masks" / f"{n:04x}.png", mask)


def make_nuclei_with_maps(place: Path) -> None:
    root = place / "nuclei"
    instances = np.zeros((10, 12), np.uint16)
    instances[:9, 2:6] = np.array([1, 2, 300])[:, None].repeat(3, 0)
    for name in ("aa", "bb", "cc"):
        save(root / "images" / f"{name}.png", picture(10, 12)[..., 0])
        save(root / "instances" / f"{name}.png", instances)
    for split, name in (("train", "aa"), ("val", "bb"), ("test", "cc")):
        (root / f"{split}.txt").write_text(name + "\n")


def make_voc(place: Path) -> None:
    root = place / "VOCdevkit" / "VOC2012"
    mask = disc(9, 12, 15)
    mask[4] = 255
    palette = [channel for value in range(256) for channel in voc2012.colour_of(value)]
    for k, name in enumerate(("2007_000032", "2007_000039", "2011_003271")):
        save(root / "JPEGImages" / f"{name}.jpg", picture(9, 12))
        indexed = Image.fromarray(mask, "P")
        indexed.putpalette(palette)
        path = root / "SegmentationClass" / f"{name}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        (indexed.convert("RGB") if k == 2 else indexed).save(path)
    save(root / "JPEGImages" / "2008_000001.jpg", picture(9, 12))  # most have no mask
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    (lists / "train.txt").write_text("2007_000032\n2011_003271\n")
    (lists / "val.txt").write_text("2007_000039\n")


MADE = {
    "pets": (make_pets, {"train": 27, "valid": 3, "test": 10}, {0, 1, 2}),
    "people": (make_people, {"train": 32, "valid": 7, "test": 1}, {0, 1}),
    "supervisely_person": (make_supervisely, {"train": 31, "valid": 7, "test": 2}, {0, 1}),
    "nuclei": (make_nuclei_of_the_archive, {"train": 21, "valid": 5, "test": 4}, {0, 1}),
    "nuclei, maps": (make_nuclei_with_maps, {"train": 1, "valid": 1, "test": 1}, {0, 1}),
    "voc2012": (make_voc, {"train": 2, "valid": 1}, {0, 15, VOID}),
}


@pytest.fixture(params=MADE)
def made(request, tmp_path, monkeypatch):
    """A set's name, its numbers of images by split, and the values its masks have."""
    make, counts, values = MADE[request.param]
    make(tmp_path)
    litter(tmp_path)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return request.param.split(",")[0], counts, values


def test_a_set_is_found_and_loaded_by_name(made):
    name, counts, values = made
    assert find(name).is_dir()
    found = {split: len(load(name, split, size=(9, 8))) for split in counts}
    assert sum(found.values()) == sum(counts.values())
    assert found == counts
    for size in (None, (20, 16)):
        data = load(name, "train", size=size, count=1)
        assert len(data) == 1
        assert set(np.unique(data.masks)) == values
        assert list(data.classes) == catalogue.entry(name)["classes"]


def test_a_set_says_which_splits_it_has(made):
    name, counts, _ = made
    with pytest.raises(CourseError, match="train, valid"):
        load(name, "val")
    if "test" not in counts:
        with pytest.raises(CourseError, match="not public: measure on 'valid'"):
            load(name, "test")


def test_no_image_is_in_two_splits(made):
    name, counts, _ = made
    stems = [image.stem for split in counts for image, _ in module_of(name).files(split).pairs]
    assert len(stems) == len(set(stems)) == sum(counts.values())


def test_a_mask_that_is_damaged_is_named(made):
    name, _, _ = made
    _, mask = module_of(name).files("train").pairs[0]
    target = mask / "0000.png" if mask.is_dir() else mask
    target.write_bytes(b"no picture")
    with pytest.raises(CourseError, match=f"{target.name} cannot be read") as caught:
        load(name, "train")
    assert "\n" not in str(caught.value)


# ---------------------------------------------------------------------- what is particular


def test_pets_become_0_1_2_and_breeds_are_mixed(tmp_path):
    make_pets(tmp_path)
    data = pets.files("train", tmp_path / "oxford-iiit-pet")
    _, mask = pairs.read_pair(*data.pairs[0], None, data.labels)
    assert mask[4, 4] == 0  # pet
    assert mask[0, 0] == 1  # background
    assert mask[3, 0] == 2  # border
    breeds = [image.stem.rsplit("_", 1)[0] for image, _ in data.pairs[:8]]
    assert len(set(breeds)) == 2


def test_pets_without_a_list_are_told(tmp_path):
    make_pets(tmp_path)
    (tmp_path / "oxford-iiit-pet" / "annotations" / "test.txt").unlink()
    with pytest.raises(CourseError, match=r"test\.txt is missing: it names the images"):
        pets.files("test", tmp_path / "oxford-iiit-pet")


def test_nuclei_of_masks_that_differ_in_size_are_told(tmp_path):
    make_nuclei_of_the_archive(tmp_path)
    case = tmp_path / "dsb2018" / "stage1_train" / "0000f0"
    save(case / "masks" / "0001.png", np.zeros((3, 3), np.uint8))
    with pytest.raises(CourseError, match=r"0001\.png is \(3, 3\) pixels"):
        list(nuclei.load_nuclei(tmp_path / "dsb2018"))


def test_a_split_by_name_is_the_same_for_ever_and_whatever_else_is_there():
    stems = [f"{k:04d}" for k in range(1, 1005)]
    splits = {split: pairs.split_by_name(stems, split) for split in pairs.SHARES}
    assert {name: len(found) for name, found in splits.items()} == GOLDEN
    assert sorted(stem for found in splits.values() for stem in found) == stems
    for split, found in splits.items():
        fewer = pairs.split_by_name(stems[::3], split)
        assert fewer == [stem for stem in found if int(stem) % 3 == 1]


def test_the_colours_of_voc_are_those_of_its_files():
    known = {1: (128, 0, 0), 2: (0, 128, 0), 15: (192, 128, 128), 20: (0, 64, 128)}
    assert {value: voc2012.colour_of(value) for value in known} == known
    assert voc2012.colour_of(VOID) == (224, 224, 192)


# ---------------------------------------------------------------------- the real ones


def real(folder: str):
    return pytest.mark.skipif(not (REAL / folder).is_dir(), reason=f"{folder} is not here")


@real("people")
def test_the_real_people_are_upright_and_fill_a_quarter():
    splits = {split: people.files(split, REAL / "people") for split in people.SPLITS}
    total = sum(len(files.pairs) for files in splits.values())
    assert total in (300, 1004)
    data = splits["valid"].load((144, 96))
    assert 0.15 < data.masks.mean() < 0.35
    assert data.masks[:, 72, 48].mean() > 0.9


@real("dsb2018")
def test_the_real_nuclei_have_the_splits_of_their_lists():
    counts = {split: nuclei.files(split, REAL / "dsb2018").pairs for split in nuclei.SPLITS}
    assert {split: len(found) for split, found in counts.items()} == {
        "train": 150,
        "valid": 50,
        "test": 50,
    }
    data = nuclei.files("valid", REAL / "dsb2018").load((64, 64))
    assert 0.05 < data.masks.mean() < 0.3


@real("dsb2018_raw_sample")
def test_the_real_archive_of_nuclei_is_read():
    files = nuclei.files("train", REAL / "dsb2018_raw_sample")
    assert set(np.unique(files.load((64, 64), 3).masks)) == {0, 1}
