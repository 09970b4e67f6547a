"""nbgrader's feedback page, with a language, landmarks, enough contrast, and pictures that fit."""

from typing import ClassVar

from jinja2 import BytecodeCache
from nbconvert.exporters import HTMLExporter

# nbgrader's template has these colours from Bootstrap 3 and Pygments, on grey: on white they do.
_STYLE = """
.output_subarea img { max-width: 100%; height: auto; }
div.input_area, .rendered_html pre, .rendered_html code { background: #fff; }
div.output_area pre, div.input_area pre, .rendered_html pre {
  white-space: pre-wrap; overflow-wrap: anywhere; }
a { color: #1f5fa8; text-decoration: underline; }
a.anchor-link { display: none; }
.nbgrader_cell .panel-heading a, .nbgrader_cell .panel-heading code { color: #fff !important; }
.nbgrader_cell .panel-heading code { background: #123d6d; }
.panel-primary > .panel-heading { background: #1f5fa8 !important; }
.highlight .c1, .highlight .ch, .highlight .cm { color: #2f6666; }
.highlight .ow { color: #8500d1; }
.highlight .si { color: #8f4061; } .highlight .ne { color: #b3261e; }
.output_area span[style*="95,135,135"] { color: #3f6767 !important; }
.output_area span[style*="0,135,0"] { color: #006b00 !important; }
"""


class _Compiled(BytecodeCache):
    """Templates that this process, or the one that it was forked from, has compiled before."""

    _kept: ClassVar[dict[str, bytes]] = {}

    def load_bytecode(self, bucket) -> None:
        if bucket.key in self._kept:
            bucket.bytecode_from_string(self._kept[bucket.key])

    def dump_bytecode(self, bucket) -> None:
        self._kept[bucket.key] = bucket.bytecode_to_string()


class FeedbackExporter(HTMLExporter):
    """Renders a marked notebook for its student."""

    def _create_environment(self):
        environment = super()._create_environment()
        environment.bytecode_cache = _Compiled()
        return environment

    def from_notebook_node(self, nb, resources=None, **options):
        """Return the page and the resources, as nbconvert does."""
        page, resources = super().from_notebook_node(nb, resources, **options)
        head, _, body = page.partition("</head>")
        head = head.replace("<html>", '<html lang="en">', 1) + f"<style>{_STYLE}</style>\n</head>"
        heading = '<div class="panel-heading"'
        body = body.replace(heading, f'{heading} role="banner"', 1)
        return head + body, resources


def rehearse() -> None:
    """Make a small page: then the pages of this process, and of its forks, take half the time."""
    from nbformat import v4
    from nbgrader.converters import GenerateFeedback
    from traitlets.config import Config

    from course_utils.grading.marking.plain_markdown import plain_markdown

    config = Config({"HTMLExporter": {"filters": {"markdown2html": plain_markdown}}})
    exporter = FeedbackExporter(config=GenerateFeedback(config=config).config)
    marked = {"grade_id": "a", "grade": True, "solution": False, "score": 1.0, "points": 1.0}
    outputs = [
        v4.new_output("stream", text="1"),
        v4.new_output("execute_result", data={"text/plain": "1"}),
        v4.new_output("error", ename="E", evalue="e", traceback=["\x1b[31mE\x1b[0m"]),
    ]
    source = "def f(x):\n    return f'{x}' or 1.0  # a comment"
    cells = [v4.new_markdown_cell("# A *title*"), v4.new_code_cell(source, outputs=outputs)]
    cells.append(v4.new_code_cell(source, metadata={"nbgrader": marked}))
    told = {"notebook": "a", "score": 1.0, "max_score": 1.0, "late_penalty": 0}
    exporter.from_notebook_node(v4.new_notebook(cells=cells), resources={"nbgrader": told})
