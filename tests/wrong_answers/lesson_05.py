"""Right answers to lesson 05, by other ways, and wrong ones that no value of theirs gives away."""

import numpy as np
import torch
import torch.nn.functional as F
from scipy.special import log_softmax
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.data import VOID

# --- right answers, by other ways


def unpool_by_torch(values, places, shape):
    given = (torch.as_tensor(part)[None, None] for part in (values, places))
    return F.max_unpool2d(*given, 2, output_size=shape)[0, 0]


def unpool_by_flat(values, places, shape):
    full = np.zeros(shape)
    full.reshape(-1)[places] = values
    return full


def stamps(x, kernel, stride):
    """Put zeros between the pixels, then convolve with the kernel turned round."""
    k = len(kernel)
    spread = np.zeros(((len(x) - 1) * stride + 1, (x.shape[1] - 1) * stride + 1))
    spread[::stride, ::stride] = x
    padded = np.pad(spread, k - 1)
    windows = np.lib.stride_tricks.sliding_window_view(padded, (k, k))
    return (windows * kernel[::-1, ::-1]).sum((-1, -2))


def stamp_loop(x, kernel, stride):
    full = np.zeros([(n - 1) * stride + len(kernel) for n in x.shape])
    for row, column in np.ndindex(*x.shape):
        for i, j in np.ndindex(*kernel.shape):
            full[row * stride + i, column * stride + j] += x[row, column] * kernel[i, j]
    return full.tolist()


def matrix_loop(kernel, height, width, stride):
    k = len(kernel)
    rows = []
    for top in range(0, height - k + 1, stride):
        for left in range(0, width - k + 1, stride):
            row = np.zeros((height, width))
            row[top : top + k, left : left + k] = kernel
            rows.append(row.ravel())
    return np.array(rows)


def matrix_by_formula(kernel, height, width, stride):
    k = len(kernel)
    h, w = (height - k) // stride + 1, (width - k) // stride + 1
    matrix = np.zeros((h, w, height, width))
    for i, j, a, b in np.ndindex(h, w, k, k):
        matrix[i, j, i * stride + a, j * stride + b] = kernel[a, b]
    return matrix.reshape(h * w, height * width)


def tent(stride):
    k = 2 * stride - stride % 2
    row = [1 - abs(i - (k - 1) / 2) / stride for i in range(k)]
    return [[a * b for a in row] for b in row]


def tent_by_boxes(stride):
    """Return a box convolved with a box, which is a tent; an even one is sampled in between."""
    if stride % 2:
        row = np.convolve(np.ones(stride), np.ones(stride)) / stride
    else:
        row = np.concatenate([up := (2 * np.arange(stride) + 1) / (2 * stride), up[::-1]])
    return np.outer(row, row)


def count_loop(size, kernel, stride):
    counts = [0] * ((size - 1) * stride + kernel)
    for n in range(size):
        for i in range(kernel):
            counts[n * stride + i] += 1
    return counts


def cost_by_torch(cin, cout, kernel, height, width):
    layer = torch.nn.Conv2d(cin, cout, kernel, padding="same")
    made = layer(torch.zeros(1, cin, height, width))
    weights = layer.weight.numel()
    return layer.bias.numel() + weights, weights * height * width, made.nbytes


def loss_by_scipy(logits, labels):
    told = log_softmax(np.asarray(logits, float), axis=0)
    kept = labels != VOID
    return -np.mean([told[c, i, j] for (i, j), c in np.ndenumerate(labels) if kept[i, j]])


def loss_by_torch(logits, labels):
    x, y = torch.tensor(logits)[None].double(), torch.tensor(labels)[None].long()
    return F.cross_entropy(x, y, ignore_index=VOID)


