"""A training loop that a lesson writes out keeps its epochs, and goes on where it was stopped."""

import json

import pytest

from course_utils.data import load
from course_utils.errors import CourseError


def setup_module():
    global evaluate, F, nn, OwnLoop, torch, TRAIN, VALID
    import torch
    from torch import nn
    from torch.nn import functional as F

    from course_utils.training import evaluate
    from course_utils.training.own_loop import OwnLoop

    TRAIN, VALID = (
        load("drawn_people", split, size=(16, 12), count=4) for split in ("train", "valid")
    )


def net():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(3, 4, 3, padding=1), nn.BatchNorm2d(4), nn.Conv2d(4, 2, 1))


def trained(file, model, *, epochs=4, stop=None, loss=None, lr=0.01, seed=0):
    """Train as a lesson does: each epoch draws its own noise."""
    optimizer = torch.optim.Adam(model.parameters(), lr=lr)
    own = OwnLoop(file, model, optimizer, TRAIN, VALID, epochs=epochs, batch_size=4, seed=seed)
    x = torch.from_numpy(TRAIN.images).permute(0, 3, 1, 2) / 255
    y = torch.from_numpy(TRAIN.masks).long()
    for epoch in own.epochs():
        assert model.training
        value = F.cross_entropy(model(x + 0.1 * torch.rand_like(x)), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        if epoch == stop:
            raise KeyboardInterrupt
        own.keep(value.item() if loss is None else loss, 0.5)
    return own.history


def test_an_epoch_holds_loss_scores_and_the_run(tmp_path):
    model = net()
    history = trained(tmp_path / "a.pt", model, epochs=2)
    assert len(history) == 2
    assert not model.training
    assert history.mean_iou[-1] == pytest.approx(evaluate(model, VALID).mean_iou())
    assert history.learning_rate == [0.01, 0.01]
    assert history.settings["max_lr"] == 0.01
    assert len(history.settings["run"]) == 16
    json.dumps(history.settings)


def test_a_training_that_was_stopped_ends_as_it_would_have(tmp_path, capsys):
    whole = net()
    wanted = trained(tmp_path / "whole.pt", whole)
    with pytest.raises(KeyboardInterrupt):
        trained(tmp_path / "a.pt", net(), stop=3)
    again = net()
    history = trained(tmp_path / "a.pt", again)
    assert "Going on after epoch 2 of 4" in capsys.readouterr().out
    assert history.train_loss == wanted.train_loss
    for found, true in zip(again.state_dict().values(), whole.state_dict().values(), strict=True):
        assert torch.equal(found, true)


def test_a_finished_training_is_loaded_and_another_one_is_put_aside(tmp_path, capsys):
    first = net()
    history = trained(tmp_path / "a.pt", first, epochs=2)
    second = net()
    assert trained(tmp_path / "a.pt", second, epochs=2) == history
    assert "Already trained" in capsys.readouterr().out
    assert torch.equal(second[0].weight, first[0].weight)
    assert not second.training
    trained(tmp_path / "a.pt", net(), epochs=2, lr=0.02)
    said = capsys.readouterr().out
    assert "of a training with other rates, max_lr: training starts anew" in said
    assert len(list(tmp_path.glob("a*.pt"))) == 2


def test_a_diverged_loss_and_a_forgotten_keep_are_told(tmp_path):
    with pytest.raises(CourseError, match="the loss became nan in epoch 1: training diverged"):
        trained(tmp_path / "a.pt", net(), loss=float("nan"))
    model = net()
    own = OwnLoop(
        tmp_path / "b.pt",
        model,
        torch.optim.SGD(model.parameters(), lr=0.1),
        TRAIN,
        VALID,
        epochs=2,
        batch_size=4,
    )
    with pytest.raises(CourseError, match="epoch 1 has ended, and nothing was kept"):
        list(own.epochs())
