"""Freed memory is kept while a training runs, and given back when it ends."""

import contextlib
import platform

import pytest


def setup_module():
    global allocation, boxes, fitting, freed_memory_kept, TinyUNet, torch
    import torch

    from course_utils.training import allocation, fitting
    from course_utils.training.allocation import freed_memory_kept
    from tests.nets import TinyUNet, boxes


glibc = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="another C library")
PAGES = 2**26 // 4096


def touch(less: int = 0) -> int:
    """Take 64 MB, or so many numbers less; write, free; return how many page faults that took."""
    import resource

    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    torch.ones(2**24 - less)
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before


@glibc
def test_what_a_step_frees_the_next_one_gets_without_page_faults():
    import psutil

    first = touch()  # thousands, but where the system has larger pages
    with freed_memory_kept():
        touch()
        # Each a little smaller, since what is taken in between may part the freed block.
        taken = sorted(touch(4096 * time) for time in range(1, 10))
        assert taken[4] <= min(first, PAGES / 100)
        held = psutil.Process().memory_info().rss
    assert psutil.Process().memory_info().rss < held - 2**25


def test_elsewhere_nothing_is_done(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(allocation.ctypes, "CDLL", None)
    with freed_memory_kept():
        pass


@pytest.mark.long
def test_fit_keeps_it_and_gives_it_back_when_it_fails(monkeypatch):
    calls = []
    monkeypatch.setattr(allocation, "_set", lambda library, values: calls.append(values))

    def stop(step, loss):
        assert calls == [allocation._KEEP]
        raise ZeroDivisionError

    train = boxes(4)
    with pytest.raises(ZeroDivisionError):
        fitting.fit(TinyUNet(), train, train, epochs=1, watch=False, on_step=stop)
    assert calls == [allocation._KEEP, allocation._USUAL]


@pytest.mark.long
def test_the_weights_are_the_same_to_the_last_bit(monkeypatch):
    train, found = boxes(8), []
    for kept in (freed_memory_kept, contextlib.nullcontext):
        monkeypatch.setattr(fitting, "freed_memory_kept", kept)
        torch.manual_seed(0)
        model = TinyUNet()
        fitting.fit(model, train, train, epochs=2, batch_size=4, watch=False, device="cpu")
        found.append(model.state_dict())
    for name, value in found[0].items():
        assert torch.equal(value, found[1][name]), name