def classic(height, width, shift):
    """Resize, flip and crop out of a void frame, by hand."""

    def run(image, mask):
        image = v2.functional.resize(image, [height, width])
        mask = v2.functional.resize(mask, [height, width], v2.InterpolationMode.NEAREST)
        if torch.rand(()) < 0.5:
            image, mask = image.flip(-1), mask.flip(-1)
        top, left = torch.randint(0, 2 * shift + 1, (2,)).tolist()
        frame = [shift] * 4
        image = v2.functional.pad(tv_tensors.Image(image), frame, fill=0)
        mask = v2.functional.pad(tv_tensors.Mask(mask), frame, fill=VOID)
        return tuple(part[..., top : top + height, left : left + width] for part in (image, mask))

    return run


def composed(height, width, shift, flip=None, move=None, resize=None, fill=None):
    fill = {tv_tensors.Image: 0, tv_tensors.Mask: VOID} if fill is None else fill
    share = (shift / width, shift / height)
    return v2.Compose(
        [
            resize or v2.Resize((height, width)),
            v2.RandomHorizontalFlip() if flip is None else flip,
            v2.RandomAffine(0, translate=share, fill=fill) if move is None else move,
        ]
    )


RIGHT = {
    "unpool": [unpool_by_torch, unpool_by_flat],
    "upsampled_size": [
        lambda size, kernel, stride, padding=0, output_padding=0: (
            (size - 1) * stride + kernel - 2 * padding + output_padding
        ),
        lambda n, k, s, p=0, o=0: len(range(0, (n - 1) * s + 1)) + k - 1 - 2 * p + o,
    ],
    "transposed_conv": [stamps, stamp_loop],
    "conv_matrix": [matrix_loop, matrix_by_formula],
    "bilinear_kernel": [tent, tent_by_boxes],
    "coverage": [
        count_loop,
        lambda n, k, s: np.convolve(np.arange((n - 1) * s + 1) % s == 0, np.ones(k)),
    ],
    "conv_cost": [
        lambda cin, cout, k, h, w: (
            (k[0] * k[1] * cin + 1) * cout,
            k[0] * k[1] * cin * cout * h * w,
            4 * cout * h * w,
        ),
        cost_by_torch,
    ],
    "unhappiness": [loss_by_scipy, loss_by_torch],
    "joint_transform": [composed, classic],
}


def unpool_by_two_indices(values, places, shape):
    full = np.zeros(shape)
    full[places, places] = values[..., None]
    return full


def separate(height, width, shift):
    transform = composed(height, width, shift)
    return lambda image, mask: (transform(image), transform(mask))


def plain_mask(height, width, shift):
    """Take the mask for an image: it is resized smoothly."""
    transform = composed(height, width, shift, fill=0)

    def run(image, mask):
        image, mask = transform(image, tv_tensors.Image(mask[None]))
        return image, mask[0]

    return run


def naive_softmax(logits, labels):
    shares = np.exp(logits) / np.exp(logits).sum(axis=0)
    kept = labels != VOID
    return -np.log(np.moveaxis(shares, 0, -1)[kept, labels[kept]]).mean()


def largest_of_all(logits, labels):
    kept = labels != VOID
    scores, right = (logits - logits.max())[:, kept], labels[kept]
    return (np.log(np.exp(scores).sum(axis=0)) - scores[right, np.arange(len(right))]).mean()


def labels_first(logits, labels):
    shares = np.moveaxis(logits, 0, -1)
    return np.take_along_axis(shares, labels[..., None].astype(int), -1).mean()


