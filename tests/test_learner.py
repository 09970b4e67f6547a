"""A fastai learner in a task: kept an epoch at a time, resumed, refused, exported, loaded."""

import dataclasses
import json
import sys
import warnings
from pathlib import Path

import pytest

from course_utils.data import load
from course_utils.data.camvid_files import training_files, write_layout
from course_utils.errors import CourseError
from course_utils.hand_in.gate import Refused, check_model_bytes, check_model_file
from course_utils.hand_in.tasks import get_task


def setup_module():
    global class_shares, code_groups, encoders, export, History, nn, predict, Shipped, torch
    global train_once
    import torch
    from torch import nn

    from course_utils.hand_in.export import export
    from course_utils.models import encoders
    from course_utils.models.shipped import Shipped, class_shares, code_groups
    from course_utils.training import History, predict, train_once


pytestmark = pytest.mark.long
SIZE = (32, 48)


def narrow(pretrained=True):
    """Return a small encoder with a stem, as lite0 has one."""
    layers = [nn.Sequential(nn.Conv2d(3, 8, 3, 2, 1, bias=False), nn.BatchNorm2d(8), nn.ReLU())]
    layers += [nn.Conv2d(8, 8, 3, 1, 1), nn.Conv2d(8, 12, 3, 2, 1), nn.Conv2d(12, 12, 3, 1, 1)]
    return nn.Sequential(*layers, nn.Conv2d(12, 16, 3, 2, 1), nn.Conv2d(16, 16, 3, 1, 1))


@pytest.fixture(scope="module")
def fastai():
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import fastai.vision.all

    return fastai.vision.all


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    place = tmp_path_factory.mktemp("files") / "set"
    parts = [load("scenes", name, size=SIZE, count=n) for name, n in (("train", 9), ("valid", 4))]
    write_layout(place, *parts)
    return place


@pytest.fixture
def task(monkeypatch):
    """The task of lesson 07 on small pictures."""
    small = dataclasses.replace(get_task("fastai_unet", "quick"), size=SIZE, valid=4, low=0.33)
    for module in ("course_utils.training.train_once", "course_utils.hand_in.export"):
        monkeypatch.setattr(sys.modules[module], "get_task", lambda name: small)
    return small


@pytest.fixture
def make(fastai, folder, tmp_path, monkeypatch, task):
    """Return a function that makes a learner, in a lesson's folder."""
    place = tmp_path / "07_fastai_unet"
    place.mkdir()
    monkeypatch.chdir(place)
    monkeypatch.delenv("NBGRADER_EXECUTION", raising=False)
    names = (folder / "codes.txt").read_text().split()
    listed = (folder / "valid.txt").read_text().split()

    void = names.index("Void")

    def learner(codes=names, ignore=void, encoder=narrow):
        fastai.set_seed(0)
        block = fastai.DataBlock(
            blocks=(fastai.ImageBlock, fastai.MaskBlock(codes)),
            get_items=training_files,
            get_y=lambda file: folder / "labels" / f"{file.stem}_P.png",
            splitter=fastai.FuncSplitter(lambda file: file.name in listed),
            batch_tfms=[
                *fastai.aug_transforms(max_rotate=0, max_warp=0),
                fastai.Normalize.from_stats(*fastai.imagenet_stats),
            ],
        )
        dls = block.dataloaders(folder, bs=3, num_workers=0)
        return fastai.unet_learner(
            dls,
            encoder,
            cut=nn.Identity(),
            splitter=encoders.layer_groups,
            loss_func=fastai.CrossEntropyLossFlat(axis=1, ignore_index=ignore),
            path=Path(),
        )

    return learner


def cycle(epochs, **more):
    return lambda learn, kept: learn.fit_one_cycle(epochs, 1e-3, cbs=[kept, *more.values()])


def weights_of(learn):
    return torch.cat([weight.detach().flatten() for weight in learn.model.state_dict().values()])


def test_a_learner_is_trained_once_and_then_loaded(make, capfd):
    history = train_once("fastai_unet", make(), cycle(2), part="1 frozen")
    assert isinstance(history, History)
    assert len(history) == 2
    assert Path("models/fastai_unet.1-frozen.checkpoint.pt").is_file()
    again = make()
    assert train_once("fastai_unet", again, cycle(2), part="1 frozen") == history
    out, err = capfd.readouterr()
    assert out.count("Already trained, loaded from") == 1
    # two trainings of two epochs: the lines of one, and two tables
    assert out.count("\n") < 20, "progress bars flood the output"
    assert err == "", "text on stderr costs marks"


