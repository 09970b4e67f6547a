"""Figures: colours that can be told apart, overlays pixel by pixel, a text beside each picture."""

import base64
import io
import itertools

import IPython.display
import numpy as np
import pytest
from matplotlib.colors import to_rgb
from PIL import Image
from skimage.color import deltaE_ciede2000, rgb2lab

from course_utils import display
from course_utils.data import VOID
from course_utils.errors import CourseError
from course_utils.metrics import ConfusionMatrix

CLASSES = ("sky", "road", 'a <b> & "c"')

# Machado, Oliveira, Fernandes: A physiologically-based model for simulation of color vision
# deficiency. IEEE TVCG 2009; severity 1.
SIGHT = {
    "normal": np.eye(3),
    "protan": [
        [0.152286, 1.052583, -0.204868],
        [0.114503, 0.786281, 0.099216],
        [-0.003882, -0.048116, 1.051998],
    ],
    "deutan": [
        [0.367322, 0.860646, -0.227968],
        [0.280085, 0.672501, 0.047413],
        [-0.011820, 0.042940, 0.968881],
    ],
    "tritan": [
        [1.255528, -0.076749, -0.178779],
        [-0.078411, 0.930809, 0.147602],
        [0.004733, 0.691367, 0.303900],
    ],
}


def seen_by(sight, colours):
    c = colours / 255
    linear = np.where(c <= 0.04045, c / 12.92, ((c + 0.055) / 1.055) ** 2.4)
    linear = np.clip(linear @ np.asarray(SIGHT[sight]).T, 0, 1)
    return np.where(linear <= 0.0031308, linear * 12.92, 1.055 * linear ** (1 / 2.4) - 0.055)


@pytest.fixture
def shown(monkeypatch):
    outputs = []

    def keep(data, metadata, raw):
        outputs.append((data, metadata))

    monkeypatch.setattr(IPython.display, "display", keep)
    return outputs


def pair(size=(12, 16)):
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (*size, 3)).astype(np.uint8)
    mask = np.zeros(size, np.uint8)
    mask[4:8, 4:12] = 1
    mask[9:] = 2
    mask[:2] = VOID
    return image, mask


@pytest.mark.parametrize(
    ("sight", "least"), [("normal", 20), ("protan", 15), ("deutan", 15), ("tritan", 12)]
)
def test_every_pair_of_classes_can_be_told_apart(sight, least):
    """CIEDE2000 of 2.3 is just noticeable; ten is plain to see side by side."""
    lab = rgb2lab(seen_by(sight, display.PALETTE)[None])[0]
    differences = [deltaE_ciede2000(a, b) for a, b in itertools.combinations(lab, 2)]
    assert len(differences) == 55
    assert min(differences) > least


@pytest.mark.parametrize("sight", ["normal", "protan", "deutan", "tritan"])
def test_neighbouring_lines_can_be_told_apart(sight):
    """Lines also differ in dashes; those drawn together most often are the first three."""
    rgb = np.array([to_rgb(colour) for colour in display.LINES[:3]]) * 255
    lab = rgb2lab(seen_by(sight, rgb)[None])[0]
    assert min(deltaE_ciede2000(a, b) for a, b in itertools.combinations(lab, 2)) > 10


def test_colours_beyond_the_palette_are_new():
    many = display.colours(32)
    assert many.dtype == np.uint8
    assert len(np.unique(many, axis=0)) == 32
    np.testing.assert_array_equal(many[:11], display.PALETTE)
    assert len(display.colours(3)) == 3


def test_overlay_by_hand():
    image = np.full((2, 2, 3), 100, np.uint8)
    mask = np.array([[0, 0], [1, 1]], np.uint8)
    half = display.overlay(image, mask, 0.5, contours=False)
    np.testing.assert_allclose(half[0, 0], (100 + display.PALETTE[0].astype(int)) / 2, atol=0.5)
    np.testing.assert_array_equal(display.overlay(image, mask, 0), image)
    np.testing.assert_array_equal(display.overlay(image, mask, 0, only=1), image)
    alone = display.overlay(image, mask, 1, only=1, contours=False)
    np.testing.assert_array_equal(alone[1], display.colours(2)[[1, 1]])
    # class 1 is dark: the rest is as good as white
    np.testing.assert_array_equal(alone[0], np.full((2, 3), round(0.15 * 100 + 0.85 * 255)))


@pytest.mark.parametrize("label", range(len(display.PALETTE)))
@pytest.mark.parametrize("grey", [0, 100, 166, 255])
def test_a_picked_class_stands_out_from_any_picture(label, grey):
    """WCAG 2 wants 3:1 between a thing and what is beside it; a line around it has more."""
    image, mask = np.full((9, 9, 3), grey, np.uint8), np.full((9, 9), 11, np.uint8)
    mask[2:7, 4] = label
    plain = display.overlay(image, mask, 1, only=label, contours=False)
    lined = display.overlay(image, mask, 0.6, only=label)

    def contrast(*colours):
        darker, lighter = sorted(map(display.luminance, colours))
        return (lighter + 0.05) / (darker + 0.05)

    assert contrast(plain[4, 4], plain[0, 0]) > 3
    assert contrast(lined[4, 3], lined[0, 0]) > 4.5
    inside = mask == label
    np.testing.assert_array_equal(
        lined[inside], display.overlay(image, mask, 0.6, only=label, contours=False)[inside]
    )


