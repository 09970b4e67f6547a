"""Cells that only show something: a figure, an experiment, a widget to play with.

A lesson tags them ``show``: no mark and no cell that counts needs them. So marking and Validate
leave them out, and are done in a third of the time. A student may still come to need one, with an
answer that uses a name which such a cell has made; then it runs.
"""

import ast
import re
import warnings

SHOW = "show"
"""The tag, in ``metadata.tags`` of a solution's cell and of the cell that is released."""
TRAIN = "train"
"""Beside ``show``: the cell trains or exports, and a lesson marks its model file alone. So marking
need not import what it trains with; who only wants the model runs these cells, too."""
_MOST_CHARACTERS = 50_000
_BY_NAME = {"eval", "exec", "getattr", "get_ipython", "globals", "locals", "vars"}
_LINE_OF_IPYTHON = re.compile(r"^\s*[%!?].*$|^.*\?\s*$", re.MULTILINE)


def left_out(cells: list[dict], lesson: list[dict]) -> list[int]:
    """Return which cells need not run, by their place in ``cells``.

    Parameters
    ----------
    cells
        Of a student's notebook; its nbgrader metadata can be trusted, no other.
    lesson
        Of the lesson, whose tags count.

    Returns
    -------
    list of int
        Cells with the text of one that is tagged, after the same marked cell as there, which
        make no name that a cell reads which runs. A cell that nbgrader knows is never one.
    """
    tagged = {
        (section, _source(cell))
        for section, cell in _sections(lesson)
        if SHOW in cell.get("metadata", {}).get("tags", [])
    }
    out = {
        place
        for place, (section, cell) in enumerate(_sections(cells))
        if _grade_id(cell) is None
        and cell["cell_type"] == "code"
        and (section, _source(cell)) in tagged
    }
    names = {
        place: names_of(_source(cell))
        for place, cell in enumerate(cells)
        if cell["cell_type"] == "code"
    }
    while True:
        read = set().union(*(names[place][0] for place in names if place not in out))
        needed = {place for place in out if names[place][1] & read}
        if not needed:
            return sorted(out)
        out -= needed


def _sections(cells: list[dict]):
    """Yield each cell with the grade id of the last marked cell or exercise before it."""
    section = None
    for cell in cells:
        yield section, cell
        section = _grade_id(cell) or section


def _grade_id(cell: dict) -> str | None:
    return cell.get("metadata", {}).get("nbgrader", {}).get("grade_id")


def _source(cell: dict) -> str:
    return "".join(cell["source"]).rstrip()


def names_of(source: str) -> tuple[set[str], set[str]]:
    r"""Return the names that a cell reads and has not made itself, and those that it makes.

    To make is also to change by an index: ``claims["otsu"] = 107`` makes ``claims``. What cannot
    be read as Python might read and make every word in it.

    >>> read, made = names_of("total = sum(share)\ntotal += rest")
    >>> sorted(read), sorted(made)
    (['rest', 'share', 'sum'], ['total'])
    """
    words = set(re.findall(r"\w+", source))
    if len(source) > _MOST_CHARACTERS:
        return words, words
    scope = _Scope()
    try:
        with warnings.catch_warnings(action="ignore"):  # of a student's escape sequences
            scope.visit(ast.parse(_LINE_OF_IPYTHON.sub("", source)))
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        return words, words
    read = scope.read
    for line in _LINE_OF_IPYTHON.findall(source):
        read.update(re.findall(r"\w+", line))
    return (words if read & _BY_NAME else read), scope.made | scope.changed


class _Scope(ast.NodeVisitor):
    """Walks code in the order in which it runs.

    ``read`` are the names from outside, ``made`` its own, ``changed`` those whose parts it sets.
    """

    def __init__(self, known: set[str] = frozenset()):
        self.read: set[str] = set()
        self.made: set[str] = set()
        self.changed: set[str] = set()
        self._known = set(known)

    def _make(self, name: str | None) -> None:
        if name:
            self.made.add(name)
            self._known.add(name)

    def _visit_all(self, *parts) -> None:
        for part in parts:
            for node in part if isinstance(part, list) else [part]:
                if node is not None:
                    self.visit(node)

    def visit_Name(self, node):
        if not isinstance(node.ctx, ast.Load):
            self._make(node.id)
        elif node.id not in self._known:
            self.read.add(node.id)

    def _change(self, node):
        root = node
        while isinstance(root, ast.Attribute | ast.Subscript):
            root = root.value
        if isinstance(root, ast.Name) and not isinstance(node.ctx, ast.Load):
            self.changed.add(root.id)
        self.generic_visit(node)

    visit_Attribute = visit_Subscript = _change

    def visit_Assign(self, node):
        self._visit_all(node.value, node.targets)

    def visit_AnnAssign(self, node):
        self._visit_all(node.annotation, node.value)
        if node.value:
            self.visit(node.target)

    def visit_AugAssign(self, node):
        if isinstance(node.target, ast.Name):
            self.visit_Name(ast.Name(node.target.id, ast.Load()))
        self._visit_all(node.value, node.target)

    def visit_NamedExpr(self, node):
        self._visit_all(node.value, node.target)

    def visit_For(self, node):
        self._visit_all(node.iter, node.target, node.body, node.orelse)

    visit_AsyncFor = visit_For

    def _perhaps(self, node):
        known = set(self._known)
        self.generic_visit(node)
        self._known = known  # it may not have run

    visit_If = visit_While = visit_Try = visit_TryStar = visit_Match = _perhaps

    def _import(self, node):
        for alias in node.names:
            self._make(alias.asname or alias.name.split(".")[0])

    visit_Import = visit_ImportFrom = _import

    def _named(self, node):
        self._make(node.name)
        self.generic_visit(node)

    visit_ExceptHandler = visit_MatchAs = visit_MatchStar = _named

    def visit_MatchMapping(self, node):
        self._make(node.rest)
        self.generic_visit(node)

    def _function(self, node):
        arguments = node.args
        self._visit_all(getattr(node, "decorator_list", []), getattr(node, "returns", None))
        self._visit_all(arguments.defaults, arguments.kw_defaults)
        own = {one.arg for one in ast.walk(arguments) if isinstance(one, ast.arg)}
        body = node.body if isinstance(node.body, list) else [node.body]
        inner = _Scope(self._known | own)
        inner._visit_all(body)
        shared = {n for one in ast.walk(node) if isinstance(one, ast.Global) for n in one.names}
        local = own | inner.made - shared  # wherever in it: only what is left is from outside
        self.read |= inner.read - local
        self.changed |= inner.changed - local
        self.made |= shared
        self._make(getattr(node, "name", None))

    visit_FunctionDef = visit_AsyncFunctionDef = visit_Lambda = _function

    def visit_ClassDef(self, node):
        self._visit_all(node.decorator_list, node.bases, node.keywords)
        inner = _Scope(self._known)
        inner._visit_all(node.body)
        self.read |= inner.read
        self.changed |= inner.changed
        self._make(node.name)

    def _comprehension(self, node):
        first = node.generators[0].iter
        self.visit(first)
        targets = [one.target for one in node.generators]
        own = {n.id for one in targets for n in ast.walk(one) if isinstance(n, ast.Name)}
        inner = _Scope(self._known | own)
        for field in ("elt", "key", "value"):
            inner._visit_all(getattr(node, field, None))
        for number, one in enumerate(node.generators):
            inner._visit_all(one.ifs, one.iter if number else None)
        self.read |= inner.read

    visit_ListComp = visit_SetComp = visit_DictComp = visit_GeneratorExp = _comprehension