def test_an_interrupted_training_ends_as_if_it_had_not_been(make):
    whole = make()
    train_once("fastai_unet", whole, cycle(3), part="whole")

    from fastai.callback.core import Callback

    class Stop(Callback):
        order = 90

        def __init__(self, epoch):
            self.at = epoch

        def after_batch(self):
            if self.learn.epoch == self.at:
                raise KeyboardInterrupt

    stopped = make()
    for epoch in (0, 2):  # in the very first one, too
        told = rf"stopped in epoch {epoch + 1}; .* run this again to go on"
        with pytest.raises(CourseError, match=told):
            train_once("fastai_unet", stopped, cycle(3, stop=Stop(epoch)), part="cut")
    # once more in the same session, and once more after a restart
    for learn in (stopped, make()):
        train_once("fastai_unet", learn, cycle(3), part="cut")
        record = json.loads(Path("models/fastai_unet.json").read_text())
        assert len(record["parts"]["cut"]["train_loss"]) == 3
        assert torch.allclose(weights_of(learn), weights_of(whole), atol=1e-5)


def test_changed_settings_start_anew_and_keep_the_old_checkpoint(make, capsys):
    train_once("fastai_unet", make(), cycle(1), part="1")
    train_once(
        "fastai_unet", make(), lambda learn, kept: learn.fit_one_cycle(1, 2e-3, cbs=kept), part="1"
    )
    assert "other rates, max_lr: training starts anew" in capsys.readouterr().out
    assert len([*Path("models").glob("*1.checkpoint*.pt")]) == 2


def test_the_record_tells_of_all_parts_and_forgets_what_came_after_a_new_one(make):
    learn = make()
    train_once("fastai_unet", learn, cycle(1), part="1")
    learn.unfreeze()
    history = train_once("fastai_unet", learn, cycle(2), part="2")
    assert len(history) == 3
    record = json.loads(Path("models/fastai_unet.json").read_text())
    assert [len(one["train_loss"]) for one in record["parts"].values()] == [1, 2]
    assert record["epochs"] == 3
    other = make()
    assert len(train_once("fastai_unet", other, cycle(2), part="1")) == 2
    assert [*json.loads(Path("models/fastai_unet.json").read_text())["parts"]] == ["1"]


def test_the_random_numbers_of_the_notebook_go_on_as_before(make):
    learn = make()
    torch.manual_seed(5)
    before = torch.get_rng_state()
    train_once("fastai_unet", learn, cycle(1), part="1")
    assert torch.equal(torch.get_rng_state(), before)


def test_frozen_weights_stay_and_batch_norm_moves(make):
    learn = make()
    learn.freeze()
    body = learn.model.layers[0]
    conv, norm = body[1].weight.detach().clone(), body[0][1].weight.detach().clone()
    train_once("fastai_unet", learn, cycle(1), part="1")
    assert torch.equal(body[1].weight, conv)
    assert not torch.equal(body[0][1].weight, norm)


def test_a_training_that_keeps_nothing_is_told(make):
    with pytest.raises(CourseError, match="give fit_one_cycle cbs=kept"):
        train_once("fastai_unet", make(), lambda learn, kept: learn.fit_one_cycle(1, 1e-3))


def test_a_loss_that_counts_void_is_refused(make):
    with pytest.raises(CourseError, match="the loss counts void pixels: ignore_index is -100, and"):
        train_once("fastai_unet", make(ignore=-100), cycle(1))


def test_a_mask_block_without_codes_is_told(make):
    with pytest.raises((CourseError, AssertionError), match=r"codes|n_out"):
        train_once("fastai_unet", make(codes=None), cycle(1))


@pytest.mark.parametrize("platform", ["win32", "darwin"])
def test_workers_on_windows_and_macos_are_refused(make, monkeypatch, platform):
    learn = make()
    monkeypatch.setattr("course_utils.training.learner.sys.platform", platform)
    assert len(train_once("fastai_unet", learn, cycle(1))) == 1
    monkeypatch.setattr(learn.dls.train.fake_l, "num_workers", 2)
    with pytest.raises(CourseError, match=r"num_workers is 2: on Windows and macOS.*num_workers=0"):
        train_once("fastai_unet", learn, cycle(1))


def test_memory_that_runs_out_is_told_with_what_to_do(make):
    from fastai.callback.core import Callback

    class Full(Callback):
        def before_batch(self):
            raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB")

    with pytest.raises(CourseError, match=r"memory ran out with batch_size=3 at 32x48.*=1"):
        train_once("fastai_unet", make(), cycle(1, full=Full()))


def test_a_loss_of_nan_is_told(make):
    with pytest.raises(CourseError, match=r"(?i)nan|diverged") as refusal:
        train_once(
            "fastai_unet", make(), lambda learn, kept: learn.fit_one_cycle(2, 1e12, cbs=kept)
        )
    assert "\n" not in str(refusal.value)


# --- what is handed in


@pytest.fixture
def exported(make, task):
    """A learner that was trained, its net as handed in, and what it is for."""
    learn = make()
    history = train_once("fastai_unet", learn, cycle(1), part="1")
    from course_utils.training.learner import codes_of

    model = Shipped(learn.model, codes_of(learn), task.classes).eval()
    export("fastai_unet", model, history)
    return learn, model


def test_a_learner_and_its_bare_net_are_not_what_is_handed_in(exported):
    learn, _ = exported
    for given in (learn, learn.model):
        with pytest.raises(CourseError, match=r"Give Shipped\(learn\.model, codes, classes\)"):
            export("fastai_unet", given)


