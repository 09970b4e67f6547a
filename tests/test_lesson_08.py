"""Lesson 08: answers to its exercises, and what its text claims.

The first half trains nothing. The second reads the notebook that ``course solve 08`` has run.
"""

import math
import os
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import nbformat
import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import Dataset
from torchvision import tv_tensors
from torchvision.transforms import v2

from course_utils.data import load
from course_utils.errors import CourseError
from course_utils.hand_in.tasks import get_task
from course_utils.models import encoders
from course_utils.models.encoders import imagenet_encoder
from course_utils.models.normalised import Normalised
from tests.executed import executed
from tests.test_data_sets import make_supervisely

NAME = "08_transfer_learning"
ROOT = Path(__file__).resolve().parent.parent
NOTEBOOK = ROOT / "solutions" / NAME / f"{NAME}.ipynb"
CELLS = {cell["id"]: cell for cell in nbformat.read(NOTEBOOK, as_version=4).cells}

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
}


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


class ByItself(DiceOfAll):
    def add(self, logits):
        pass


def three_parts(transform, mask, void=255):
    image, label, _ = transform(tv_tensors.Image(mask.expand(3, -1, -1)), tv_tensors.Mask(mask))
    return image[0] != label


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
}

# --- the encoder and the net


def test_every_weight_of_lite0_fits_smps_encoder_and_its_maps_are_timms():
    import segmentation_models_pytorch as smp

    name, weights = imagenet_encoder("lite0")
    net = smp.Unet(name, encoder_weights=None, classes=1).eval()
    random = {key: value.clone() for key, value in net.encoder.state_dict().items()}
    assert set(random) == set(weights)
    net.encoder.load_state_dict(weights)
    kernels = [key for key, value in random.items() if value.ndim > 1]
    assert not any(torch.equal(random[key], weights[key]) for key in kernels)
    x = torch.rand(2, 3, 96, 64, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        _, *maps = net.encoder(x)
        whole = encoders.lite0().eval()
        for layer in whole:
            x = layer(x)
            for found in [m for m in maps if m.shape == x.shape]:
                assert torch.equal(found, x)
                maps = [m for m in maps if m is not found]
    assert not maps, "each map of smp's encoder is one of timm's"


def test_a_key_that_does_not_fit_stops_the_loading():
    import segmentation_models_pytorch as smp

    name, weights = imagenet_encoder("lite0")
    encoder = smp.encoders.get_encoder(name, weights=None)
    first = next(iter(weights))
    with pytest.raises(RuntimeError, match="Missing key"):
        encoder.load_state_dict({key: value for key, value in weights.items() if key != first})


def test_an_encoder_that_cannot_be_had_falls_back_in_one_line(monkeypatch, capsys):
    from segmentation_models_pytorch import encoders as smps

    real = smps.get_encoder

    def offline(name, weights=None, **more):
        if weights:
            raise OSError("no route to huggingface.co and no copy here")
        return real(name, weights=weights, **more)

    monkeypatch.setattr(smps, "get_encoder", offline)
    name, weights = imagenet_encoder("efficientnet-b3")
    assert name == "tu-tf_efficientnet_lite0"
    assert len(weights) > 200
    said = capsys.readouterr()
    assert said.err == ""
    assert said.out.splitlines()[-1] == (
        "The weights of efficientnet-b3 cannot be had here (no route to huggingface.co): the "
        "lesson goes on with lite0, whose weights came with the course."
    )
    with pytest.raises(CourseError, match=r"smp has no encoder 'b3'.*efficientnet-b3"):
        imagenet_encoder("b3")


def test_the_normalisation_is_inside_of_the_net():
    net = Normalised(nn.Identity())
    x = torch.rand(2, 3, 4, 5)
    wanted = v2.functional.normalize(x, [0.485, 0.456, 0.406], [0.229, 0.224, 0.225])
    torch.testing.assert_close(net(x), wanted)
    assert set(net.state_dict()) == {"mean", "std"}


@pytest.mark.process
def test_marked_cells_need_neither_smp_nor_timm():
    """The grader runs them in a process of its own: seconds a hand-in are saved."""
    code = [f"import os, sys; os.chdir({str(NOTEBOOK.parent)!r})"]
    for cell in CELLS.values():
        if cell.cell_type == "code" and "show" not in cell.metadata.get("tags", []):
            code.append(cell.source)
    heavy = {"segmentation_models_pytorch", "timm", "fastai"}
    code.append(f"print({heavy} & {{name.split('.')[0] for name in sys.modules}})")
    done = subprocess.run(
        [sys.executable, "-c", "\n\n".join(code)],
        capture_output=True,
        text=True,
        env={**os.environ, "NBGRADER_EXECUTION": "autograde", "COURSE_STATIC": "1"},
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.splitlines()[-1] == "set()"
    assert done.stderr == ""


# --- what the text says, without training


def cell(number):
    return CELLS[number].source


def test_a_cut_of_logits_at_one_half_asks_for_062():
    assert round(1 / (1 + math.exp(-0.5)), 2) == 0.62
    assert "a probability of 0.62" in cell("accuracy-why")


def test_nobody_is_right_at_three_pixels_of_four():
    task = get_task("people", "quick")
    masks = load(task.data, "valid", size=task.size, count=40).masks
    assert 0.72 < (masks == 0).mean() < 0.79


def test_the_bounds_leave_the_floor_far_below():
    for profile in ("quick", "full"):
        task = get_task("people", profile)
        assert task.judged == ("person",)
        assert all(side % 32 == 0 for side in task.size), "smp wants multiples of 32"
        assert task.floor <= task.high / 2


# --- under full


@pytest.mark.slow
def test_the_notebooks_own_cells_train_on_the_supervisely_layout(tmp_path):
    """As a student with a GPU runs them, but for epochs, pictures, and the encoder offline."""
    make_supervisely(tmp_path / "data")
    changes = {
        "BATCH = 16 if quick else 64": "BATCH = 8",
        "EPOCHS = 7 if quick else 10": "EPOCHS = 1",
        "chosen = [4, 9, 18]": "chosen = [0, 1, 2]",
        "valid.images[9], valid.masks[9], logits[9, 0]": (
            "valid.images[1], valid.masks[1], logits[1, 0]"
        ),
    }
    names = [*CELLS][: [*CELLS].index("export") + 1]
    code = "\n\n".join(CELLS[name].source for name in names if CELLS[name].cell_type == "code")
    for before, after in changes.items():
        assert before in code
        code = code.replace(before, after)
    code += textwrap.dedent(
        """
        assert train.name == "supervisely_person" and SIZE == (256, 192), (train, SIZE)
        assert model(torch.rand(2, 3, *SIZE)).shape == (2, 2, *SIZE)
        assert len(history) == 1
        print("trained", history)
        """
    )
    script = tmp_path / NAME / "run.py"
    script.parent.mkdir()
    script.write_text(code)
    done = subprocess.run(
        [sys.executable, script],
        capture_output=True,
        text=True,
        cwd=script.parent,
        env=os.environ
        | {"COURSE_PROFILE": "full", "COURSE_DATA": str(tmp_path / "data"), "COURSE_STATIC": "1"}
        | {"HF_HUB_OFFLINE": "1", "HF_HOME": str(tmp_path / "hub"), "CUDA_VISIBLE_DEVICES": ""},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert "The weights of efficientnet-b3 cannot be had here" in done.stdout
    assert "All keys matched successfully" in done.stdout
    assert "trained 1 epochs" in done.stdout
    assert (script.parent / "models" / "people.onnx").is_file()


# --- the notebook as it was run


@pytest.fixture(scope="module")
def run(solved):
    """Each cell's printed text and the texts that stand for its figures, by cell id."""
    return executed(solved(NAME), NAME)


def numbers(text):
    return [float(number) for number in re.findall(r"-?\d+\.\d+", text)]


@pytest.mark.slow
def test_solve_08_has_all_marks_in_memory(run):
    assert not run.result.failures
    assert run.result.marks == run.result.points
    assert run.result.peak_bytes < 4e9


@pytest.mark.slow
def test_the_models_are_as_good_as_the_bounds_ask_on_an_unseen_seed(run):
    for task in run.result.tasks.values():
        assert task["iou"] >= task["high"]
        assert task["floor"] <= task["iou"] / 2


@pytest.mark.slow
def test_nothing_floods_the_output_or_goes_to_stderr(run, solved):
    for one in nbformat.read(solved(NAME).folder / f"{NAME}.ipynb", as_version=4).cells:
        for out in one.get("outputs", []):
            assert out.get("name") != "stderr", (one["id"], out["text"][:200])
        assert run.texts[one["id"]].count("\n") < 40, one["id"]


@pytest.mark.slow
def test_all_keys_of_the_encoder_were_loaded(run):
    assert "All keys matched successfully" in run.texts["net"]


@pytest.mark.slow
def test_the_mean_over_batches_is_too_low_and_lowest_for_single_pictures(run):
    whole, *averaged = numbers(run.texts["dice-figure"])
    assert averaged[0] == min(averaged)
    assert averaged[0] < whole - 0.01
    assert max(averaged) <= whole + 0.0011


@pytest.mark.slow
def test_an_untrained_net_is_sure_and_wrong(run):
    loss, accuracy, dice = numbers(run.texts["untrained"])
    assert loss > 0.69
    assert accuracy < 0.8
    assert dice < 0.4


@pytest.mark.slow
def test_it_learns_and_half_is_near_the_best_cut(run):
    loss, _, accuracy, dice = [
        numbers(line) for line in run.texts["train"].splitlines() if line.startswith("epoch")
    ][-1]
    assert accuracy > 0.85
    assert dice > 0.7
    assert loss < 0.4
    _, at_half, _, best = numbers(run.texts["cut"])[:4]
    assert best - at_half < 0.02


@pytest.mark.slow
def test_the_two_lies_and_the_rotation_are_what_the_image_of_itself_shows(run):
    shares = [float(n) for n in re.findall(r"at +([\d.]+)%", run.texts["misaligned-figure"])]
    flip, alone, by_luck, shift, rotated, crop = shares
    assert flip == shift == crop == 0
    assert 0.35 * alone < by_luck < 0.65 * alone
    assert 1 < rotated < 8
    assert alone > 40


@pytest.mark.slow
def test_masks_resized_smoothly_are_what_the_text_says(run):
    others, strange = re.findall(
        r"([\d.]+)% (?:of the labels are others|are no class)", run.texts["mask-figure"]
    )
    assert 11 < float(others) < 14
    assert 0.5 < float(strange) < 4
    assert re.search(r"mean IoU of 0\.(6[5-9]|7[0-4])", run.texts["mask-figure"])


@pytest.mark.slow
def test_a_lie_costs_dice_and_raises_nothing(run):
    none, flip, alone = (
        numbers(re.search(rf" {name}: ([\d., ]+)", run.texts["lies-train"])[1])[-1]
        for name in ("none", "flip", "flip, image alone")
    )
    assert alone < none - 0.02
    assert alone < flip - 0.02


@pytest.mark.slow
def test_a_split_at_random_flatters_who_only_remembers(run):
    (near, copied), (far, honest) = (
        (float(a), float(b))
        for a, b in re.findall(
            r"image (\d+) grey .*mean IoU of ([\d.]+)", run.texts["audit-figure"]
        )[:2]
    )
    assert near < 0.7 * far
    assert 0.6 < copied < 0.7
    assert honest < 0.2
    assert get_task("unet", "quick").floor == 0.32
