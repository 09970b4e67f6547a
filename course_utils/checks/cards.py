"""What a check answers in a notebook: a small card, and in the place of a traceback one line.

A card has two forms: HTML, and plain text for front ends without it. Under the grader and
nbgrader's Validate button there are no cards: text and exceptions are what they always were.
"""

import html
import re
import sys
from collections import Counter
from typing import Any

from course_utils import progress
from course_utils.execution import run_by

_LOOK = {  # sign, word, and a colour that is legible on both themes
    "passed": ("✓", "passed", "#22925a"),
    "refused": ("✗", "not yet right", "#d9480f"),
    "stub": ("○", "still a stub", "#808080"),
    "lent": ("○", "lent", "#808080"),
}
_failures: Counter[str] = Counter()
"""How often each exercise was refused in this kernel, since it last passed."""


def in_notebook() -> bool:
    """Return whether a student looks on, through a front end that shows cards."""
    return run_by() == "student" and hasattr(_shell(), "kernel")


def _shell() -> Any:
    get_ipython = getattr(sys.modules.get("IPython"), "get_ipython", None)
    return get_ipython() if get_ipython else None


def in_checks(exercise: str) -> str:
    """Return an exercise's name in its lesson's checks; its test cell is ``test_`` and that name.

    >>> in_checks("ConvLayer"), in_checks("class_at")
    ('conv_layer', 'class_at')
    """
    return re.sub(r"(?<=[a-z])(?=[A-Z])", "_", exercise).lower()


def way_on(exercise: str) -> str:
    """Return the line of code that takes the course's own answer.

    >>> way_on("ConvBlock")
    'ConvBlock = checks.conv_block.lent()'
    """
    return f"{exercise} = checks.{in_checks(exercise)}.lent()"


def passed(exercise: str, learnt: str) -> None:
    """Tell of a passed check on a card, or in a line such as ``✓ ConvLayer: the size stays``."""
    _failures.pop(exercise, None)
    standing = progress.note(f"test_{in_checks(exercise)}", True)
    if in_notebook():
        _show("passed", exercise, learnt, standing)
    else:
        print(f"✓ {exercise}: {learnt}")


def refused(error: Exception, exercise: str, line: str = "") -> None:
    """Note that a check refuses an answer; ``error`` then brings its card along."""
    _failures[exercise] += 1
    hints = [] if _failures[exercise] < 2 else ["Two hints lie folded under the stub."]
    if hints and line:
        hints.append(f"To go on without it for now: `{line}` in a new cell. It earns no points.")
    error.card = exercise, hints, progress.note(f"test_{in_checks(exercise)}", False)


def lent(error: Exception, exercise: str) -> None:
    """Say of an answer that it is the course's own: on a card, which stops no cell below.

    Raises
    ------
    CheckFailed
        ``error``, wherever no student looks on.
    """
    standing = progress.note(f"test_{in_checks(exercise)}", False)
    if not in_notebook():
        raise error
    _show("lent", exercise, str(error), standing)


def rendered(error: Exception, kind: str) -> list[str]:
    """Show an exception's card, if it has one; return the line that stands for a traceback."""
    name, text = type(error).__name__, str(error)
    if not hasattr(error, "card") or not in_notebook():
        return [f"{name}: {text}"]
    exercise, hints, standing = error.card
    if not getattr(error, "card_shown", False):  # IPython asks twice
        error.card_shown = True
        _show(kind, exercise, text, standing, hints)
    return [f"{name}: {exercise}, see the card above."]


def _show(kind: str, exercise: str, text: str, standing: Any, hints: list[str] = ()) -> None:
    from IPython.display import display

    lines = [*hints, *([f"This lesson: {standing}."] if standing else [])]
    plain = "\n".join([f"{_LOOK[kind][0]} {exercise}: {text}", *lines])
    display({"text/plain": plain, "text/html": _html(kind, exercise, text, lines)}, raw=True)


def _html(kind: str, exercise: str, text: str, lines: list[str]) -> str:
    """Return a card: theme's own colours for text, and a sign and a word beside the colour."""
    sign, word, colour = _LOOK[kind]
    small = "".join(f'<div style="margin-top: 0.3em">{_marked(line)}</div>' for line in lines)
    return (
        f'<div role="group" aria-label="Check of {html.escape(exercise)}: {word}" '
        'class="course-card" style="font-family: var(--jp-content-font-family, sans-serif); '
        f"font-size: 1em; line-height: 1.45; max-width: 54em; margin: 0.2em 0; "
        f'padding: 0.3em 0.9em; border-left: 5px solid {colour}">'
        f'<div><b><span style="color: {colour}">{sign}</span> '
        f"{html.escape(exercise)}</b> · {word}</div>"
        f'<div style="margin-top: 0.3em">{_marked(text)}</div>'
        f'<div style="font-size: 0.92em; opacity: 0.85">{small}</div></div>'
    )


def _marked(text: str) -> str:
    """Return text as HTML, with what stands between backticks as code."""
    return re.sub(r"`([^`]+)`", r"<code>\1</code>", html.escape(text, quote=False))


def shorten_stubs(place: Any, is_stub: Any) -> None:
    """Have this kernel tell a stub that a cell runs into in one line, where a traceback would be.

    ``place(error)`` returns what raised it; ``is_stub(error)`` whether it is a stub's.
    """
    if not in_notebook():
        return

    def told(shell: Any, kind: type, error: BaseException, trace: Any, tb_offset=None) -> None:
        if is_stub(error) and not hasattr(error, "_render_traceback_"):
            where = place(error)
            text = str(error) or (
                "this cell holds a stub: write its code."
                if where == "<module>"
                else f"{where} is still a stub: write its code, then run its check."
            )
            error._render_traceback_ = lambda: [f"{kind.__name__}: {text}"]
        shell.showtraceback((kind, error, trace), tb_offset=tb_offset)

    _shell().set_custom_exc((NotImplementedError,), told)
