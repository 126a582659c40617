"""Messages from templates of Jinja: a text with its subject, and HTML."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, TemplateNotFound

from . import Message


class Templates:
    """The templates in a folder.

    `deal.txt` has the subject in its first line, and the text below. `deal.html` is optional; values in it are escaped.
    A missing value is an error, so that no message has a gap.
    """

    def __init__(self, folder: Path) -> None:
        self._environment = Environment(
            loader=FileSystemLoader(folder),
            autoescape=lambda name: name is not None and name.endswith(".html"),
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )

    def message(self, name: str, /, *, email: str = "", phone: str = "", **values: Any) -> Message:
        """Render `name.txt`, and `name.html` if it exists.

        Raises:
            jinja2.TemplateError: A template is missing or invalid, or a value is missing.
            ValueError: The message is too large, or an address is invalid.
        """
        subject, _, text = self._environment.get_template(f"{name}.txt").render(values).strip().partition("\n")
        try:
            html = self._environment.get_template(f"{name}.html").render(values)
        except TemplateNotFound as error:
            if error.name != f"{name}.html":  # a template that this one includes
                raise
            html = ""
        return Message(subject, text.strip(), html, email, phone)
