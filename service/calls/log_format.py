"""The log: lines for people, or JSON for machines, each with the call that it belongs to."""

import json
import logging
from datetime import UTC, datetime

from convd.service.calls.call import call_in_progress
from convd.service.settings import LogFormat

# What every record has; anything else was given as `extra` and goes into the JSON.
_STANDARD_ATTRIBUTES = frozenset(vars(logging.makeLogRecord({}))) | {
    "asctime",
    "message",
    "taskName",
}


class TextFormatter(logging.Formatter):
    """One line for people; that of a call ends with its request id and trace id."""

    def __init__(self) -> None:
        super().__init__("%(asctime)s %(levelname)s%(worker)s %(name)s: %(message)s")

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Format the line, without a traceback."""
        record.worker = f" {record.processName}" if record.processName != "MainProcess" else ""
        facts = " ".join(f"{key}={value}" for key, value in _identity().items())
        line = super().formatMessage(record)
        return f"{line} [{facts}]" if facts else line


class JsonFormatter(logging.Formatter):
    """One JSON object in one line.

    Its keys are `time` (RFC 3339, UTC), `level`, `logger`, `message`, `process`; `request_id`,
    `trace_id`, `method`, `model` and `version` where the record belongs to a call; `exception` with
    the traceback; and whatever was given as `extra`.
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


def configure_logging(log_format: LogFormat) -> None:
    """Send every record of level INFO and above to standard error."""
    stream = logging.StreamHandler()
    stream.setFormatter(JsonFormatter() if log_format == "json" else TextFormatter())
    logging.basicConfig(level=logging.INFO, handlers=[stream], force=True)


def _identity() -> dict[str, str]:
    call = call_in_progress()
    if call is None:
        return {}
    identity = {"request_id": call.identify()}
    if call.trace_id:
        identity["trace_id"] = call.trace_id
    return identity
