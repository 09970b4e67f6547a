"""The drawn street scenes: the same bytes everywhere, exact masks, no class given away."""

import hashlib
import subprocess
import sys
import time
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import VOID, floors, load, scenes
from course_utils.errors import CourseError

# seed, height, width: a change of any of these changes every number of the course.
GOLDEN = {
    (0, 96, 128): "c58e3ea852b75963",
    (1, 96, 128): "106102ae9c736100",
    (10000000, 96, 128): "a9afc5adfe4c1157",
    (20000007, 96, 128): "b714f6ed2c4eaaf4",
    (3, 48, 64): "faf92610c2cf3a5c",
    (5, 256, 384): "cc60091855b2ff3b",
    (13, 512, 768): "10d511404a9af573",
    (1267650600228229401496703205383, 97, 131): "fee7204837688954",
}


def digest(seed: int, height: int, width: int) -> str:
    image, mask = scenes.scene(seed, height, width)
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()[:16]


@pytest.fixture(scope="module")
def many():
    return scenes.scenes(range(5_000_000, 5_000_120))


@pytest.mark.parametrize(("seed", "height", "width"), list(GOLDEN))
def test_a_seed_gives_the_same_bytes_on_every_machine(seed, height, width):
    assert digest(seed, height, width) == GOLDEN[seed, height, width]


@pytest.mark.process
def test_a_seed_gives_the_same_bytes_in_another_process():
    code = "from tests.test_scenes import digest; print(digest(3, 48, 64))"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.strip() == digest(3, 48, 64)


@settings(max_examples=25)
@given(st.integers(0, 2**128), st.integers(1, 90), st.integers(1, 130))
def test_any_seed_and_size_gives_a_scene(seed, height, width):
    image, mask = scenes.scene(seed, height, width)
    assert image.shape == (height, width, 3)
    assert image.dtype == mask.dtype == np.uint8
    assert mask.shape == (height, width)
    assert set(np.unique(mask)) <= {*range(10), VOID}


def test_neighbouring_seeds_give_different_scenes():
    assert len({digest(seed, 24, 32) for seed in range(40)}) == 40


@pytest.mark.parametrize("seed", [1, 13, 2**100])
def test_a_seed_gives_the_same_street_at_every_size(seed):
    _, small = scenes.scene(seed, 96, 128)
    _, large = scenes.scene(seed, 288, 384)
    agree = np.mean(large[1::3, 1::3] == small)
    assert agree > 0.95


def test_a_wider_picture_shows_the_same_street_and_more():
    _, narrow = scenes.scene(5, 96, 128)
    _, wide = scenes.scene(5, 96, 192)
    assert np.mean(wide[:, 32:160] == narrow) > 0.99


def test_every_class_and_void_is_seen_often_enough(many):
    share = np.bincount(many.masks.ravel(), minlength=256) / many.masks.size
    assert (share[:10] > 0.008).all(), dict(zip(scenes.CLASSES, share.round(4), strict=False))
    assert 0.01 < share[VOID] < 0.04
    in_images = [(many.masks == k).any(axis=(1, 2)).mean() for k in range(10)]
    assert min(in_images) > 0.6


def test_there_are_bright_and_dark_scenes(many):
    brightness = many.images.mean(axis=(1, 2, 3))
    assert brightness.min() < 60
    assert brightness.max() > 140


def test_mask_and_image_fit_each_other(many):
    # Where the mask has an edge the picture has one too, much more than elsewhere.
    grey = many.images.astype(np.float32).mean(axis=3)
    step = np.abs(np.diff(grey, axis=2))
    edge = many.masks[:, :, 1:] != many.masks[:, :, :-1]
    assert step[edge].mean() > 3 * step[~edge].mean()
    shifted = np.roll(edge, 4, axis=2)
    assert step[edge].mean() > 2 * step[shifted & ~edge].mean()


@pytest.mark.long
def test_colour_and_place_do_not_give_the_class_away():
    found = {
        floor.name: floor
        for floor in floors.floors(load("scenes", "train"), load("scenes", "valid"))
    }
    table = found["colour x position table"]
    assert table.mean_iou <= 0.40
    # ... and the table is a fair opponent: it beats both simpler ones.
    assert table.mean_iou > found["location prior"].mean_iou > found["majority class"].mean_iou


def test_splits_share_no_seed():
    seeds = [range(first, first + 1_000_000) for first, _ in scenes.SPLITS.values()]
    assert all(a.stop <= b.start for a, b in pairwise(seeds))
    train, valid = load("scenes", "train", count=2), load("scenes", "valid", count=2)
    assert not np.array_equal(train.images, valid.images)
    assert (train.split, len(train), train.classes) == ("train", 2, scenes.CLASSES)


def test_unknown_split_names_the_splits():
    with pytest.raises(CourseError, match="train, valid, test"):
        load("scenes", "val")


def test_print_speed(capsys):
    scenes.scene(0)
    seconds = []
    for first in range(0, 60, 10):
        start = time.perf_counter()
        scenes.scenes(range(first, first + 10))
        seconds.append(time.perf_counter() - start)
    with capsys.disabled():
        print(f" [scenes: {10 / min(seconds):.0f} images of 96x128 a second]", end="")


def test_floors_of_a_set_that_can_be_computed_by_hand():
    from course_utils.data import SegmentationSet

    images = np.zeros((2, 12, 16, 3), np.uint8)
    images[:, :6] = 200
    masks = np.zeros((2, 12, 16), np.uint8)
    masks[:, :6] = 1
    masks[:, 0] = VOID
    hand = SegmentationSet("hand", "all", ("dark", "bright"), images, masks)
    majority, prior, table = floors.floors(hand, hand)
    assert majority.accuracy == pytest.approx(6 / 11)
    assert majority.mean_iou == pytest.approx(6 / 11 / 2)
    assert (prior.mean_iou, table.mean_iou) == (1, 1)


@pytest.mark.process
def test_drawing_does_not_import_torch():
    code = (
        "import sys; from course_utils.data import scenes, load; load('scenes', count=1); "
        "print('torch' in sys.modules, 'scipy' in sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == ["False", "False"]
