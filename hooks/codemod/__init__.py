"""Rewrites Python code from the names of one release to those of the next; its layout and comments stay.

`Facts` finds out what the expressions of a file stand for. `Plan` and `Literals` rename what is certain and report what
only looks like a use of a renamed thing. `Rewriter` does what the plan says.
"""

from __future__ import annotations

import libcst as cst
from libcst.metadata import MetadataWrapper

from .facts import Facts
from .literals import Literals
from .plan import Plan
from .rewriter import Rewriter
from .source import Note, Source
from .table import Place, Table, read

__all__ = ["Note", "Place", "Source", "Table", "read", "rewrite"]


def rewrite(code: str, source: Source, table: Table) -> tuple[str, list[Note]]:
    """Return the code with the names of the next release, and what its owner has to see to."""
    try:
        wrapper = MetadataWrapper(cst.parse_module(code), unsafe_skip_copy=True)
    except cst.ParserSyntaxError as error:
        return code, [Note(source.path, error.raw_line, "this is not valid Python: correct it, and run this again")]
    plan = Plan(Facts(source, table, wrapper))
    wrapper.module.visit(plan)
    wrapper.module.visit(Literals(plan))
    return wrapper.module.visit(Rewriter(plan)).code, plan.notes
