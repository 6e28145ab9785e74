"""The version policy: a pure function from what is on disk and what is loaded to what to do next.

A new version becomes available before the one that it replaces drains, and a version that fails
takes nobody's place.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Literal

from pydantic import PositiveInt

from artifact.frozen import FrozenModel


class State(Enum):
    """Where a version is in its life."""

    LOADING = "loading"
    AVAILABLE = "available"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


class VersionPolicy(FrozenModel):
    """Which versions of a model should be available.

    Attributes:
        latest: How many of the newest versions; versions that fail do not count.
    """

    latest: PositiveInt = 1

    def aspired(self, versions: Mapping[int, State]) -> set[int]:
        """Choose among the versions on disk, whose states are given (UNLOADED if never loaded)."""
        candidates = [version for version in versions if versions[version] is not State.FAILED]
        return set(sorted(candidates, reverse=True)[: self.latest])


@dataclass(frozen=True)
class Action:
    """One thing to do to one version of a model."""

    kind: Literal["load", "unload", "forget"]
    version: int


def plan(on_disk: set[int], states: Mapping[int, State], policy: VersionPolicy) -> list[Action]:
    """Say what to do next for one model.

    Called again after every step, until nothing is left to do.

    Args:
        on_disk: Versions that the repository holds.
        states: State of every version that has ever been loaded or tried.
        policy: Which versions should be available.

    Returns:
        Actions that may be carried out now, in this order. Loads come before unloads; a version
        that others replace is unloaded only once one of them is available.
    """
    known = {version: states.get(version, State.UNLOADED) for version in on_disk}
    aspired = policy.aspired(known)
    loads = [
        Action("load", version)
        for version in sorted(aspired, reverse=True)
        if known[version] is State.UNLOADED
    ]
    available = {version for version, state in states.items() if state is State.AVAILABLE}
    replaced = bool(available & aspired) and not loads
    unloads = [
        Action("unload", version)
        for version in sorted(available - aspired)
        if replaced or version not in on_disk
    ]
    gone = [
        Action("forget", version)
        for version, state in sorted(states.items())
        if version not in on_disk and state in (State.FAILED, State.UNLOADED)
    ]
    return loads + unloads + gone
