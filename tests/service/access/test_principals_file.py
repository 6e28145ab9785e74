from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from convd.service.access.principals_file import (
    PrincipalEntry,
    PrincipalsFile,
    PrincipalsFileError,
    change_principals,
    new_token,
    read_principals,
    token_entry,
)
from convd.service.access.roster import FollowedRoster, Roster
from convd.service.access.scopes import Scope
from convd.service.errors import LimitExceededError
from convd.service.followed_files import FollowedFiles
from convd.service.rpc.refusal import retry_hint
from testbed.principals import write_principals
from tests.support import wait_until

NOW = datetime.now(UTC)


def entry(name: str, *tokens: str, **more: object) -> PrincipalEntry:
    entries = [token_entry(token, NOW, None) for token in tokens]
    return PrincipalEntry.model_validate({"name": name, "tokens": entries, **more})


def test_a_token_finds_its_principal_and_no_other_text_does() -> None:
    lab, camera, other = new_token(), new_token(), new_token()
    roster = Roster(PrincipalsFile(principals=(entry("lab", lab, other), entry("camera", camera))))
    found = [roster.of_token(token) for token in (lab, other, camera)]
    assert [one.name for one in found if one] == ["lab", "lab", "camera"]
    for wrong in ("", lab[:-1], lab + "x", lab.upper(), lab[:-1] + "é", "\udc80", new_token()):
        assert roster.of_token(wrong) is None


@given(st.text(max_size=300))
def test_no_text_is_a_token(text: str) -> None:
    roster = Roster(PrincipalsFile(principals=(entry("lab", new_token()),)))
    assert roster.of_token(text) is None


def test_tokens_are_long_and_never_the_same() -> None:
    tokens = {new_token() for _ in range(1000)}
    assert len(tokens) == 1000
    assert all(len(token) == len("convd_") + 43 for token in tokens)


def test_an_expired_token_is_none() -> None:
    token = new_token()
    for ends, valid in [(timedelta(hours=1), True), (-timedelta(seconds=1), False)]:
        one = PrincipalEntry(name="lab", tokens=(token_entry(token, NOW, NOW + ends),))
        assert (Roster(PrincipalsFile(principals=(one,))).of_token(token) is not None) is valid


def test_the_file_holds_no_token(tmp_path: Path) -> None:
    path, token = tmp_path / "principals.json", new_token()
    change_principals(path, lambda before: before.with_entry(entry("lab", token)))
    assert token not in path.read_text()
    assert path.stat().st_mode & 0o777 == 0o600
    assert read_principals(path).entry("lab") == entry("lab", token)


def test_changes_keep_the_mode_and_follow_a_link(tmp_path: Path) -> None:
    path, link = tmp_path / "real.json", tmp_path / "link.json"
    change_principals(path, lambda before: before.with_entry(entry("one")))
    path.chmod(0o640)
    link.symlink_to(path)
    change_principals(link, lambda before: before.with_entry(entry("two")))
    assert link.is_symlink()
    assert path.stat().st_mode & 0o777 == 0o640
    assert [one.name for one in read_principals(path).principals] == ["one", "two"]
    assert sorted(file.name for file in tmp_path.iterdir()) == ["link.json", "real.json"]


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        ("", "Invalid JSON"),
        ("[]", "should be an object"),
        ('{"principal": []}', "principal: Extra inputs"),
        ('{"principals": [{"name": "a b"}]}', "principals.0.name"),
        ('{"principals": [{"name": "a"}, {"name": "a"}]}', "the name a is there twice"),
        ('{"principals": [{"name": "a"}], "principals": []}', "the key principals is there twice"),
        (
            '{"principals": [{"name": "a", "limits": {"request_bytes": 1, "request_bytes": 9}}]}',
            "the key request_bytes is there twice",
        ),
        ('{"principals": [{"name": "a", "scopes": ["all"]}]}', "'all' is not a scope"),
        (
            '{"principals": [{"name": "a", "limits": {"requests_per_second": 0}}]}',
            "greater than or equal to",
        ),
        ('{"principals": [{"name": "a", "tokens": [{"sha256": "00"}]}]}', "sha256"),
        (
            '{"principals": [{"name": "a", "certificates": ["CN=x"]},'
            ' {"name": "b", "certificates": ["CN=x"]}]}',
            "the certificate CN=x is there twice",
        ),
    ],
)
def test_a_file_that_says_something_else_is_refused(
    tmp_path: Path, content: str, reason: str
) -> None:
    path = tmp_path / "principals.json"
    path.write_text(content)
    with pytest.raises(PrincipalsFileError, match=reason):
        read_principals(path)


def test_no_part_of_a_file_is_a_file(tmp_path: Path) -> None:
    path = tmp_path / "principals.json"
    write_principals(path, {"lab": ["health"], "camera": ["infer:digits"]})
    whole = path.read_bytes()
    for length in range(len(whole)):
        path.write_bytes(whole[:length])
        with pytest.raises(PrincipalsFileError):
            read_principals(path)


