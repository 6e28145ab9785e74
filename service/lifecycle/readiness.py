"""Readiness: which models are not yet available, and why."""

from collections.abc import Iterable, Mapping, Sequence

from convd.service.lifecycle.catalog import VersionStatus
from convd.service.lifecycle.policy import State


class Readiness:
    """Whether every model is available, or once was.

    The server is not ready until every model of the repository has an available version. Once it
    was ready, a new model that is broken does not take the others out of service.
    """

    def __init__(self) -> None:
        self._was_ready = False

    def unready_reason(
        self,
        configured: Iterable[str],
        statuses: Sequence[VersionStatus],
        problems: Mapping[str, str],
        *,
        first_look_done: bool,
        repository_problem: str,
    ) -> str:
        """Why the server is not ready; empty if it is.

        Args:
            configured: Names of the models that should be available.
            statuses: Statuses of all versions.
            problems: What is wrong with each model's configuration.
            first_look_done: Whether every model was tried once.
            repository_problem: Why the last look at the repository was incomplete.
        """
        missing = missing_models(configured, statuses, problems)
        text = "; ".join(f"{name}: {reason}" for name, reason in missing.items())
        if not first_look_done:
            return f"loading; {text}" if text else "loading"
        if not any(status.state is State.AVAILABLE for status in statuses):
            reasons = [repository_problem, text]
            return "; ".join(["no model is available", *filter(None, reasons)])
        if missing and not self._was_ready:
            return text
        self._was_ready = True
        return ""


def missing_models(
    configured: Iterable[str],
    statuses: Sequence[VersionStatus],
    problems: Mapping[str, str],
) -> dict[str, str]:
    """Find the models without an available version, each with the reason.

    Args:
        configured: Names of the models that should be available.
        statuses: Statuses of all versions.
        problems: What is wrong with each model's configuration.
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
        return f"version {status.version} was refused ({status.reason})"
    return f"version {status.version} is {status.state.value}"
