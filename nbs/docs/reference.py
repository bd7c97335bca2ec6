"""What the site needs beside Sphinx's own: docments as a table of parameters, docstrings as they are written, formulas.

Docments are the comments behind parameters (`fastcore.docments`). Docstrings here are plain text with code between
backticks. Formulas become MathML, which browsers set themselves: no script and no font has to be fetched.
"""

import inspect
import re
from itertools import groupby

from fastcore.docments import docments
from latex2mathml.converter import convert

EMPTY = inspect.Parameter.empty


def restructured(text: str) -> str:
    "A docstring's line as reStructuredText: code between backticks, all else as it stands."
    parts = re.split(r"(`[^`]+`)", text)
    words = [f"`{part}`" if k % 2 else re.sub(r"([\\*|`_])", r"\\\1", part) for k, part in enumerate(parts)]
    return "\\ ".join(words)  # an escaped space is none: so code may stand beside a letter


CODE_BLOCK, ITEM = re.compile(r"\s{2,}\S|>>> "), re.compile(r"(-|\d+\.) ")


def docstring(lines: list[str]) -> list[str]:
    "A docstring as reStructuredText: what is indented, and a session, is code; the second lines of items are not."
    shown = []
    for is_blank, group in groupby(lines, lambda line: not line.strip()):
        group = list(group)
        first = next((k for k, line in enumerate(group) if CODE_BLOCK.match(line)), len(group))
        first = len(group) if is_blank or ITEM.match(group[0]) else first
        shown += map(restructured, group[:first])
        if code := group[first:]:
            shown += ["", "::", "", *(f"    {line}" for line in code), ""]
    return shown


def typed(anno) -> str:
    "A type as a reader would write it."
    if anno in (EMPTY, None, type(None)):  # the last is what fastcore makes of a default of None
        return ""
    words = anno if isinstance(anno, str) else inspect.formatannotation(anno)
    return re.sub(r"\b(?:\w+\.)+(\w+)", r"\1", words)


def rows_of(thing) -> list[tuple[str, str, str]]:  # Name, type, words
    "Parameters of a function or class that say something of themselves; what it returns comes last."
    try:
        found = docments(thing, full=True, returns=not inspect.isclass(thing))
    except (TypeError, ValueError, SyntaxError, OSError):  # without a signature or source
        return []
    rows = []
    for name, about in found.items():
        words, kind = about.get("docment") or "", typed(about.get("anno"))
        if name not in ("self", "cls") and (words or kind):
            rows.append(("returns" if name == "return" else name, kind, " ".join(words.split())))
    return rows if any(words for *_, words in rows) else []


def table(rows: list[tuple[str, str, str]]) -> list[str]:
    "Lines of a table."
    lines = ["", ".. list-table::", "   :class: docments", "   :header-rows: 1", ""]
    for name, kind, words in [("Parameter", "Type", "What it is"), *rows]:
        code = kind and name != "Parameter"
        cells = [name if name in ("Parameter", "returns") else f"``{name}``", f"``{kind}``" if code else kind]
        lines += [f"   {'  ' if k else '* '}- {cell}".rstrip() for k, cell in enumerate([*cells, restructured(words)])]
    return [*lines, ""]


SECTIONS = ("Parameters", "Returns", "Examples")


def without_tables(lines: list[str]) -> list[str]:
    "A docstring without what `musicmtl.docstrings` has appended: the table says it."
    kept, section = [], ""
    for k, line in enumerate(lines):
        follows = lines[k + 1] if k + 1 < len(lines) else ""
        if line in SECTIONS and follows == "-" * len(line):
            section = line
        elif section != "Parameters" and section != "Returns" and set(line) != {"-"}:
            kept.append(line)
    return kept


def describe(app, what, name, thing, options, lines: list[str]) -> None:
    "Sphinx's event: the docstring of an object."
    lines[:] = docstring(without_tables(lines))
    if what in ("function", "method", "class", "exception") and (rows := rows_of(thing)):
        lines += table(rows)


TAG = re.compile(r"\\tag\{(.*?)\}")


def formula(text: str, display: str) -> str:
    "A formula as MathML, with the number that it has in its paper."
    number = TAG.search(text)
    mark = f'<span class="equation">({number[1]})</span>' if number else ""
    return convert(TAG.sub("", text).strip(), display=display) + mark


def inline_formula(self, node) -> None:
    from docutils.nodes import SkipNode

    self.body.append(formula(node.astext(), "inline"))
    raise SkipNode


def displayed_formula(self, node) -> None:
    from docutils.nodes import SkipNode

    self.body.append(f'<div class="formula">{formula(node.astext(), "block")}</div>')
    raise SkipNode


def setup(app) -> dict:
    app.connect("autodoc-process-docstring", describe)
    app.add_html_math_renderer("mathml", (inline_formula, None), (displayed_formula, None))
    return {"parallel_read_safe": True, "parallel_write_safe": True}
