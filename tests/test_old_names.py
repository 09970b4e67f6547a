"""Notebooks that were handed in before a move import the old names."""

import importlib

import pytest


@pytest.mark.parametrize(
    ("old", "new", "name"),
    [
        ("course_utils.grading.export", "course_utils.hand_in.export", "export"),
        ("course_utils.grading.tasks", "course_utils.hand_in.tasks", "get_task"),
        (
            "course_utils.grading.function_task",
            "course_utils.hand_in.function_task",
            "run_function_task",
        ),
        ("course_utils.instances", "course_utils.metrics", "instance_f1"),
        ("course_utils.classical_figures", "course_utils.figures.classical", "text_table"),
        ("course_utils.metric_figures", "course_utils.figures.metrics", "show_masks_of"),
        ("course_utils.network_figures", "course_utils.figures.networks", "draw_unet"),
    ],
)
def test_an_old_name_gives_what_it_gave(old, new, name):
    assert getattr(importlib.import_module(old), name) is getattr(
        importlib.import_module(new), name
    )
