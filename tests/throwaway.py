"""Small templates of a few files, to pin what Copier does and to rehearse what a release may do."""

import shutil
from collections.abc import Mapping
from pathlib import Path

from releases import commit

Contents = Mapping[str, str | bytes]

# One question for whatever a test wants to vary, and a file that remembers the answers.
QUESTIONS = """_subdirectory: template
choice: {type: str, default: a, choices: [a, b]}
on_a: {type: str, when: false, default: "{{ '.' if choice == 'a' else '' }}"}
on_b: {type: str, when: false, default: "{{ '.' if choice == 'b' else '' }}"}
on_deep: {type: str, when: false, default: "."}
"""
ANSWERS = {"template/{{ _copier_conf.answers_file }}.jinja": "{{ _copier_answers | to_nice_yaml }}"}


def release(template: Path, version: str, files: Contents, settings: str = "") -> Path:
    """Release a template that consists of exactly these files."""
    for old in template.glob("*") if template.exists() else ():
        if old.name != ".git":
            shutil.rmtree(old) if old.is_dir() else old.unlink()
    everything: dict[str, str | bytes] = {**ANSWERS, **files, "copier.yml": QUESTIONS + settings}
    for path, text in everything.items():
        (template / path).parent.mkdir(parents=True, exist_ok=True)
        (template / path).write_bytes(text if isinstance(text, bytes) else text.encode())
    commit(template, version, version)
    return template
