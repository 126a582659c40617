"""A type of HTML that browsers may show: nh3 removes scripts, styles, event handlers and unknown elements."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import nh3
from pydantic_core import PydanticCustomError

from .text import TextType

_TAGS = frozenset(
    {"a", "b", "blockquote", "br", "code", "em", "h2", "h3", "h4", "hr", "i", "li", "ol", "p", "pre", "s", "strong"}
    | {"sub", "sup", "table", "tbody", "td", "th", "thead", "tr", "u", "ul"}
)
_URL_SCHEMES = {"http", "https", "mailto"}


@dataclass(frozen=True)
class CleanHtml(TextType):
    """HTML with only these elements. Their only attributes are `href` and `title` of links.

    Args:
        max_length: The maximum number of characters, before and after the cleaning.
        tags: The allowed elements; the contents of others stay, except those of `script` and `style`.
    """

    max_length: int
    tags: frozenset[str] = _TAGS

    def check(self, value: str) -> str:
        cleaned = value
        if len(value) <= self.max_length:
            cleaned = nh3.clean(
                value, tags=set(self.tags), attributes={"a": {"href", "title"}}, url_schemes=_URL_SCHEMES
            )
        if len(cleaned) > self.max_length:  # escaped characters and `rel` of links make it longer
            raise PydanticCustomError(
                "html_too_long", "The HTML has more than {max_length} characters.", {"max_length": self.max_length}
            )
        return cleaned

    def json_schema(self) -> dict[str, Any]:
        return {"maxLength": self.max_length}
