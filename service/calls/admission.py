"""Opens access control as the settings ask for it, counted like other calls."""

from convd.service.access.control import AccessControl
from convd.service.access.principals_file import PrincipalsFileError
from convd.service.access.roster import FollowedRoster
from convd.service.calls.status import STATUSES
from convd.service.errors import ServiceError
from convd.service.metrics.principals import PrincipalMetrics
from convd.service.settings import ServerSettings, SettingsError


def open_access(
    settings: ServerSettings, metrics: PrincipalMetrics, *, workers: int
) -> AccessControl | None:
    """Read the principals, and follow their file.

    Args:
        settings: The settings.
        metrics: Counts what is refused on arrival.
        workers: Number of processes among which each principal's limits are divided.

    Returns:
        Access control, to be closed; None where anyone may do everything.

    Raises:
        SettingsError: The file cannot be used.
    """
    if settings.principals is None:
        return None

    def count(principal: str, error: ServiceError) -> None:
        metrics.answered(principal, STATUSES[type(error)][0].name)

    try:
        roster = FollowedRoster(settings.principals, workers=workers, on_read=metrics.file_read)
    except PrincipalsFileError as error:
        raise SettingsError(f"principals: {error}") from error
    return AccessControl(roster, count)
