"""Decides whether calls are traced, and imports OpenTelemetry only if they are."""

import logging
import os
from typing import Protocol

from convd.installation import install_command
from convd.service.calls.recorder import CallTracer
from convd.service.settings import SettingsError

logger = logging.getLogger(__name__)

_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracer(CallTracer, Protocol):
    """Traces calls and exports the spans."""

    def close(self, timeout_seconds: float) -> None:
        """Export the remaining spans, for at most this long, and stop."""


def open_tracer(endpoint: str) -> Tracer | None:
    """Make a tracer if traces are configured.

    Args:
        endpoint: Where to send spans; if empty, OpenTelemetry's own variables decide.

    Returns:
        The tracer, or None if traces are not configured; then tracing costs nothing.

    Raises:
        SettingsError: An endpoint is set, but OpenTelemetry is not installed.
    """
    if not endpoint and not _wanted_by_environment():
        return None
    try:
        from convd.service.calls.spans import SpanTracer
    except ModuleNotFoundError as error:
        missing = f"traces need OpenTelemetry: {install_command('traces')}"
        if endpoint:
            raise SettingsError(f"traces_endpoint: {missing}") from error
        # The variables may be meant for other programs.
        logger.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", missing)
        return None
    return SpanTracer.exporting(endpoint)


def _wanted_by_environment() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    return any(os.environ.get(variable) for variable in _ENDPOINT_VARIABLES)
