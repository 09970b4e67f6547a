"""Reading images and masks from folders, and what is said when they are wrong."""

import contextlib
import re
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from course_utils.data import VOID, SegmentationSet, load, pairs
from course_utils.data.nuclei import load_nuclei
from course_utils.errors import CourseError

CLASSES = ("background", "cat", "dog")
THREE = pairs.class_numbers(pairs.lookup_table(3), "test")


@pytest.fixture
def folder(tmp_path):
    for name in ("images", "masks"):
        (tmp_path / name).mkdir()
    for i in range(3):
        add(tmp_path, f"p{i}", np.full((6, 8), i, np.uint8))
    return tmp_path


def add(folder, stem, mask, image=None):
    image = np.full((6, 8, 3), 100, np.uint8) if image is None else image
    Image.fromarray(image).save(folder / "images" / f"{stem}.png")
    Image.fromarray(mask).save(folder / "masks" / f"{stem}.png")


def test_a_folder_of_pairs_becomes_a_set(folder):
    data = pairs.load_folder(folder, CLASSES)
    assert (len(data), data.size, data.classes) == (3, (6, 8), CLASSES)
    assert data.masks[:, 0, 0].tolist() == [0, 1, 2]


def test_a_bare_folder_is_told_what_it_must_hold(tmp_path):
    with pytest.raises(CourseError, match=r"images/ and masks/"):
        pairs.load_folder(tmp_path, CLASSES)


def test_an_empty_folder_is_refused(folder):
    for path in (folder / "images").iterdir():
        path.unlink()
    with pytest.raises(CourseError, match="holds no image"):
        pairs.load_folder(folder, CLASSES)


def test_unknown_value_names_file_value_and_known_ones(folder):
    add(folder, "p1", np.full((6, 8), 7, np.uint8))
    with pytest.raises(CourseError, match=r"p1\.png holds the value 7.*\(known: 0\.\.2, 255\)"):
        pairs.load_folder(folder, CLASSES)


def test_masks_of_0_and_255_are_told_to_divide(folder):
    table = pairs.lookup_table(2, void=())
    mask = np.full((6, 8), 255, np.uint8)
    mask[0] = 0
    add(folder, "p1", mask)
    with pytest.raises(CourseError, match="divide by 255"):
        pairs.class_numbers(table, "persons")(folder / "masks/p1.png")


def test_mask_in_colour_is_refused(folder):
    Image.new("RGB", (8, 6), (0, 128, 0)).save(folder / "masks" / "p1.png")
    with pytest.raises(CourseError, match=r"p1\.png is a picture in colour"):
        pairs.load_folder(folder, CLASSES)


@pytest.mark.parametrize(
    ("mode", "told"), [("F", "holds fractions"), ("CMYK", "picture in colour")]
)
def test_what_is_no_mask_is_told(folder, mode, told):
    (folder / "masks" / "p1.png").unlink()
    Image.new("RGB", (8, 6), (0, 128, 0)).convert("L" if mode == "F" else "RGB").convert(mode).save(
        folder / "masks" / "p1.tif"
    )
    with pytest.raises(CourseError, match=told):
        pairs.load_folder(folder, CLASSES)


def test_a_palette_mask_gives_indices_not_colours(folder):
    image = Image.fromarray(np.full((6, 8), 2, np.uint8), "P")
    image.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    image.save(folder / "masks" / "p1.png")
    assert pairs.load_folder(folder, CLASSES).masks[1].max() == 2


def test_missing_mask_and_missing_image_are_named(folder):
    (folder / "masks" / "p1.png").unlink()
    with pytest.raises(CourseError, match=r"p1\.png has no mask"):
        pairs.load_folder(folder, CLASSES)
    (folder / "images" / "p1.png").unlink()
    (folder / "images" / "p2.png").unlink()
    with pytest.raises(CourseError, match=r"p2\.png has no image"):
        pairs.load_folder(folder, CLASSES)


@pytest.mark.parametrize("content", [b"", b"not a picture", b"\x89PNG\r\n\x1a\n broken"])
@pytest.mark.parametrize("kind", ["images", "masks"])
def test_unreadable_file_is_named(folder, kind, content):
    (folder / kind / "p1.png").write_bytes(content)
    with pytest.raises(CourseError, match=rf"{kind}/p1\.png cannot be read") as caught:
        pairs.load_folder(folder, CLASSES)
    assert "\n" not in str(caught.value)


def test_a_file_cut_short_is_named(folder):
    path = folder / "images" / "p1.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), np.uint8)).save(path)
    path.write_bytes(path.read_bytes()[:-60])
    with pytest.raises(CourseError, match=r"p1\.png cannot be read"):
        pairs.load_folder(folder, CLASSES)


