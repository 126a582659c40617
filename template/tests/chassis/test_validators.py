"""The types for input from outside: each accepts what is valid in one form, and names each fault by a stable code."""

from __future__ import annotations

import sys
import unicodedata
from typing import Annotated, Any

import pytest
from pydantic import BaseModel, TypeAdapter, ValidationError

from ..package import module

validators = module("chassis.validators")
problems = module("chassis.web.problems")
errors = module("chassis.errors")

TITLE = Annotated[str, validators.CleanText(max_length=5)]
BODY = Annotated[str, validators.CleanText(max_length=20, min_length=0, multiline=True)]
GERMAN_PHONE = Annotated[str, validators.PhoneNumber(region="DE")]
URL = Annotated[str, validators.PublicUrl()]
SHOP_URL = Annotated[str, validators.PublicUrl(schemes=["https"], hosts=["shop.example.com"])]
REDIS_URL = Annotated[str, validators.PublicUrl(schemes=["redis"])]
ANY_URL = Annotated[str, validators.PublicUrl(private=True)]
HTML = Annotated[str, validators.CleanHtml(max_length=100)]
COLUMN = Annotated[str, validators.SqlIdentifier("title", "created_at")]


def validate(kind: Any, value: object) -> Any:
    return TypeAdapter(kind).validate_python(value)


def codes(kind: Any, value: object) -> set[str]:
    with pytest.raises(ValidationError) as raised:
        validate(kind, value)
    return {fault["type"] for fault in raised.value.errors()}


@pytest.mark.parametrize(
    ("kind", "value", "expected"),
    [
        (validators.Email, "Ann@Example.COM", "Ann@example.com"),
        (validators.Email, "ann@exämple.de", "ann@exämple.de"),
        (validators.Phone, "+49 (30) 123456", "+4930123456"),
        (GERMAN_PHONE, "030 / 123456", "+4930123456"),
        (TITLE, "  Tee\u0301 ", "Teé"),
        (TITLE, "👩‍🚀", "👩‍🚀"),
        (BODY, "one\r\ntwo\rthree\tfour", "one\ntwo\nthree\tfour"),
        (BODY, "", ""),
        (BODY, "\u200b", "\u200b"),
        (BODY, "a" + 18 * "\u0301" + "b", "á" + 17 * "\u0301" + "b"),
        (URL, "HTTPS://Example.com:443/a?b#c", "https://example.com/a?b#c"),
        (URL, "https://exämple.com/", "https://xn--exmple-cua.com/"),
        (URL, "http://1.1.1.1/", "http://1.1.1.1/"),
        (URL, "http://[2606:4700::1111]/", "http://[2606:4700::1111]/"),
        (SHOP_URL, "https://eu.shop.example.com/", "https://eu.shop.example.com/"),
        (ANY_URL, "http://localhost:8000/", "http://localhost:8000/"),
        (HTML, "<p>5 &lt; 6 <b>ok</b></p>", "<p>5 &lt; 6 <b>ok</b></p>"),
        (COLUMN, "created_at", "created_at"),
    ],
)
def test_valid_value_is_returned_in_canonical_form(kind: Any, value: str, expected: str) -> None:
    assert validate(kind, value) == expected


