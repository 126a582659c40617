"""Pydantic types for input from outside: email, phone, money, URL, text, HTML, and names in SQL.

`Email`, `Phone` and `Money` are types. The others have arguments: `Annotated[str, CleanText(max_length=200)]`. Each
fault has a stable code, which the response lists in `errors`.
"""

from .markup import CleanHtml
from .money import Money
from .text import CleanText, Email, Phone, PhoneNumber, SqlIdentifier
from .urls import PublicUrl

__all__ = ["CleanHtml", "CleanText", "Email", "Money", "Phone", "PhoneNumber", "PublicUrl", "SqlIdentifier"]
