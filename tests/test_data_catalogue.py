"""The catalogue of data sets: what it states, where it looks, what it says of what is absent."""

import pytest

from course_utils.data import catalogue, fetching, load, module_of, names
from course_utils.data.nuclei import find_nuclei
from course_utils.errors import CourseError

DRAWN = ("scenes", "cells", "drawn_people", "drawn_pets")


@pytest.mark.parametrize("name", list(catalogue.entries()))
def test_every_set_states_what_a_teacher_must_know(name):
    facts = catalogue.entry(name)
    for key in ("title", "homepage", "licence", "citation", "classes", "void", "split", "traps"):
        assert facts[key], f"{name} lacks {key}"
    if name not in DRAWN:
        assert facts["layout"]
        assert facts["places"]
        assert facts["markers"]
        assert facts.get("files") or facts.get("how")
    for file in facts.get("files", []):
        has_sum = "md5" in file or "sha256" in file
        assert has_sum == ("checksum_from" in file), f"{name}: say where the checksum is from"


def test_nuclei_unpacked_without_a_folder_of_their_own_are_found(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    assert find_nuclei() is None
    (tmp_path / "dsb2018" / "a1b2" / "masks").mkdir(parents=True)
    assert find_nuclei() == tmp_path / "dsb2018" == catalogue.find("nuclei")


def test_a_set_behind_a_registration_says_where_to_go(tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match=r"Register at https://idd\.insaan\.iiit\.ac\.in"):
        fetching.fetch("idd_lite")


def test_scenes_need_no_download():
    with pytest.raises(CourseError, match="drawn"):
        fetching.fetch("scenes")


def test_unknown_name_lists_the_names():
    with pytest.raises(CourseError, match="camvid, camvid-fastai"):
        catalogue.find("cityscapes")


def test_the_list_names_each_set_with_licence_and_place(capsys, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    catalogue.print_catalogue()
    printed = capsys.readouterr().out
    for name, facts in catalogue.entries().items():
        assert name in printed
        assert facts["licence"] in printed
    assert "course data fetch camvid" in printed


@pytest.mark.parametrize("name", names())
def test_module_and_catalogue_agree_on_the_classes(name):
    module = module_of(name)
    assert list(module.CLASSES) == catalogue.entry(name)["classes"]
    assert len(module.SIZE) == 2
    assert hasattr(module, "files") != hasattr(module, "load")
    assert hasattr(module, "load") == hasattr(module, name) == (name in DRAWN)


@pytest.mark.parametrize("name", sorted(set(names()) - set(DRAWN)))
def test_a_set_that_is_not_here_says_in_one_line_how_to_get_it(name, tmp_path, monkeypatch):
    monkeypatch.setenv("COURSE_DATA", str(tmp_path))
    with pytest.raises(CourseError, match="set COURSE_DATA") as caught:
        load(name, "train")
    told = str(caught.value)
    assert "\n" not in told
    facts = catalogue.entry(name)
    assert f"course data fetch {name}" in told or facts["layout"] in told


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"count": 0}, "count is 0"),
        ({"count": -3}, "count is -3"),
        ({"count": 2.5}, "count is 2.5"),
        ({"size": (0, 9)}, r"size is \(0, 9\)"),
        ({"size": (9,)}, "size is"),
        ({"split": "val"}, "train, valid, test"),
    ],
)
@pytest.mark.parametrize("name", DRAWN)
def test_what_cannot_be_loaded_is_told_in_one_line(name, asked, told):
    with pytest.raises(CourseError, match=told):
        load(name, **{"split": "train", "count": 1, **asked})


def test_terms_are_shown_once_before_the_first_use(capsys, monkeypatch):
    monkeypatch.setattr(catalogue, "_shown", set())
    for _ in range(2):
        catalogue.show_terms("people")
        catalogue.show_terms("scenes")
    printed = capsys.readouterr().out
    assert printed.count("licence:") == printed.count("Yang, Luo, Lin") == 1
