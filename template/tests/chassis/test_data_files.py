"""Data files: all faults are reported with file, record and field before any record is used."""

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
    """Return the faults of a file as sentences."""
    with pytest.raises(DataFileError) as raised:
        load(path, model, **options)
    first, *rest = str(raised.value).splitlines()
    assert first.startswith(f"{path} has ")
    assert [line.strip() for line in rest] == [str(fault) for fault in raised.value.faults]
    return [str(fault) for fault in raised.value.faults]


@pytest.mark.parametrize("suffix", TEXTS)
def test_load_returns_typed_records_in_every_format(write: Any, suffix: str) -> None:
    assert load(write(f"prices{suffix}", TEXTS[suffix]), Price) == RECORDS
    assert load(str(write(f"prices{suffix.upper()}", TEXTS[suffix])), Price) == RECORDS


def test_file_without_records_is_an_empty_list(write: Any) -> None:
    assert load(write("a.csv", "day,amount\n"), Price) == []
    assert load(write("a.json", "[]"), Price) == []
    assert load(write("a.jsonl", ""), Price) == []


def test_csv_of_a_spreadsheet_is_read(write: Any) -> None:
    """The file has a byte order mark, Windows line ends, and quoted cells with line breaks."""
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
def test_all_faults_are_reported_at_once(write: Any, name: str, content: str) -> None:
    """Each fault is reported with its record, field and value."""
    first, second, third = faults_of(write(name, content))
    assert first.startswith("record 1, field day: Input should be a valid date")
    assert first.endswith("(got 'May')")
    assert second.startswith("record 1, field amount: Input should be greater than or equal to 0 (got ")
    assert third == "record 3, field amount: Field required"


def test_data_file_error_holds_the_faults_as_data(write: Any) -> None:
    path = write("a.csv", "day,amount\n2030-05-01,x\n")
    with pytest.raises(DataFileError, match="has 1 fault:") as raised:
        load(path, Price)
    ((record, field, message),) = raised.value.faults
    assert (raised.value.path, record, field) == (path, 1, "amount")
    assert "decimal" in message


def test_fault_in_a_nested_field_has_its_path(write: Any) -> None:
    """The path has the same form as in problem responses."""

    class Basket(BaseModel):
        prices: list[Price]

    content = '[{"prices": [{"day": "2030-05-01", "amount": 1}, {"day": "2030-05-01", "amount": "x"}]}]'
    (fault,) = faults_of(write("a.json", content), Basket)
    assert fault.startswith("record 1, field prices.1.amount: ")


def test_number_of_reported_faults_is_limited(write: Any) -> None:
    """A wrong file with a million records does not produce a million lines."""
    path = write("a.csv", "day,amount\n" + "x,x\n" * 10_000)
    with pytest.raises(DataFileError, match="has more than 5 faults:") as raised:
        load(path, Price, max_faults=5)
    assert (len(raised.value.faults), raised.value.complete) == (5, False)
    assert len(faults_of(path)) == 50


def test_long_value_is_truncated_in_the_message(write: Any) -> None:
    (fault,) = faults_of(write("a.csv", f"day,amount\n2030-05-01,{'x' * 1000}\n"))
    assert len(fault) < 200


def test_duplicate_keys_are_faults(write: Any) -> None:
    """Parsed values are compared, so 1 and 1.0 are duplicates. Without a key nothing is compared."""
    path = write("a.csv", "day,amount\n2030-05-01,1\n2030-05-02,1\n2030-05-01,1.0\n")
    assert len(load(path, Price)) == 3
    assert faults_of(path, key=["day"]) == ["record 3, field day: the same as in record 1"]
    assert faults_of(path, key=["day", "amount"]) == ["record 3, field day, amount: the same as in record 1"]


@pytest.mark.parametrize(
    ("name", "content", "fault"),
    [
        ("a.csv", "", "the header is missing"),
        ("a.csv", "day\n2030-05-01\n", "missing column: amount"),
        ("a.csv", "day,amount,day\n", "two columns have the same name: day"),
        ("a.csv", 'day,amount\n2030-05-01,"1\n', "line 2 is not CSV: unexpected end of data"),
        ("a.csv", "day,amount\n2030-05-01,1,2\n", "record 1: 3 cells under 2 columns (line 2)"),
        ("a.json", '[{"day": }]', "line 1, column 10 is not JSON"),
        ("a.json", '[{"day": NaN}]', "line 1, column 10 is not JSON"),
        ("a.json", '{"day": "2030-05-01"}', "not a list of records"),
        ("a.json", "[3]", "record 1: Input should be a valid dictionary"),
        ("a.jsonl", "[]\n{\n", "record 2: column 2 is not JSON"),
        ("a.json", b"\xff", "byte 1 is not UTF-8"),
        ("a.txt", "", "unknown suffix; use one of .csv, .json"),
    ],
)
def test_malformed_file_is_reported_in_one_sentence(write: Any, name: str, content: str | bytes, fault: str) -> None:
    assert any(found.startswith(fault) for found in faults_of(write(name, content)))


def test_malformed_record_does_not_hide_later_faults(write: Any) -> None:
    found = faults_of(write("a.csv", "day,amount\n1,2,3\nMay,1\n"))
    assert [fault.partition(":")[0] for fault in found] == ["record 1", "record 2, field day"]


def test_missing_file_is_a_fault(folder: Path) -> None:
    assert faults_of(folder / "none.csv") == ["cannot be read: No such file or directory"]


def test_file_over_max_bytes_is_rejected(write: Any) -> None:
    """The file is not loaded into memory."""
    path = write("a.csv", TEXTS[".csv"])
    assert faults_of(path, max_bytes=10) == ["is larger than 10 bytes"]
    assert load(path, Price, max_bytes=path.stat().st_size) == RECORDS


def test_column_is_found_by_the_alias_of_its_field(write: Any) -> None:
    """A missing column is reported under its alias."""

    class Renamed(BaseModel):
        amount: int = Field(alias="Amount in EUR")

    assert load(write("a.csv", "Amount in EUR\n3\n"), Renamed)[0].amount == 3
    assert faults_of(write("b.csv", "amount in eur\n3\n"), Renamed) == ["missing column: Amount in EUR"]


def test_yaml_is_read_as_data_only(write: Any) -> None:
    """A tag that would create a Python object is reported as a fault."""
    pytest.importorskip("yaml", reason="PyYAML is not installed")
    path = write("a.yaml", "- {day: 2030-05-01, amount: '1.50'}\n- {day: 2030-05-02, amount: 2, note: é}\n")
    assert load(path, Price) == RECORDS
    assert faults_of(write("b.yml", "- day: [\n"))[0].startswith("line 2, column 1 is not YAML")
    assert faults_of(write("c.yml", "!!python/object/apply:os.getcwd []"))[0].endswith("is not YAML")


def test_yaml_without_pyyaml_says_what_to_install(write: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "yaml", None)
    assert faults_of(write("a.yaml", "[]")) == ["YAML requires PyYAML; run uv add pyyaml"]
