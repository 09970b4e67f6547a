"""fastai's ``Learner`` in the training of a task: a checkpoint an epoch, a figure, a history.

``train_once`` hands a training a :class:`Kept`, a callback of fastai: with it, each epoch is kept,
an interrupted training goes on where it stood, and a finished one is just loaded.
"""

from __future__ import annotations

import hashlib
import random
import secrets
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch
from fastai.callback.core import Callback, CancelEpochException
from fastai.callback.progress import ProgressCallback
from fastai.learner import Learner

from course_utils.data.segmentation_set import VOID
from course_utils.errors import CourseError
from course_utils.metrics import ConfusionMatrix
from course_utils.models.shipped import class_shares, code_groups
from course_utils.table import text_table
from course_utils.training import checkpoint
from course_utils.training.allocation import freed_memory_kept
from course_utils.training.devices import describe, device_of, fastest_mode
from course_utils.training.faults import memory_advice, require_finite
from course_utils.training.history import History
from course_utils.training.threads import Pace, limited_threads
from course_utils.training.watching import Look, Progress, Watcher, as_watcher


class Faster(Callback):
    """Computes in the precision and memory layout that are fastest on the device.

    A callback for every fit of a learner, the finder's as well. What needs a scaled loss, float16
    on older GPUs, is fastai's own MixedPrecision; `fit_learner` adds it.
    """

    order = -5  # before all that look at the batch

    def before_fit(self) -> None:
        """Lay out the weights."""
        self.place = self.learn.dls.device or device_of(self.learn.model)
        self.mode = fastest_mode(self.place)
        self.learn.model.to(self.place, memory_format=self.mode.memory_format)

    def before_batch(self) -> None:
        """Lay out the images; begin half precision, in training only."""
        self.learn.xb = tuple(x.to(memory_format=self.mode.memory_format) for x in self.learn.xb)
        if self.mode.dtype is not None and not self.mode.scaled and self.learn.training:
            self._cast = torch.autocast(self.place.type, self.mode.dtype)
            self._cast.__enter__()

    def after_pred(self) -> None:
        """Leave half precision before the loss."""
        self.leave()
        self.learn.pred = self.learn.pred.float()

    def leave(self) -> None:
        """Leave half precision, if it was begun."""
        if cast := self.__dict__.pop("_cast", None):
            cast.__exit__(None, None, None)


