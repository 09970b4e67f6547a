"""Right answers to lesson 08, by other ways, and wrong ones that no value of theirs gives away."""

import math
import statistics

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional as v2f

# --- right answers, by other ways


class PairsFromNumpy(Dataset):
    def __init__(self, images, masks, transform=None):
        self.images = [np.ascontiguousarray(image.transpose(2, 0, 1)) for image in images]
        self.masks = masks[:, None].copy()
        self.transform = transform or (lambda *pair: pair)

    def __len__(self):
        return self.masks.shape[0]

    def __getitem__(self, k):
        pair = tv_tensors.Image(self.images[k]), tv_tensors.Mask(self.masks[k])
        image, mask = self.transform(*pair)
        return v2.functional.to_dtype(image, torch.float32, scale=True), mask.to(torch.float32)


class PairsOfFlatMasks(Dataset):
    """The mask gets its axis at the end; image and mask travel in a dict."""

    def __init__(self, images, masks, transform=None):
        self.pairs = list(zip(torch.as_tensor(images).moveaxis(3, 1), masks, strict=True))
        self.transform = transform

    def __len__(self):
        return len(self.pairs)

    def __getitem__(self, k):
        image, mask = self.pairs[k]
        image, mask = tv_tensors.Image(image), tv_tensors.Mask(torch.as_tensor(mask))
        if self.transform:
            image, mask = self.transform(image, mask)
        return [image.div(255), mask.unsqueeze(0).float()]


def accuracy_by_probability(logits, masks):
    return 1 - ((torch.sigmoid(logits) > 0.5).float() - masks).abs().mean()


def accuracy_loop(logits, masks):
    pairs = list(zip(logits.flatten().tolist(), masks.flatten().tolist(), strict=True))
    return sum((z > 0) == (y > 0.5) for z, y in pairs) / len(pairs)


class DiceOfAll:
    """Keeps what was added, and counts at the end."""

    def __init__(self):
        self.found, self.true = [], []

    def add(self, logits, masks):
        self.found += (logits.sigmoid() > 0.5).flatten().tolist()
        self.true += masks.bool().flatten().tolist()

    def value(self):
        both = sum(a and b for a, b in zip(self.found, self.true, strict=True))
        return 2 * both / (sum(self.found) + sum(self.true))


class DiceOfErrors:
    """2 TP / (2 TP + FP + FN), as a property."""

    def __init__(self):
        self.right = self.wrong = torch.zeros(())

    def add(self, logits, masks):
        found = (logits > 0).float()
        self.right = self.right + (found * masks).sum()
        self.wrong = self.wrong + (found != masks).sum()

    @property
    def value(self):
        return 2 * self.right / (2 * self.right + self.wrong)


def misaligned_by_stack(transform, mask, void=255):
    image = tv_tensors.Image(torch.stack([mask, mask, mask]))
    image, label = transform(image, tv_tensors.Mask(mask))
    pairs = zip(image[1].flatten().tolist(), label.flatten().tolist(), strict=True)
    differ = [a != b for a, b in pairs if b != void]
    return sum(differ) / len(differ)


def misaligned_by_weights(transform, mask, void=255):
    image, label = transform(tv_tensors.Image(mask[None].repeat(3, 1, 1)), tv_tensors.Mask(mask))
    known = (label != void).float()
    return ((image.amax(0) != label) * known).sum() / known.sum()


def lost_by_loops(masks, size):
    (h, w), (_, height, width) = size, masks.shape
    places = [
        bool(mask[y : y + h, x : x + w].any())
        for mask in masks
        for y in range(height - h + 1)
        for x in range(width - w + 1)
    ]
    return places.count(False) / len(places)


def lost_by_unfold(masks, size):
    return float(
        (masks.unfold(1, size[0], 1).unfold(2, size[1], 1).sum(dim=(-1, -2)) == 0).float().mean()
    )


