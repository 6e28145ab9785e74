"""The version policy: a pure function from the versions on disk and in memory to the next actions.

A new version becomes available before the one that it replaces drains, and a version that fails
replaces none.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from enum import Enum
from typing import Annotated, Literal

from pydantic import Field, PositiveInt

from convd.artifact.frozen import FrozenModel


class State(Enum):
    """Where a version is in its life."""

    LOADING = "loading"
    AVAILABLE = "available"
    DRAINING = "draining"
    UNLOADED = "unloaded"
    FAILED = "failed"


class LatestVersions(FrozenModel):
    """The newest versions should be available.

    Attributes:
        latest: How many of them, not counting versions that failed.
    """

    latest: PositiveInt = 1

    def aspired(self, versions: Mapping[int, State]) -> set[int]:
        """Choose among the versions on disk, whose states are given (UNLOADED if never loaded)."""
        return set(sorted(_good(versions, versions), reverse=True)[: self.latest])


class AllVersions(FrozenModel):
    """Every version should be available."""

    def aspired(self, versions: Mapping[int, State]) -> set[int]:
        """Choose among the versions on disk, whose states are given (UNLOADED if never loaded)."""
        return _good(versions, versions)


class SpecificVersions(FrozenModel):
    """The versions of a list should be available.

    Attributes:
        specific: The list.
    """

    specific: Annotated[frozenset[PositiveInt], Field(min_length=1)]

    def aspired(self, versions: Mapping[int, State]) -> set[int]:
        """Choose among the versions on disk, whose states are given (UNLOADED if never loaded)."""
        return _good(self.specific, versions)


VersionPolicy = LatestVersions | AllVersions | SpecificVersions


def _good(wanted: Iterable[int], versions: Mapping[int, State]) -> set[int]:
    """The wanted versions that are on disk and have not failed."""
    return {one for one in wanted if versions.get(one, State.FAILED) is not State.FAILED}


@dataclass(frozen=True)
class Action:
    """One action on one version of a model.

    `reload` loads a version again next to the servable that answers, and then replaces it. `forget`
    removes a version that is no longer on disk from the lists.
    """

    kind: Literal["load", "reload", "unload", "forget"]
    version: int


def plan(
    on_disk: Collection[int],
    states: Mapping[int, State],
    policy: VersionPolicy,
    *,
    labels: Mapping[str, int] | None = None,
    resolved: Mapping[str, int] | None = None,
    stale: Collection[int] = (),
) -> list[Action]:
    """Plan the next actions for one model; called again until none are left.

    Args:
        on_disk: Versions in the repository.
        states: State of every version that was ever loaded or tried.
        policy: Which versions should be available.
        labels: The version that each label should point to; these should be available too.
        resolved: The version that each label points to now; it is not unloaded before the label
            has moved on.
        stale: Versions that should be reloaded.

    Returns:
        The actions that may be carried out now, in this order. Loads come before unloads; a version
        is unloaded only once one of those that replace it is available.
    """
    known = {version: states.get(version, State.UNLOADED) for version in on_disk}
    labelled = _good((labels or {}).values(), known)
    aspired = policy.aspired(known) | labelled
    available = {version for version, state in states.items() if state is State.AVAILABLE}
    loads = [
        Action("load", version)
        for version in sorted(aspired, reverse=True)
        if known[version] is State.UNLOADED
    ]
    reloads = [
        Action("reload", version)
        for version in sorted(available & aspired & set(stale), reverse=True)
    ]
    replaced = bool(available & aspired) and not loads
    held = set((resolved or {}).values())
    unloads = [
        Action("unload", version)
        for version in sorted(available - aspired)
        if (replaced and version not in held) or version not in known
    ]
    gone = [
        Action("forget", version)
        for version, state in sorted(states.items())
        if version not in known and state in (State.FAILED, State.UNLOADED)
    ]
    return loads + reloads + unloads + gone


def move_labels(
    labels: Mapping[str, int], resolved: Mapping[str, int], states: Mapping[int, State]
) -> dict[str, int]:
    """Find the version that each label points to now.

    A label moves once its new version is available. Until then it stays where it is, as long as
    that version is available.

    Args:
        labels: The version that each label should point to.
        resolved: The version that each label pointed to before.
        states: State of every version.

    Returns:
        The version of each label; labels without an available version are left out.
    """
    moved = {}
    for label, target in labels.items():
        for version in (target, resolved.get(label, target)):
            if states.get(version) is State.AVAILABLE:
                moved[label] = version
                break
    return moved
