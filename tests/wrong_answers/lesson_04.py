"""Right answers to lesson 04 by other ways, and wrong ones that are known by no value."""

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

# --- functions -----------------------------------------------------------------------------------


def multiply_adds(in_channels, out_channels, kernel, height, width):
    places = (height - kernel + 1) * (width - kernel + 1)
    return places * kernel**2 * in_channels * out_channels


def as_convolution(linear, channels, size, **options):
    conv = nn.Conv2d(channels, linear.out_features, size, **options)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(-1, channels, size, size))
        conv.bias.copy_(linear.bias)
    return conv


def as_convolution_by_parameters(linear, channels, size):
    conv = nn.Conv2d(channels, len(linear.bias), kernel_size=(size, size))
    conv.weight = nn.Parameter(linear.weight.detach().view_as(conv.weight))
    conv.bias = linear.bias
    return conv


def weights_only(linear, channels, size):
    conv = nn.Conv2d(channels, linear.out_features, size)
    with torch.no_grad():
        conv.bias.copy_(linear.bias)
        conv.weight.copy_(linear.weight.reshape(conv.weight.shape) + 0.1)
    return conv


def own_bias(linear, channels, size):
    conv = nn.Conv2d(channels, linear.out_features, size)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(conv.weight.shape))
    return conv


def without_no_grad(linear, channels, size):
    conv = nn.Conv2d(channels, linear.out_features, size)
    conv.weight.copy_(linear.weight.reshape(conv.weight.shape))
    return conv


def plain_tensor(linear, channels, size):
    conv = nn.Conv2d(channels, linear.out_features, size)
    conv.weight = linear.weight.data.reshape(conv.weight.shape)
    return conv


def wrong_reshape(linear, channels, size):
    conv = nn.Conv2d(channels, linear.out_features, size)
    with torch.no_grad():
        conv.weight.copy_(linear.weight.reshape(channels, size, size))
    return conv


def shift_and_stitch(model, padded, stride):
    first = model(padded)
    n, c, h, w = first.shape
    scores = first.new_zeros(n, c, stride * h, stride * w)
    for dy in range(stride):
        for dx in range(stride):
            scores[:, :, dy::stride, dx::stride] = model(padded[:, :, dy:, dx:])
    return scores


def shift_and_stitch_by_stacking(model, padded, stride):
    rows = [
        torch.stack([model(padded[..., dy:, dx:]) for dx in range(stride)], dim=-1).flatten(-2)
        for dy in range(stride)
    ]
    return torch.stack(rows, dim=3).flatten(2, 3)


def shifted_too_far(model, padded, stride):
    scores = model(padded).repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    for dy in range(stride):
        for dx in range(stride):
            scores[:, :, dy::stride, dx::stride] = model(padded.roll((1 - dy, -dx), (2, 3)))
    return scores


def cut_too_small(model, padded, stride):
    first = model(padded)
    scores = first.repeat_interleave(stride, 2).repeat_interleave(stride, 3)
    height, width = scores.shape[2:]
    for dy in range(stride):
        for dx in range(stride):
            part = padded[:, :, dy : dy + height, dx : dx + width]
            scores[:, :, dy::stride, dx::stride] = model(part)
    return scores


def interior(height, width, field):
    margin = field // 2
    inside = np.zeros((height, width), dtype=bool)
    inside[margin : height - margin, margin : width - margin] = True
    return inside


def interior_by_loops(height, width, field):
    r = (field - 1) // 2
    return np.array(
        [[r <= y < height - r and r <= x < width - r for x in range(width)] for y in range(height)]
    )


def receptive_field(layers):
    field, step = 1, 1
    for kernel, stride in layers:
        field += (kernel - 1) * step
        step *= stride
    return field


def receptive_field_by_edges(layers):
    """Follow the first and the last pixel back to the input."""
    first, last = 0, 0
    for kernel, stride in layers[::-1]:
        first, last = first * stride, last * stride + kernel - 1
    return last - first + 1


def gradient_map(model, images, row, column, of=lambda scores: scores.sum()):
    images = images.clone().requires_grad_()
    of(model(images)[:, :, row, column]).backward()
    return images.grad.abs().sum(dim=(0, 1))


def gradient_map_by_autograd(model, images, row, column):
    images = images.detach().clone().requires_grad_(True)
    score = model(images)[..., row, column].sum()
    (slope,) = torch.autograd.grad(score, images)
    return slope.abs().flatten(0, 1).sum(0).numpy()


