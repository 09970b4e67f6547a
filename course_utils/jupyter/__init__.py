"""What the course adds to JupyterLab: settings, and a Validate button that fits its lessons.

nbgrader's own runs the notebook inside of the server, which answers nobody meanwhile. Here, the
button starts a process (:mod:`course_utils.jupyter.validate`) and waits for it.
"""


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "course_utils.jupyter"}]


def _load_jupyter_server_extension(server) -> None:
    """Answer the button, before nbgrader does."""
    from jupyter_server.utils import url_path_join

    from course_utils.jupyter.handler import ValidateHandler

    # Extensions are loaded by their names, and the first handler of an address is taken.
    address = url_path_join(server.web_app.settings["base_url"], "/assignments/validate")
    server.web_app.add_handlers(".*$", [(address, ValidateHandler, {"root": server.root_dir})])


async def _start_jupyter_server_extension(server) -> None:
    """When all extensions are loaded, of which jupytext puts another contents manager in place."""
    from course_utils.jupyter.language import tell_language

    tell_language(server.web_app.settings["contents_manager"])
