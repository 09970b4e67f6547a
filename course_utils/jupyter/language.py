"""An opened lesson is not marked as changed.

A lesson is released without the version of Python, which is another on each machine. JupyterLab
writes it into the notebook that it opens, and so asks a reader who has only looked whether to
save. Here the notebook has it when it is read; the file does not change.
"""

import inspect
import sys

_KERNEL = "python3"
LANGUAGE = {
    "codemirror_mode": {"name": "ipython", "version": 3},
    "file_extension": ".py",
    "mimetype": "text/x-python",
    "name": "python",
    "nbconvert_exporter": "python",
    "pygments_lexer": "ipython3",
    "version": sys.version.split()[0],
}
"""What the kernel will say of itself."""


def tell_language(contents) -> None:
    """Have a server's contents manager give notebooks with the language of this Python."""
    get = contents.get

    def get_with_language(*args, **options):
        model = get(*args, **options)
        return _later(model) if inspect.isawaitable(model) else _complete(model)

    contents.get = get_with_language


async def _later(model) -> dict:
    return _complete(await model)


def _complete(model: dict) -> dict:
    """Add the language to a notebook's model, if it has none of its own."""
    content = model.get("content")
    if model.get("type") == "notebook" and content:
        metadata = content["metadata"]
        known = metadata.get("language_info", {})
        if metadata.get("kernelspec", {}).get("name") == _KERNEL and set(known) <= {"name"}:
            metadata["language_info"] = dict(LANGUAGE)
    return model
