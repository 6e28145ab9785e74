"""The supervisor: keeps several workers running, and presents them as one server."""

import itertools
import logging
import socket
import threading
import time
from collections.abc import Iterator
from concurrent import futures

from prometheus_client import CollectorRegistry, Metric
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily

from convd.runtime.cores import available_cores
from convd.service.address import BindError, join_address, try_port
from convd.service.calls.admission import open_access
from convd.service.errors import UnavailableError
from convd.service.lifecycle.served_repository import open_mirror, open_repository
from convd.service.metrics.principals import PrincipalMetrics
from convd.service.settings import (
    ServerSettings,
    decode_budget,
    drain_limit_seconds,
    exposure,
    http_pages,
)
from convd.service.statistics import StatisticsByVersion, add_up_statistics
from convd.service.termination import CALLS_CUT, Termination
from convd.service.tls import TlsFiles
from convd.service.web.opening import open_http
from convd.service.web.request import Request
from convd.service.web.response import Response, error_response
from convd.service.workers.aggregation import add_up
from convd.service.workers.control import SharedControl
from convd.service.workers.line import LineClosedError
from convd.service.workers.restarting import ANSWER_SECONDS, RestartingWorker
from convd.service.workers.scraping import WorkersRegistry

logger = logging.getLogger(__name__)

CONNECTION_AGE_SECONDS = 30.0
"""A connection stays with one worker, so load spreads only as clients reconnect."""

_POLL_SECONDS = 1.0

# A worker ends itself a second after its time.
_GRACE_SECONDS = 1.5


class WorkerError(Exception):
    """The workers cannot start with these settings."""


