"""API keys in the setting `API_KEYS`: the commands, and rejected values."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ..package import module, program
from .conftest import Start, settings_for_tests
from .test_authentication import PATH, bearer
from .test_errors import assert_is_problem

cli = module("chassis.cli")
DIGEST = "0123456789abcdef" * 4

Captured = pytest.CaptureFixture[str]


def created(capsys: Captured, *arguments: str) -> tuple[str, str]:
    """Create a key; return it and the new value of `API_KEYS`."""
    assert cli.main(program(), ["api-keys", "create", *arguments]) == 0
    said = capsys.readouterr()
    return said.out.removesuffix("\n"), said.err.splitlines()[-1].removeprefix("API_KEYS=")


def test_create_prints_the_key_alone_on_standard_output(capsys: Captured) -> None:
    """A script can use `KEY=$(...)`. The person who runs it still sees the expiry and what to do."""
    assert cli.main(program(), ["api-keys", "create", "coffee-app"]) == 0
    said = capsys.readouterr()
    assert re.fullmatch(r"[\w-]+\n", said.out)
    assert re.fullmatch(r"This key .+ once\. .+ Its scopes: none, .+\n.+\nAPI_KEYS=coffee-app/.+\n", said.err)


def test_created_key_is_accepted_once_it_is_configured(
    start: Start, capsys: Captured, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A second key of the client is added to the first, and revoking either leaves the other."""
    one, setting = created(capsys, "coffee-app", "--scopes", "notes:read,notes:write")
    monkeypatch.setenv("API_KEYS", setting)
    two, setting = created(capsys, "coffee-app", "--scopes", "notes:read")
    client = start(api_keys=setting)
    assert [client.post(PATH, headers=bearer(key)).status_code for key in (one, two)] == [200, 403]
    monkeypatch.setenv("API_KEYS", setting)
    first = setting.split(",")[0].split("/")[-1]
    capsys.readouterr()
    assert cli.main(program(), ["api-keys", "revoke", first[:12]]) == 0
    client = start(api_keys=capsys.readouterr().out.splitlines()[1].removeprefix("API_KEYS="))
    assert [client.get(PATH, headers=bearer(key)).status_code for key in (one, two)] == [401, 200]


def test_keys_can_come_from_a_secret_file(start: Start, capsys: Captured, tmp_path: Path) -> None:
    """One key per line, as in a file in /run/secrets."""
    keys = [created(capsys, name, "--scopes", "notes:read") for name in ("one", "two")]
    (tmp_path / "api_keys").write_text("".join(f"{entry}\n" for _, entry in keys))
    client = start(_secrets_dir=tmp_path)
    assert [client.get(PATH, headers=bearer(key)).json() for key, _ in keys] == ["one", "two"]


def test_list_shows_everything_but_the_hash(capsys: Captured, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("API_KEYS", f"coffee-app/notes:read/2027-02-27/{DIGEST}")
    assert cli.main(program(), ["api-keys", "list"]) == 0
    out = capsys.readouterr().out
    assert re.search(r"^0123456789ab +coffee-app +notes:read +2027-02-27 +-$", out, re.MULTILINE)
    assert DIGEST not in out


@pytest.mark.parametrize(
    "entry",
    [
        "plain-key", "a/b/2027-01-01/xyz", f"a/b/soon/{DIGEST}", f"/b/2027-01-01/{DIGEST}",
        f"a/b/2027-01-01/{DIGEST}00", f"a/b c/2027-01-01/{DIGEST}",
    ],
)  # fmt: skip
def test_invalid_setting_is_rejected_at_start_and_not_shown(entry: str) -> None:
    """The message says which form a key has."""
    with pytest.raises(module("chassis.settings").SettingsError) as caught:
        settings_for_tests(api_keys=entry)
    assert caught.value.problems[0].startswith("API_KEYS: use the form that `api-keys create` prints")
    assert entry not in str(caught.value)


def test_without_keys_every_key_is_rejected(start: Start) -> None:
    assert_is_problem(start().get(PATH, headers=bearer("any")), 401, "UNAUTHENTICATED")


def test_revoking_an_unknown_key_fails(capsys: Captured) -> None:
    assert cli.main(program(), ["api-keys", "revoke", "none"]) == 1
    assert "There is no key with the id none" in capsys.readouterr().err


@pytest.mark.parametrize(
    "arguments", [["a b"], ["a", "--scopes", "x y"], ["a", "--expires-days", "0"], ["a", "--scopes", "s" * 3000]]
)
def test_invalid_argument_of_create_is_rejected(arguments: list[str]) -> None:
    with pytest.raises(SystemExit) as exited:
        cli.main(program(), ["api-keys", "create", *arguments])
    assert exited.value.code == 2
