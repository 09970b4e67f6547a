"""What a net must return: logits, one score a class and pixel, ``(B, C, H, W)``.

Of patches, which have one class each, ``(B, C)``.
Training, export and the grader's gate look at it, and say the same of what it is not.
"""

from collections.abc import Sequence

Side = int | str | None


def shape_fault(found: Sequence[Side], wanted: Sequence[Side], of: str) -> str | None:
    """Return what is wrong with the shape of logits and how to cure it; None if nothing is.

    Parameters
    ----------
    found
        Sides of the output; None where a model file does not say.
    wanted
        ``(B, C, H, W)``, or ``(B, C)``; a text, such as ``"C"``, where any number will do.
    of
        What has the C classes, such as ``"the task 'unet'"``.

    Examples
    --------
    >>> shape_fault((2, 96, 128), (2, 10, 96, 128), "the task 'unet'")
    'gives (2, 96, 128); wanted are logits (2, 10, 96, 128). Return the scores of all classes, not \
their argmax.'
    """
    if len(found) == len(wanted) and all(map(_fits, found, wanted)):
        return None
    classes, size = wanted[1], wanted[2:]
    if len(found) > len(wanted) == 2:
        cure = "A patch has one class, that of its centre: flatten the maps before the last layer."
    elif len(found) == len(wanted) - 1:
        cure = "Return the scores of all classes, not their argmax."
    elif len(found) != len(wanted):
        cure = f"Keep the {len(wanted)} axes of a batch."
    elif size and _fits(found[3], classes) and not _fits(found[1], classes):
        cure = "The classes must be axis 1, as Conv2d gives them: leave out the permute."
    elif not _fits(found[1], classes):
        cure = (
            f"It has {found[1]} outputs, {of} has {classes} classes: the last layer must have "
            f"{classes} output channels, one a class."
        )
    else:
        cure = (
            f"Height and width must come out as they went in, {size[0]} x {size[1]}: check padding "
            "and upsampling, and bring the logits back up to it."
        )
    return f"gives {shape_text(found)}; wanted are logits {shape_text(wanted)}. {cure}"


def _fits(found: Side, wanted: Side) -> bool:
    return found is None or isinstance(wanted, str) or found == wanted


def shape_text(shape: Sequence[Side]) -> str:
    """Return a shape for a message; of very many sides the first.

    >>> shape_text([None, 10, 96, 128])
    '(batch, 10, 96, 128)'
    """
    sides = ["batch" if side is None else str(side) for side in shape[:6]]
    return f"({', '.join(sides + ['...'] * (len(shape) > 6))})"
