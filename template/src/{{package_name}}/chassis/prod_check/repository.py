"""What lies in the repository: no secret, a lock file, tests that cover the code, dependencies without known holes."""

from __future__ import annotations

import json
import re
import shutil
import stat
import sys
from pathlib import Path
from typing import Any

from pydantic import SecretStr

from .row import Finding, Row, Subject, last_line, not_checked, verdict

_PRIVATE = re.compile(r"(^|/)(\.env(\..+)?|.+\.(pem|key|p12|pfx))$")
_FORMS = re.compile(r"(^|/)\.env(\..+)?\.example$")
# A shorter value is found everywhere by chance.
_SHORTEST_SECRET = 8


def _tracked(subject: Subject) -> list[str] | None:
    """Return the files that git knows, or None where there is no repository."""
    if shutil.which("git") is None:
        return None
    done = subject.run("git", "ls-files", "-z")
    return done.stdout.rstrip("\0").split("\0") if done.returncode == 0 else None


def _secret_values(settings: Any) -> list[str]:
    """Return the values of all secrets; of one that is a URL, its password too."""
    values = [getattr(settings, name) for name in type(settings).model_fields]
    secrets = [value.get_secret_value() for value in values if isinstance(value, SecretStr)]
    passwords = [found[1] for secret in secrets if (found := re.match(r"[\w+]+://[^:/@]*:([^@]+)@", secret))]
    return [value for value in secrets + passwords if len(value) >= _SHORTEST_SECRET]


def _no_secret(subject: Subject) -> Finding:
    tracked = _tracked(subject)
    if tracked is None:
        return not_checked("there is no git repository here")
    private = [name for name in tracked if _PRIVATE.search(name) and not _FORMS.search(name)]
    if private:
        return verdict(False, f"git knows {', '.join(private)}")
    secrets = _secret_values(subject.settings) if subject.settings else []
    if secrets:
        # By standard input: what stands on a command line can be read by every process.
        found = subject.run(
            "git", "grep", "--files-with-matches", "--fixed-strings", "-f", "-", text="\n".join(secrets)
        )
        if found.stdout:
            return verdict(False, f"the value of a secret stands in {', '.join(found.stdout.split())}")
    return verdict(True, f"{len(tracked)} files in git, none of them private, none with one of {len(secrets)} secrets")


def _private_form(subject: Subject) -> Finding:
    forms = [path for path in (subject.folder / ".env", subject.folder / ".env.production") if path.is_file()]
    if not forms:
        return not_checked("settings do not come from a file here")
    readable = [path.name for path in forms if path.stat().st_mode & (stat.S_IRGRP | stat.S_IROTH)]
    names = ", ".join(path.name for path in forms)
    return verdict(not readable, f"{', '.join(readable)} can be read by others" if readable else f"{names}: owner only")


def _lock(subject: Subject) -> Finding:
    tracked = _tracked(subject)
    if tracked is None:
        return not_checked("there is no git repository here")
    return verdict("uv.lock" in tracked, f"uv.lock is {'' if 'uv.lock' in tracked else 'not '}in git")


def _coverage(subject: Subject) -> Finding:
    if not subject.is_checkout:
        return not_checked("the source does not lie here")
    data = subject.folder / ".coverage"
    if not data.is_file():
        return verdict(False, "the tests have not been run here")
    newer = [p for p in (subject.folder / "src").rglob("*.py") if p.stat().st_mtime > data.stat().st_mtime]
    if newer:
        return verdict(False, f"{newer[0].relative_to(subject.folder)} is newer than the last run of the tests")
    done = subject.run(sys.executable, "-m", "coverage", "report", "--format=total")
    return verdict(
        done.returncode == 0, f"{done.stdout.strip()} % covered" if done.returncode == 0 else last_line(done)
    )


def _audit(subject: Subject) -> Finding:
    uv = shutil.which("uv") or str(subject.folder / ".tools" / "bin" / "uv")
    if not (subject.is_checkout and Path(uv).exists()):
        return not_checked("this needs uv, and the source")
    site_packages = next(path for path in sys.path if path.endswith("site-packages"))
    done = subject.run(uv, "tool", "run", "--quiet", "pip-audit", "--format", "json", "--path", site_packages)
    try:
        return judge_audit(json.loads(done.stdout))
    except ValueError:
        return not_checked(f"no service for it can be reached: {last_line(done)[-200:]}")


def judge_audit(report: Any) -> Finding:
    """Judge a report of pip-audit: `{"dependencies": [{name, version, vulns: [{id}]} or {name, skip_reason}]}`."""
    audited = [package for package in report["dependencies"] if "skip_reason" not in package]
    if not audited:
        return not_checked("no service for it can be reached: none of the dependencies is known to it")
    holes = [f"{package['name']} {hole['id']}" for package in audited for hole in package["vulns"]]
    return verdict(not holes, ", ".join(holes) or f"{len(audited)} dependencies without a known hole")


ROWS = (
    Row(
        "secrets",
        6,
        "No secret is in the repository",
        "take it out of git and its history, and make a new one: it is known",
        _no_secret,
    ),
    Row("private-settings", 2, "The files of settings are their owner's alone", "chmod 600 .env*", _private_form),
    Row("lock", 3, "Dependencies are locked", "run `make setup`, and commit uv.lock", _lock),
    Row("coverage", 8, "Tests cover what pyproject.toml demands", "run `make test`, and mend what it says", _coverage),
    Row("audit", 5, "No dependency has a known hole", "run `uv lock --upgrade`, and what is named above all", _audit),
)
