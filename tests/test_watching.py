"""Who watches a training: what is shown where, and that it changes nothing but the screen."""

import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import IPython.display
import numpy as np
import pytest

from course_utils.data import VOID
from course_utils.display import new_figure, to_png
from course_utils.errors import CourseError


def setup_module():
    global as_watcher, boxes, figures, fitting, History, Lines, LiveFigure, predict, Progress
    global quick_fit, same_weights, TinyUNet, torch, watcher_here, watching
    import torch

    from course_utils.figures import training as figures
    from course_utils.figures.training import LiveFigure
    from course_utils.training import fitting, predict, watching
    from course_utils.training.history import History
    from course_utils.training.watching import Lines, Progress, as_watcher, watcher_here
    from tests.nets import TinyUNet, boxes, quick_fit, same_weights


EPOCH = {"train_loss": 0.5, "valid_loss": 0.6, "learning_rate": 1e-3, "seconds": 2.0}


@pytest.fixture(autouse=True)
def quiet_place(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("NBGRADER_EXECUTION", "COURSE_STATIC"):
        monkeypatch.delenv(name, raising=False)
    torch.manual_seed(0)


@pytest.fixture
def outputs(monkeypatch):
    """Return what is shown: for each output its states, one after the other."""
    shown = {}

    def display(data, raw, metadata=None, display_id=None):
        assert raw
        assert display_id not in shown, "the same output twice"
        shown[display_id] = [(data, metadata)]

    def update_display(data, raw, display_id, metadata=None):
        shown[display_id].append((data, metadata))

    monkeypatch.setattr(IPython.display, "display", display)
    monkeypatch.setattr(IPython.display, "update_display", update_display)
    return shown


def progress(epochs=4, classes=("sky", 'a <b> & "c"', "road")):
    data = boxes(1)
    return Progress(History(), epochs, 10, classes, data.images[0], data.masks[0])


def one_more_epoch(state):
    scores = SimpleNamespace(mean_iou=lambda: 0.25, pixel_accuracy=lambda: 0.5)
    state.history.add(confusion=scores, **EPOCH)
    state.moment, state.step = "epoch", 0
    state.prediction = np.ones_like(state.truth)


def run(watcher, state, epochs=None):
    """Tell a watcher of a whole training."""
    state.begin()
    state.moment = "start"
    watcher(state)
    for _ in range(epochs or state.epochs):
        state.moment, state.step, state.loss = "step", 5, 0.7
        watcher(state)
        one_more_epoch(state)
        watcher(state)
    state.moment = "end"
    watcher(state)


# Text


def test_progress_says_where_a_training_stands():
    state = progress()
    assert str(state) == "epoch 1 of 4"
    state.begin()
    state.moment, state.step, state.loss = "step", 5, 0.7
    assert str(state) == "epoch 1 of 4, step 5 of 10, loss 0.700, about 5 s left"
    one_more_epoch(state)
    assert str(state).startswith("epoch 1 of 4, loss 0.700, validation mean IoU 0.250, about")
    state.moment, state.stopped = "end", True
    assert str(state).startswith("stopped after 1 of 4 epochs, 1 epochs in 2 s: validation mean")


def test_time_left_is_that_of_the_steps_to_come(monkeypatch):
    """A resumed training counts only what it has done itself."""
    clock = SimpleNamespace(perf_counter=lambda: 100.0)
    monkeypatch.setattr(watching, "time", clock)
    state = progress(epochs=10)
    one_more_epoch(state)
    state.begin()
    assert np.isnan(state.seconds_left())
    clock.perf_counter = lambda: 120.0
    one_more_epoch(state)
    assert state.seconds_left() == 8 * 20


@pytest.mark.parametrize("epochs", [1, 3, 13, 100, 1000])
def test_a_file_gets_a_few_lines(capsys, epochs):
    run(Lines(), progress(epochs))
    lines = capsys.readouterr().out.splitlines()
    assert 1 <= len(lines) <= 11
    assert lines[0].startswith(f"epoch 1 of {epochs}")
    assert lines[-1].startswith(f"epoch {epochs} of {epochs}")


def test_in_a_terminal_there_is_one_bar(capsys, monkeypatch):
    monkeypatch.setattr(sys.stdout, "isatty", lambda: True, raising=False)
    watcher = watcher_here()
    assert isinstance(watcher, watching.Bar)
    run(watcher, progress(4))
    captured = capsys.readouterr()
    assert "40/40" in captured.out
    assert captured.out.count("\n") == 1
    assert captured.err == ""


@pytest.mark.parametrize("told", ["autograde", "validate"])
def test_in_grading_nobody_watches(monkeypatch, told):
    monkeypatch.setenv("NBGRADER_EXECUTION", told)
    assert as_watcher(True) is None


def test_what_cannot_watch_is_told():
    assert as_watcher(False) is None
    for watch in ("figure", print):
        with pytest.raises(CourseError, match=r"watch must be True or False.* on_step or on_epoch"):
            as_watcher(watch)


# The figure


def test_the_figure_is_one_output_that_ends_as_a_picture(outputs):
    run(LiveFigure(), progress())
    (states,) = outputs.values()
    *before, (last, metadata) = [(data, metadata) for data, metadata in states]
    assert len(before) > 4
    for data, _ in before:
        assert '<progress aria-label="training"' in data["text/html"]
        assert 'alt="Curves of loss' in data["text/html"]
        assert data["text/plain"].startswith("epoch ")
    assert set(last) == {"text/html", "image/png", "text/plain"}
    assert "<progress" not in last["text/html"]
    assert "<b>" not in last["text/html"]
    alt = metadata["image/png"]["alt"]
    assert "4 epochs in 8 s" in alt
    assert 'and shows a <b> & "c".' in alt


@pytest.mark.long
def test_a_second_training_gets_an_output_of_its_own(outputs):
    figure = LiveFigure()
    run(figure, progress())
    run(figure, progress())
    assert len(outputs) == 2


def test_a_static_figure_is_lines_and_one_picture(outputs, capsys, monkeypatch):
    monkeypatch.setenv("COURSE_STATIC", "1")
    run(LiveFigure(), progress())
    assert len(capsys.readouterr().out.splitlines()) == 4
    (((data, _),),) = outputs.values()
    assert "image/png" in data


def test_drawing_takes_a_small_part_of_the_time(outputs, monkeypatch):
    """A drawing takes 0.1 s here and an epoch half a second: not each epoch gets one."""
    clock, drawn = SimpleNamespace(now=0.0), []

    def draw(self, state):
        clock.now += 0.1
        drawn.append(len(state.history))
        return to_png(new_figure(1, 1)[0])

    def told(state):
        clock.now += 0.25
        figure(state)

    monkeypatch.setattr(figures.time, "perf_counter", lambda: clock.now)
    monkeypatch.setattr(LiveFigure, "_png", draw)
    figure = LiveFigure()
    run(told, progress(40))
    assert drawn[:2] == [0, 1]
    assert 0.1 * len(drawn) < 0.05 * clock.now
    assert len(drawn) > 5


@pytest.mark.parametrize("count", [2, 10, 33])
def test_any_number_of_classes_can_be_drawn(count):
    state = progress(classes=tuple(f"class {k}" for k in range(count)))
    state.truth[state.truth == 2] = 1
    state.truth[0] = VOID
    figure = figures.draw(state)
    one_more_epoch(state)
    names = [text.get_text() for text in figures.draw(state).legends[0].get_texts()]
    assert names[-1] == "void"
    assert len(names) == (count if count <= 14 else 2) + 1
    assert len(figure.axes) == 5


# In a training


@pytest.fixture
def watched_by(monkeypatch):
    """What makes something watch every training from here on."""
    return lambda watch: monkeypatch.setattr(watching, "watcher_here", lambda: watch)


def test_the_picture_shows_most_of_the_classes():
    data = boxes(3)
    data.masks[0] = 0
    data.masks[2] = VOID
    assert fitting._telling(data) == 1


@pytest.mark.long
def test_watching_changes_no_weight(monkeypatch, watched_by):
    monkeypatch.setattr(watching, "SECONDS", 0.0)
    seen = []

    def watch(state):
        seen.append((state.moment, state.step, len(state.history), state.prediction))
        torch.rand(3)
        assert state.moment != "step" or 0 < state.loss < 5

    watched, twin = TinyUNet(), TinyUNet()
    twin.load_state_dict(watched.state_dict())
    watched_by(watch)
    quick_fit(watched)
    quick_fit(twin, watch=False)
    assert same_weights(watched, twin)
    steps = [("step", 1), ("step", 2), ("step", 3), ("epoch", 0)]
    assert [moment[:2] for moment in seen] == [("start", 0), *(steps * 3), ("end", 0)]
    valid = boxes(8, seed=1)
    shown = fitting._telling(valid)
    wanted = predict(watched, valid.images)[shown]
    assert (seen[-1][-1] == wanted).mean() > 0.95  # half precision against float32


@pytest.mark.long
def test_a_figure_that_fails_does_not_end_the_training(capsys, watched_by):
    def watch(state):
        if len(state.history) == 1:
            raise ValueError("no font")

    watched_by(watch)
    assert len(quick_fit(TinyUNet())) == 3
    assert capsys.readouterr().out == (
        "The training goes on without its figure (ValueError: no font).\n"
    )


@pytest.mark.long
@pytest.mark.parametrize(
    ("checkpoint", "message"),
    [("tiny.pt", "tiny.pt keeps what was done before it"), (None, "the model keeps what it has")],
)
def test_stop_tells_what_is_kept_and_the_figure_ends(checkpoint, message, watched_by):
    seen = []

    def watch(state):
        seen.append((state.moment, state.stopped))
        if state.moment in ("epoch", "end") and len(state.history) == 2:
            raise KeyboardInterrupt  # pressed twice

    model = TinyUNet()
    watched_by(watch)
    with pytest.raises(CourseError, match=f"stopped in epoch 3 of 4; {message}"):
        quick_fit(model, checkpoint=checkpoint, epochs=4)
    assert seen[-1] == ("end", True)
    assert not model.training
    seen.clear()
    if checkpoint:
        watched_by(print)
        assert len(quick_fit(model, checkpoint=checkpoint, epochs=4)) == 4


@pytest.mark.long
def test_a_training_that_is_done_shows_its_end_again(outputs, watched_by):
    quick_fit(TinyUNet(), checkpoint="tiny.pt", watch=False)
    watched_by(LiveFigure())
    quick_fit(TinyUNet(), checkpoint="tiny.pt")
    (((data, metadata),),) = outputs.values()
    assert "image/png" in data
    assert "3 epochs in" in metadata["image/png"]["alt"]
    assert "the prediction, which is right on" in metadata["image/png"]["alt"]


@pytest.mark.process
def test_training_draws_nothing_by_itself():
    code = (
        "import course_utils.training, sys; "
        "print([name for name in ('matplotlib', 'course_utils.display') if name in sys.modules])"
    )
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


@pytest.mark.process
@pytest.mark.parametrize("static", ["", "1"])
def test_in_a_notebook_that_is_run_into_a_file_one_picture_is_left(monkeypatch, static):
    nbformat = pytest.importorskip("nbformat")
    nbclient = pytest.importorskip("nbclient")
    monkeypatch.setenv("COURSE_STATIC", static)
    root = str(Path(__file__).parent.parent)
    source = (
        f"import sys; sys.path.insert(0, {root!r})\n"
        "from tests.nets import TinyUNet, quick_fit\n"
        "quick_fit(TinyUNet(), epochs=20);"
    )
    cell = nbformat.v4.new_code_cell(source)
    nbclient.NotebookClient(nbformat.v4.new_notebook(cells=[cell]), timeout=120).execute()
    pictures = [output for output in cell.outputs if output.output_type == "display_data"]
    streams = [output for output in cell.outputs if output.output_type == "stream"]
    assert len(pictures) == 1
    assert "image/png" in pictures[0].data
    assert "<progress" not in pictures[0].data["text/html"]
    assert len(pictures) + len(streams) == len(cell.outputs)
    # a line may come in two outputs: a kernel sends what it has when its time comes
    printed = "".join(one.text for one in streams)
    assert len(printed.splitlines()) == (11 if static else 0)
