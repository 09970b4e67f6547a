"""Under which profile a class's models are marked: the instructor's to fix, never in the way."""

import re

import pytest
from traitlets.config import Config
from typer.testing import CliRunner

from course_utils import cli
from course_utils.errors import CourseError
from course_utils.grading import grade as grade_module
from course_utils.grading.export_marks import export_marks
from course_utils.grading.grade import grade, result_folder
from course_utils.grading.marking import nbgrader_setup
from course_utils.grading.report import report
from course_utils.grading.workplace import PROFILE_NOTE, marking_profile
from course_utils.hand_in import tasks
from tests.mini_course import MINI, NET, add_model, hand_in, make_course
from tests.model_files import small_model

pytestmark = pytest.mark.long


@pytest.fixture
def root(tmp_path, monkeypatch):
    """Return a course on a machine without CamVid, and two students, one of profile full."""
    monkeypatch.setenv("COURSE_DATA", str(tmp_path / "data"))
    root = make_course(tmp_path / "course")
    add_model(hand_in(root, "quick", NET))
    model = small_model(tasks.get_task("unet", "full")).SerializeToString()
    add_model(hand_in(root, "whole", NET), model)
    return root


@pytest.fixture
def given(monkeypatch):
    """Run no job; return the profile of each that would have run."""
    given = []

    def job(job, target, threads):
        given.append(job.settings.profile)
        raise RuntimeError("enough")

    monkeypatch.setattr(grade_module, "_run_job", job)
    return given


def camvid(tmp_path):
    (tmp_path / "data" / "CamVid" / "trainannot").mkdir(parents=True)


def test_the_profile_is_kept_for_later_runs_and_for_nbgrader(root, given):
    for named in (None, "quick", None, "any", None):
        with pytest.raises(CourseError, match="enough"):
            grade(profile=named, root=root)
        config = Config()
        nbgrader_setup.configure(config, root)
        assert config.ScoreTasks.settings.profile == given[-1]
    assert given[::2] == [None, "quick", "quick", None, None]


def test_a_profile_that_cannot_be_is_told_and_not_kept(root, given, tmp_path):
    (tmp_path / "own").mkdir()
    for options, words in [
        ({"profile": "huge"}, r"no profile 'huge'\. Give --profile quick, full or any"),
        ({"profile": "quick", "data": tmp_path / "own"}, r"--data is for models of profile full"),
        ({"profile": "full"}, r"full is marked on camvid, which is not here\. Run `course data"),
    ]:
        with pytest.raises(CourseError, match=words) as caught:
            grade(root=root, **options)
        assert "\n" not in str(caught.value)
        assert marking_profile(root) is None
    assert given == []
    camvid(tmp_path)
    with pytest.raises(CourseError, match="enough"):
        grade(root=root, profile="full")
    (root / "grading" / PROFILE_NOTE).write_text("Quick\n")
    with pytest.raises(CourseError, match=r"'Quick', which .*marking_profile names\. Give"):
        grade(root=root)


def test_a_profile_makes_another_result_of_models_only(root, tmp_path):
    hand_in(root, "quick", MINI)
    for lesson, same in ((MINI, True), (NET, False)):
        stated = result_folder(root, "quick", lesson)
        fixed = [result_folder(root, "quick", lesson, profile=name) for name in ("quick", "full")]
        assert (fixed == [stated] * 2) == same
        assert (fixed[0] == fixed[1]) == same
    waiting = result_folder(root, "whole", NET)
    quick = result_folder(root, "quick", NET, profile="quick")
    camvid(tmp_path)
    assert result_folder(root, "whole", NET) != waiting  # then it is marked
    assert result_folder(root, "quick", NET, profile="quick") == quick


@pytest.mark.slow
def test_a_model_of_profile_full_waits_without_an_error_until_its_data_are_there(
    root, monkeypatch, capsys
):
    marked = {one.student: one for one in grade(root=root)}
    said = capsys.readouterr().out
    assert len(re.findall("whole .*course data fetch camvid", said)) == 1
    assert marked["quick"].marks["task_unet"].score is not None
    assert marked["whole"].marks["task_unet"].score is None
    assert marked["whole"].needs_hand
    (remark,) = marked["whole"].remarks
    assert remark.startswith("models/unet.onnx is of profile full, which is marked on camvid")
    page = root / "grading" / "feedback" / "whole" / NET / f"{NET}.html"
    assert "not marked yet: models/unet.onnx is of profile full" in page.read_text()
    report(root=root)
    export_marks("moodle", root=root)
    assert f"has yet to mark count 0: whole/{NET}" in capsys.readouterr().out
    with monkeypatch.context() as patch:
        patch.setattr(grade_module, "_run_job", lambda *_: pytest.fail("it was graded again"))
        grade(root=root)

    marked = {one.student: one for one in grade(root=root, profile="quick")}
    assert "Models are marked under profile quick only" in capsys.readouterr().out
    assert marked["whole"].marks["task_unet"].score == 0
    assert "this class is marked under quick" in marked["whole"].remarks[0]
    assert marked["quick"].marks["task_unet"].score is not None


@pytest.mark.parametrize(("words", "named"), [([], None), (["--profile", "quick"], "quick")])
def test_the_command_passes_the_profile_on(monkeypatch, words, named):
    given = []
    monkeypatch.setattr(grade_module, "grade", lambda *_, profile, **__: given.append(profile))
    result = CliRunner().invoke(cli.app, ["grade", "06", *words])
    assert result.exit_code == 0, result.output
    assert given == [named]
