"""Readiness: what is missing before the server does what it was set up to do, and why."""

from collections.abc import Iterable, Mapping, Sequence

from service.lifecycle.catalog import VersionStatus
from service.lifecycle.policy import State


def missing_models(
    configured: Iterable[str],
    statuses: Sequence[VersionStatus],
    problems: Mapping[str, str],
) -> dict[str, str]:
    """Models that have no available version, each with the reason.

    Args:
        configured: Names of the models that should be available.
        statuses: Statuses of all versions.
        problems: What is wrong with the configurations, by model.
    """
    available = {status.name for status in statuses if status.state is State.AVAILABLE}
    missing = {}
    for name in sorted(set(configured) - available):
        reasons = [_reason(status) for status in reversed(statuses) if status.name == name]
        problem = problems.get(name, "")
        if problem and not any(problem in reason for reason in reasons):
            reasons.insert(0, problem)
        missing[name] = ", ".join(reasons) or "no version is published"
    return missing


def _reason(status: VersionStatus) -> str:
    if status.state is State.FAILED:
        return f"version {status.version} is refused ({status.reason})"
    return f"version {status.version} is {status.state.value}"
