"""A training loop that a lesson writes out itself: its epochs, its checkpoint, its history.

``fit`` does all of it; here the steps are the lesson's own, and only what would hide them is done.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path

import torch
from torch import nn

from course_utils.data.segmentation_set import SegmentationSet
from course_utils.errors import CourseError
from course_utils.training import checkpoint
from course_utils.training.devices import describe, device_of, fastest_mode, load_compiler
from course_utils.training.faults import as_number, require_finite
from course_utils.training.fitting import described, evaluate
from course_utils.training.history import History
from course_utils.training.threads import limited_threads


class OwnLoop:
    """The epochs of a training that is written out, kept one by one.

    ``for epoch in loop.epochs():`` gives the epochs that are left; at the end of each,
    ``loop.keep(loss, valid_loss)`` writes the checkpoint. A training that was interrupted goes on
    after its last whole epoch.

    Parameters
    ----------
    file
        The checkpoint, as `train_once` hands it to ``train(model, checkpoint)``.
    model, optimizer
        What is trained: images ``(B, 3, H, W)`` in [0, 1] to logits ``(B, C, H, W)``.
    train, valid
        What it learns from, by name only, and what is measured on after each epoch.
    epochs
        How many there are.
    batch_size
        For the record.
    seed
        Of the order of images and their augmentation; drawn anew in each epoch.

    Attributes
    ----------
    history
        Of the epochs that are done.
    """

    def __init__(
        self,
        file: Path | str,
        model: nn.Module,
        optimizer: torch.optim.Optimizer,
        train: SegmentationSet,
        valid: SegmentationSet,
        *,
        epochs: int,
        batch_size: int,
        seed: int = 0,
    ):
        self.file, self.model, self.optimizer, self.valid = Path(file), model, optimizer, valid
        self.number = as_number("epochs", epochs, int, 1)
        device = device_of(model)
        self._settings = {
            "epochs": self.number,
            "batch_size": as_number("batch_size", batch_size, int, 1),
            "seed": as_number("seed", seed, int),
            "optimizer": type(optimizer).__name__,
            "rates": (rates := [float(group["lr"]) for group in optimizer.param_groups]),
            "max_lr": max(rates),
            "training data": described(train),
            "validation data": described(valid),
            "network": checkpoint.behaviour(model, train.size, device),
        }
        plain = fastest_mode(device)._replace(dtype=None)
        self.history = History(settings=self._settings | describe(device, plain))
        self.history.settings["run"] = secrets.token_hex(8)
        self._kept = False
        if (content := checkpoint.read(self.file, self._settings)) is not None:
            model.load_state_dict(content["model"])
            optimizer.load_state_dict(content["optimizer"])
            checkpoint.take_up(self.file, content, self.history, self.number)

    def epochs(self) -> Iterator[int]:
        """Give the numbers of the epochs that are left, from 1 on; the model is left in eval mode.

        Raises
        ------
        CourseError
            If an epoch has ended without ``keep``.
        """
        load_compiler()
        seed = self._settings["seed"]
        with limited_threads():
            for epoch in range(len(self.history), self.number):
                torch.manual_seed((seed * 1_000_003 + epoch) % 2**63)
                self._since, self._kept = time.perf_counter(), False
                self.model.train()
                yield epoch + 1
                if not self._kept:
                    raise CourseError(
                        f"epoch {epoch + 1} has ended, and nothing was kept: call "
                        "keep(loss, valid_loss) in the loop."
                    )
        self.model.eval()

    def keep(self, loss: float, valid_loss: float) -> None:
        """Measure on the validation set, add the epoch to the history, write the checkpoint.

        Raises
        ------
        CourseError
            If the loss is no number any more: the training has diverged.
        """
        loss = require_finite(torch.as_tensor(loss), self.history)
        confusion = evaluate(self.model, self.valid)
        rate = float(self.optimizer.param_groups[-1]["lr"])
        seconds = time.perf_counter() - self._since
        self.history.add(loss, float(valid_loss), confusion, rate, seconds)
        content = {
            "settings": self._settings,
            "model": self.model.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "history": asdict(self.history),
        }
        checkpoint.write(self.file, content)
        self._kept = True