# A regular expression of the message -> an answer that gets it.
WRONG = {
    "unpool": {
        "places count through the whole map": lambda values, places, shape: np.zeros(shape)[places],
        "the whole map, row by row": unpool_by_two_indices,
    },
    "upsampled_size": {
        "gives a float": lambda n, k, s, p=0, o=0: float((n - 1) * s + k - 2 * p + o),
        "kernel 5, stride 3 give": lambda n, k, s, p=0, o=0: (n - 1) * 2 + k - 2 * p + 2 * o + p,
    },
    "transposed_conv": {
        "whole numbers only": lambda x, kernel, stride: np.zeros(3, int).__iadd__(kernel[0]),
        "is the output large enough": lambda x, kernel, stride: (
            (np.zeros(np.array(x.shape) * stride)[-1:, -1:] + kernel)[:, :2] + np.zeros((7, 5))
        ),
        "hard-coded": lambda x, kernel, stride: stamps(x, kernel, 2),
        "zeros stay between": lambda x, kernel, stride: stamps(x, kernel, min(stride, len(kernel))),
    },
    "conv_matrix": {
        "range ends before": lambda kernel, height, width, stride: np.array(
            [kernel for _ in range(0, height - len(kernel), stride)]
        ),
        "not for a 3x3 kernel": lambda kernel, height, width, stride: matrix_loop(
            kernel, height, width, 1
        )[: ((height - len(kernel)) // stride + 1) * ((width - len(kernel)) // stride + 1)],
    },
    "bilinear_kernel": {
        "For stride 3 one direction is": lambda stride: np.outer(*[[0.25, 0.75, 0.75, 0.25]] * 2),
    },
    "conv_cost": {
        "no array of numbers": lambda *given: "448",
        "is a pair": lambda cin, cout, kernel, height, width: (kernel**2 * cin * cout, 0, 0),
        "its two numbers": lambda cin, cout, kernel, height, width: (kernel * kernel * cin, 0, 0),
        "expected .*448": lambda *given: (0, 0, 0),
    },
    "unhappiness": {
        "too small for a float": naive_softmax,
        "each pixel's own largest": largest_of_all,
        "which is no class: leave them out": labels_first,
    },
    "joint_transform": {
        "returns no transform": lambda *given: composed(*given)(
            tv_tensors.Image(torch.zeros(3, 4, 4)), tv_tensors.Mask(torch.zeros(4, 4))
        ),
        "image has another size": lambda h, w, s: composed(h, w, s, resize=v2.Resize((w, h))),
        "holds values that were no class before": plain_mask,
        "the image is no longer uint8": lambda h, w, s: v2.Compose(
            [composed(h, w, s), v2.ToDtype(torch.float32)]
        ),
        "class 0 in the mask": lambda h, w, s: composed(h, w, s, fill=0),
        "not black in the image": lambda h, w, s: composed(h, w, s, fill=VOID),
        "takes shares of the size": lambda h, w, s: composed(
            h, w, s, move=v2.RandomAffine(0, translate=(s, s))
        ),
        "no rotation or": lambda h, w, s: composed(
            h,
            w,
            s,
            move=v2.RandomAffine(
                20,
                translate=(s / w, s / h),
                fill={tv_tensors.Image: 0, tv_tensors.Mask: VOID},
            ),
        ),
        "do not move alike": separate,
        "nothing is ever flipped": lambda h, w, s: composed(h, w, s, flip=v2.Identity()),
        "everything is flipped": lambda h, w, s: composed(h, w, s, flip=v2.RandomHorizontalFlip(1)),
        "upside down": lambda h, w, s: v2.Compose([v2.RandomVerticalFlip(), composed(h, w, s)]),
        "nothing is ever shifted": lambda h, w, s: composed(h, w, s, move=v2.Identity()),
        "shifted by more than": lambda h, w, s: composed(
            h,
            w,
            s,
            move=v2.RandomAffine(
                0,
                translate=(s / h, s / w),
                fill={tv_tensors.Image: 0, tv_tensors.Mask: VOID},
            ),
        ),
        "not shifted by up to": lambda h, w, s: composed(h, w, 2),
        "no rotation or shear": lambda h, w, s: v2.Compose(
            [
                composed(h, w, s),
                v2.RandomRotation(4, fill={tv_tensors.Image: 0, tv_tensors.Mask: VOID}),
            ]
        ),
    },
}