def test_contours_run_where_labels_change_and_nowhere_else():
    image, mask = pair()
    plain = display.overlay(image, mask, 0.5, contours=False)
    lined = display.overlay(image, mask, 0.5)
    changed = (plain != lined).any(-1)
    right, below = mask[:, :-1] != mask[:, 1:], mask[:-1] != mask[1:]
    edge = np.pad(right, ((0, 0), (0, 1))) | np.pad(below, ((0, 1), (0, 0)))
    np.testing.assert_array_equal(changed, edge)


def test_void_is_hatched_in_every_picture():
    image, mask = pair((24, 24))
    mask[:] = VOID
    assert len(np.unique(display.overlay(image, mask, 1).reshape(-1, 3), axis=0)) == 2


def test_error_map_marks_wrong_pixels_only():
    image, mask = pair()
    prediction = mask.copy()
    prediction[mask == VOID] = 0
    assert not (display.error_map(image, prediction, mask) == display.WRONG).all(-1).any()
    prediction[5, 5] = 2
    wrong = (display.error_map(image, prediction, mask) == display.WRONG).all(-1)
    assert np.argwhere(wrong).tolist() == [[5, 5]]


def test_enlarging_repeats_pixels():
    assert display.enlarge(np.array([[1, 2]]), 2).tolist() == [[1, 1, 2, 2], [1, 1, 2, 2]]


def test_overlay_refuses_what_does_not_fit():
    image, mask = pair()
    with pytest.raises(CourseError, match=r"\(H, W\), found"):
        display.overlay(image, mask[:-1])
    with pytest.raises(CourseError, match="integers"):
        display.overlay(image, mask / 2)


def histories():
    from course_utils.training import History  # not on top: it brings torch

    curve = [0.5, 0.6, 0.7]
    return History(curve, curve, curve, curve, curve, [1.0] * 3)


def confusion():
    _, mask = pair()
    return ConfusionMatrix(3).update(np.where(mask == VOID, 0, mask), mask)


def draw_all():
    image, mask = pair()
    predicted = np.where(mask == VOID, 0, mask).astype(np.uint8)
    return {
        "masks": lambda: display.show_masks(image[None], mask[None], CLASSES, title="Look"),
        "prediction": lambda: display.show_prediction(image, predicted, mask, CLASSES),
        "predictions": lambda: display.show_prediction(
            np.stack([image] * 2), np.stack([predicted] * 2), np.stack([mask] * 2), CLASSES
        ),
        "scores": lambda: display.show_class_scores(confusion(), CLASSES),
        "compared": lambda: display.show_class_scores(
            {"with": confusion(), "without": ConfusionMatrix(3)}, CLASSES
        ),
        "curves": lambda: display.learning_curves(histories()),
        "two curves": lambda: display.learning_curves({"a": histories(), "b": histories()}),
    }


@pytest.mark.parametrize("name", draw_all())
def test_every_figure_has_a_text_and_a_white_ground(shown, name, capfd):
    draw_all()[name]()
    ((data, metadata),) = shown
    text = metadata["image/png"]["alt"]
    assert len(text) > 20
    assert data["text/plain"] == text
    picture = Image.open(io.BytesIO(base64.b64decode(data["image/png"]))).convert("RGB")
    assert picture.width > 300
    corners = [picture.getpixel((x, y)) for x in (0, picture.width - 1) for y in (0, 1)]
    assert set(corners) == {(255, 255, 255)}
    assert data["text/html"].startswith('<img alt="')
    assert not capfd.readouterr().err, "stderr costs a student all points of the cell"


def test_the_prediction_of_each_row_may_have_its_name(shown):
    image, mask = pair()
    rows = np.stack([image] * 2), np.stack([mask * 0] * 2), np.stack([mask] * 2)
    display.show_prediction(*rows, CLASSES, name=("repeated", "smooth"))
    text = shown[0][1]["image/png"]["alt"]
    assert text.startswith("Image, truth, repeated, then smooth, errors: mean IoU")


def test_the_text_is_escaped_in_html_and_says_the_scores(shown):
    display.show_class_scores(confusion(), CLASSES)
    ((data, metadata),) = shown
    assert "&lt;b&gt;" in data["text/html"]
    assert "sky 1.00" in metadata["image/png"]["alt"]
    assert "mean 1.000" in metadata["image/png"]["alt"]


def test_show_closes_a_pyplot_figure(shown):
    pyplot = pytest.importorskip("matplotlib.pyplot")
    pyplot.switch_backend("agg")
    figure = pyplot.figure()
    display.show(figure, alt="an empty figure")
    assert figure.number not in pyplot.get_fignums()


def test_class_table_has_a_line_a_class_and_says_what_is_absent():
    table = display.class_table(
        ConfusionMatrix(3).update(np.array([0, 0]), np.array([0, 1])), ("sky", "road", "sign")
    )
    assert [line.split()[0] for line in table.splitlines()] == [
        *("class", "-----", "sky", "road", "sign", "mean", "pixel")
    ]
    assert table.splitlines()[4].split() == ["sign", "0.0%", "-", "-"]
    assert len({len(line) for line in table.splitlines()[:-1]}) == 1