def nearest_by_cdist(valid, train):
    flat = [torch.tensor(part).flatten(1).float() for part in (valid, train)]
    return torch.cdist(*flat, p=1).argmin(dim=1)


def nearest_by_int(valid, train):
    return [
        min(range(len(train)), key=lambda k: abs(train[k].astype(int) - image).sum())
        for image in valid
    ]


def prepared_by_v2(image, trimap, mean, std):
    x = v2f.normalize(v2f.to_dtype(v2f.to_image(image), torch.float32, scale=True), mean, std)
    classes = torch.tensor([255, 0, 1, 2])
    return torch.Tensor(x), classes[torch.from_numpy(trimap).long()]


def prepared_by_numpy(image, trimap, mean, std):
    x = (image / 255.0 - np.asarray(mean)) / np.asarray(std)
    labels = (trimap - np.uint8(1)).astype(np.int64)  # where 0 becomes 255 of itself
    return torch.tensor(x.transpose(2, 0, 1), dtype=torch.float32), torch.from_numpy(labels)


def tapped_in_a_row(net, names, images):
    made, found = {}, dict(net.named_modules())
    hooks = [
        found[name].register_forward_hook(lambda *seen, at=name: made.update({at: seen[2]}))
        for name in names
    ]
    with torch.no_grad():
        net(images)
    [hook.remove() for hook in hooks]
    return tuple(made[name] for name in names)


def tapped_one_by_one(net, names, images):
    maps = []
    for name in names:
        kept = []
        hook = net.get_submodule(name).register_forward_hook(
            lambda layer, given, output, kept=kept: kept.append(output)
        )
        net(images)
        hook.remove()
        maps += kept
    return maps


