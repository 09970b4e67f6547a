"""Runs in the student's kernel before each test cell: brings the course's checks back.

A kernel belongs to whoever runs code in it, so nothing in here can bind an
attacker who reads this file. It undoes and names what a hurried cheat does:
rebinding ``checks``, patching a check or a metric, emptying test cells,
replacing how the shell runs a cell.
"""

import importlib
import inspect
import linecache
import sys
from types import FunctionType, ModuleType

_FRESH = "course_utils.checks"
_HIDDEN = "BEGIN HIDDEN TESTS"


def arm(namespace: dict, lesson: str, token: str) -> None:
    """Import the checks afresh, bind ``checks`` again, tell ``token`` and what was tampered with.

    A cell may have replaced ``print`` or ``sys.stdout``: the token does not go through them.

    Parameters
    ----------
    namespace
        The notebook's globals.
    lesson
        Full name, such as ``06_unet_from_scratch``.
    token
        Told first: a test cell whose output lacks it did not run as written.
    """
    found = tampered()
    _forget_later()
    for name in [name for name in sys.modules if name.startswith(_FRESH)]:
        del sys.modules[name]
    importlib.invalidate_caches()
    try:
        fresh = importlib.import_module(f"course_utils.checks.lesson_{lesson[:2]}")
    except ModuleNotFoundError:  # a lesson whose test cells need no checks
        fresh = None
    if fresh is not None:
        bound = namespace.get("checks", fresh)
        if getattr(bound, "__file__", None) != fresh.__file__:
            found.append("the name checks")
        namespace["checks"] = fresh
    _tell("".join(f"{line}\n" for line in (token, *(f"{token}!{name}" for name in found))))


def _forget_later() -> None:
    """After this cell take the text of hidden tests out of what a later cell could read it from."""
    if (shell := _shell()) is None or not hasattr(shell, "events"):
        return

    def forget(result) -> None:
        shell.events.unregister("post_run_cell", forget)
        for name, entry in list(linecache.cache.items()):
            if any(_HIDDEN in line for line in entry[2] if len(entry) > 2):
                del linecache.cache[name]
        result.info.raw_cell = result.info.transformed_cell = ""
        for name in ("last_exc", "last_type", "last_value", "last_traceback"):
            vars(sys).pop(name, None)

    shell.events.register("post_run_cell", forget)


def _tell(text: str) -> None:
    """Send text to the notebook as printed, past whatever a cell has made of printing."""
    kernel = getattr(_shell(), "kernel", None)
    if kernel is None:
        print(text, end="", flush=True)
    else:
        kernel.send_response(kernel.iopub_socket, "stream", {"name": "stdout", "text": text})


def tampered() -> list[str]:
    """Return names in ``course_utils`` and in IPython's shell that are not what was installed."""
    found = []
    for module_name, module in list(sys.modules.items()):
        if module_name.startswith("course_utils") and isinstance(module, ModuleType):
            for name, value in list(vars(module).items()):
                owners = [(name, value)]
                if inspect.isclass(value) and value.__module__ == module_name:
                    owners = [(f"{name}.{key}", item) for key, item in vars(value).items()]
                found += [f"{module_name}.{key}" for key, item in owners if _foreign(item)]
    return sorted(set(found)) + _hooks() + _methods()


def _foreign(value: object) -> bool:
    """Tell whether a function was written in a cell and not in a file."""
    value = getattr(value, "__func__", value)
    if not isinstance(value, FunctionType):
        return False
    path = value.__code__.co_filename
    return path.startswith("<ipython-input") or "ipykernel_" in path


def _shell() -> object | None:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython() if get_ipython else None


def _methods() -> list[str]:
    """Name the shell's methods that a cell has replaced; those of the shell itself are undone."""
    if (shell := _shell()) is None:
        return []
    found = [name for name, value in vars(shell).items() if _foreign(value)]
    for name in found:
        delattr(shell, name)
    for owner in type(shell).__mro__:
        found += [name for name, value in vars(owner).items() if _foreign(value)]
    return [f"IPython's {name}" for name in sorted(set(found))]


def _hooks() -> list[str]:
    if (shell := _shell()) is None:
        return []
    from IPython.core.inputtransformer2 import TransformerManager

    manager = shell.input_transformer_manager
    plain = TransformerManager()
    hooked = (
        shell.ast_transformers
        or len(manager.cleanup_transforms) != len(plain.cleanup_transforms)
        or len(manager.line_transforms) != len(plain.line_transforms)
        or shell.input_transformers_post
    )
    shell.ast_transformers.clear()
    shell.input_transformers_post.clear()
    return ["IPython's input transformers"] if hooked else []