def test_sizes_that_differ_name_both(folder):
    add(folder, "p1", np.zeros((3, 4), np.uint8))
    with pytest.raises(CourseError, match=r"p1\.png is 6x8 but its mask .* is 3x4"):
        pairs.load_folder(folder, CLASSES)


def test_images_of_many_sizes_need_one_to_resize_to(folder):
    add(folder, "p1", np.zeros((3, 4), np.uint8), np.zeros((3, 4, 3), np.uint8))
    with pytest.raises(CourseError, match="Give a size"):
        pairs.load_folder(folder, CLASSES)
    assert pairs.load_folder(folder, CLASSES, size=(6, 8)).size == (6, 8)


def test_two_images_of_one_stem_are_refused(folder):
    Image.new("RGB", (8, 6)).save(folder / "images" / "p1.jpg")
    with pytest.raises(CourseError, match=r"both p1\.jpg and p1\.png"):
        pairs.load_folder(folder, CLASSES)


@given(st.integers(1, 40), st.integers(1, 40), st.randoms(use_true_random=False))
def test_masks_never_gain_new_values_when_resized(tmp_path_factory, height, width, random):
    folder = tmp_path_factory.mktemp("pair")
    values = [0, 2, VOID]
    mask = np.array([[random.choice(values) for _ in range(9)] for _ in range(7)], np.uint8)
    Image.fromarray(mask).save(folder / "m.png")
    Image.new("RGB", (9, 7)).save(folder / "i.png")
    _, resized = pairs.read_pair(folder / "i.png", folder / "m.png", (height, width), THREE)
    assert resized.shape == (height, width)
    assert set(resized.ravel().tolist()) <= set(mask.ravel().tolist())


def test_a_smaller_mask_takes_the_pixels_at_the_centres(folder):
    mask = np.zeros((6, 9), np.uint8)
    mask[1::3, 1::3] = [[1, 2, 1], [2, 1, 2]]
    add(folder, "wide", mask, np.zeros((6, 9, 3), np.uint8))
    files = (folder / "images/wide.png", folder / "masks/wide.png")
    _, third = pairs.read_pair(*files, (2, 3), THREE)
    assert third.tolist() == [[1, 2, 1], [2, 1, 2]]


def test_masks_of_one_bit_are_read(folder):
    mask = np.zeros((6, 9), bool)
    mask[2] = True
    add(folder, "bits", mask, np.zeros((6, 9, 3), np.uint8))
    files = (folder / "images/bits.png", folder / "masks/bits.png")
    _, read = pairs.read_pair(*files, None, THREE)
    assert read.tolist() == mask.astype(int).tolist()


def test_masks_of_0_and_255_alone_are_no_masks_with_void(folder):
    add(folder, "a", 255 * np.eye(6, 8, dtype=np.uint8))
    for name in ("images", "masks"):
        for file in (folder / name).glob("[!a]*"):
            file.unlink()
    with pytest.raises(CourseError, match="Divide them by 255"):
        pairs.load_folder(folder, ("background", "thing"))


def test_a_set_refuses_masks_of_another_shape():
    with pytest.raises(CourseError, match="masks must be"):
        SegmentationSet("x", "y", ("a",), np.zeros((1, 4, 4, 3), np.uint8), np.zeros((1, 4, 5)))


def test_unknown_set_names_the_sets():
    with pytest.raises(CourseError, match=r"There are: camvid, cells, drawn_people, drawn_pets"):
        load("cityscapes")


# As EXIF has it: what a viewer must do to the stored pixels, by its number; here undone.
TURNED = {
    1: lambda upright: upright,
    2: np.fliplr,
    3: lambda upright: np.rot90(upright, 2),
    4: np.flipud,
    5: lambda upright: upright.swapaxes(0, 1),
    6: lambda upright: np.rot90(upright, 1),
    7: lambda upright: np.rot90(upright, 2).swapaxes(0, 1),
    8: lambda upright: np.rot90(upright, -1),
}


def save_turned(path, upright, number):
    exif = Image.Exif()
    exif[0x112] = number
    picture = Image.fromarray(np.ascontiguousarray(TURNED[number](upright)))
    picture.save(path, exif=exif, **({"quality": 100} if path.suffix == ".jpg" else {}))


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("number", TURNED)
def test_a_picture_that_a_camera_turned_is_read_upright(folder, number, suffix):
    image, mask = np.zeros((6, 9, 3), np.uint8), np.zeros((6, 9), np.uint8)
    image[:3, :2], mask[:3, :2] = 255, 2
    (folder / "images/p0.png").unlink()
    save_turned(folder / f"images/p0{suffix}", image, number)
    for turned in {1, number}:  # a mask may be drawn on the upright picture, or copied with it
        save_turned(folder / "masks/p0.png", mask, turned)
        found, truth = pairs.read_pair(
            folder / f"images/p0{suffix}", folder / "masks/p0.png", None, THREE
        )
        assert np.array_equal(truth, mask)
        assert np.array_equal(found[..., 0] > 127, mask > 0)


