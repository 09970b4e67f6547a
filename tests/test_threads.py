"""The number of threads: the one that is faster at this moment, and as it was afterwards."""

from types import SimpleNamespace

import numpy as np
import pytest

from course_utils.errors import CourseError
from course_utils.hand_in import inference
from course_utils.hand_in.tasks import get_task
from tests.model_files import small_model


def setup_module():
    global limited_threads, Pace, quick_fit, take_fastest, threads, TinyUNet, torch
    import torch

    from course_utils.training import threads
    from course_utils.training.threads import Pace, limited_threads, take_fastest
    from tests.nets import TinyUNet, quick_fit


QUIET = {1: 1.0, 2: 0.6, 4: 0.4, 8: 0.3}
BUSY = {1: 1.05, 2: 0.7, 4: 2.0, 8: 5.0}


class Machine:
    """A clock, and a machine of so many cores on which work takes as long as a table says."""

    def __init__(self, cores, seconds):
        self.now, self.cores, self.seconds, self.trials = 0.0, cores, seconds, 0

    def work(self, size=1.0):
        self.now += size * self.seconds[self.cores]

    def trial(self):
        self.trials += 1
        self.work(0.1)


@pytest.fixture
def machine(monkeypatch):
    machine = Machine(8, QUIET)
    monkeypatch.setattr(threads, "time", SimpleNamespace(perf_counter=lambda: machine.now))
    monkeypatch.setattr(torch, "get_num_threads", lambda: machine.cores)
    monkeypatch.setattr(torch, "set_num_threads", lambda n: setattr(machine, "cores", n))
    return machine


def train(machine, pace, steps):
    """Return the seconds that so many steps take."""
    started = machine.now
    for _ in range(steps):
        machine.work()
        pace.step()
    return machine.now - started


@pytest.mark.parametrize(("seconds", "wanted"), [(QUIET, 8), (BUSY, 2), ({1: 1, 2: 2}, 1)])
def test_the_fastest_number_is_taken(machine, seconds, wanted):
    machine.seconds, machine.cores = seconds, max(seconds)
    assert take_fastest(machine.trial, machine.cores) == wanted == machine.cores


def test_one_thread_is_not_measured(machine):
    machine.cores = 1
    assert take_fastest(machine.trial, 1) == 1
    train(machine, Pace(machine.trial, 100), 100)
    assert machine.trials == 0


def test_on_a_quiet_machine_measuring_costs_next_to_nothing(machine):
    seconds = train(machine, Pace(machine.trial, 3000), 3000)
    assert machine.cores == 8
    assert machine.trials > 0
    assert seconds < 1.01 * 3000 * QUIET[8]


def test_on_a_busy_machine_fewer_are_taken_and_all_again_when_it_is_quiet(machine):
    pace = Pace(machine.trial, 10_000)
    train(machine, pace, 100)
    assert machine.cores == 8
    machine.seconds = BUSY
    train(machine, pace, 20)
    assert machine.cores == 2
    assert train(machine, pace, 1000) < 1.1 * 1000 * BUSY[2]
    machine.seconds = QUIET
    train(machine, pace, 200)
    assert machine.cores == 8


def test_a_machine_that_is_busy_from_the_start_is_found_out_within_a_few_steps(machine):
    machine.seconds = BUSY
    train(machine, Pace(machine.trial, 1000), 2)
    assert machine.cores == 2


def test_a_short_training_is_not_measured(machine):
    train(machine, Pace(machine.trial, 25), 25)
    assert machine.trials == 0


def test_time_between_epochs_is_no_pace(machine):
    pace = Pace(machine.trial, 10_000)
    train(machine, pace, 300)
    before = machine.trials
    for _ in range(3):
        machine.now += 19
        pace.rest()
        train(machine, pace, 1)
    assert machine.trials == before


def test_the_number_is_put_back(machine):
    before = torch.get_num_threads()
    with limited_threads():
        torch.set_num_threads(1)
    assert torch.get_num_threads() == before


def test_threads_of_a_model_file_sleep_while_they_wait_and_give_the_same(monkeypatch):
    task = get_task("unet", "quick")
    content = small_model(task).SerializeToString()
    images = np.random.default_rng(0).integers(0, 256, (9, *task.size, 3)).astype(np.uint8)
    masks = []
    for cores, wanted in ((1, 1), (2, 2), (64, 2)):
        monkeypatch.setattr(inference, "processors", lambda cores=cores: cores)
        session = inference.open_model(content)
        options = session.get_session_options()
        assert options.intra_op_num_threads == wanted
        assert options.get_session_config_entry("session.intra_op.allow_spinning") == "0"
        masks.append(inference.predict(session, images, len(task.classes)))
    assert np.array_equal(masks[0], masks[1])


@pytest.mark.long
def test_fit_measures_and_puts_the_number_back(monkeypatch):
    taken = []

    def take(trial, most):
        trial()
        taken.append(most)
        torch.set_num_threads(1)
        return 1

    monkeypatch.setattr(threads, "take_fastest", take)
    monkeypatch.setattr(threads, "FIRST", 0.0)
    monkeypatch.setattr(threads, "processors", lambda: 2)
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        watched, twin = TinyUNet(), TinyUNet()
        quick_fit(watched, epochs=14)
        assert torch.get_num_threads() == 2
        with pytest.raises(CourseError):
            quick_fit(twin, epochs=14, on_epoch=stop)
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)
    assert set(taken) == {2}


def stop(model, history, confusion):
    raise KeyboardInterrupt