class FrozenByFalse(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.body = encoder.eval()
        for weight in encoder.parameters():
            weight.requires_grad_(False)

    def train(self, mode=True):
        return super().train(False)

    @torch.no_grad()
    def forward(self, x):
        return self.body(x)


class FrozenInForward(nn.Module):
    """Sets the mode each time that it is called, and keeps train as it is."""

    def __init__(self, encoder):
        super().__init__()
        self.body = encoder.requires_grad_(False)

    def forward(self, x):
        return self.body.eval()(x)


def cached_in_place(encoder, images, batch_size=16):
    encoder.train(False)
    whole = None
    for first in range(0, len(images), batch_size):
        part = np.moveaxis(images[first : first + batch_size], 3, 1).astype(np.float32) / 255
        maps = [one.detach() for one in encoder(torch.from_numpy(part))]
        if whole is None:
            whole = [torch.empty(len(images), *one.shape[1:]).half() for one in maps]
        for all_of_them, one in zip(whole, maps, strict=True):
            all_of_them[first : first + len(part)] = one
    return whole


def cached_one_by_one(encoder, images, batch_size=16):
    encoder.eval().requires_grad_(False)
    rows = [encoder(torch.tensor(image / 255).permute(2, 0, 1)[None].float()) for image in images]
    return tuple(torch.vstack(depth).half() for depth in zip(*rows, strict=True))


def work_by_loops(encoder, decoder, images, epochs):
    learns = frozen = kept = 0
    for epoch in range(epochs):
        for _ in range(images):
            learns += encoder + decoder + 2 * (encoder + decoder)
            frozen += encoder + decoder + 2 * decoder
            kept += 3 * decoder + (encoder if epoch == 0 else 0)
    return [learns, frozen, kept]


def groups_from_the_end(parts, rate, factor):
    groups = []
    for part in reversed(parts):
        groups.append({"lr": rate, "params": part.parameters()})
        rate /= factor
    return groups[::-1]


def interval_by_statistics(scores):
    quantile = {1: 12.706, 2: 4.302653, 3: 3.182446, 4: 2.776445, 6: 2.446912}[len(scores) - 1]
    half = quantile * statistics.stdev(scores) / len(scores) ** 0.5
    return np.array([statistics.fmean(scores) - half, statistics.fmean(scores) + half])


def interval_by_scipy(scores):
    from scipy import stats

    return stats.t.interval(0.95, len(scores) - 1, np.mean(scores), stats.sem(scores))


RIGHT = {
    "pairs": [PairsFromNumpy, PairsOfFlatMasks],
    "pixel_accuracy": [accuracy_by_probability, accuracy_loop],
    "dice": [DiceOfAll, DiceOfErrors],
    "logit_of": [lambda p: -math.log(1 / p - 1), lambda p: 2 * math.atanh(2 * p - 1)],
    "two_logits": [
        lambda z: torch.cat([-z / 2, z / 2], dim=1),
        lambda z: torch.stack([F.logsigmoid(-z[:, 0]), F.logsigmoid(z[:, 0])], dim=1),
    ],
    "misaligned": [misaligned_by_stack, misaligned_by_weights],
    "lost": [lost_by_loops, lost_by_unfold],
    "nearest": [nearest_by_cdist, nearest_by_int],
    "prepared": [prepared_by_v2, prepared_by_numpy],
    "tapped": [tapped_in_a_row, tapped_one_by_one],
    "frozen": [FrozenByFalse, FrozenInForward],
    "cached": [cached_in_place, cached_one_by_one],
    "work": [
        work_by_loops,
        lambda e, d, n, t: np.array([[3 * t, 3 * t], [t, 3 * t], [1, 3 * t]]) @ [e * n, d * n],
    ],
    "rate_groups": [
        groups_from_the_end,
        lambda parts, rate, factor: [
            {"params": [*part.parameters()], "lr": lr}
            for part, lr in zip(
                parts, rate * np.power(float(factor), np.arange(1 - len(parts), 1)), strict=True
            )
        ],
    ],
    "interval": [interval_by_statistics, interval_by_scipy],
}


# --- wrong answers


class NoDataset(PairsFromNumpy):
    def __len__(self):
        return 1


class Halves(PairsFromNumpy):
    def __getitem__(self, k):
        return super().__getitem__(k)[0]


class ChannelsLast(PairsFromNumpy):
    def __getitem__(self, k):
        image, mask = super().__getitem__(k)
        return image.permute(1, 2, 0), mask


class FlatMask(PairsFromNumpy):
    def __getitem__(self, k):
        image, mask = super().__getitem__(k)
        return image, mask[0]


class Whole(PairsFromNumpy):
    def __getitem__(self, k):
        image, mask = super().__getitem__(k)
        return image, mask.long()


class Arrays(PairsFromNumpy):
    def __getitem__(self, k):
        image, mask = super().__getitem__(k)
        return image.numpy(), mask


class AlwaysCalled(PairsFromNumpy):
    def __init__(self, images, masks, transform=None):
        super().__init__(images, masks, transform)
        self.transform = transform


class NoValue(DiceOfAll):
    value = None


class Resets(DiceOfAll):
    def value(self):
        value = super().value()
        self.found.append(True)
        self.true.append(False)
        return value


class GoneOnceAsked(DiceOfErrors):
    def value(self):
        right, wrong = float(self.right), float(self.wrong)
        self.right = self.wrong = torch.zeros(())
        return 2 * right / (2 * right + wrong)


class OfTheClass:
    both = found = true = 0.0

    def __init__(self):
        type(self).both = type(self).found = type(self).true = 0.0

    def add(self, logits, masks):
        found, true = logits > 0, masks == 1
        type(self).both += float((found & true).sum())
        type(self).found += float(found.sum())
        type(self).true += float(true.sum())

    def value(self):
        return 2 * self.both / (self.found + self.true)


class ByItself(DiceOfAll):
    def add(self, logits):
        pass


def plain(transform, mask, void=255):
    image, label = transform(mask.expand(3, -1, -1), mask)
    return (image[0] != label)[label != void].float().mean()


def both_images(transform, mask, void=255):
    image, label = transform(tv_tensors.Image(mask.expand(3, -1, -1)), tv_tensors.Image(mask))
    return (image[0] != label)[label != void].float().mean()


def three_parts(transform, mask, void=255):
    image, label, _ = transform(tv_tensors.Image(mask.expand(3, -1, -1)), tv_tensors.Mask(mask))
    return image[0] != label


def late_bound(net, names, images):
    maps, hooks = {}, []
    for name in names:
        hooks.append(
            net.get_submodule(name).register_forward_hook(
                lambda layer, given, made: maps.update({name: made})  # noqa: B023
            )
        )
    net(images)
    for hook in hooks:
        hook.remove()
    return [maps[name] for name in names]


def hooks_that_stay(net, names, images):
    maps = {}
    for name in names:
        net.get_submodule(name).register_forward_hook(
            lambda *seen, at=name: maps.update({at: seen[2]})
        )
    net(images)
    return [maps[name] for name in names]


def in_eval(net, names, images):
    return tapped_in_a_row(net.eval(), names, images)


def one_argument(net, names, images):
    hooks = [net.get_submodule(name).register_forward_hook(lambda made: None) for name in names]
    try:
        net(images)
    finally:
        [hook.remove() for hook in hooks]


class Recursive(nn.Module):
    def __init__(self, encoder):
        super().__init__()
        self.encoder = encoder

    def train(self, mode=True):
        self.train(mode)


class NoSuper(nn.Module):
    def __init__(self, encoder):
        self.encoder = encoder


class NoMode(FrozenByFalse):
    def train(self):
        return super().train(False)


class ReturnsNothing(FrozenByFalse):
    def train(self, mode=True):
        super().train(False)


class OtherOutput(FrozenByFalse):
    def forward(self, x):
        return self.body(x).mean()


def batch(images):
    return torch.from_numpy(images).permute(0, 3, 1, 2).float() / 255


# A regular expression of the message -> an answer that gets it.
WRONG = {
    "pairs": {
        "of 4 pairs is 1": NoDataset,
        "an image and its mask are wanted": Halves,
        r"wanted \(3, 5, 6\).*channels come first": ChannelsLast,
        r"mask\[None\] adds the axis": FlatMask,
        "mask is int64: float32 is wanted": Whole,
        "image is a ndarray: a tensor": Arrays,
        "may be None": AlwaysCalled,
    },
    "pixel_accuracy": {
        r"wants .float\(\) first": lambda logits, masks: ((logits > 0) == (masks == 1)).mean(),
    },
    "dice": {
        r"has no value|value\(\) returns None": NoValue,
        "asked twice": Resets,
        "asked twice, Dice": GoneOnceAsked,
        "two Dice share their counts": OfTheClass,
        "add.self, logits, masks. takes two": ByItself,
    },
    "logit_of": {"Nine to one is log 9": lambda p: 4 * (p - 0.5)},
    "two_logits": {
        r"gives shape \(2, 1, 2, 2\), wanted \(2, 2, 2, 2\)": lambda z: z,
        "zeros_like": lambda z: torch.cat([torch.zeros(1), z], dim=1),
        "wanted a tensor": lambda z: (torch.zeros_like(z), z),
    },
    "misaligned": {
        "takes both and gives both": three_parts,
        r"a Tensor where a tv_tensors\.Image": plain,
        r"an? Image where a tv_tensors\.Mask": both_images,
    },
    "lost": {
        r"masks.float\(\)": lambda masks, size: 1 - F.max_pool2d(masks[:, None], size, 1).mean(),
        "pooling wants|shape": lambda masks, size: F.max_pool2d(masks[None].float(), size, 1)[0],
    },
    "nearest": {
        r"shape \(\) where": lambda valid, train: (
            np.abs(train[None].astype(float) - valid[:, None]).mean((2, 3, 4)).argmin()
        ),
    },
    "prepared": {
        "must return two tensors": lambda image, trimap, mean, std: prepared_by_v2(
            image, trimap, mean, std
        )[0],
        "x is a ndarray": lambda image, trimap, mean, std: (image / 255, trimap),
        "x is float64; it must be float32": lambda image, trimap, mean, std: (
            torch.from_numpy(image / 255),
            torch.from_numpy(trimap),
        ),
        "labels is uint8; it must be int64": lambda *given: (
            prepared_by_v2(*given)[0],
            torch.from_numpy(given[1] - 1),
        ),
        r"bring them to the shape \(3, 1, 1\)": lambda image, trimap, mean, std: (
            torch.from_numpy(image).permute(2, 0, 1) / 255 - torch.tensor(mean)
        ),
        r"x has shape \(2, 2, 3\), wanted \(3, 2, 2\): colour comes first": lambda *given: (
            prepared_by_v2(*given)[0].permute(1, 2, 0),
            prepared_by_v2(*given)[1],
        ),
        r"labels has shape \(1, 2, 2\), wanted \(2, 2\)": lambda *given: (
            prepared_by_v2(*given)[0],
            prepared_by_v2(*given)[1][None],
        ),
    },
    "tapped": {
        "no map was kept under a name": late_bound,
        r"leaves 3 hook\(s\) in the network": hooks_that_stay,
        "a hook is called with three arguments": one_argument,
        "get_submodule.name. goes the way": lambda net, names, images: [
            getattr(net, name) for name in names
        ],
        "in another mode": in_eval,
        "it returned a dict": lambda net, names, images: {},
        "returns 1 maps for 3 names": lambda net, names, images: [net(images)],
    },
    "frozen": {
        "train calls itself": Recursive,
        r"call super\(\).__init__\(\) first": NoSuper,
        "train is called with a mode": NoMode,
        "it must `return self`": ReturnsNothing,
        "must give what encoder.x. gives": OtherOutput,
        "must be a class Frozen": lambda encoder: lambda x: encoder(x),
    },
    "cached": {
        "hangs on the encoder": lambda encoder, images, batch_size: [
            one * encoder.first[0].weight.mean() for one in cached_in_place(encoder, images)
        ],
        "7 images at once|6 images at once": lambda encoder, images, batch_size: cached_in_place(
            encoder, images, 99
        ),
        "has moved batch norm's running mean": lambda encoder, images, batch_size: (
            cached_in_place(encoder.train(), images, batch_size)
            if encoder.train() is None
            else [one.detach().half() for one in encoder.train()(batch(images[:batch_size]))]
        ),
        "keep float16": lambda *given: [one.float() for one in cached_in_place(*given)],
        "each is computed once": lambda encoder, images, batch_size: (
            cached_in_place(encoder, images, batch_size),
            cached_in_place(encoder, images, batch_size),
        )[0],
        "wanted is one tensor a depth": lambda encoder, images, batch_size: [
            one for k in range(len(images)) for one in cached_in_place(encoder, images[k : k + 1])
        ],
        "colour first": lambda encoder, images, batch_size: encoder(torch.from_numpy(images) / 255),
    },
    "work": {"three numbers: all learns": lambda e, d, n, t: 3 * (e + d) * n * t},
    "rate_groups": {
        "must return a list of dictionaries": lambda parts, rate, factor: [rate] * len(parts),
        "an optimizer knows no other names": lambda parts, rate, factor: [
            {"params": part.parameters(), "rate": rate} for part in parts
        ],
        "a weight stands in two groups": lambda parts, rate, factor: [
            {"params": parts[0].parameters(), "lr": rate} for _ in parts
        ],
        r"part.parameters\(\), not the part": lambda parts, rate, factor: [
            {"params": part, "lr": rate} for part in parts
        ],
    },
    "interval": {"two numbers, the lower end": lambda scores: np.mean(scores)},
}