def without_requires_grad(model, images, row, column):
    (slope,) = torch.autograd.grad(model(images)[:, :, row, column].sum(), images)
    return slope.abs().sum(dim=(0, 1))


def of_a_copy(model, images, row, column):
    asked = images.clone().requires_grad_()
    score = model(images.clone().requires_grad_())[:, :, row, column].sum()
    return torch.autograd.grad(score, asked)[0].abs().sum(dim=(0, 1))


def adds_to_the_images(model, images, row, column):
    images.requires_grad_()
    model(images)[:, :, row, column].sum().backward()
    return images.grad.abs().sum(dim=(0, 1))


def uses_the_tuple(model, images, row, column):
    images = images.clone().requires_grad_()
    slopes = torch.autograd.grad(model(images)[:, :, row, column].sum(), images)
    return slopes.abs().sum(dim=(0, 1))


def returns_the_tuple(model, images, row, column):
    images = images.clone().requires_grad_()
    return torch.autograd.grad(model(images)[:, :, row, column].sum(), images)


def coarse_labels(labels, stride, num_classes):
    maps = torch.stack([(labels == c).float() for c in range(num_classes)], dim=1)
    small = F.avg_pool2d(maps, stride)
    large = F.interpolate(small, scale_factor=stride, mode="bilinear", align_corners=False)
    return large.argmax(dim=1)


def coarse_labels_by_one_hot(labels, stride, num_classes):
    known = labels < num_classes
    maps = F.one_hot(labels.where(known, torch.zeros_like(labels)), num_classes) * known[..., None]
    small = F.adaptive_avg_pool2d(
        maps.permute(0, 3, 1, 2).double(), [side // stride for side in labels.shape[1:]]
    )
    return nn.Upsample(scale_factor=stride, mode="bilinear")(small).max(dim=1).indices


def one_hot_of_void(labels, stride, num_classes):
    maps = F.one_hot(labels, num_classes).permute(0, 3, 1, 2).float()
    small = F.avg_pool2d(maps, stride)
    return F.interpolate(small, scale_factor=stride, mode="bilinear").argmax(dim=1)


# --- the FCN -------------------------------------------------------------------------------------


def layer(i, o, norm=nn.BatchNorm2d):
    return [nn.Conv2d(i, o, 3, padding=1, bias=False), norm(o), nn.ReLU()]


class FCN(nn.Module):
    def __init__(self, in_channels, num_classes, width=32, make=layer, times=(1, 2, 3, 3, 3)):
        super().__init__()
        sizes = [in_channels, *(width * n for n in times)]
        body = []
        for k in range(5):
            body += make(sizes[k], sizes[k + 1])
            if k < 3:
                body.append(nn.MaxPool2d(2))
        self.body = nn.Sequential(*body)
        self.head = nn.Conv2d(sizes[-1], num_classes, 1)

    def forward(self, x):
        return F.interpolate(self.head(self.body(x)), size=x.shape[2:], mode="bilinear")


class FCNByHand(nn.Module):
    """The parts one by one; the head is registered first, and has no bias."""

    def __init__(self, in_channels, num_classes, width=32):
        super().__init__()
        w = width
        self.head = nn.Conv2d(3 * w, num_classes, 1, bias=False)
        pairs = [(in_channels, w), (w, 2 * w), (2 * w, 3 * w), (3 * w, 3 * w), (3 * w, 3 * w)]
        self.blocks = nn.ModuleList(nn.Sequential(*layer(*pair)) for pair in pairs)
        self.up = nn.Upsample(scale_factor=8, mode="bilinear", align_corners=False)

    def forward(self, x):
        for number, block in enumerate(self.blocks):
            x = block(x)
            x = F.max_pool2d(x, 2) if number < 3 else x
        return self.up(self.head(x))


def changed(forward=None, **options):
    """Return an FCN with another forward, or made with other options."""

    class Changed(FCN):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs, **options)

    Changed.forward = forward or FCN.forward
    return Changed


def other_part(name, make):
    """Return an FCN with another layer in the place of one: ``make(channels, classes)``."""

    class Changed(FCN):
        def __init__(self, in_channels, num_classes, width=32):
            super().__init__(in_channels, num_classes, width)
            setattr(self, name, make(3 * width, num_classes))

    return Changed


def enlarged(**options):
    return changed(
        lambda self, x: F.interpolate(self.head(self.body(x)), size=x.shape[2:], **options)
    )


def one_pooling_less(self, x):
    feature = x
    for part in [*self.body[:11], *self.body[12:]]:
        feature = part(feature)
    scores = self.head(feature)
    return F.interpolate(scores, size=x.shape[2:], mode="bilinear")


