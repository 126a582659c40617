"""Types of short texts: email addresses, phone numbers, names, and names of columns."""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Annotated, Any, LiteralString

import phonenumbers
from email_validator import EmailNotValidError, validate_email
from pydantic import AfterValidator, GetCoreSchemaHandler, GetJsonSchemaHandler, WithJsonSchema
from pydantic_core import CoreSchema, PydanticCustomError, core_schema

_MAX_EMAIL_CHARACTERS = 254  # RFC 5321, 4.5.3.1.3
_IDENTIFIER = re.compile(r"[a-z_][a-z0-9_]{0,62}")
# Control characters, lone surrogates, separators of lines and paragraphs, and characters that reorder the text around
# them. A reordered text looks different to a reader than to a program.
_FORBIDDEN = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
# Normalization sorts a run of combining characters in quadratic time (UAX 15, "Stream-Safe Text Format").
_MAX_COMBINING = 30
# Categories of characters that are invisible alone, and letters that are blank.
_INVISIBLE = frozenset({"Cc", "Cf", "Me", "Mn", "Zl", "Zp", "Zs"})
_BLANK = frozenset("\u115f\u1160\u2800\u3164\uffa0")


class TextType:
    """The base of types that check a string and return it in a canonical form."""

    def check(self, value: str) -> str:
        """Return the canonical form of a value.

        Raises:
            PydanticCustomError: The value is invalid.
        """
        raise NotImplementedError

    def json_schema(self) -> dict[str, Any]:
        """Return what the OpenAPI document says about the value."""
        return {}

    def __get_pydantic_core_schema__(self, _source: Any, _handler: GetCoreSchemaHandler) -> CoreSchema:
        return core_schema.no_info_after_validator_function(self.check, core_schema.str_schema())

    def __get_pydantic_json_schema__(self, schema: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        return handler(schema) | self.json_schema()


def _email(value: str) -> str:
    try:
        # Mail libraries decode an encoded word (RFC 2047) in an address, so another mailbox could get the email.
        if len(value) <= _MAX_EMAIL_CHARACTERS and "=?" not in value:
            # Without a query to the DNS: it would hold up the request, and proves nothing about the mailbox.
            return validate_email(value, check_deliverability=False, strict=True).normalized
    except EmailNotValidError:
        pass
    raise PydanticCustomError("email", "This is not a valid email address.")


Email = Annotated[str, AfterValidator(_email), WithJsonSchema({"type": "string", "format": "email"})]


@dataclass(frozen=True)
class PhoneNumber(TextType):
    """A phone number, returned in E.164: `+4930123456`.

    Args:
        region: The country of numbers without `+` and a country code, such as `DE`. By default they are rejected.
    """

    region: str | None = None

    def check(self, value: str) -> str:
        try:
            number = phonenumbers.parse(value, self.region)  # which rejects texts of more than 250 characters
            if phonenumbers.is_valid_number(number) and not number.extension:
                return phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
        except phonenumbers.NumberParseException:
            pass
        raise PydanticCustomError("phone", "This is not a valid phone number; use the form +4930123456.")

    def json_schema(self) -> dict[str, Any]:
        return {"format": "phone"}


Phone = Annotated[str, PhoneNumber()]


@dataclass(frozen=True)
class CleanText(TextType):
    """A text in Unicode NFC, without spaces around it.

    Control characters, characters that reorder the text around them, and more than 30 combining characters in a row are
    rejected.

    Args:
        max_length: The maximum number of characters of the result.
        min_length: The minimum number of characters of the result. Unless it is 0, one of them must be visible.
        multiline: Whether line breaks and tabs are allowed; line breaks become `\\n`.
    """

    max_length: int
    min_length: int = 1
    multiline: bool = False

    def check(self, value: str) -> str:
        # Normalization composes characters, which makes a text at most three times shorter.
        if len(value) > 3 * self.max_length:
            raise self._too_long()
        if not value.isascii() and _has_long_combining_run(value):
            raise PydanticCustomError("text_characters", "The text has too many combining characters in a row.")
        text = unicodedata.normalize("NFC", value).strip()
        if self.multiline:
            text = text.replace("\r\n", "\n").replace("\r", "\n")
        if _FORBIDDEN.search(text.replace("\n", "").replace("\t", "") if self.multiline else text):
            raise PydanticCustomError("text_characters", "The text has a control character.")
        if len(text) > self.max_length:
            raise self._too_long()
        if len(text) < self.min_length or (self.min_length and not any(map(_is_visible, text))):
            raise PydanticCustomError(
                "text_too_short", "The text has fewer than {min_length} characters.", {"min_length": self.min_length}
            )
        return text

    def _too_long(self) -> PydanticCustomError:
        return PydanticCustomError(
            "text_too_long", "The text has more than {max_length} characters.", {"max_length": self.max_length}
        )

    def json_schema(self) -> dict[str, Any]:
        return {"minLength": self.min_length, "maxLength": self.max_length}


def _has_long_combining_run(text: str) -> bool:
    run = 0
    for character in text:
        run = run + 1 if unicodedata.combining(character) else 0
        if run > _MAX_COMBINING:
            return True
    return False


def _is_visible(character: str) -> bool:
    return unicodedata.category(character) not in _INVISIBLE and character not in _BLANK


class SqlIdentifier(TextType):
    """A name from a closed set, such as a column to sort by, that may become part of a statement.

    `Annotated[str, SqlIdentifier("title", "created_at")]`. No other text is accepted, so the value needs no quotes.

    Raises:
        ValueError: A name of the set has other characters than `a-z0-9_`.
    """

    def __init__(self, *names: LiteralString) -> None:
        for name in names:
            if not _IDENTIFIER.fullmatch(name):
                raise ValueError(f"{name!r} is not a plain SQL identifier; use a-z, 0-9 and _")
        self._names = names

    def check(self, value: str) -> str:
        for name in self._names:
            if name == value:
                return name
        raise PydanticCustomError("sql_identifier", "Use one of {names}.", {"names": ", ".join(self._names)})

    def json_schema(self) -> dict[str, Any]:
        return {"enum": list(self._names)}
