"""Exercises whose answer is a network: a class that a student writes.

A network is checked by what it holds (which layers, with which settings) and by what it does: hooks
record what each layer is given, so that a message can say "you added where you should concatenate"
instead of "wrong shape". What must hold is a table, message -> predicate of what was
:class:`Observed`; the first that does not hold is told. At the end stand facts that lessons share.
"""

import inspect
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn

from course_utils.checks import CheckFailed, explain, require
from course_utils.checks.cards import way_on
from course_utils.checks.exercise import Case, Exercise

_NO_SUPER = {
    r"before Module\.__init__|super-class of type": "call super().__init__() before any layer"
}


class Build(Case):
    """What a network is built with, and the shapes of what it is ``given``.

    ``draw`` makes an input of a shape (``torch.rand`` for images in [0, 1]); ``seed`` is that of
    inputs and weights. ``says`` is said before what is wrong here and not in the first case.
    """

    def __init__(self, *arguments, given=(), says="", draw=torch.randn, seed=0, **options):
        super().__init__(*arguments, says=says, **options)
        self.given, self.draw, self.seed = given, draw, seed

    def __str__(self) -> str:
        options = [f"{key}={value}" for key, value in self.options.items()]
        return f"({', '.join([*map(str, self.arguments), *options])})"


class Observed:
    """A student's network in train mode, and what was seen of it until now; KeyError: not seen.

    Attributes
    ----------
    module, case : the network, and what it was built with
    inputs : list of tensors that ask for a gradient; the module is given copies
    calls : how often forward called each layer
    given, made : what each layer was given, a tuple, and returned, at its first call
    """

    def __init__(self, name: str, answer: Callable, case: Build):
        self.name, self.case = name, case
        self.build = lambda: answer(*case.arguments, **case.options)
        self.calls, self.given, self.made = Counter(), {}, {}
        with explain(f"{name}{case} stops", _NO_SUPER):
            self.module = self.build()
        require(self.module is not None, f"{name}{case} returns None: is its `return` missing?")
        told = f"{name} makes a {type(self.module).__name__}; it must be a class {name}(nn.Module)."
        require(isinstance(self.module, nn.Module), told)
        self.module.train()
        self.inputs = [case.draw(shape).requires_grad_() for shape in case.given]

    def run(self, causes: Mapping[str, str]) -> None:
        """Run the module once; of a run that stops, what came before is known."""
        copies, layers = [x.clone() for x in self.inputs], self.all(nn.Module)
        hooks = [x.register_forward_pre_hook(self._before, with_kwargs=True) for x in layers]
        hooks += [x.register_forward_hook(self._after) for x in layers[1:]]
        shapes = " and ".join(map(str, self.case.given))
        try:
            with torch.enable_grad(), explain(f"{self.name} stops on input {shapes}", causes):
                output = self.module(*copies)
        finally:
            for hook in hooks:
                hook.remove()
        forward, kind = f"{self.name}.forward", type(output)
        require(output is not None, f"{forward} returns None: is its `return` missing?")
        require(issubclass(kind, torch.Tensor), f"{forward} returns a {kind.__name__}, no tensor.")
        told = f"{forward} changes what it is given: make a new tensor, no += and no inplace=True."
        require(all(map(torch.equal, copies, self.inputs)), told)
        self.made[self.module] = output  # with its graph

    def _before(self, layer: nn.Module, given: tuple, named: dict) -> None:
        if named:  # in the order of forward's own arguments
            given = inspect.signature(layer.forward).bind(*given, **named).args
        self.calls[layer] += 1
        self.given.setdefault(layer, tuple(map(_now, given)))

    def _after(self, layer: nn.Module, given: tuple, output: Any) -> None:
        self.made.setdefault(layer, _now(output))

    @property
    def output(self) -> torch.Tensor:
        """What the network returned."""
        return self.made[self.module]

    @property
    def ended(self) -> bool:
        """True, once the network has run to its end."""
        return self.output is not None

    def all(self, kind: type) -> list:
        """Return the registered layers of a kind, each once, in the order of registration."""
        return [layer for layer in self.module.modules() if isinstance(layer, kind)]

    def called(self, kind: type) -> list:
        """Return the layers of a kind in the order in which forward called them."""
        return [layer for layer in self.calls if isinstance(layer, kind)]

    def gradients(self) -> dict[str, torch.Tensor | None]:
        """Return the gradient at each parameter and input (``"input 0"``); None: none came."""
        at = dict(self.module.named_parameters())
        at |= {f"input {number}": x for number, x in enumerate(self.inputs)}
        asked = {name: x for name, x in at.items() if x.requires_grad}
        loss = self.output.square().mean()
        slopes = torch.autograd.grad(loss, [*asked.values()], allow_unused=True, retain_graph=True)
        return dict.fromkeys(at) | dict(zip(asked, slopes, strict=True))


def _now(value: Any) -> Any:
    """Return a tensor as it is now: a later layer may work in place."""
    return value.detach().clone() if isinstance(value, torch.Tensor) else value


