from prometheus_client import CollectorRegistry

from convd.service.access.principal import OTHERS
from convd.service.metrics.principals import MAX_PRINCIPALS, PrincipalMetrics


def test_series_are_bounded_whatever_the_number_of_principals() -> None:
    registry = CollectorRegistry()
    metrics = PrincipalMetrics(registry)
    for number in range(3 * MAX_PRINCIPALS):
        metrics.answered(f"camera-{number}", "OK")
        metrics.answered(f"camera-{number}", "PERMISSION_DENIED")
    metrics.answered("camera-0", "OK")

    def counted(principal: str) -> float | None:
        return registry.get_sample_value(
            "convd_principal_requests_total", {"principal": principal, "code": "OK"}
        )

    assert counted("camera-0") == 2
    assert counted(f"camera-{MAX_PRINCIPALS}") is None
    assert counted(OTHERS) == 2 * MAX_PRINCIPALS
