"""The format of the log: plain lines or JSON, each with the call that it belongs to."""

import json
import logging
from datetime import UTC, datetime

from convd.service.calls.call import call_in_progress
from convd.service.settings import LogFormat, LogLevel

# Attributes of every record; any other attribute was passed as `extra` and goes into the JSON.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
}


class TextFormatter(logging.Formatter):
    """Formats a record as one line, which ends with the ids of its call."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s%(worker)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the line, without a traceback."""
        record.worker = f" {record.processName}" if record.processName != "MainProcess" else ""
        facts = " ".join(f"{key}={value}" for key, value in _identity().items())
        line = super().formatMessage(record)
        return f"{line} [{facts}]" if facts else line


class JsonFormatter(logging.Formatter):
    """Formats a record as one JSON object on one line.

    Its keys are `time` (RFC 3339, UTC), `level`, `logger`, `message` and `process`; `request_id`,
    `trace_id`, `principal`, `method`, `model` and `version` if the record belongs to a call;
    `exception` with the traceback; and everything that was passed as `extra`.
    """

    def format(self, record: logging.LogRecord) -> str:
        """Format one record."""
        moment = datetime.fromtimestamp(record.created, UTC)
        line: dict[str, object] = {
            "time": moment.isoformat(timespec="milliseconds").replace("+00:00", "Z"),
            "level": record.levelname,
            "logger": record.name,
            "message": record.getMessage(),
            "process": record.process,
        }
        call = call_in_progress()
        if call is not None:
            facts = {"method": call.method, "model": call.model, "version": call.version}
            line |= _identity() | {key: value for key, value in facts.items() if value}
        for key, value in vars(record).items():
            if key not in _STANDARD_ATTRIBUTES:
                line.setdefault(key, value)
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False, default=str)


def configure_logging(log_format: LogFormat, log_level: LogLevel = "info") -> None:
    """Write records of this level and above to standard error."""
    stream = logging.StreamHandler()
    stream.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=log_level.upper(), handlers=[stream], force=True)


def _identity() -> dict[str, str]:
    call = call_in_progress()
    if call is None:
        return {}
    identity = {"request_id": call.identify()}
    if call.trace_id:
        identity["trace_id"] = call.trace_id
    if call.principal is not None:
        identity["principal"] = call.principal.name
    return identity
