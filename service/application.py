"""One server process: puts the core and the transports together, runs them, and drains them."""

import logging
import random
import time
from collections.abc import Callable, Sequence

from prometheus_client import CollectorRegistry

from convd.runtime.home_core import HOME
from convd.runtime.home_keeper import HomeKeeper
from convd.service.address import join_address
from convd.service.allocator import return_large_blocks
from convd.service.calls.gate import CallGate
from convd.service.calls.tracing import Tracer
from convd.service.garbage import collect_and_freeze, collect_rarely
from convd.service.lifecycle.catalog import VersionStatus
from convd.service.lifecycle.manager import Everywhere, ServableManager
from convd.service.lifecycle.policy import State
from convd.service.metrics import Metrics
from convd.service.rpc.server import GrpcServer
from convd.service.server_core import ServerCore
from convd.service.settings import (
    ServerSettings,
    drain_limit_seconds,
    exposure,
    http_pages,
)
from convd.service.shadow.report import ComparisonReport
from convd.service.statistics import StatisticsByVersion
from convd.service.termination import CALLS_CUT, Termination
from convd.service.tls import TlsFiles
from convd.service.web.actions import Actions
from convd.service.web.opening import open_http

logger = logging.getLogger(__name__)


class Application:
    """One server process.

    Args:
        settings: The server's settings.
        metrics: Its metrics; None to create them.
        tracer: Traces calls; None to follow the settings and the environment.
        cores: Number of cores for inference; None for all.
        is_worker: Whether it is one of several that share the gRPC port, with HTTP served by their
            supervisor.
        everywhere: Makes every worker load or unload a model; None for a single process.
        statistics: Returns the statistics of all workers; None for a single process.
        comparisons: Returns what the workers' comparisons have found; None for a single process.

    Attributes:
        actions: Answers the requests over HTTP that need a model.
        cores: The budget of cores that its models share.

    Raises:
        RepositoryError: The repository does not exist or cannot be read.
        SigningKeyError: The public key for signatures cannot be read.
        BindError: A port is in use or not allowed.
        SettingsError: A file that the settings name cannot be used, or traces are configured, but
            OpenTelemetry is not installed.
    """

    def __init__(
        self,
        settings: ServerSettings,
        metrics: Metrics | None = None,
        tracer: Tracer | None = None,
        *,
        cores: int | None = None,
        is_worker: bool = False,
        everywhere: Everywhere | None = None,
        statistics: Callable[[], StatisticsByVersion] | None = None,
        comparisons: Callable[[], Sequence[ComparisonReport]] | None = None,
    ) -> None:
        self._settings = settings
        self._is_worker = is_worker
        self._joined = False
        self._owns_process = False
        self._core = core = ServerCore(
            settings,
            metrics,
            tracer,
            cores=cores,
            on_change=self._version_changed,
            on_look=self._looked,
            everywhere=everywhere,
            statistics=statistics,
            comparisons=comparisons,
        )
        self.cores, self._catalog, self._manager = core.cores, core.catalog, core.manager
        self._tls = TlsFiles.of(settings, core.metrics.certificate_read)
        self._grpc = GrpcServer(
            core.classification,
            core.open_inference,
            core.recorder,
            settings,
            access=core.access,
            tls=self._tls,
            shares_port=is_worker,
        )
        self._http_calls = CallGate()
        self.actions = Actions(
            core.inference,
            core.classification,
            core.open_inference,
            core.repository,
            core.recorder,
            self._http_calls,
            access=core.access,
            max_message_bytes=settings.max_message_bytes,
        )
        self._http = None
        if not is_worker:
            self._http = open_http(
                settings,
                self.registry,
                self.unready_reason,
                self.actions.answer,
                access=core.access,
                tls=self._tls,
                stuck_reason=core.stuck_reason,
            )
        core.metrics.watch_calls(self._grpc.waiting_calls, limit=settings.max_waiting_calls)
        self._unready_reason = "loading"
        self._shown: set[tuple[str, int]] = set()

    @property
    def grpc_port(self) -> int:
        """The gRPC port."""
        return self._grpc.port

    @property
    def http_port(self) -> int:
        """The port of metrics, health and the console; 0 for none."""
        return self._http.port if self._http else 0

    @property
    def registry(self) -> CollectorRegistry:
        """Collects its metrics."""
        return self._core.metrics.registry

    @property
    def manager(self) -> ServableManager:
        """Loads and unloads its models."""
        return self._manager

    def statistics(self) -> StatisticsByVersion:
        """The statistics of every loaded version in this process."""
        return self._catalog.statistics()

    def comparisons(self) -> list[ComparisonReport]:
        """What the comparisons of versions in this process have found."""
        return self._core.shadowing.reports()

    def own_process(self, place: float) -> None:
        """Tune the process's memory and cores; call it only if the process runs nothing else.

        Args:
            place: Where in the row of cores its interpreter has its home, 0 to below 1.
        """
        self._owns_process = True
        collect_rarely()
        return_large_blocks()
        if self._settings.home_core:
            HomeKeeper(HOME, place).start()

    def start(self) -> None:
        """Start answering; models load in the background, and readiness follows them."""
        if self._http:
            self._http.start()
        # A worker joins the others only once its models are loaded.
        if not self._is_worker:
            self._grpc.start()
        self._manager.start()

    def unready_reason(self) -> str:
        """Why the server is not ready; empty if it is."""
        reason = self._manager.unready_reason()
        return reason or ("not listening yet" if self._is_worker and not self._joined else "")

    def stuck_reason(self) -> str:
        """Which batch has run for so long that only an end of the process helps; empty for none."""
        return self._core.stuck_reason()

    def run(self) -> int:
        """Serve until SIGTERM or SIGINT, then drain.

        Returns:
            The exit code: 0, or CALLS_CUT where calls were cut.
        """
        termination = Termination(drain_limit_seconds(self._settings), self._manager.look_now)
        termination.install()
        # Servers of other containers may choose at the same time.
        self.own_process(place=random.random())  # noqa: S311
        self.start()
        if exposed := exposure(self._settings):
            logger.warning("insecure: on %s, %s", self._settings.host, exposed)
        logger.info(
            "serving gRPC on %s; %s on %s://%s",
            join_address(self._settings.host, self.grpc_port),
            http_pages(self._settings),
            "https" if self._tls else "http",
            join_address(self._settings.host, self.http_port),
        )
        termination.wait()
        return CALLS_CUT if self.drain() else 0

    def drain(self) -> int:
        """Refuse new calls, finish the accepted ones, then stop.

        Returns:
            Number of accepted calls that were cut off, because the time was up.
        """
        self._manager.stop_polling()
        if self._settings.lame_duck_seconds:
            logger.info(
                "not ready, but accepting calls for another %g s", self._settings.lame_duck_seconds
            )
            self._grpc.say_draining()
            time.sleep(self._settings.lame_duck_seconds)
        self._core.shadowing.close()
        logger.info("draining for up to %g s", self._settings.drain_seconds)
        started = time.monotonic()
        self._http_calls.close()
        cut = self._grpc.drain(self._settings.drain_seconds)
        remaining_seconds = self._settings.drain_seconds - (time.monotonic() - started)
        self._http_calls.wait_until_empty(max(remaining_seconds, 0.0))
        cut += len(self._http_calls.in_progress)
        remaining_seconds = self._settings.drain_seconds - (time.monotonic() - started)
        self._manager.unload_all(max(remaining_seconds, 0.1))
        if self._http:
            self._http.stop()
        if self._tls is not None:
            self._tls.close()
        remaining_seconds = self._settings.drain_seconds - (time.monotonic() - started)
        self._core.close(max(remaining_seconds, 0.5))
        seconds = time.monotonic() - started
        if cut:
            logger.error("stopped after %.1f s; %d calls were cut", seconds, cut)
        else:
            logger.info("stopped after %.1f s", seconds)
        return cut

    def _version_changed(self, status: VersionStatus) -> None:
        self._grpc.set_serving(status.name, serving=self._catalog.newest(status.name) is not None)
        if self._owns_process and status.state in (State.AVAILABLE, State.UNLOADED):
            collect_and_freeze()

    def _looked(self) -> None:
        if self._is_worker and not self._joined and self._manager.unready_reason() != "draining":
            self._grpc.start()
            self._joined = True
        versions = {(status.name, status.version) for status in self._catalog.statuses()}
        for name in {name for name, _ in self._shown} - {name for name, _ in versions}:
            self._grpc.forget_health(name)
        self._shown = versions
        self._show_readiness()

    def _show_readiness(self) -> None:
        reason = self._manager.unready_reason()
        if reason != self._unready_reason:
            self._unready_reason = reason
            logger.info("ready" if not reason else f"not ready: {reason}")
            self._grpc.set_serving("", serving=not reason)