def test_the_model_file_gives_what_the_learner_gives(exported, task):
    learn, model = exported
    check_model_file("models/fastai_unet.onnx", task)
    valid = task.load("valid")
    logits, _ = learn.get_preds()
    logits[:, -1] = -1e9  # void is no answer
    found = torch.as_tensor(predict(model, valid.images))
    assert (logits.argmax(1) == found).float().mean() > 0.999


def test_in_grading_the_weights_come_from_the_model_file(exported, make, monkeypatch, capsys):
    learn, _ = exported
    fresh = make()
    with torch.no_grad():
        for weight in fresh.model.parameters():
            weight.mul_(0)
    monkeypatch.setenv("NBGRADER_EXECUTION", "autograde")

    def fails(learn, kept):
        raise AssertionError("a training under the grader")

    history = train_once("fastai_unet", fresh, fails, part="1")
    assert len(history) == 1
    assert "No training here: the weights come from" in capsys.readouterr().out
    assert torch.allclose(weights_of(fresh), weights_of(learn), atol=1e-3)


def test_the_learner_or_its_bare_net_is_refused_with_what_to_give(make):
    learn = make()
    for given in (learn, learn.model):
        with pytest.raises(CourseError, match=r"Give Shipped\(learn.model, codes, classes\)"):
            export("fastai_unet", given)


def test_what_fastai_exports_is_refused(make, task):
    learn = make()
    learn.export("learner.pkl")
    content = Path("learner.pkl").read_bytes()
    with pytest.raises(Refused, match=r"pickle .*learn.export.*runs code when loaded") as refusal:
        check_model_bytes(content, task, "models/fastai_unet.onnx")
    assert "export(" in str(refusal.value)


def test_codes_of_one_class_add_their_probabilities():
    groups = code_groups(["Car", "Void", "Truck_Bus", "Road"], ["road", "car"])
    logits = torch.log(torch.tensor([0.3, 0.1, 0.2, 0.4]))[None, :, None, None]
    shares = class_shares(logits, groups[:, :, None, None]).flatten()
    assert torch.allclose(shares, torch.tensor([0.4, 0.5]))


def test_codes_of_another_set_are_refused():
    with pytest.raises(CourseError, match="names 'Cat', which is none of road"):
        code_groups(["Road", "Cat"], ["road"])
    with pytest.raises(CourseError, match="has nothing for car"):
        code_groups(["Road", "Void"], ["road", "car"])


# --- encoders


def test_lite0_has_the_weights_of_imagenet_and_knows_a_cat():
    import timm
    from skimage import data
    from torchvision.transforms.functional import center_crop, resize

    net = timm.create_model("tf_efficientnet_lite0", pretrained=False).eval()
    encoders._fill(net, encoders._weights())
    image = torch.from_numpy(data.chelsea()).permute(2, 0, 1)
    image = center_crop(resize(image, 224, antialias=True), 224) / 255
    with torch.no_grad():
        answers = net(((image - 0.498) / 0.502)[None])[0].topk(3).indices.tolist()
    assert set(answers) <= {281, 282, 283, 284, 285}, "ImageNet's cats"
    body = encoders.lite0()
    assert torch.equal(body[0][0].weight, net.conv_stem.weight)
    assert sum(weight.numel() for weight in body.parameters()) == 2_958_848


def test_a_file_of_weights_that_was_changed_is_refused(monkeypatch, tmp_path):
    (tmp_path / encoders._FILE).write_bytes(b"other")

    class Place(type(Path())):
        def locate(self):
            return tmp_path / encoders._FILE

    monkeypatch.setattr(encoders.metadata, "files", lambda name: [Place(encoders._FILE)])
    with pytest.raises(CourseError, match=r"not the file that was checked.*--force-reinstall"):
        encoders.lite0()
    monkeypatch.setattr(encoders.metadata, "files", lambda name: [])
    with pytest.raises(CourseError, match="is not here; install it again"):
        encoders.lite0()


def test_where_resnet_cannot_be_had_a_line_says_so_and_lite0_is_taken(monkeypatch, tmp_path, capfd):
    def offline(*_, **__):
        print("Downloading", file=sys.stderr)
        raise OSError("Name or service not known")

    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setattr(encoders, "resnet34", offline)
    assert encoders.choose_encoder("resnet34") is encoders.lite0
    out, err = capfd.readouterr()
    assert "cannot be had here (Name or service not known): the lesson goes on with lite0" in out
    assert err == ""
    assert encoders.choose_encoder("lite0") is encoders.lite0
    with pytest.raises(CourseError, match=r"no encoder 'vgg'\. There are: lite0, resnet34"):
        encoders.choose_encoder("vgg")


def test_groups_hold_every_weight_once(make):
    learn = make(encoder=encoders.lite0)
    groups = encoders.layer_groups(learn.model)
    assert len(groups) == 3
    flat = [id(weight) for group in groups for weight in group]
    assert sorted(flat) == sorted(id(weight) for weight in learn.model.parameters())
    assert len(groups[0]) < len(groups[1])
