"""Envoy with the configuration of deploy/envoy, moved to this machine's loopback and free ports."""

import contextlib
import json
import subprocess
import time
import urllib.request
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from testbed.server import StartError, free_ports

DEPLOYED = Path(__file__).parent.parent / "deploy" / "envoy"
SERIES = Path(__file__).with_name("envoy_series.json")
"""The series of Envoy that the dashboard asks for, with their labels: from `make envoy-drill`."""

_START_SECONDS = 30.0


@dataclass(frozen=True)
class Address:
    """Where a server answers on loopback.

    Attributes:
        grpc_port: Its gRPC port.
        http_port: Its HTTP port.
    """

    grpc_port: int
    http_port: int


Fleets = Mapping[str, Sequence[Address]]
"""The servers of each fleet, by its name in fleets.yaml."""


class Configuration:
    """A copy of deploy/envoy for this machine, in a folder that Envoy follows.

    Args:
        folder: Where it is written.
        fleets: The servers.
        certificate: The files of the certificate and of its key, PEM.
        authority: The authority (PEM) that the servers' certificates have to be of; None where they
            speak no TLS.

    Attributes:
        folder: Where it lies.
        bootstrap: The file that Envoy is started with.
        port: Where Envoy answers callers, over TLS.
        statistics_port: Where Prometheus reads.
    """

    def __init__(
        self,
        folder: Path,
        fleets: Fleets,
        certificate: tuple[Path, Path],
        authority: Path | None = None,
    ) -> None:
        folder.mkdir(parents=True)
        self._authority = authority
        self.folder = folder
        self.bootstrap = folder / "envoy.yaml"
        self.port, self.statistics_port = free_ports(2)
        self._write_bootstrap(certificate)
        self._routes = _deployed("routes.yaml")
        self.set_canary(0)
        self.set_fleets(fleets)

    def set_canary(self, percent: int) -> None:
        """Give the canary a share of the calls of the model `digits`, as an operator does."""
        for host in self._hosts():
            for route in host["routes"]:
                for one in route["route"].get("weighted_clusters", {}).get("clusters", ()):
                    canary = one["name"].startswith("canary")
                    one["weight"] = percent if canary else 100 - percent
        self._write("routes.yaml", self._routes)

    def set_hedge(self, seconds: float) -> None:
        """Ask a second server what a first has not answered by then."""
        for host in self._hosts():
            host["retry_policy"]["per_try_timeout"] = f"{seconds:.3f}s"
        self._write("routes.yaml", self._routes)

    def set_fleets(self, fleets: Fleets) -> None:
        """Say where the servers are."""
        document = _deployed("fleets.yaml" if self._authority is None else "fleets-secure.yaml")
        for cluster in document["resources"]:
            fleet, _, http = cluster["name"].partition("-")
            ports = [one.http_port if http else one.grpc_port for one in fleets.get(fleet, ())]
            cluster["type"] = "STATIC"
            del cluster["dns_refresh_rate"]
            [place] = cluster["load_assignment"]["endpoints"]
            place["lb_endpoints"] = [{"endpoint": _loopback(port)} for port in ports]
            if self._authority is not None:
                context = cluster["transport_socket"]["typed_config"]["common_tls_context"]
                context["validation_context"]["trusted_ca"]["filename"] = str(self._authority)
        self._write("fleets.yaml", document)

    def _hosts(self) -> list[dict[str, Any]]:
        return list(self._routes["resources"][0]["virtual_hosts"])

    def _write_bootstrap(self, certificate: tuple[Path, Path]) -> None:
        document = _deployed("envoy.yaml")
        ports = {"edge": self.port, "statistics": self.statistics_port}
        for listener in document["static_resources"]["listeners"]:
            listener.update(_loopback(ports[listener["name"]]))
        text = json.dumps(document)
        for deployed, here in (
            ("/access/server.crt", certificate[0]),
            ("/access/server.key", certificate[1]),
            ("/access", certificate[0].parent),
            ("/etc/envoy", self.folder),
            ("/tmp/envoy-admin", self.folder / "admin"),  # noqa: S108
        ):
            text = text.replace(f'"{deployed}', f'"{here}')
        self._write("envoy.yaml", json.loads(text))

    def _write(self, name: str, document: object) -> None:
        waiting = self.folder / f".{name}"
        waiting.write_text(yaml.safe_dump(document))
        waiting.rename(self.folder / name)


@dataclass(frozen=True)
class Envoy:
    """A running Envoy.

    Attributes:
        process: Its process.
        configuration: What it follows.
    """

    process: "subprocess.Popen[bytes]"
    configuration: Configuration

    @property
    def address(self) -> str:
        """Where clients connect."""
        return f"localhost:{self.configuration.port}"

    def get(self, path: str) -> str:
        """What it answers to Prometheus, or to who asks whether it lives."""
        url = f"http://127.0.0.1:{self.configuration.statistics_port}{path}"
        with urllib.request.urlopen(url, timeout=10) as answer:
            return str(answer.read().decode())


@contextlib.contextmanager
def envoy(program: Path, configuration: Configuration, *words: str) -> Iterator[Envoy]:
    """Run Envoy; it listens when the block begins, and is gone after it.

    Args:
        program: Envoy's program.
        configuration: What it follows.
        *words: Further words of its command line.

    Raises:
        StartError: It refuses its configuration, or does not listen.
    """
    log = configuration.folder / "envoy.log"
    command = [program, "--disable-hot-restart", "--config-path", configuration.bootstrap]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [*map(str, command), *words], stdout=output, stderr=subprocess.STDOUT
        )
    try:
        edge = Envoy(process, configuration)
        _wait_until_live(edge, log)
        yield edge
    finally:
        process.kill()
        process.wait()


def recorded_series() -> dict[str, set[str]]:
    """Labels of each series of `SERIES`, by name."""
    return {name: set(labels) for name, labels in json.loads(SERIES.read_text()).items()}


def _wait_until_live(edge: Envoy, log: Path) -> None:
    until = time.monotonic() + _START_SECONDS
    while time.monotonic() < until and edge.process.poll() is None:
        with contextlib.suppress(OSError):
            if edge.get("/ready").strip() == "LIVE":
                return
        time.sleep(0.05)
    raise StartError(f"Envoy did not start:\n{log.read_text()}")


def _deployed(name: str) -> dict[str, Any]:
    return dict(yaml.safe_load((DEPLOYED / name).read_text()))


def _loopback(port: int) -> dict[str, Any]:
    return {"address": {"socket_address": {"address": "127.0.0.1", "port_value": port}}}
