"""Markdown to HTML without anything that a browser would run.

nbconvert trusts a notebook's markdown, and so does nbgrader: in the feedback page, and in
formgrader inside of the instructor's Jupyter. Here a student has written it.
"""

from jinja2 import pass_context
from nbconvert.filters.markdown_mistune import InvalidNotebook, IPythonRenderer, MarkdownWithMath


class _PlainRenderer(IPythonRenderer):
    """Show HTML as text; pictures that were pasted into a cell stay."""

    def block_mermaidjs(self, code: str) -> str:
        return self.block_code(code)

    def _embed_image_or_attachment(self, src: str) -> str:
        try:
            return super()._embed_image_or_attachment(src)
        except InvalidNotebook:  # the text was copied from another cell, its picture was not
            return src


@pass_context
def plain_markdown(context, text: str) -> str:
    """Return a cell's or a comment's markdown as HTML; the Jinja filter ``markdown2html``."""
    cell = context.get("cell") or {}
    renderer = _PlainRenderer(
        escape=True, allow_harmful_protocols=False, attachments=cell.get("attachments", {})
    )
    # Of links in formulas nbconvert's page takes care: it loads MathJax with its extension Safe.
    return MarkdownWithMath(renderer=renderer).render(text)