def test_a_broken_file_leaves_the_last_good_one_in_force(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path, failures = tmp_path / "principals.json", list[bool]()
    tokens = write_principals(path, {"lab": ["health"]})
    roster = FollowedRoster(path, on_read=failures.append)
    try:
        whole = path.read_text()
        path.write_text(whole[:-20])
        wait_until(lambda: failures == [True])
        assert "stay in force" in caplog.text
        assert roster.current.of_token(tokens["lab"])
        path.unlink()
        wait_until(lambda: failures == [True, True])
        assert roster.current.of_token(tokens["lab"])
        write_principals(path, {"lab": ["models:list"]})
        wait_until(lambda: failures == [True, True, False])
        assert roster.current.of_token(tokens["lab"]) is None
    finally:
        roster.close()


def test_what_was_used_of_a_limit_outlives_a_reading() -> None:
    token = new_token()
    limits = {"requests_per_second": 0.001}
    one = PrincipalsFile(principals=(entry("lab", token, limits=limits, scopes=("health",)),))
    before = Roster(one)
    used = before.of_token(token)
    assert used is not None
    used.spend_request()
    two = PrincipalsFile(principals=(entry("lab", token, limits=limits, scopes=("infer:x",)),))
    after = Roster(two, before=before).of_token(token)
    assert after is used
    assert after.grants.allow(Scope.INFER, "x")
    assert not after.grants.allow(Scope.HEALTH)
    with pytest.raises(LimitExceededError):
        used.spend_request()
    fresh = PrincipalsFile(principals=(entry("lab", token),))
    assert Roster(fresh, before=before).of_token(token) is used
    used.spend_request()


def test_a_name_that_another_process_knows_is_kept_apart() -> None:
    """The process that has admitted a request over HTTP may have read a newer file."""
    fresh = Roster(PrincipalsFile()).named("fresh")
    assert fresh.name == "fresh"
    assert not any(fresh.grants.allow(scope) for scope in Scope)


def test_calls_in_progress_follow_the_file() -> None:
    """Their principal is the one of the reading that they began with."""
    tokens = new_token(), new_token()
    one, two = (
        PrincipalsFile(
            principals=(
                entry("lab", tokens[0], scopes=("health",), limits=limits),
                entry("gone", tokens[1], scopes=("health",)),
            )[:count]
        )
        for count, limits in ((2, {}), (1, {"concurrent_calls": 1}))
    )
    before = Roster(one)
    lab, gone = (before.of_token(token) for token in tokens)
    assert lab is not None
    assert gone is not None
    lab.enter()
    Roster(two, before=before)
    assert not gone.grants.allow(Scope.HEALTH)
    assert lab.grants.allow(Scope.HEALTH)
    with pytest.raises(LimitExceededError):
        lab.enter()
    lab.leave()
    lab.enter()


def test_files_that_could_not_be_used_are_tried_again(tmp_path: Path) -> None:
    """What was in the way may not be in them: rights, or too many open files."""
    path, outcomes, tried = tmp_path / "file", iter((False, False, True)), list[bool]()

    def use() -> bool:
        tried.append(next(outcomes))
        return tried[-1]

    path.write_text("one")
    followed = FollowedFiles([path], use, retry_seconds=0.01)
    followed.start()
    try:
        path.write_text("other")
        wait_until(lambda: tried == [False, False, True])
    finally:
        followed.stop()


@pytest.mark.parametrize("rate", ["5e-324", "1e-300", "0", "-1", "NaN", "Infinity", "1e400"])
@pytest.mark.parametrize("limit", ["requests_per_second", "pixels_per_second"])
def test_no_rate_is_one_that_hints_cannot_tell(tmp_path: Path, rate: str, limit: str) -> None:
    path = tmp_path / "principals.json"
    path.write_text(f'{{"principals": [{{"name": "lab", "limits": {{"{limit}": {rate}}}}}]}}')
    with pytest.raises(PrincipalsFileError):
        read_principals(path)


def test_a_share_of_the_smallest_rate_is_a_rate() -> None:
    least = PrincipalsFile(principals=(entry("lab", limits={"requests_per_second": 1e-6}),))
    lab = Roster(least, workers=64).named("lab")
    lab.spend_request()
    with pytest.raises(LimitExceededError) as refused:
        lab.spend_request()
    assert retry_hint(refused.value)[0] == ("retry-after", "64000000")


@pytest.mark.parametrize("name", ["anonymous", "others"])
def test_nobody_has_a_name_that_stands_for_nobody(name: str) -> None:
    with pytest.raises(ValidationError, match="the server calls"):
        entry(name)


def test_a_thousand_principals_are_read_at_once(tmp_path: Path) -> None:
    path = tmp_path / "principals.json"
    tokens = write_principals(path, {f"camera-{number}": ["health"] for number in range(1000)})
    roster = Roster(read_principals(path))
    assert all(roster.of_token(token) for token in tokens.values())