@pytest.mark.parametrize("layout", ["instances", "stage1_train"])
def test_nuclei_that_a_camera_turned_are_read_upright(tmp_path, layout):
    image, mask = np.zeros((9, 9, 3), np.uint8), np.zeros((9, 9), np.uint8)
    image[:3, :2], mask[:3, :2] = 255, 1
    (images, truth) = {
        "instances": ("images/a.png", "instances/a.png"),
        "stage1_train": ("stage1_train/a/images/a.png", "stage1_train/a/masks/1.png"),
    }[layout]
    for name, picture in ((images, image), (truth, mask)):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        save_turned(tmp_path / name, picture, 6)
    (found,) = load_nuclei(tmp_path)
    assert np.array_equal(found.image, image)
    assert np.array_equal(found.instances, mask)


def test_sizes_that_turning_made_differ_are_explained(folder):
    upright = np.zeros((6, 8, 3), np.uint8)
    save_turned(folder / "images/p1.png", upright, 6)
    Image.fromarray(TURNED[6](upright[..., 0]).copy()).save(folder / "masks/p1.png")
    with pytest.raises(CourseError, match=r"is 6x8 but its mask .* is 8x6.*turn.*EXIF"):
        pairs.load_folder(folder, CLASSES)


@pytest.mark.parametrize("values", [np.uint16([[40000, 9]]), np.float32([[0.5, 1]])])
def test_an_image_of_more_bits_is_refused_not_clipped(folder, values):
    (folder / "images/p1.png").unlink()
    Image.fromarray(values).save(folder / "images/p1.tif")
    with pytest.raises(CourseError, match=r"p1\.tif has more than 8 bits a pixel"):
        pairs.load_folder(folder, CLASSES)


def test_an_orientation_that_cannot_be_read_does_not_end_in_a_traceback(folder):
    picture = folder / "images/p1.jpg"
    (folder / "images/p1.png").unlink()
    save_turned(picture, np.zeros((6, 8, 3), np.uint8), 6)
    content = picture.read_bytes()
    start = content.index(b"Exif")
    for at in range(start, start + 40):
        for value in (0, 1, 255):
            picture.write_bytes(content[:at] + bytes([value]) + content[at + 1 :])
            with contextlib.suppress(CourseError), warnings.catch_warnings():
                warnings.simplefilter("ignore")
                pairs.load_folder(folder, CLASSES)


RED = (200, 40, 40)


def in_mode(mode: str) -> Image.Image:
    """Return a red picture of 6x8 in a mode that files come in."""
    rgb = Image.new("RGB", (8, 6), RED)
    if mode == "P, see-through":
        indexed = rgb.quantize(4)
        indexed.info["transparency"] = bytes([128, 0, 255, 255])
        return indexed
    return rgb.quantize(4) if mode == "P" else rgb.convert(mode)


