"""Traces: whether they are wanted, and whom to ask for them.

OpenTelemetry is imported only where they are.
"""

import logging
import os
from typing import Protocol

from convd.installation import install_command
from convd.service.calls.recorder import CallTracer
from convd.service.settings import SettingsError

logger = logging.getLogger(__name__)

_ENDPOINT_VARIABLES = ("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", "OTEL_EXPORTER_OTLP_ENDPOINT")


class Tracer(CallTracer, Protocol):
    """Traces calls and sends the traces away."""

    def close(self, timeout_seconds: float) -> None:
        """Send what is left, for a time at most, and stop."""


def open_tracer(endpoint: str) -> Tracer | None:
    """Make a tracer, if anybody wants traces.

    Args:
        endpoint: Where they go; empty for what OpenTelemetry's own variables say.

    Returns:
        The tracer; None if nobody has asked for traces, so that they cost nothing.

    Raises:
        SettingsError: An endpoint was given, and OpenTelemetry is not installed.
    """
    if not endpoint and not _wanted_by_environment():
        return None
    try:
        from convd.service.calls.spans import SpanTracer
    except ModuleNotFoundError as error:
        missing = f"traces need OpenTelemetry: {install_command('traces')}"
        if endpoint:
            raise SettingsError(f"traces_endpoint: {missing}") from error
        # The variables may stand there for other programs.
        logger.warning("OTEL_EXPORTER_OTLP_ENDPOINT is set, but %s", missing)
        return None
    return SpanTracer.exporting(endpoint)


def _wanted_by_environment() -> bool:
    if os.environ.get("OTEL_SDK_DISABLED", "").lower() == "true":
        return False
    if os.environ.get("OTEL_TRACES_EXPORTER", "otlp") == "none":
        return False
    return any(os.environ.get(variable) for variable in _ENDPOINT_VARIABLES)
