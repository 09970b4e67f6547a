"""Nets that are wrapped for training, and the plain net inside."""

import copy
from collections.abc import Iterator

from torch import nn
from torch.nn.parallel import DataParallel, DistributedDataParallel
from torch.nn.parameter import is_lazy
from torch.optim.swa_utils import AveragedModel


def unwrapped(module: nn.Module) -> nn.Module:
    """Return the net without ``torch.compile``, DataParallel and AveragedModel, at any depth.

    Weights are shared with ``module``, which stays as it is; their names are those of the plain
    net, so that a file written from the one can be read into the other.
    """
    while (inner := _inside(module)) is not None:
        module = inner
    children = dict(module._modules.items())
    plain = {name: None if child is None else unwrapped(child) for name, child in children.items()}
    # net.forward = torch.compile(net.forward): it would go on computing with the first net.
    compiled = hasattr(vars(module).get("forward"), "_torchdynamo_orig_callable")
    if not compiled and all(plain[name] is child for name, child in children.items()):
        return module
    twin = copy.copy(module)
    twin._modules = plain
    if compiled:
        del twin.forward
    return twin


def _inside(module: nn.Module) -> nn.Module | None:
    if isinstance(module, (DataParallel, DistributedDataParallel, AveragedModel)):
        return module.module
    return getattr(module, "_orig_mod", None)  # torch.compile; its class is private


def never_run(module: nn.Module) -> Iterator[str]:
    """Give the lazy layers that have no weights yet, such as ``head (LazyConv2d)``."""
    for name, layer in module.named_modules():
        own = (*layer.parameters(recurse=False), *layer.buffers(recurse=False))
        if any(map(is_lazy, own)):
            yield f"{name} ({type(layer).__name__})" if name else type(layer).__name__
