import json
from datetime import UTC, datetime
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from convd.commands.token import command
from convd.service.access.principals_file import read_principals
from convd.service.access.roster import Roster
from convd.service.access.scopes import EVERYTHING


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "principals.json"


def convd_token(file: Path, *words: str) -> Result:
    return CliRunner().invoke(command, [*words, "--principals", str(file)])


def test_create_prints_the_token_alone_and_keeps_its_hash(file: Path) -> None:
    made = convd_token(file, "create", "camera-7", "--scope", "infer:digits", "--scope", "health")
    assert made.exit_code == 0, made.output
    token = made.stdout.strip()
    assert token not in file.read_text()
    principal = Roster(read_principals(file)).of_token(token)
    assert principal is not None
    assert principal.name == "camera-7"


def test_a_second_token_keeps_scopes_and_limits(file: Path) -> None:
    words = ["create", "lab", "--all-scopes", "--requests-per-second", "5"]
    first = convd_token(file, *words).stdout.strip()
    second = convd_token(file, "create", "lab", "--expires-days", "1").stdout.strip()
    roster, entry = Roster(read_principals(file)), read_principals(file).entry("lab")
    assert entry is not None
    assert entry.scopes == EVERYTHING
    assert entry.limits.requests_per_second == 5
    assert roster.of_token(first) is roster.of_token(second) is not None
    expires = entry.tokens[1].expires
    assert entry.tokens[0].expires is None
    assert expires is not None
    assert 0 < (expires - datetime.now(UTC)).total_seconds() <= 86_400


def test_revoke_one_token_or_all(file: Path) -> None:
    first = convd_token(file, "create", "lab", "--scope", "health").stdout.strip()
    second = convd_token(file, "create", "lab").stdout.strip()
    entry = read_principals(file).entry("lab")
    assert entry is not None
    assert convd_token(file, "revoke", "lab", "--token", entry.tokens[0].id).exit_code == 0
    roster = Roster(read_principals(file))
    assert roster.of_token(first) is None
    assert roster.of_token(second) is not None
    assert convd_token(file, "revoke", "lab").exit_code == 0
    assert read_principals(file).principals == ()
    assert "has no principal lab" in convd_token(file, "revoke", "lab").output


def test_a_certificate_takes_the_place_of_a_token(file: Path) -> None:
    words = ["create", "mesh", "--scope", "infer:*", "--certificate", "spiffe://example.org/mesh"]
    made = convd_token(file, *words)
    assert made.stdout == ""
    assert json.loads(file.read_text())["principals"][0] == {
        "name": "mesh",
        "scopes": ["infer:*"],
        "certificates": ["spiffe://example.org/mesh"],
    }


def test_list_shows_ids_and_never_a_hash(file: Path) -> None:
    convd_token(file, "create", "lab", "--scope", "infer:digits", "--pixels-per-second", "1e6")
    entry = read_principals(file).entry("lab")
    assert entry is not None
    shown = convd_token(file, "list").output
    assert entry.tokens[0].id in shown
    assert entry.tokens[0].sha256 not in shown
    assert "infer:digits" in shown
    assert "1e+06 pixels per second" in shown


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        (["create", "lab"], "say what it may do"),
        (["create", "lab", "--scope", "infer"], "'infer' is not a scope"),
        (["create", "a b", "--scope", "health"], "name: String should match"),
        (["create", "lab", "--scope", "health", "--requests-per-second", "0"], "greater than"),
        (["create", "lab", "--scope", "health", "--expires-days", "0"], "0"),
        (["list"], "cannot be read"),
    ],
)
def test_what_cannot_be_used_changes_nothing(file: Path, words: list[str], reason: str) -> None:
    refused = convd_token(file, *words)
    assert refused.exit_code != 0
    assert reason in refused.output
    assert not file.exists()


def test_a_broken_file_is_not_overwritten(file: Path) -> None:
    file.write_text("{")
    refused = convd_token(file, "create", "lab", "--scope", "health")
    assert "Invalid JSON" in refused.output
    assert file.read_text() == "{"
