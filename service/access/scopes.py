"""Scopes: the kinds of permission that a principal can have."""

from collections.abc import Iterable
from enum import StrEnum
from typing import Self

ANY_MODEL = "*"


class Scope(StrEnum):
    """One kind of permission. `INFER` and `READ_MODEL` are granted for one model, or for all."""

    HEALTH = "health"
    INFER = "infer"
    LIST_MODELS = "models:list"
    READ_MODEL = "models:read"
    READ_METRICS = "metrics:read"
    ADMINISTER_MODELS = "admin:models"
    ADMINISTER_LOGS = "admin:logs"
    REFLECT = "admin:reflection"


_OF_ONE_MODEL = (Scope.INFER, Scope.READ_MODEL)

GRANTS = tuple(f"{scope}:MODEL" if scope in _OF_ONE_MODEL else str(scope) for scope in Scope)
"""How each scope is written in a grant; MODEL is a model's name, or `*` for every model."""

EVERYTHING = tuple(f"{scope}:{ANY_MODEL}" if scope in _OF_ONE_MODEL else scope for scope in Scope)
"""The grants that together allow everything."""


class Grants:
    """What one principal may do; it may do nothing else.

    Attributes:
        models: For each scope that was granted, the models that it was granted for; `*` for a scope
            that does not concern a model.
    """

    def __init__(self, models: dict[Scope, frozenset[str]]) -> None:
        self.models = models

    @classmethod
    def parse(cls, grants: Iterable[str]) -> Self:
        """Read grants such as `health` and `infer:digits`.

        Raises:
            ValueError: One of them is not a grant.
        """
        models: dict[Scope, frozenset[str]] = {}
        for grant in grants:
            scope, model = _parse(grant)
            models[scope] = models.get(scope, frozenset()) | {model}
        return cls(models)

    def allow(self, scope: Scope, model: str | None = None) -> bool:
        """Whether a scope was granted: for this model, or for any if the model is not known yet."""
        granted = self.models.get(scope)
        if granted is None:
            return False
        return model is None or model in granted or ANY_MODEL in granted


def _parse(grant: str) -> tuple[Scope, str]:
    for scope in Scope:
        if scope not in _OF_ONE_MODEL:
            if grant == scope:
                return scope, ANY_MODEL
        elif grant.startswith(f"{scope}:") and len(grant) > len(scope) + 1:
            return scope, grant[len(scope) + 1 :]
    raise ValueError(f"'{grant[:64]}' is not a scope; the scopes are {', '.join(GRANTS)}")
