"""Drawn people and pets: the same bytes everywhere, exact masks, no class given away."""

import hashlib
import time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from course_utils.data import VOID, canvas, drawn_people, drawn_pets, floors, load
from course_utils.metrics import ConfusionMatrix

DRAW = {"drawn_people": drawn_people.person_image, "drawn_pets": drawn_pets.pet_image}

# seed, height, width: a change of any of these changes the numbers of lesson 08.
GOLDEN = {
    ("drawn_people", 0, 144, 96): "1fce6b8746f7df25",
    ("drawn_people", 10000003, 96, 72): "40cb919b03a45835",
    ("drawn_people", 1267650600228229401496703205376, 256, 192): "95b0f41c16a5a9a4",
    ("drawn_pets", 0, 128, 128): "6558edaf5cbd064a",
    ("drawn_pets", 10000003, 64, 96): "1f34ff5526507706",
    ("drawn_pets", 1267650600228229401496703205376, 224, 224): "c25510150a9fd034",
}


def digest(name: str, seed: int, height: int, width: int) -> str:
    image, mask = DRAW[name](seed, height, width)
    return hashlib.sha256(image.tobytes() + mask.tobytes()).hexdigest()[:16]


@pytest.fixture(scope="module", params=DRAW)
def many(request):
    """The name of a set, sixty of its pictures for training, and forty others."""
    return (
        request.param,
        load(request.param, "train", count=60),
        load(request.param, "valid", count=40),
    )


@pytest.mark.parametrize("case", list(GOLDEN))
def test_a_seed_gives_the_same_bytes_on_every_machine(case):
    assert digest(*case) == GOLDEN[case]


@settings(max_examples=15)
@given(st.integers(0, 2**128), st.integers(8, 90), st.integers(8, 90))
@pytest.mark.parametrize("name", DRAW)
def test_any_seed_and_size_gives_a_picture(name, seed, height, width):
    image, mask = DRAW[name](seed, height, width)
    assert image.shape == (height, width, 3)
    assert image.dtype == mask.dtype == np.uint8
    assert mask.shape == (height, width)
    assert mask.max() <= (1 if name == "drawn_people" else 2)


@pytest.mark.parametrize("name", DRAW)
@pytest.mark.parametrize("seed", [1, 2**100])
def test_a_seed_gives_the_same_picture_at_every_size(name, seed):
    _, small = DRAW[name](seed, 96, 96)
    _, large = DRAW[name](seed, 288, 288)
    assert np.mean(large[1::3, 1::3] == small) > 0.94


@pytest.mark.long
def test_nearly_every_picture_shows_its_thing_and_what_is_not_it(many):
    name, train, _ = many
    shares = np.array(
        [[np.mean(mask == k) for k in range(len(train.classes))] for mask in train.masks]
    )
    assert np.mean(shares[:, :2] > 0.02) > 0.97
    thing = shares[:, drawn_people.PERSON if name == "drawn_people" else drawn_pets.PET]
    assert 0.15 < thing.mean() < 0.4
    assert thing.max() > 5 * thing.min()


@pytest.mark.long
def test_pictures_differ(many):
    _, train, valid = many
    everything = [image.tobytes() for image in (*train.images, *valid.images)]
    assert len(set(everything)) == len(everything)


FLOORS = {"drawn_people": (0.44, 0.20), "drawn_pets": (0.37, 0.40)}
"""What no trivial predictor may exceed: mean IoU, and IoU of the thing itself.

The mean of people has a floor of nearly 0.37, which is all background. A U-Net of 1.9 M parameters
came to 0.70 (pet 0.75) after 10 epochs on 300 pictures, and to 0.78 (person 0.70) before boards in
the colours of skin stood about.
"""


@pytest.mark.long
def test_neither_colour_nor_place_gives_the_classes_away(many):
    name, train, valid = many
    most, most_of_thing = FLOORS[name]
    thing = train.classes.index("person" if name == "drawn_people" else "pet")
    for floor, learn in floors.PREDICTORS.items():
        confusion = ConfusionMatrix(len(train.classes), VOID)
        confusion.update(learn(train)(valid.images), valid.masks)
        assert confusion.mean_iou() < most, floor
        assert confusion.iou()[thing] < most_of_thing, floor


def test_masks_are_exact_where_a_thing_is_painted_flat():
    c = canvas.Canvas(64, 64, np.random.default_rng(0), (-1, -1))
    square = canvas.box(0.25, 0.25, 0.75, 0.75)
    c.paint([square], canvas.Surface((200.0, 10.0, 10.0), grain=0.0), 7)
    assert np.array_equal(c.labels == 7, c.rgb[..., 0] > 100)
    c.shadow([square], 0.5, 0.02)
    c.blurred(0.05)
    assert (c.labels == 7).sum() == (c.labels > 0).sum() > 0


def test_the_border_lies_on_both_sides_of_the_outline():
    animal = np.zeros((128, 128), bool)
    animal[30:90, 40:100] = True
    mask = drawn_pets.trimap(animal)
    assert mask[60].tolist() == [1] * 38 + [2] * 4 + [0] * 56 + [2] * 4 + [1] * 26
    cut = np.zeros((128, 128), bool)
    cut[:, 64:] = True
    assert (drawn_pets.trimap(cut)[:, -1] == drawn_pets.PET).all()  # the picture's edge is none


@pytest.mark.long
@pytest.mark.parametrize("name", DRAW)
def test_drawing_is_quick(name):
    before = time.process_time()
    load(name, "test", count=20)
    assert (time.process_time() - before) / 20 < 0.12