def early(self, x):
    return self.head(F.interpolate(self.body(x), size=x.shape[2:], mode="bilinear"))


RIGHT = {
    "multiply_adds": [
        multiply_adds,
        lambda i, o, k, h, w: (
            sum(1 for _ in range(h - k + 1) for _ in range(w - k + 1)) * k * k * i * o
        ),
    ],
    "as_convolution": [as_convolution, as_convolution_by_parameters],
    "shift_and_stitch": [shift_and_stitch, shift_and_stitch_by_stacking],
    "interior": [interior, interior_by_loops],
    "receptive_field": [receptive_field, receptive_field_by_edges],
    "gradient_map": [gradient_map, gradient_map_by_autograd],
    "smallest_counterexample": [lambda: [(3, 1), (2, 2)], lambda: ([3, 1], [2, 2])],
    "coarse_labels": [coarse_labels, coarse_labels_by_one_hot],
    "fcn": [FCN, FCNByHand, enlarged(mode="bilinear", align_corners=False)],
}
WRONG = {
    "as_convolution": {
        r"expected \[": weights_only,
        r"random bias": own_bias,
        r"returns a Linear": lambda linear, channels, size: linear,
        r"wanted 3 -> 4, 2x2": lambda linear, channels, size: nn.Conv2d(channels, 4, 1),
        r"padding 0": lambda *given: as_convolution(*given, padding=1),
        r"stride as it is": lambda *given: as_convolution(*given, stride=2),
        r"no_grad": without_no_grad,
        r"nn\.Parameter": plain_tensor,
        r"reshape it to": wrong_reshape,
    },
    "shift_and_stitch": {
        r"Leave away the first dy rows": cut_too_small,
        r"must give the whole picture": shifted_too_far,
    },
    "interior": {
        r"dtype bool": lambda *given: interior(*given).astype(int),
    },
    "gradient_map": {
        r"requires_grad_": without_requires_grad,
        r"not a copy": of_a_copy,
        r"backward\(\) adds": adds_to_the_images,
        r"take its first": uses_the_tuple,
        r"sum the scores": lambda *given: gradient_map(*given, of=lambda scores: scores),
        r"takes? the first|returns a tuple": returns_the_tuple,
    },
    "smallest_counterexample": {
        r"helper is right": lambda: [(2, 2), (3, 1)],
        r"the helper is right": lambda: [(2, 2)],
        r"helper is right\. Write": lambda: [(3, 1), (3, 1)],
        r"two layers are enough": lambda: [(3, 1), (3, 1), (2, 2)],
        r"empty list": lambda: [],
        r"holds \(5, 1\)": lambda: [(5, 1), (2, 2)],
        r"list of pairs": lambda: (3, 1),
        r"a list of pairs": lambda: 18,
    },
    "coarse_labels": {r"one_hot takes no 255": one_hot_of_void},
    "fcn": {
        r"blocks": enlarged(mode="nearest"),
        r"align_corners=True": enlarged(mode="bilinear", align_corners=True),
        r"coarse scores": changed(lambda self, x: self.head(self.body(x))),
        r"softmax": changed(lambda self, x: FCN.forward(self, x).softmax(dim=1)),
        r"something else follow": changed(lambda self, x: FCN.forward(self, x).relu()),
        r"works on an enlarged map": changed(early),
        r"1/8 of the picture": changed(one_pooling_less),
        r"channels .*wanted \[4, 8, 12, 12, 12\]": changed(times=(1, 2, 4, 4, 4)),
        r"0 batch norms": changed(make=lambda i, o: layer(i, o, norm=lambda _: nn.Identity())),
        r"a pooling after each": changed(
            make=lambda i, o: [nn.Conv2d(i, o, 3), nn.BatchNorm2d(o), nn.ReLU()]
        ),
        r"head is 1x1": other_part("head", lambda i, o: nn.Conv2d(i, o, 3, padding=1)),
        r"num_classes": other_part("head", lambda i, o: nn.Conv2d(i, 2 * o, 1)),
        r"hard-coded": other_part("head", lambda i, o: nn.Conv2d(12, 5, 1)),
        r"linear layer": other_part("end", lambda i, o: nn.Linear(i, o)),
        r"no gradient": changed(lambda self, x: FCN.forward(self, x).detach()),
        r"no value is dropped": changed(make=lambda i, o: [*layer(i, o), nn.Dropout(0.5)]),
    },
}
