"""A worker: one of several server processes that share a port."""

import contextlib
import dataclasses
import logging
import os
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import Any

from prometheus_client import Metric

from convd.artifact.errors import ArtifactError
from convd.service.address import BindError
from convd.service.application import Application
from convd.service.calls.log_format import configure_logging
from convd.service.errors import UnavailableError
from convd.service.settings import ServerSettings, SettingsError, drain_limit_seconds
from convd.service.shadow.report import ComparisonReport
from convd.service.statistics import StatisticsByVersion
from convd.service.termination import CALLS_CUT, SIGNAL_LOOK_SECONDS, Termination, end_process
from convd.service.workers.line import Line, LineClosedError, Responder

CANNOT_START = 78
"""Exit code of a worker with unusable settings (EX_CONFIG in sysexits.h)."""

logger = logging.getLogger(__name__)


@dataclasses.dataclass(frozen=True)
class Report:
    """The state of a worker.

    Attributes:
        unready_reason: Why it is not ready; empty if it is.
        stuck_reason: Why it has to be killed; empty if it need not be.
        metrics: Its metrics.
        statistics: The statistics of every version that it has loaded.
    """

    unready_reason: str
    stuck_reason: str
    metrics: list[Metric]
    statistics: StatisticsByVersion


def run_worker(
    settings: ServerSettings,
    connection: Connection,
    cores: int,
    held_back: frozenset[str],
    number: int,
) -> None:
    """Serve until the supervisor requests a drain or ends.

    Args:
        settings: The server's settings, with the port that all workers share.
        connection: The pipe to the supervisor.
        cores: Number of cores for its sessions.
        held_back: Models that clients have unloaded and that stay unloaded.
        number: Which of the workers it is, from 1.
    """
    configure_logging(settings.log_format, settings.log_level)
    stop = threading.Event()
    # Ctrl-C reaches the whole process group, but the supervisor decides when each worker drains.
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    signal.signal(signal.SIGTERM, lambda _number, _frame: stop.set())

    def ask(question: str, argument: object = None) -> Any:  # noqa: ANN401
        try:
            return line.ask(question, argument).result()
        except LineClosedError as error:
            raise UnavailableError(
                "the server is shutting down because its supervisor has ended: try another server"
            ) from error

    def everywhere(action: str, name: str) -> None:
        ask("everywhere", (action, name))

    def statistics() -> StatisticsByVersion:
        counted: StatisticsByVersion = ask("statistics")
        return counted

    def comparisons() -> list[ComparisonReport]:
        found: list[ComparisonReport] = ask("comparisons")
        return found

    try:
        application = Application(
            settings,
            cores=cores,
            is_worker=True,
            everywhere=everywhere,
            statistics=statistics,
            comparisons=comparisons,
        )
    except (ArtifactError, BindError, SettingsError) as error:
        logger.error("cannot start: %s", error)
        sys.exit(CANNOT_START)

    def report(_argument: object) -> Report:
        return Report(
            application.unready_reason(),
            application.stuck_reason(),
            list(application.registry.collect()),
            application.statistics(),
        )

    application.own_process(place=(number - 1) / settings.workers)
    manager = application.manager
    manager.hold_back(held_back)
    responders: dict[str, Responder] = {
        "report": report,
        "comparisons": lambda _argument: application.comparisons(),
        "look": lambda _argument: manager.look_now(),
        "drain": lambda _argument: stop.set(),
        "load": manager.load_here,
        "unload": manager.unload_here,
        "http": application.actions.answer,
    }
    line = Line(connection, responders, on_close=stop.set)
    line.start()
    application.start()
    while not stop.wait(SIGNAL_LOOK_SECONDS):
        pass
    Termination(drain_limit_seconds(settings), manager.look_now).limit()
    cut = application.drain()
    # The final counts belong to the server's totals.
    with contextlib.suppress(TimeoutError):
        line.ask("farewell", report(None)).exception(timeout=0.5)
    logger.info("worker process %d ends", os.getpid())
    end_process(CALLS_CUT if cut else 0)
