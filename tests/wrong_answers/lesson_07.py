"""Right answers to lesson 07, by other ways, and wrong ones that no value of theirs gives away."""

import math
from pathlib import Path

import numpy as np
import torch
from torch import nn

# --- right answers, by other ways


def label_by_parts(image):
    *folder, _, name = image.parts
    stem, _, suffix = name.rpartition(".")
    return Path(*folder, "labels", f"{stem}_P.{suffix}")


def label_as_text(image):
    return f"{image.parent.parent / 'labels' / image.stem}_P{image.suffix}"


def accuracy_loop(logits, labels, void):
    pairs = zip(logits.argmax(1).flatten().tolist(), labels.flatten().tolist(), strict=True)
    right = [found == true for found, true in pairs if true != void]
    return sum(right) / len(right)


def accuracy_by_weights(logits, labels, void):
    counts = (labels != void).float()
    return ((logits.argmax(dim=1) == labels).float() * counts).sum() / counts.sum()


class IoUOfSets:
    """The IoU by the places of each code, kept as they come."""

    def __init__(self, codes, void):
        self.codes, self.void = codes, void

    def reset(self):
        self.pairs = []

    def accumulate(self, learn):
        found, true = learn.pred.argmax(1).flatten().tolist(), learn.y.flatten().tolist()
        self.pairs += [pair for pair in zip(found, true, strict=True) if pair[1] != self.void]

    @property
    def value(self):
        scores = []
        for code in set(range(self.codes)) - {self.void}:
            either = [pair for pair in self.pairs if code in pair]
            if either:
                scores.append(sum(a == b for a, b in either) / len(either))
        return sum(scores) / len(scores)


class IoUOfMatrix:
    """The IoU by a confusion matrix, added up by index_put."""

    def __init__(self, codes, void):
        self.codes, self.void = codes, void
        self.reset()

    def reset(self):
        self.matrix = torch.zeros(self.codes, self.codes)

    def accumulate(self, learn):
        places = (learn.yb[0].flatten(), learn.pred.argmax(1).flatten())
        self.matrix.index_put_(places, torch.ones(len(places[0])), accumulate=True)

    @property
    def value(self):
        matrix = self.matrix.clone()
        matrix[self.void] = 0
        both, union = matrix.diag(), matrix.sum(0) + matrix.sum(1) - matrix.diag()
        keep = union > 0
        keep[self.void] = False
        return float((both[keep] / union[keep]).mean())


def moving_by_split(model):
    frozen = sum(w.numel() for w in model.parameters() if not w.requires_grad)
    whole = len(nn.utils.parameters_to_vector(model.parameters()))
    return whole - frozen, whole


def rates_by_factor(low, high, groups):
    factor = (high / low) ** (1 / (groups - 1)) if groups > 1 else 1
    rates = [high]
    for _ in range(groups - 1):
        rates.insert(0, rates[0] / factor)
    return rates


def rates_by_logs(low, high, groups):
    if groups == 1:
        return torch.tensor([high])
    return torch.logspace(math.log10(low), math.log10(high), groups, dtype=torch.float64)


def skips_by_hooks(encoder, images):
    widths = []
    hooks = [
        layer.register_forward_hook(lambda *a: widths.append(a[2].shape[3])) for layer in encoder
    ]
    encoder(images)
    for hook in hooks:
        hook.remove()
    return [k for k in reversed(range(len(widths) - 1)) if widths[k + 1] < widths[k]]


def skips_by_sizes(encoder, images):
    last = {}
    for k, layer in enumerate(encoder):
        images = layer(images)
        last[images.shape[-2:]] = k
    return sorted(last.values())[:-1][::-1]


def icnr_by_index(kernel, scale=2):
    return kernel[torch.arange(len(kernel) * scale**2) // scale**2]


def icnr_by_expand(kernel, scale=2):
    n, *rest = kernel.shape
    return kernel[:, None].expand(n, scale**2, *rest).reshape(-1, *rest)


RIGHT = {
    "label_of": [label_by_parts, label_as_text],
    "accuracy": [accuracy_loop, accuracy_by_weights],
    "dataset_iou": [IoUOfSets, IoUOfMatrix],
    "moving": [
        moving_by_split,
        lambda m: [sum(w.numel() for w in m.parameters() if w.requires_grad or k) for k in (0, 1)],
    ],
    "group_rates": [rates_by_factor, rates_by_logs],
    "reading": [
        {"a": 1, "b": 2, "c": 3, "d": 4, "rate": 1e-3},
        {"rate": np.float64(1e-2), "d": 4, "c": 3, "b": 2, "a": 1},
    ],
    "find_skips": [skips_by_hooks, skips_by_sizes],
    "icnr": [icnr_by_index, icnr_by_expand],
}


class NoReset(IoUOfSets):
    def reset(self):
        raise AttributeError("'Learner' object has no attribute 'yb'")


class AList(IoUOfMatrix):
    @property
    def value(self):
        return self.matrix.diag() / self.matrix.sum(0)


class AMethod(IoUOfSets):
    def value(self):
        return 0.5


class ShortCounts(IoUOfMatrix):
    def accumulate(self, learn):
        self.matrix[0] += torch.bincount(learn.y.flatten())


class NotFlat(IoUOfMatrix):
    def accumulate(self, learn):
        self.matrix[0] += torch.bincount(learn.y, minlength=self.codes)


def same_input(encoder, images):
    return [k for k, layer in enumerate(encoder) if layer(images).shape[-1] < images.shape[-1]]


# A regular expression of the message -> an answer that gets it.
WRONG = {
    "label_of": {"pathlib.Path: it has .parent": lambda image: image.name_of_it},
    "accuracy": {
        "take the argmax over axis 1": lambda p, y, void: (p.argmax(0) == y)[y != void],
        "index the comparison, or both": lambda p, y, void: p.argmax(1)[y != void] == y,
        r"wants .float\(\) first": lambda p, y, void: (p.argmax(1) == y)[y != void].mean(),
    },
    "dataset_iou": {
        "has pred .B, codes, H, W. and y": NoReset,
        "value is one number": AList,
        "leave @property above it": AMethod,
        "minlength=codes": ShortCounts,
        "index both by the mask, or flatten": NotFlat,
    },
    "moving": {r"8 learned numbers move|frozen": lambda model: (0, 0)},
    "group_rates": {
        "it gets the highest rate": lambda low, high, groups: [
            low * (high / low) ** (k / (groups - 1)) for k in range(groups)
        ]
    },
    "reading": {
        "must have the keys a, b, c, d and rate": {"a": 1},
        "the number of a reason, 1 to 4": {"a": "1", "b": 2, "c": 3, "d": 4, "rate": 1e-3},
        "rate must be a number above 0": {"a": 1, "b": 2, "c": 3, "d": 4, "rate": "1e-3"},
        "Some reason does not fit": {"a": 1, "b": 1, "c": 1, "d": 1, "rate": 1e-3},
    },
    "find_skips": {
        "The last of each size": lambda encoder, images: [0],
        "gives the maps themselves": lambda encoder, images: [encoder(images), images],
        "x = layer": same_input,
    },
    "icnr": {
        r"the row \[1, 2\] four times": lambda kernel, scale=2: icnr_by_index(kernel, scale) + 1
    },
}