@pytest.mark.parametrize(
    ("mode", "suffix"),
    [
        *(("RGB", suffix) for suffix in (".JPG", ".Jpeg", ".PNG", ".TIF", ".bmp", ".webp")),
        *(("RGBA", ".png"), ("P", ".png"), ("P, see-through", ".png"), ("CMYK", ".jpg")),
        *(("L", ".png"), ("LA", ".png"), ("L", ".jpg"), ("CMYK", ".tif")),
    ],
)
def test_an_image_is_red_green_blue_whatever_its_file_is(folder, mode, suffix):
    (folder / "images/p1.png").unlink()
    source = in_mode(mode)
    source.save(
        folder / f"images/p1{suffix}", **({"quality": 100} if "j" in suffix.lower() else {})
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # what lands on stderr costs a student's cell its points
        image = pairs.load_folder(folder, CLASSES).images[1]
    expected = RED if mode not in ("L", "LA") else np.asarray(source.convert("RGB"))[0, 0]
    assert np.abs(image.astype(int) - np.array(expected)).max() <= 6


def test_what_systems_leave_in_folders_is_no_image(folder):
    for name in ("Thumbs.db", ".DS_Store", "._p0.png", "desktop.ini", "p0.txt"):
        (folder / "images" / name).write_bytes(b"junk")
        (folder / "masks" / name).write_bytes(b"junk")
    assert len(pairs.load_folder(folder, CLASSES)) == 3


@pytest.mark.parametrize("ending", ["_mask", "_P", "_label"])
def test_masks_may_have_another_ending(folder, ending):
    for path in sorted((folder / "masks").iterdir()):
        path.rename(path.with_name(f"{path.stem}{ending}.PNG"))
    assert pairs.load_folder(folder, CLASSES).masks[:, 0, 0].tolist() == [0, 1, 2]
    (folder / "masks" / f"p1{ending}.PNG").unlink()
    with pytest.raises(CourseError, match=f"p1.png has no mask: .*p1{ending}.png was expected"):
        pairs.load_folder(folder, CLASSES)


CORNER = np.zeros((6, 8), np.uint8)
CORNER[:2, :3] = 1


def painted(kind: str) -> Image.Image:
    """Return the mask CORNER as one of the many files that it might be."""
    indexed = Image.fromarray(CORNER, "P")
    indexed.putpalette([0, 0, 0, 128, 0, 0])
    opaque = np.full((6, 8), 255, np.uint8)
    return {
        "palette": lambda: indexed,
        "three channels": lambda: Image.fromarray(np.dstack([CORNER] * 3)),
        "three channels, opacity": lambda: Image.fromarray(np.dstack([CORNER] * 3 + [opaque])),
        "grey, opacity": lambda: Image.fromarray(np.dstack([CORNER, opaque]), "LA"),
        "16 bit": lambda: Image.fromarray(CORNER.astype(np.uint16)),
        "one bit": lambda: Image.fromarray(CORNER > 0),
    }[kind]()


@pytest.mark.parametrize(
    "kind",
    [
        *("palette", "three channels", "three channels, opacity", "grey, opacity"),
        *("16 bit", "one bit"),
    ],
)
def test_a_mask_holds_class_numbers_whatever_its_file_is(folder, kind):
    painted(kind).save(folder / "masks/p1.png")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert np.array_equal(pairs.load_folder(folder, CLASSES).masks[1], CORNER)


@pytest.mark.parametrize("opacity", [False, True])
def test_a_mask_in_colours_is_read_by_their_list(folder, opacity):
    colours = {(0, 0, 0): 0, (128, 0, 0): 1, (128, 128, 128): 2, (224, 224, 192): VOID}
    paint = np.array([*colours][:2], np.uint8)[CORNER]
    paint[5, 7] = (224, 224, 192)
    if opacity:
        paint = np.dstack([paint, np.full((6, 8), 255, np.uint8)])
    Image.fromarray(paint).save(folder / "masks/p1.png")
    grey = np.full((6, 8, 3), 128, np.uint8)  # three equal channels, and a colour all the same
    Image.fromarray(grey).save(folder / "masks/p2.png")
    masks = pairs.load_folder(folder, CLASSES, colours=colours).masks
    assert np.array_equal(masks[1] == 1, CORNER == 1)
    assert masks[1, 5, 7] == VOID
    assert (masks[2] == 2).all()
    assert (masks[0] == 0).all()  # one channel of numbers is still that


def test_a_colour_that_stands_for_nothing_is_named(folder):
    paint = np.zeros((6, 8, 3), np.uint8)
    paint[2, 3] = (64, 0, 0)
    Image.fromarray(paint).save(folder / "masks/p1.png")
    told = r"p1\.png holds the colour \(64, 0, 0\), which stands for no class.*Save it as PNG"
    with pytest.raises(CourseError, match=told):
        pairs.load_folder(folder, CLASSES, colours={(0, 0, 0): 0, (128, 0, 0): 1})


def test_a_mask_saved_as_jpeg_is_told_apart(folder):
    mask = np.random.default_rng(0).integers(0, 3, (60, 80)).astype(np.uint8)
    add(folder, "p1", mask, np.zeros((60, 80, 3), np.uint8))
    (folder / "masks/p1.png").unlink()
    Image.fromarray(mask * 100).save(folder / "masks/p1.jpg")
    with pytest.raises(CourseError, match="saved as JPEG"):
        pairs.load_folder(folder, CLASSES, size=(6, 8))


@pytest.mark.parametrize("values", [(0, 1), (0, 255), (2, 250)])
def test_the_mask_of_one_thing_is_bright_where_it_is(folder, values):
    Image.fromarray(np.array(values, np.uint8)[CORNER]).save(folder / "masks/p1.png")
    assert np.array_equal(pairs.bright(folder / "masks/p1.png"), CORNER)


def test_pictures_are_opened_in_one_place():
    package = Path(pairs.__file__).parents[1]
    opening = re.compile(r"Image\.open\(|imread|read_image\(|decode_image\(")
    places = [path for path in package.rglob("*.py") if opening.search(path.read_text("utf-8"))]
    assert [path.name for path in places] == ["pictures.py"]