class Supervisor:
    """Runs `workers` processes that share the gRPC port.

    It restarts workers that end, and presents all of them as one server: one endpoint for metrics,
    one readiness, one signal that drains them all.

    Args:
        settings: The server's settings.

    Raises:
        ArtifactError: The repository does not exist or cannot be read, or the public key for
            signatures cannot.
        BindError: A port is in use or not allowed.
        SettingsError: A file that the settings name cannot be used.
    """

    def __init__(self, settings: ServerSettings) -> None:
        open_repository(settings, open_mirror(settings))
        self._settings = settings
        self._port_holder = _hold_port(settings.host, settings.grpc_port)
        self.grpc_port = int(self._port_holder.getsockname()[1])
        self._stop = threading.Event()
        self._turns = itertools.count()
        self._termination = Termination(
            drain_limit_seconds(settings) + _GRACE_SECONDS, self._look_now, self._kill
        )
        registry = WorkersRegistry(self.collect)
        # What is refused over HTTP, no worker hears of.
        self._own_registry = CollectorRegistry()
        self._access = open_access(settings, PrincipalMetrics(self._own_registry), workers=1)
        self._tls = TlsFiles.of(settings)
        self._http = open_http(
            settings,
            registry,
            self.unready_reason,
            self._ask_models,
            access=self._access,
            tls=self._tls,
        )
        shared = _settings_of_workers(settings, self.grpc_port)
        control = SharedControl()
        self._workers = [
            RestartingWorker(number, shared, cores, control, self.statistics)
            for number, cores in enumerate(divide(available_cores(), settings.workers), start=1)
        ]

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain every worker.

        Returns:
            The exit code: 0, or CALLS_CUT where a worker had to cut calls.

        Raises:
            WorkerError: The workers cannot start; the text says why.
        """
        self._termination.install()
        if self._settings.workers > available_cores():
            logger.warning(
                "%d workers share %d cores: with more workers than cores, requests are slower",
                self._settings.workers,
                available_cores(),
            )
        self._http.start()
        for worker in self._workers:
            worker.start()
        if exposed := exposure(self._settings):
            logger.warning("insecure: on %s, %s", self._settings.host, exposed)
        logger.info(
            "serving gRPC on %s; %d workers; %s on %s://%s",
            join_address(self._settings.host, self.grpc_port),
            self._settings.workers,
            http_pages(self._settings),
            "https" if self._tls else "http",
            join_address(self._settings.host, self._http.port),
        )
        ready_before = False
        while not self._termination.asked(_POLL_SECONDS):
            if any(worker.gave_up for worker in self._workers):
                break
            # The counts of a worker's last report outlive the worker.
            self._ask_for_reports()
            for worker in self._workers:
                worker.kill_if_stuck(self._settings.worker_silence_seconds)
            reason = self._unready_reason()
            if (not reason) != ready_before:
                ready_before = not reason
                logger.info("ready" if not reason else f"not ready: {reason}")
        self._stop.set()
        self._termination.limit()
        cut = self._drain()
        for worker in self._workers:
            if worker.gave_up:
                raise WorkerError(f"worker {worker.number} cannot start: {worker.gave_up}")
        return CALLS_CUT if cut else 0

    def unready_reason(self) -> str:
        """Why the server is not ready; empty if every worker is."""
        self._ask_for_reports()
        return self._unready_reason()

    def collect(self) -> Iterator[Metric]:
        """Metrics of all workers as one, for Prometheus' registry."""
        self._ask_for_reports()
        snapshots = [snapshot for worker in self._workers for snapshot in worker.snapshots()]
        together = add_up([*snapshots, list(self._own_registry.collect())])
        # An ended worker reports nothing, so the supervisor determines readiness.
        yield from (metric for metric in together if metric.name != "convd_ready")
        is_ready = float(not self._unready_reason())
        yield GaugeMetricFamily("convd_ready", "1 if the server is ready, else 0.", is_ready)
        ready = sum(not worker.unready_reason() for worker in self._workers)
        yield GaugeMetricFamily("convd_workers", "Configured workers.", len(self._workers))
        yield GaugeMetricFamily("convd_workers_ready", "Ready workers.", ready)
        yield CounterMetricFamily(
            "convd_worker_restarts",
            "Restarts of workers that ended unexpectedly.",
            sum(worker.restarts for worker in self._workers),
        )

    def statistics(self) -> StatisticsByVersion:
        """The statistics of the versions in all workers, running and ended."""
        self._ask_for_reports()
        return add_up_statistics(part for worker in self._workers for part in worker.statistics())

    def _ask_models(self, request: Request) -> Response:
        """Make the ready workers answer in turn; all of them serve the same models."""
        ready = [worker for worker in self._workers if not worker.unready_reason()]
        workers = ready or self._workers
        worker = workers[next(self._turns) % len(workers)]
        try:
            # A worker that hangs is killed, which ends this wait.
            return worker.ask_models(request).result()
        except LineClosedError:
            return error_response(UnavailableError("the worker ended: try again"))

    def _unready_reason(self) -> str:
        if self._stop.is_set():
            return "draining"
        reasons = [(worker.number, worker.unready_reason()) for worker in self._workers]
        return "; ".join(f"worker {number}: {reason}" for number, reason in reasons if reason)

    def _ask_for_reports(self) -> None:
        waiting = [answer for worker in self._workers if (answer := worker.ask_for_report())]
        futures.wait(waiting, ANSWER_SECONDS)

    def _kill(self) -> None:
        for worker in self._workers:
            worker.kill()

    def _look_now(self) -> None:
        for worker in self._workers:
            worker.look_now()

    def _drain(self) -> bool:
        """End every worker; whether one of them cut calls, or had to be killed."""
        started = time.monotonic()
        for worker in self._workers:
            worker.drain()
        # A worker keeps to the time itself; this is for one that hangs.
        deadline = started + drain_limit_seconds(self._settings) + _GRACE_SECONDS
        for worker in self._workers:
            worker.join(max(deadline - time.monotonic(), 0.0))
        self._http.stop()
        for followed in (self._tls, self._access):
            if followed is not None:
                followed.close()
        self._port_holder.close()
        cut = [worker.number for worker in self._workers if worker.has_cut_calls()]
        which = f"; calls were cut in workers {cut}" if cut else ""
        logger.info("stopped after %.1f s%s", time.monotonic() - started, which)
        return bool(cut)


def divide(cores: int, workers: int) -> list[int]:
    """Divide cores among workers; each gets at least one."""
    return [max(1, cores // workers + (index < cores % workers)) for index in range(workers)]


def _settings_of_workers(settings: ServerSettings, grpc_port: int) -> ServerSettings:
    age_seconds = settings.max_connection_age_seconds or CONNECTION_AGE_SECONDS
    changed = {
        "grpc_port": grpc_port,
        "max_connection_age_seconds": age_seconds,
        "decode_budget_bytes": decode_budget(settings) // settings.workers,
    }
    return ServerSettings.model_construct(**(dict(settings) | changed))


def _hold_port(host: str, port: int) -> socket.socket:
    """Reserve the port that the workers share, without accepting connections.

    Raises:
        BindError: The port is in use or not allowed.
    """
    try:
        free = try_port(host, port)
        holder = socket.socket(free.family, free.kind, free.protocol)
        holder.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
        holder.bind(free.address)
    except OSError as error:
        raise BindError(
            f"cannot listen on {join_address(host, port)}: {error.strerror}; choose another one "
            "with --grpc-port"
        ) from error
    return holder
