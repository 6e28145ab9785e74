import pytest

from convd.service.access.scopes import EVERYTHING, Grants, Scope


def test_nothing_is_allowed_that_was_not_granted() -> None:
    grants = Grants.parse(["infer:digits", "health"])
    assert [scope for scope in Scope if grants.allow(scope)] == [Scope.HEALTH, Scope.INFER]
    assert grants.allow(Scope.INFER, "digits")
    assert not grants.allow(Scope.INFER, "digit")
    assert not grants.allow(Scope.INFER, "digits2")
    assert not grants.allow(Scope.INFER, "*")
    assert not grants.allow(Scope.INFER, "")


def test_a_star_is_every_model() -> None:
    grants = Grants.parse(["infer:*"])
    assert grants.allow(Scope.INFER, "anything")
    assert not grants.allow(Scope.READ_MODEL, "anything")


def test_everything_is_everything() -> None:
    assert all(Grants.parse(EVERYTHING).allow(scope, "any") for scope in Scope)


@pytest.mark.parametrize(
    "grant", ["", "infer", "infer:", "Infer:x", "health:x", "models:read", "models", "*", "admin:*"]
)
def test_a_grant_that_is_not_one_is_refused(grant: str) -> None:
    with pytest.raises(ValueError, match="the scopes are health, infer:MODEL"):
        Grants.parse([grant])
