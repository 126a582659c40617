"""Data files: every fault is named with its file, its record and its field, before anything is used."""

from __future__ import annotations

import sys
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel, ConfigDict, Field

from ..package import module

data_files = module("chassis.data_files")
DataFileError = data_files.DataFileError
load = data_files.load


class Price(BaseModel):
    model_config = ConfigDict(extra="forbid")

    day: date
    amount: Decimal = Field(ge=0)
    note: str = ""


RECORDS = [
    Price(day=date(2030, 5, 1), amount=Decimal("1.50")),
    Price(day=date(2030, 5, 2), amount=Decimal(2), note="é"),
]

TEXTS = {
    ".csv": "day,amount,note\n2030-05-01,1.50,\n2030-05-02,2,é\n",
    ".json": '[{"day": "2030-05-01", "amount": "1.50"}, {"day": "2030-05-02", "amount": 2, "note": "é"}]',
    ".jsonl": '{"day": "2030-05-01", "amount": "1.50"}\n\n{"day": "2030-05-02", "amount": 2, "note": "é"}\n',
}


@pytest.fixture
def write(folder: Path) -> Any:
    def to(name: str, content: str | bytes) -> Path:
        path = folder / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return path

    return to


def faults_of(path: Path, model: type[BaseModel] = Price, **options: Any) -> list[str]:
    """Return the faults of a file as sentences, without the line that names the file."""
    with pytest.raises(DataFileError) as raised:
        load(path, model, **options)
    first, *rest = str(raised.value).splitlines()
    assert first.startswith(f"{path} has ")
    assert [line.strip() for line in rest] == [str(fault) for fault in raised.value.faults]
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize("suffix", TEXTS)
def test_every_record_is_checked_and_typed(write: Any, suffix: str) -> None:
    """Whatever the format, the records are the same."""
    assert load(write(f"prices{suffix}", TEXTS[suffix]), Price) == RECORDS
    assert load(str(write(f"prices{suffix.upper()}", TEXTS[suffix])), Price) == RECORDS


def test_an_empty_file_has_no_records(write: Any) -> None:
    """A header and nothing under it, an empty list."""
    assert load(write("a.csv", "day,amount\n"), Price) == []
    assert load(write("a.json", "[]"), Price) == []
    assert load(write("a.jsonl", ""), Price) == []


def test_a_spreadsheets_csv_is_read(write: Any) -> None:
    """A byte order mark, Windows line ends, cells in quotes with a line break in them."""
    content = b'\xef\xbb\xbfday,amount,note\r\n2030-05-01,1.50,"one\r\ntwo"\r\n\r\n'
    assert load(write("a.csv", content), Price)[0].note == "one\r\ntwo"


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("a.csv", "day,amount\nMay,-1\n2030-05-02,2\n2030-05-03,\n"),
        ("a.json", '[{"day": "May", "amount": -1}, {"day": "2030-05-02", "amount": 2}, {"day": "2030-05-03"}]'),
        ("a.jsonl", '{"day": "May", "amount": -1}\n{"day": "2030-05-02", "amount": 2}\n{"day": "2030-05-03"}'),
    ],
)
def test_all_faults_are_named_at_once(write: Any, name: str, content: str) -> None:
    """Each with its record, its field and what was found there."""
    first, second, third = faults_of(write(name, content))
    assert first.startswith("record 1, field day: Input should be a valid date")
    assert first.endswith("(got 'May')")
    assert second.startswith("record 1, field amount: Input should be greater than or equal to 0 (got ")
    assert third == "record 3, field amount: Field required"


def test_the_error_holds_the_faults_as_data(write: Any) -> None:
    """For a program that shows them in its own way."""
    path = write("a.csv", "day,amount\n2030-05-01,x\n")
    with pytest.raises(DataFileError, match="has 1 fault:") as raised:
        load(path, Price)
    ((record, field, message),) = raised.value.faults
    assert (raised.value.path, record, field) == (path, 1, "amount")
    assert "decimal" in message


def test_a_field_within_a_field_has_a_path(write: Any) -> None:
    """As in the answers of the service."""

    class Basket(BaseModel):
        prices: list[Price]

    content = '[{"prices": [{"day": "2030-05-01", "amount": 1}, {"day": "2030-05-01", "amount": "x"}]}]'
    (fault,) = faults_of(write("a.json", content), Basket)
    assert fault.startswith("record 1, field prices.1.amount: ")