@dataclass(frozen=True, kw_only=True)
class NetExercise(Exercise):
    """A network that a student writes as a class: how it is checked.

    ``cases`` are :class:`Build`; what is wrong in a later one only was hard-coded, or is what that
    case says. ``facts`` map a message to a predicate of :class:`Observed`: it returns True, or
    what was found, for ``{found}`` in the message, or is a generator of what is wrong. They are
    looked at in order, and those that ask for what was not seen yet wait: for calls of layers
    until the network has run or stopped, for its output until it has run. ``lends`` is the class
    that a student may go on with; no answer may hold one.
    """

    form: str = "one tensor"
    right: Callable | None = None
    lends: type | None = None

    def _try(self, answer: Any, case: Build, *, tell: bool = True) -> None:
        with torch.random.fork_rng(devices=[]):  # leaves the notebook's random numbers alone
            torch.manual_seed(int(case.seed))
            try:
                seen = Observed(self.name, answer, case)
                if self.lends:
                    require(not seen.all(self.lends), f"{self.name} holds the course's own.")
                self._look(seen)
                try:
                    seen.run(self.causes if case is self.cases[0] else {})
                except CheckFailed:  # what the layers were given says more, where it is wrong
                    self._look(seen)
                    raise
                self._look(seen)
            except CheckFailed as failure:
                if case is self.cases[0]:
                    raise
                does = f"{self.name}{case} does not work, {self.name}{self.cases[0]} does"
                raise CheckFailed(f"{case.says or does + ': hard-coded?'} {failure}") from None

    def _own(self) -> Callable:
        return self.lends

    def _way_on(self) -> str:
        return way_on(self.name) if self.lends else ""

    def _look(self, seen: Observed) -> None:
        unknown = ""
        for says, fact in self.facts.items():
            says = says.replace("{name}", self.name)
            with explain(f"looking at what {self.name} does stops"):
                try:
                    found = fact(seen)
                    found = next(found, True) if inspect.isgenerator(found) else found
                except KeyError:
                    found, unknown = True, unknown or says
            require(found is True, says.replace("{found}", str(found)))
        # after a whole run, what is unknown does not hold
        require(not unknown or seen.module not in seen.made, unknown.replace("{found}", "nothing"))


# --- facts that lessons share --------------------------------------------------------------------


def every(kind: type, **settings) -> Callable[[Observed], Any]:
    """Return a predicate: each layer of a kind has these settings."""
    return lambda o: (
        f"{key} {value}"
        for layer in o.all(kind)
        for key, wanted in settings.items()
        if (value := getattr(layer, key)) != wanted
    )


def alike(a: torch.Tensor, b: torch.Tensor) -> bool:
    """Tell whether shape and values agree, to 1e-4: an output's with those of a reference."""
    return a.shape == b.shape and torch.allclose(a, b, atol=1e-4)


def size(wanted: Callable[[Observed], tuple], hint: str = "") -> dict[str, Callable]:
    """Return the fact of an output's shape; borders that a kernel has lost are named."""

    def other(o: Observed) -> Any:
        found, full = tuple(o.output.shape), wanted(o)
        lost = {a - b for a, b in zip(full[2:], found[2:], strict=False)}
        if found[:2] == full[:2] and len(lost) == 1 and (n := lost.pop()) > 0 and n % 2 == 0:
            full = f"{full}. It loses {n // 2} pixel(s) a side: a 3x3 kernel needs padding=1"
        if found != full:
            yield f"{found}; wanted {full}"

    return {f"{{name}} gives shape {{found}}. {hint}".strip(): other}


def _unregistered(o: Observed) -> Any:
    seen = set(o.module.modules())
    for held in (value for module in seen for key, value in vars(module).items() if key[0] != "_"):
        layers = held.values() if isinstance(held, dict) else held
        if isinstance(held, (list, tuple, dict)):
            yield from (x for x in layers if isinstance(x, nn.Module) and x not in seen)


REGISTERED = {
    "{name} keeps its layers in a plain Python list: PyTorch does not see them, so .parameters() "
    "lacks theirs, and they would be neither trained nor saved. Use nn.ModuleList.": _unregistered,
    "{name} holds no nn.Conv2d: make the layers in __init__ and keep them as attributes, self.name "
    "= ... (one made in forward is new at each call).": lambda o: bool(o.all(nn.Conv2d)),
}
NO_DROPOUT = {
    "{name} holds a {found}: no value is dropped here; variants go in a class beside.": lambda o: (
        type(x).__name__ for x in o.all(nn.Module) if "Dropout" in type(x).__name__
    )
}
EACH_CALLED_ONCE = {
    "{name} calls the same {found} times: its uses share one set of weights. Two layers are "
    "needed, an object each.": lambda o: (
        f"{type(x).__name__} object {o.calls[x]}"
        for x in o.all(nn.Module)
        if o.calls[x] > 1 and [*x.parameters()]
    ),
    "{name} makes a {found} that forward never calls: it gets no gradient.": lambda o: (
        type(x).__name__
        for x in o.all(nn.Module)
        if o.ended and [*x.parameters()] and not any(o.calls[part] for part in x.modules())
    ),
}
SCORES = {
    "the classes sum to 1 at each pixel: there is a softmax in the network. Cross-entropy applies "
    "it itself; twice flattens the gradients. Return logits.": lambda o: (
        not torch.allclose(o.output.sum(dim=1), torch.ones(()), atol=1e-3)
    )
}
GRADIENTS = {
    "no gradient can flow back through {name}: no torch.no_grad() and no detach() in forward.": (
        lambda o: o.output.requires_grad
    ),
    "{found} gets no gradient: what is returned does not depend on it.": lambda o: (
        name for name, slope in o.gradients().items() if slope is None
    ),
}