@pytest.mark.parametrize(
    ("kind", "value", "code"),
    [
        (validators.Email, "ann", "email"),
        (validators.Email, "ann@localhost", "email"),
        (validators.Email, "ann@[127.0.0.1]", "email"),
        (validators.Email, "Ann <ann@example.com>", "email"),
        (validators.Email, "ann@example.com, bob@example.com", "email"),
        (validators.Email, "ann@example.com\r\nBcc: bob@example.com", "email"),
        (validators.Email, "ann@example.com\n", "email"),
        (validators.Email, '"ann\\"@evil"@example.com', "email"),
        (validators.Email, "=?utf-8?q?ann?=@example.com", "email"),
        (validators.Email, f"{'a' * 65}@example.com", "email"),
        (validators.Phone, "030 123456", "phone"),
        (validators.Phone, "+49 30 123456 ext. 5", "phone"),
        (validators.Phone, "+999 123456789", "phone"),
        (validators.Phone, "+49 1", "phone"),
        (TITLE, "", "text_too_short"),
        (TITLE, " \u00a0\u3000", "text_too_short"),
        *((TITLE, blank, "text_too_short") for blank in ("\u200b", "\ufeff", "\xad", "\U000e0041", "\u3164", "\ufe0f")),
        (TITLE, "abcdef", "text_too_long"),
        (TITLE, "a\x00b", "text_characters"),
        (TITLE, "a\x1b[2J", "text_characters"),
        (TITLE, "a\nb", "text_characters"),
        (TITLE, "a\u2028b", "text_characters"),
        (TITLE, "a\u202eb", "text_characters"),
        (TITLE, "a\u2066b", "text_characters"),
        (BODY, "a\x00b", "text_characters"),
        (BODY, "a\x0bb", "text_characters"),
        (URL, "example.com", "url"),
        (URL, "//example.com/", "url"),
        (URL, "https://", "url"),
        (URL, "https://ann:secret@example.com/", "url"),
        (URL, "https://ann@example.com/", "url"),
        (URL, "https://exa mple.com/", "url"),
        (URL, "https://example.com/\r\nHost:evil.example", "url"),
        (URL, "https://exa\tmple.com/", "url"),
        (URL, "https://example.com\\@evil.example/", "url"),
        (URL, "https://example.com:99999/", "url"),
        (URL, "javascript:alert(1)", "url_scheme"),
        (URL, "file:///etc/passwd", "url_scheme"),
        (URL, "gopher://example.com/", "url_scheme"),
        (SHOP_URL, "http://shop.example.com/", "url_scheme"),
        (SHOP_URL, "https://evilshop.example.com/", "url_host"),
        (SHOP_URL, "https://shop.example.com.evil.example/", "url_host"),
        (SHOP_URL, "https://evil.example/#shop.example.com", "url_host"),
        *(
            (URL, f"http://{host}/", "url_private")
            for host in (
                "localhost", "LOCALHOST.", "api.localhost", "ⓛocalhost", "db", "printer.local", "router.home.arpa",
                "metadata.google.internal", "127.0.0.1", "127.1", "0x7f.1", "017700000001", "2130706433", "①②⑦.0.0.1",
                "0", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "169.254.169.254", "192.0.2.1", "224.0.0.1",
                "255.255.255.255", "[::]", "[::1]", "[fe80::1]", "[fd00::1]", "[ff02::1]", "[::ffff:10.0.0.1]",
                "[::10.0.0.1]", "[64:ff9b::a00:1]", "[2002:a00:1::]", "[fec0::1]", "[64:ff9b:1::a00:1]",
                "[::ffff:0:a00:1]", "localhost.localdomain", "api.default.svc", "localhost..",
                # The metadata services of clouds.
                "168.63.129.16", "[64:ff9b::a83f:8110]", "[::ffff:168.63.129.16]", "100.100.100.200", "192.0.0.192",
                "[fd00:ec2::254]",
            )
        ),
        *((REDIS_URL, f"redis://{host}/", "url_private") for host in ("0x7f.1", "db.LOCAL", "%31%32%37.0.0.1")),
        (HTML, "<" * 50, "html_too_long"),
        (COLUMN, "password", "sql_identifier"),
        (COLUMN, "TITLE", "sql_identifier"),
        (COLUMN, "title; DROP TABLE notes", "sql_identifier"),
        (COLUMN, "title--", "sql_identifier"),
        (COLUMN, "", "sql_identifier"),
    ],
)  # fmt: skip
def test_invalid_value_is_rejected_with_its_code(kind: Any, value: str, code: str) -> None:
    assert codes(kind, value) == {code}


@pytest.mark.parametrize(
    ("kind", "start", "code"),
    [
        (validators.Email, "ann@", "email"),
        (validators.Phone, "+49", "phone"),
        (TITLE, "", "text_too_long"),
        (URL, "https://", "url"),
        (HTML, "", "html_too_long"),
        (COLUMN, "", "sql_identifier"),
    ],
)
def test_very_long_value_is_rejected_before_it_is_parsed(kind: Any, start: str, code: str) -> None:
    assert codes(kind, start + "1<.@" * 2_000_000) == {code}


@pytest.mark.parametrize("kind", [validators.Email, validators.Phone, TITLE, URL, HTML, COLUMN])
def test_value_that_is_not_text_is_rejected(kind: Any) -> None:
    assert [codes(kind, value) for value in (None, 1, ["title"])] == [{"string_type"}] * 3


def test_long_run_of_combining_characters_is_rejected_before_it_is_sorted() -> None:
    """Normalization takes minutes on this text."""
    kind = Annotated[str, validators.CleanText(max_length=100_000)]
    assert codes(kind, "a" + "\u0301\u0316" * 100_000) == {"text_characters"}
    assert validate(kind, "a" + "\u0316" * 30) == "a" + "\u0316" * 30
    assert codes(kind, "a" + "\u0316" * 31) == {"text_characters"}


def test_every_control_character_is_rejected() -> None:
    """Embeddings, overrides and isolates, which reorder text, are rejected too."""
    reordering = {"LRE", "RLE", "LRO", "RLO", "PDF", "LRI", "RLI", "FSI", "PDI"}
    forbidden = [
        character
        for character in map(chr, range(sys.maxunicode + 1))
        if unicodedata.category(character) in ("Cc", "Zl", "Zp") or unicodedata.bidirectional(character) in reordering
    ]
    marks = "\u061c\u200e\u200f"
    assert [c for c in (*forbidden, *marks) if codes(TITLE, f"a{c}b") != {"text_characters"}] == []
    assert validate(BODY, "a\tb\nc") == "a\tb\nc"