class Kept(Callback):
    """Keeps a training of fastai epoch by epoch, and shows how it goes.

    The order of the images and their augmentation are drawn anew from the seed in each epoch, so
    that a training that was interrupted ends as it would have.

    Parameters
    ----------
    file
        The checkpoint.
    classes
        The C classes of the task, which the codes are summed up to for the history.
    seed
        Of order and augmentation.
    watch
        As for :func:`course_utils.training.fit`.
    """

    order = 55  # after fastai's Recorder, before what schedules the rate

    def __init__(
        self,
        file: Path,
        classes: Sequence[str],
        seed: int = 0,
        watch: bool | Watcher = True,
    ):
        self.file, self.classes, self.seed = Path(file), tuple(classes), seed
        self.watcher = as_watcher(watch)
        self.history = History()

    # ---- the whole of it

    def before_fit(self) -> None:
        """Take up what is kept of this training; begin to show it."""
        codes = codes_of(self.learn)
        self.device = self.learn.dls.device or device_of(self.learn.model)
        groups = code_groups(codes, self.classes)
        self._groups = groups[:, :, None, None].to(self.device)
        class_of = np.where(groups.sum(0).numpy() > 0, groups.argmax(0).numpy(), VOID)
        self._class_of = class_of.astype(np.uint8)
        self._table = []
        self._settings = self._described()
        self.history.settings = self._settings | describe(self.device, fastest_mode(self.device))
        self.history.settings["run"] = secrets.token_hex(8)
        self._resume()
        self._randomness = random.getstate(), np.random.get_state(), torch.get_rng_state()  # noqa: NPY002
        image, truth = self._pictured()
        self._progress = Progress(
            self.history, self.learn.n_epoch, len(self.learn.dls.train), self.classes, image, truth
        )
        left = (self.learn.n_epoch - len(self.history)) * len(self.learn.dls.train)
        self._look = Look(self.watcher, self._progress, Pace(self._trial, left), self.device)
        self._progress.begin()
        if left:
            self._look.tell("start")

    def after_fit(self) -> None:
        """Show the end: the curves, and the numbers as a table."""
        self.end()
        if self.watcher is not None and self._table:
            names = ["epoch", *list(self.learn.recorder.metric_names)[1:-1], "seconds"]
            print(text_table(names, self._table))

    def end(self) -> None:
        """Put back what was changed; show what there is, also of a training that was stopped."""
        if randomness := self.__dict__.pop("_randomness", None):
            random.setstate(randomness[0])
            np.random.set_state(randomness[1])  # noqa: NPY002
            torch.set_rng_state(randomness[2])
        if look := self.__dict__.pop("_look", None):
            look.progress.stopped = len(self.history) < look.progress.epochs
            look.tell("end")

    # ---- an epoch

    def before_epoch(self) -> None:
        """Leave out an epoch that is done; draw order and augmentation of the others."""
        if self.learn.epoch < len(self.history):
            raise CancelEpochException
        seed = (self.seed * 1_000_003 + self.learn.epoch) % 2**32
        random.seed(seed)
        np.random.seed(seed)  # noqa: NPY002
        torch.manual_seed(seed)
        self.learn.dls.train.rng = random.Random(seed)
        self._began, self._total, self._steps = time.perf_counter(), 0.0, 0
        self._confusion = ConfusionMatrix(len(self.classes))

    def after_pred(self) -> None:
        """Count right and wrong pixels in validation."""
        if self.learn.training or not hasattr(self, "_confusion"):
            return
        with torch.no_grad():
            shares = class_shares(self.learn.pred.as_subclass(torch.Tensor), self._groups)
            found = shares.argmax(1).to(torch.uint8).cpu().numpy()
        truth = self._class_of[self.learn.yb[0].as_subclass(torch.Tensor).cpu().numpy()]
        self._confusion.update(found, truth)
        if self.learn.iter == 0:
            self._prediction = found[0]

    def after_batch(self) -> None:
        """Look at the loss, each second or two."""
        if self.learn.training:
            self._steps += 1
            self._total = self._total + self.learn.loss.detach().as_subclass(torch.Tensor)
            self._look.step(self._total, self._steps)

    def after_epoch(self) -> None:
        """Keep the epoch."""
        if self.learn.epoch < len(self.history):
            return
        recorder = self.learn.recorder
        numbers = [float(value) for value in self.learn.final_record]
        self.history.add(
            require_finite(self._total, self.history) / self._steps,
            numbers[1],
            self._confusion,
            float(recorder.lrs[-1]),
            time.perf_counter() - self._began,
        )
        seconds = round(self.history.seconds[-1], 1)
        self._table.append([self.learn.epoch + 1, *(f"{n:.3f}" for n in numbers), seconds])
        self._save()
        self._look.epoch(self._prediction)

    # ---- what is kept

    def _described(self) -> dict:
        """Return what makes this training another one."""
        learn = self.learn
        starts = learn.__dict__.setdefault("_course_starts", {})
        return {
            "epochs": learn.n_epoch,
            "rates": (rates := _rates_of(learn)),
            "max_lr": float(np.max(rates)),
            "weight decay": float(learn.opt.hypers[-1]["wd"]),
            "frozen": sum(w.numel() for w in learn.model.parameters() if not w.requires_grad),
            "batch_size": learn.dls.bs,
            "seed": self.seed,
            "loss": _loss_of(learn.loss_func),
            "training data": _files_of(learn.dls.train),
            "validation data": _files_of(learn.dls.valid),
            # a run that was stopped in this session goes on from where this part began
            "first weights": starts.setdefault(str(self.file), _digest(learn.model)),
        }

    def _resume(self) -> None:
        if (content := checkpoint.read(self.file, self._settings)) is None:
            self._save()  # who is stopped in the first epoch begins anew with these weights
            return
        self.learn.model.load_state_dict(content["model"])
        self.learn.opt.load_state_dict(content["optimizer"])
        for state in self.learn.opt.state.values():  # read on the CPU
            state |= {k: v.to(self.device) for k, v in state.items() if hasattr(v, "to")}
        self._table = content["table"]
        checkpoint.take_up(self.file, content, self.history, self.learn.n_epoch)

    def _save(self) -> None:
        optimizer = self.learn.opt.state_dict()
        # fastai's schedule leaves numbers of NumPy, which no file of plain data may hold
        hypers = [
            {key: v.item() if hasattr(v, "item") else v for key, v in group.items()}
            for group in optimizer["hypers"]
        ]
        content = {
            "settings": self._settings,
            "model": self.learn.model.state_dict(),
            "optimizer": {"state": optimizer["state"], "hypers": hypers},
            "history": asdict(self.history),
            "table": self._table,
        }
        checkpoint.write(self.file, content)

    # ---- what is shown

    def _pictured(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the first validation picture ``(H, W, 3)`` and its mask, as the net sees them."""
        image, mask = self.learn.dls.valid.do_item(0)[:2]
        image = np.asarray(image.permute(1, 2, 0), np.uint8)
        return np.ascontiguousarray(image), self._class_of[np.asarray(mask)]

    def _trial(self) -> None:
        """Do some of the net's work, to measure how fast it is."""
        height, width = self._progress.truth.shape
        x = torch.zeros(2, 3, height, width, device=self.device)
        training = self.learn.model.training
        self.learn.model.eval()
        with torch.no_grad():
            self.learn.model(x.to(memory_format=fastest_mode(self.device).memory_format))
        self.learn.model.train(training)


def _rates_of(learn: Learner) -> list:
    """Return the learning rate of each layer group at some moments of the training to come."""
    plans = [cb.scheds["lr"] for cb in learn.cbs if "lr" in getattr(cb, "scheds", {})]
    if not plans:
        return [float(group["lr"]) for group in learn.opt.hypers]
    moments = (0.0, 0.1, 0.3, 0.5, 0.7, 0.9)
    return [np.asarray(plan(at), float).ravel().tolist() for plan in plans for at in moments]


def codes_of(learn: Learner) -> list[str]:
    """Return the lines of codes.txt, as MaskBlock was given them."""
    if (codes := getattr(learn.dls.train.after_item, "vocab", None)) is None:
        raise CourseError("the data block knows no codes: give MaskBlock(codes) the list of them.")
    return [str(code) for code in codes]


def _digest(model: torch.nn.Module) -> str:
    digest = hashlib.sha256()
    for value in model.state_dict().values():
        digest.update(value.detach().cpu().contiguous().numpy())
    return digest.hexdigest()[:16]


def _loss_of(loss) -> str:
    """Return a loss in words: its class, what it ignores, and its weights."""
    inner = getattr(loss, "func", loss)
    weight = getattr(inner, "weight", None)
    weight = None if weight is None else [round(float(w), 4) for w in weight]
    name = getattr(loss, "__name__", type(loss).__name__)
    return f"{name}, void {getattr(inner, 'ignore_index', None)}, weights {weight}"


def _files_of(loader) -> str:
    """Return how many images a loader has, and a hash of their names and sizes in bytes."""
    items = list(loader.items)
    stamp = [(Path(item).name, Path(item).stat().st_size) for item in items]
    shape = tuple(loader.do_item(0)[1].shape)
    text = repr((stamp, shape, [repr(t) for t in loader.after_batch.fs]))
    return f"{len(items)} images, {hashlib.sha256(text.encode()).hexdigest()[:16]}"


# ---- what can be wrong with a learner


def _require_fit_for_use(learn: Learner, codes: list[str]) -> None:
    """Refuse what learners come to grief by, in one line each."""
    workers = learn.dls.train.fake_l.num_workers  # its own num_workers is 1 where there is none
    if workers and sys.platform in ("win32", "darwin"):
        raise CourseError(
            f"num_workers is {workers}: on Windows and macOS each worker "
            "starts a Python of its own, which knows nothing of a notebook's functions and "
            "classes. Give num_workers=0 to dataloaders."
        )
    inner = getattr(learn.loss_func, "func", learn.loss_func)
    void = codes.index("Void") if "Void" in codes else None
    if void is not None and getattr(inner, "ignore_index", void) != void:
        raise CourseError(
            f"the loss counts void pixels: ignore_index is {inner.ignore_index}, and Void is code "
            f"{void}. Give CrossEntropyLossFlat(axis=1, ignore_index={void}) to the learner."
        )


def fit_learner(
    learn: Learner, train: Callable[[Learner, Kept], object], file: Path, classes: Sequence[str]
) -> History:
    """Train by ``train(learn, kept)``, and return the history of what was kept in ``file``.

    fastai's own progress bars are switched off meanwhile: outside of a notebook they flood the
    output.
    """
    from fastai.callback.fp16 import MixedPrecision

    _require_fit_for_use(learn, codes_of(learn))
    kept = Kept(file, classes)
    device = learn.dls.device or device_of(learn.model)
    bars = [cb for cb in learn.cbs if isinstance(cb, ProgressCallback)]
    faster = next((cb for cb in learn.cbs if isinstance(cb, Faster)), None)
    more = [MixedPrecision()] if fastest_mode(device).scaled else []
    if faster is None:
        more.append(faster := Faster())
    try:
        with (
            memory_advice(learn.dls.bs, _size_of(learn)),
            limited_threads(),
            freed_memory_kept(),
            learn.removed_cbs(bars),
            learn.added_cbs(more),
            learn.no_logging(),
        ):
            train(learn, kept)
    except CourseError as error:  # fastai says before it in which callback it was
        raise CourseError(str(error).partition(":\n\t")[2] or str(error)) from None
    except KeyboardInterrupt:
        raise CourseError(
            f"training was stopped in epoch {len(kept.history) + 1}; {file} keeps what was done "
            "before it: run this again to go on from there."
        ) from None
    finally:
        faster.leave()
        kept.end()
        learn.model.eval()
    if not len(kept.history):
        raise CourseError(
            "train(learn, kept) has trained nothing that was kept: give fit_one_cycle cbs=kept."
        )
    return kept.history


def _size_of(learn: Learner) -> tuple[int, int]:
    return tuple(learn.dls.valid.do_item(0)[1].shape[-2:])
