"""The production checklist as a command: every row is tried for real, and answers with evidence or a remedy.

A service's own rows come from its features: one that has `production_rows()` adds them.
"""

from __future__ import annotations

from collections.abc import Sequence

from . import container, process, repository, settings
from .row import Row

ROWS: Sequence[Row] = (*settings.ROWS, *repository.ROWS, *container.ROWS, *process.ROWS)
