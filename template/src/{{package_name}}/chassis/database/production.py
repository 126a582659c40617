"""What the database adds to the production checklist."""

from __future__ import annotations

import sys

from ..prod_check.row import Finding, Row, Subject, last_line, verdict


def _migrations(subject: Subject) -> Finding:
    if subject.settings is None:
        return verdict(False, "cannot be told before the settings are valid")
    done = subject.run(sys.executable, "-m", subject.package, "migrate", "check")
    return verdict(done.returncode == 0, "models and database agree" if done.returncode == 0 else last_line(done))


ROWS = (
    Row(
        "migrations",
        8,
        "The database has the schema of this release, and the schema is what the models say",
        "run `migrate` with these settings; for models that have changed, write a revision first",
        _migrations,
    ),
)
