"""Hidden tests draw from a number that follows from the secret seed, and does not tell it."""

import numpy as np
import pytest

from course_utils.checks.exercise import HIDDEN_SEED, Case, Exercise
from course_utils.grading.grade import result_folder
from course_utils.grading.marking.preprocessors import _kernel_environment
from course_utils.grading.marking.settings import hidden_test_seed
from course_utils.grading.publishing.solve import run_lesson
from tests.mini_course import MINI, NET, hand_in, make_course


@pytest.fixture
def root(tmp_path):
    return with_secret(make_course(tmp_path / "course"), 2**127 + 11)


def with_secret(root, secret):
    (root / "grading").mkdir(exist_ok=True)
    (root / "grading" / "secret_seed").write_text(f"{secret}\n")
    return root


def test_a_hand_in_gets_the_same_number_at_every_run_and_machine(root):
    assert hidden_test_seed(root, MINI, "ada") == 9490371609246331356


def test_each_student_lesson_and_course_has_its_own(root):
    seeds = [hidden_test_seed(root, *who) for who in ((MINI, "ada"), (MINI, "ben"), (NET, "ada"))]
    with_secret(root, 2**127 + 12)
    seeds.append(hidden_test_seed(root, MINI, "ada"))
    assert len(set(seeds)) == 4
    assert all(0 <= seed < 2**64 for seed in seeds)  # half as many bits as the secret has


def test_the_graders_kernel_is_told_the_number(monkeypatch):
    monkeypatch.setenv(HIDDEN_SEED, "1")  # whatever the instructor's shell says
    assert _kernel_environment(4711)[HIDDEN_SEED] == "4711"


def test_a_solution_is_run_without_one(root, monkeypatch):
    told = []
    monkeypatch.setattr("nbclient.NotebookClient.execute", lambda self, **more: told.append(more))
    run_lesson(root / "solutions" / MINI, root, mark=False)
    assert HIDDEN_SEED not in told[0]["env"]


def test_a_changed_secret_marks_exercises_anew(root):
    hand_in(root, "ada")
    before = result_folder(root, "ada", MINI)
    assert result_folder(root, "ada", MINI) == before
    assert result_folder(with_secret(root, 5), "ada", MINI) != before


def test_the_same_number_asks_the_same_and_no_number_asks_anew(monkeypatch):
    asked = []

    def answer(x):
        asked.append(x)
        return x

    exercise = Exercise(
        "same", "x", "x", lambda x: x, [Case(1.0)], drawn=lambda rng: [Case(rng.random(4))]
    )
    for seed in ("5", "5", "6", None, None):
        if seed:
            monkeypatch.setenv(HIDDEN_SEED, seed)
        else:
            monkeypatch.delenv(HIDDEN_SEED, raising=False)
        exercise.hidden(answer)
    assert np.array_equal(asked[0], asked[1])
    assert len({tuple(x) for x in asked}) == 4