def test_faults_are_bounded(write: Any) -> None:
    """A wrong file of a million records is no message of a million lines."""
    path = write("a.csv", "day,amount\n" + "x,x\n" * 10_000)
    with pytest.raises(DataFileError, match="has more than 5 faults:") as raised:
        load(path, Price, most_faults=5)
    assert (len(raised.value.faults), raised.value.complete) == (5, False)
    assert len(faults_of(path)) == 50


def test_a_long_value_is_cut(write: Any) -> None:
    """The message stays readable."""
    (fault,) = faults_of(write("a.csv", f"day,amount\n2030-05-01,{'x' * 1000}\n"))
    assert len(fault) < 200


def test_duplicates_are_found_by_key(write: Any) -> None:
    """By the values as they are understood: 1 and 1.0 are the same; without a key there are no duplicates."""
    path = write("a.csv", "day,amount\n2030-05-01,1\n2030-05-02,1\n2030-05-01,1.0\n")
    assert len(load(path, Price)) == 3
    assert faults_of(path, key=["day"]) == ["record 3, field day: the same as in record 1"]
    assert faults_of(path, key=["day", "amount"]) == ["record 3, field day, amount: the same as in record 1"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", "", "there is no header"),
        ("a.csv", "day\n2030-05-01\n", "there is no column amount"),
        ("a.csv", "day,amount,day\n", "two columns have the same name: day"),
        ("a.csv", 'day,amount\n2030-05-01,"1\n', "line 2 is not CSV: unexpected end of data"),
        ("a.csv", "day,amount\n2030-05-01,1,2\n", "record 1: 3 cells under 2 columns (line 2)"),
        ("a.json", '[{"day": }]', "line 1, column 10 is not JSON"),
        ("a.json", '[{"day": NaN}]', "line 1, column 10 is not JSON"),
        ("a.json", '{"day": "2030-05-01"}', "is no list of records"),
        ("a.json", "[3]", "record 1: Input should be a valid dictionary"),
        ("a.jsonl", "[]\n{\n", "record 2: column 2 is not JSON"),
        ("a.json", b"\xff", "byte 1 is not UTF-8"),
        ("a.txt", "", "the suffix is none of .csv, .json"),
    ],
)
def test_what_cannot_be_read_is_said(write: Any, name: str, content: str | bytes, fault: str) -> None:
    """In one sentence, without a traceback of a parser."""
    assert any(found.startswith(fault) for found in faults_of(write(name, content)))


def test_a_record_that_cannot_be_read_does_not_hide_the_next(write: Any) -> None:
    """The faults after it are named too."""
    found = faults_of(write("a.csv", "day,amount\n1,2,3\nMay,1\n"))
    assert [fault.partition(":")[0] for fault in found] == ["record 1", "record 2, field day"]


def test_a_file_that_is_not_there_is_said(folder: Path) -> None:
    """By its path."""
    assert faults_of(folder / "none.csv") == ["cannot be read: No such file or directory"]


def test_a_file_that_is_too_large_is_refused(write: Any) -> None:
    """Before it is held in memory."""
    path = write("a.csv", TEXTS[".csv"])
    assert faults_of(path, max_bytes=10) == ["is larger than 10 bytes"]
    assert load(path, Price, max_bytes=path.stat().st_size) == RECORDS


def test_a_column_may_be_called_by_its_alias(write: Any) -> None:
    """Required columns are looked for under the name that the file has."""

    class Renamed(BaseModel):
        amount: int = Field(alias="Amount in EUR")

    assert load(write("a.csv", "Amount in EUR\n3\n"), Renamed)[0].amount == 3
    assert faults_of(write("b.csv", "amount in eur\n3\n"), Renamed) == ["there is no column Amount in EUR"]


def test_yaml_is_read_where_its_library_is(write: Any) -> None:
    """As data only: a tag that would make a Python object is a fault."""
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = write("a.yaml", "- {day: 2030-05-01, amount: '1.50'}\n- {day: 2030-05-02, amount: 2, note: é}\n")
    assert load(path, Price) == RECORDS
    assert faults_of(write("b.yml", "- day: [\n"))[0].startswith("line 2, column 1 is not YAML")
    assert faults_of(write("c.yml", "!!python/object/apply:os.getcwd []"))[0].endswith("is not YAML")


def test_yaml_without_its_library_says_what_to_install(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """The loader works without it."""
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert faults_of(write("a.yaml", "[]")) == ["reading YAML needs PyYAML: uv add pyyaml"]
