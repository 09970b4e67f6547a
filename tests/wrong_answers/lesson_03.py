"""Right answers to lesson 03, and wrong ones that are known by no value."""

import numpy as np
import torch
from torch import nn

from course_utils.hand_in.sliding import pad

CHANNELS = (16, 32, 64, 64, 64)


def sizes(window):
    found = [window - 2]
    while found[-1] > 5:
        found.append(found[-1] // 2 if found[-1] % 2 == 0 else (found[-1] - 1) // 2)
        found.append(found[-1] - 2)
    return found


def recursive(size):
    size -= 2
    if size <= 5:
        return [size]
    pooled = (size - 2 - size % 2) // 2 + 1
    return [size, pooled, *recursive(pooled)]


def layers(window, channels=CHANNELS, pool=None, **options):
    """Return the layers of ``features``, right or with other options of the convolutions."""
    made, before = [], 3
    for level in range(len(sizes(window)) // 2 + 1):
        if level:
            kernel = 2 + sizes(window)[2 * level - 2] % 2
            made.append(nn.MaxPool2d(pool or kernel, stride=2))
        conv = {"kernel_size": 3, "bias": False} | options
        made += [nn.Conv2d(before, channels[level], **conv)]
        made += [nn.BatchNorm2d(channels[level]), nn.ReLU()]
        before = channels[level]
    return made


class Net(nn.Module):
    """A right PatchNet; ``change(layers)`` may make a wrong one of it."""

    def __init__(self, num_classes, window, change=lambda made: made, **options):
        super().__init__()
        made = change(layers(window, **options))
        self.features = nn.Sequential(*made)
        with torch.no_grad():
            self.features.eval()
            count = self.features(torch.zeros(1, 3, window, window)).numel()
        self.head = nn.Linear(count, num_classes)

    def forward(self, x):
        return self.head(self.features(x).flatten(1))


class Appended(nn.Module):
    """A right PatchNet whose layers are appended one by one, and whose ReLU works in place."""

    def __init__(self, num_classes, window):
        super().__init__()
        self.features, before = nn.Sequential(), 3
        channels = iter(CHANNELS)
        for number in range(len(recursive(window))):
            if number % 2:
                last = recursive(window)[number - 1]
                self.features.append(nn.MaxPool2d((3, 3) if last % 2 else 2, 2))
                continue
            after = next(channels)
            self.features.append(nn.Conv2d(before, after, (3, 3), bias=False))
            self.features.append(nn.BatchNorm2d(after))
            self.features.append(nn.ReLU(inplace=True))
            before = after
        self.head = nn.Linear(before * recursive(window)[-1] ** 2, num_classes)

    def forward(self, x):
        x = self.features(x)
        return self.head(torch.flatten(x, start_dim=1))


def net(change=lambda made: made, forward=None, **options):
    """Return a wrong PatchNet."""

    class Changed(Net):
        def __init__(self, num_classes, window):
            super().__init__(num_classes, window, change, **options)

    if forward:
        Changed.forward = forward
    return Changed


class Nameless(Net):
    def __init__(self, num_classes, window):
        super().__init__(num_classes, window)
        self.last, self.head = self.head, None

    def forward(self, x):
        return self.last(self.features(x).flatten(1))


class Dropped(Net):
    def __init__(self, num_classes, window):
        super().__init__(num_classes, window)
        self.drop = nn.Dropout()


def swapped(made):
    """Put each ReLU before its batch norm."""
    for k in [k for k, layer in enumerate(made) if isinstance(layer, nn.BatchNorm2d)]:
        made[k], made[k + 1] = made[k + 1], made[k]
    return made


def centres(pick):
    """Return an answer that draws classes, and of each pixel what ``pick`` gives."""

    def draw(places, probabilities, count, rng):
        labels = rng.choice(len(places), count, p=probabilities)
        return np.array([pick(places[c][rng.integers(len(places[c]))], c) for c in labels])

    return draw


def drawn_at_once(places, probabilities, count, rng):
    labels = np.searchsorted(np.cumsum(probabilities)[:-1], rng.random(count), side="right")
    found = np.zeros((count, 3), int)
    for label, some in enumerate(places):
        chosen = labels == label
        if chosen.any():
            found[chosen] = some[rng.integers(0, len(some), chosen.sum())]
    return found


def unseeded(places, probabilities, count, rng):
    return drawn_at_once(places, probabilities, count, np.random.default_rng())


def always_alike(places, probabilities, count, rng):
    return drawn_at_once(places, probabilities, count, np.random.default_rng(7))


def never_the_last(places, probabilities, count, rng):
    fewer = [some[:-1] if len(some) > 1 else some for some in places]
    return drawn_at_once(fewer, probabilities, count, rng)


def by_quota(places, probabilities, count, rng):
    wanted = np.round(np.asarray(probabilities) * count).astype(int)
    parts = [places[c][rng.integers(0, len(places[c]), n)] for c, n in enumerate(wanted) if n]
    return np.concatenate(parts) if parts else np.zeros((0, 3), int)


def of_ten_classes(places, probabilities, count, rng):
    labels = rng.choice(10, count, p=probabilities)
    return np.stack([places[c][rng.integers(len(places[c]))] for c in labels])


def rows_of(join, cut=lambda patch: patch):
    """Return an answer that slides row by row."""

    def run(classify, image, window, stride):
        padded = pad(image, window)
        lines = []
        for r in range(0, image.shape[0], stride):
            some = [
                cut(padded[r : r + window, c : c + window])
                for c in range(0, image.shape[1], stride)
            ]
            lines.append(classify(np.stack(some)))
        return join(np.stack(lines))

    return run


def one_batch(classify, image, window, stride):
    padded = pad(image, window)
    grid = [
        (r, c) for r in range(0, image.shape[0], stride) for c in range(0, image.shape[1], stride)
    ]
    scores = classify(np.array([padded[r : r + window, c : c + window] for r, c in grid]))
    return np.array(scores).T.reshape(scores.shape[1], -1, len(range(0, image.shape[1], stride)))


def one_by_one(classify, image, window, stride):
    padded = pad(image, window)
    rows, columns = range(0, image.shape[0], stride), range(0, image.shape[1], stride)
    lines = [
        [classify(padded[None, r : r + window, c : c + window])[0] for c in columns] for r in rows
    ]
    return np.moveaxis(np.array(lines), 2, 0)


def not_padded(classify, image, window, stride):
    rows, columns = range(0, image.shape[0], stride), range(0, image.shape[1], stride)
    patches = [image[r : r + window, c : c + window] for r in rows for c in columns]
    return classify(np.stack(patches))


RIGHT = {
    "patch_at": [
        lambda padded, row, column, w: padded[row : row + w, column : column + w].copy(),
        lambda padded, row, column, w: padded[np.arange(row, row + w)][
            :, np.arange(column, column + w)
        ],
    ],
    "sampling_shares": [
        lambda s, p: np.where(s > 0, s**p, 0) / np.where(s > 0, s**p, 0).sum(),
        lambda s, p: np.array([x**p * (x > 0) for x in s]) / sum(x**p for x in s if x > 0),
    ],
    "draw_centres": [centres(lambda place, c: place), drawn_at_once],
    "map_sizes": [sizes, recursive],
    "patch_net": [Net, Appended],
    "multiply_adds": [
        lambda i, o, k, h, w: i * o * k**2 * h * w,
        lambda i, o, k, h, w: (h * w) * sum(k * k for _ in range(i) for _ in range(o)),
    ],
    "slide": [rows_of(lambda s: s.transpose(2, 0, 1)), one_batch],
    "correct_prior": [
        lambda z, q, p: z + np.log(p / q),
        lambda z, q, p: z + (np.log(p) - np.log(q))[None] - 5,
    ],
}
# A regular expression of the message -> an answer that gets it.
WRONG = {
    "patch_at": {
        "shape": lambda padded, row, column, w: padded[row : row + w],
    },
    "sampling_shares": {"shape": lambda s, p: 1.0},
    "draw_centres": {
        "something else for the same rng": unseeded,
        "the same for another rng": always_alike,
        "that are not in `places`": centres(lambda place, c: place + 1000),
        "one row \\(image, row, column\\) for each": centres(lambda place, c: c),
        "never draws some pixels": never_the_last,
        "where `count` is 1": by_quota,
        "not the lesson's own C": of_ten_classes,
    },
    "map_sizes": {
        "holds a float": lambda w: [float(size) for size in sizes(w)],
    },
    "patch_net": {
        "head is missing": Nameless,
        "features holds Conv2d, ReLU, BatchNorm2d": net(swapped),
        "no padding here": net(padding=1),
        "has kernel_size \\(1, 1\\); it must be 3x3": net(kernel_size=1),
        "has a bias": net(bias=True),
        "give the channels \\[8, 8, 8\\]": net(channels=[8] * 5),
        "kernel 2, stride 2 on a map of 31 pixels": net(pool=2),
        "wanted Conv2d, BatchNorm2d, ReLU, MaxPool2d": net(
            lambda made: [x for x in made if not isinstance(x, nn.MaxPool2d)]
        ),
        "holds a Dropout": Dropped,
        "softmax in the network": net(
            forward=lambda self, x: self.head(self.features(x).flatten(1)).softmax(1)
        ),
        "other values than features": net(
            forward=lambda self, x: self.head(self.features(x).flatten(1)).relu()
        ),
        "shape \\(5, 2\\)": net(forward=lambda self, x: self.head(self.features(x).flatten(1)).T),
        "as many values|made for": net(forward=lambda self, x: self.head(self.features(x))),
    },
    "multiply_adds": {"each of 5 · 4 · 7 values": lambda i, o, k, h, w: 7},
    "slide": {
        "for each patch alone": one_by_one,
        "is the picture padded": not_padded,
        "np.stack makes one": lambda classify, image, window, stride: classify(image),
        "the patches stay uint8": rows_of(
            lambda s: s.transpose(2, 0, 1), lambda patch: patch / 255
        ),
        "must give three axes": rows_of(lambda s: s.reshape(-1, s.shape[-1])),
        "never calls classify": lambda classify, image, *_: np.zeros((4, *image.shape[:2])),
    },
    "correct_prior": {"shape": lambda z, q, p: np.log(p / q)},
}
