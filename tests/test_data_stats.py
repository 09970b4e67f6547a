"""``course data stats``: what it counts, and what it finds odd, on folders that are made so."""

import numpy as np
import pytest
from PIL import Image

from course_utils.data import drawn_pets, scenes, stats
from course_utils.errors import CourseError


def save(path, array, **options) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(array).save(path, **options)


@pytest.fixture
def people(tmp_path, monkeypatch):
    """Sixty pairs of people, half of each mask person; train holds 0000, 0003 and 0004."""
    rng = np.random.default_rng(0)
    mask = np.zeros((40, 30), np.uint8)
    mask[:20] = 255
    for k in range(60):
        image = rng.integers(0, 256, (5, 4, 3), np.uint8).repeat(8, 0).repeat(8, 1)[:, :30]
        save(tmp_path / "people" / "images" / f"{k:04d}.png", image)
        save(tmp_path / "people" / "masks" / f"{k:04d}.png", mask)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    return tmp_path / "people"


def train_of(splits):
    return next(split for split in splits if split.name == "train")


def test_counts_sizes_and_shares_are_those_of_the_files(people):
    splits = stats.examine("people")
    assert [split.name for split in splits] == ["train", "valid", "test"]
    assert sum(split.images for split in splits) == 60
    for split in splits:
        assert split.sizes == {(40, 30): split.images}
        assert split.shares.tolist() == [0.5, 0.5]
        assert split.without.tolist() == [0, 0]
        assert split.void == 0
        assert not split.suspicious


def test_what_is_odd_about_a_pair_is_told(people):
    stems = [image for image in stats.examine("people")[0].names]
    empty, small, damaged, turned = (stem.removesuffix(".png") for stem in stems[:4])
    save(people / "masks" / f"{empty}.png", np.zeros((40, 30), np.uint8))
    save(people / "masks" / f"{small}.png", np.full((20, 15), 255, np.uint8))
    (people / "masks" / f"{damaged}.png").write_bytes(b"no picture")
    exif = Image.Exif()
    exif[0x112] = 6
    image = np.asarray(Image.open(people / "images" / f"{turned}.png"))
    save(people / "images" / f"{turned}.png", np.rot90(image, 1), exif=exif)
    train = train_of(stats.examine("people"))
    told = "\n".join(train.suspicious)
    assert f"{empty}.png: the whole mask is background" in told
    assert f"{small}.png is 40x30 but its mask" in told
    assert f"{damaged}.png cannot be read" in told
    assert f"{turned}.png: its EXIF (orientation 6)" in told
    assert len(train.suspicious) == 4
    assert train.without.tolist() == [0, 1]


def test_values_beyond_the_classes_are_told(tmp_path, monkeypatch):
    from tests.test_idd_lite import make_idd_lite

    folder = make_idd_lite(tmp_path)
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    save(folder / "gtFine/train/0/024541_label.png", np.full((227, 320), 9, np.uint8))
    train, valid = stats.examine("idd_lite")
    assert (train.images, valid.images) == (2, 1)
    assert any("holds the value 9" in line for line in train.suspicious)
    assert 0.1 < valid.void < 0.15
    assert valid.shares.sum() == pytest.approx(1)


def test_an_image_on_both_sides_of_a_split_is_found(people):
    splits = stats.examine("people")
    train, valid = splits[:2]
    assert stats.nearest(valid, train)[0][0] < stats.ALIKE
    one, other = valid.names[0], train.names[0]
    image = np.asarray(Image.open(people / "images" / other)).astype(int)
    save(people / "images" / one, np.clip(image + 9, 0, 255).astype(np.uint8))
    splits = stats.examine("people")
    likeness, found, like = stats.nearest(splits[1], splits[0])[0]
    assert (found, like) == (one, other)
    assert likeness > 0.98


def test_all_of_it_is_printed_and_drawn(people, tmp_path, capsys):
    target = tmp_path / "look.png"
    stats.print_stats("people", target)
    printed = capsys.readouterr().out
    for part in (
        "licence:",
        "Yang, Luo, Lin",
        "40x30",
        "50.00%",
        "Traps:",
        "Pairs to look at: none",
    ):
        assert part in printed
    with Image.open(target) as picture:
        assert picture.format == "PNG"
        assert picture.width == 1500


@pytest.mark.parametrize("module", [scenes, drawn_pets])
def test_drawn_sets_have_their_stats_too(module, monkeypatch):
    monkeypatch.setattr(module, "SPLITS", {"train": (0, 3), "valid": (10**7, 2)})
    train, valid = stats.examine(module.__name__.rsplit(".", 1)[1])
    assert (train.images, valid.images) == (3, 2)
    assert train.shares.sum() == pytest.approx(1)
    assert len(train.samples) == 3
    stats.draw("drawn", [train, valid])


def test_an_absent_set_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match="course data fetch camvid"):
        stats.examine("camvid")


def test_a_second_split_that_is_absent_does_not_end_it(tmp_path, monkeypatch):
    folder = tmp_path / "camvid"
    for stem in ("a", "b"):
        save(folder / "images" / f"{stem}.png", np.zeros((4, 8, 3), np.uint8))
        save(folder / "labels" / f"{stem}_P.png", np.zeros((4, 8), np.uint8))
    (folder / "codes.txt").write_text("Sky\n")
    (folder / "valid.txt").write_text("b.png\n")
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    train, valid = stats.examine("camvid")
    assert (train.images, valid.images) == (1, 1)
    assert any("split test:" in line for line in valid.suspicious)


@pytest.mark.long
def test_the_command_writes_its_picture_where_it_is_told(people, tmp_path, monkeypatch, capsys):
    from course_utils import cli

    monkeypatch.chdir(tmp_path)
    for more, name in (([], "people-stats.png"), (["--picture", "b/look.png"], "b/look.png")):
        cli.app(["data", "stats", "people", *more], standalone_mode=False)
        assert (tmp_path / name).stat().st_size > 10_000
        assert f"Picture: {name}" in capsys.readouterr().out
    with pytest.raises(CourseError, match="is a folder: name a file"):
        cli.app(["data", "stats", "people", "--picture", "b"], standalone_mode=False)