def test_lone_surrogate_is_rejected() -> None:
    """Python can hold it, and UTF-8 cannot encode it. pydantic itself rejects it in a string."""
    assert codes(TITLE, "a\ud800") <= {"string_unicode", "text_characters"}


@pytest.mark.parametrize(
    "attack",
    [
        "<script>alert(1)</script>",
        "<img src=x onerror=alert(1)>",
        "<svg/onload=alert(1)>",
        "<a href='javascript:alert(1)'>x</a>",
        "<a href='jav&#x09;ascript:alert(1)'>x</a>",
        "<a href='data:text/html,x'>x</a>",
        "<p style='position:fixed' onclick=alert(1) class=x id=y>x</p>",
        "<iframe src='https://evil.example'></iframe>",
        "<math><mtext><table><mglyph><style><img src=x onerror=alert(1)>",
        "<form action='https://evil.example'><input name=password></form>",
        "<<script>alert(1)//<</script>",
    ],
)
def test_html_that_runs_code_is_removed(attack: str) -> None:
    cleaned = validate(HTML, attack)
    assert not [
        word
        for word in ("<script", "onerror=", "onload=", "onclick=", "javascript:", "data:", "style=", "<iframe", "<form")
        if word in cleaned.lower().replace("&lt;script", "")
    ]


@pytest.mark.parametrize(
    ("amount", "currency", "text"),
    [
        ("19.99", "EUR", "19.99 EUR"),
        (5, "JPY", "5 JPY"),
        ("5.00", "JPY", "5 JPY"),
        ("1E-3", "KWD", "0.001 KWD"),
        ("-0.10", "USD", "-0.10 USD"),
    ],
)
def test_money_is_exact(amount: object, currency: str, text: str) -> None:
    money = validate(validators.Money, {"amount": amount, "currency": currency})
    assert str(money) == text
    assert validate(validators.Money, money.model_dump(mode="json")) == money


@pytest.mark.parametrize(
    ("amount", "currency", "code"),
    [
        ("19.999", "EUR", "money_precision"),
        ("0.5", "JPY", "money_precision"),
        ("1", "eur", "money_currency"),
        ("1", "XXX", "money_currency"),
        ("NaN", "EUR", "finite_number"),
        ("Infinity", "EUR", "finite_number"),
        ("1e30", "EUR", "decimal_max_digits"),
        ("1" * 100_000, "EUR", "decimal_max_digits"),
        ("1,50", "EUR", "decimal_parsing"),
    ],
)
def test_invalid_money_is_rejected_with_its_code(amount: object, currency: str, code: str) -> None:
    assert codes(validators.Money, {"amount": amount, "currency": currency}) == {code}


def test_money_fits_into_its_column() -> None:
    """`Numeric(18, 4)` has 14 digits before the point, so amounts are stored without an exponent."""
    for amount, stored in (("1E+5", "100000"), ("0E+999999", "0"), ("0E-999999", "0"), ("-0", "0")):
        assert (
            validate(validators.Money, {"amount": amount, "currency": "EUR"}).model_dump(mode="json")["amount"]
            == stored
        )
    assert codes(validators.Money, {"amount": "9" * 15, "currency": "EUR"}) == {"decimal_whole_digits"}


def test_set_of_identifiers_with_another_character_is_refused() -> None:
    """The mistake is found when the service starts."""
    for name in ("title; --", "Title", "", "a" * 64, "title\n"):
        with pytest.raises(ValueError, match="not a plain SQL identifier"):
            validators.SqlIdentifier(name)


def test_codes_are_listed_in_the_error_response() -> None:
    class Order(BaseModel):
        email: validators.Email
        title: TITLE

    with pytest.raises(ValidationError) as raised:
        Order.model_validate({"email": "ann", "title": "\x00"})
    error = problems.invalid_input(errors.ValidationError, None, raised.value.errors())
    assert [(fault.field, fault.code) for fault in error.errors] == [("email", "email"), ("title", "text_characters")]


def test_openapi_document_describes_the_types() -> None:
    class Order(BaseModel):
        email: validators.Email
        title: TITLE
        page: URL
        sort: COLUMN

    described = Order.model_json_schema()["properties"]
    assert described["email"]["format"] == "email"
    assert (described["title"]["minLength"], described["title"]["maxLength"]) == (1, 5)
    assert described["page"]["format"] == "uri"
    assert described["sort"]["enum"] == ["title", "created_at"]
