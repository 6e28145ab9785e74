"""What Envoy's drills are played with: three servers, a canary, Envoy before them, and callers."""

import contextlib
import itertools
import json
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from bench.drills.fleet import Fleet
from bench.drills.server import MODEL, request
from convd.artifact.bundle import Artifact
from convd.client.connection import Connection, Tls
from deploy.grafana.edge import EDGE
from deploy.grafana.promql import series
from testbed.authorities import Authority
from testbed.closed_loop import OWN_CONNECTION, ClosedLoop
from testbed.envoy import SERIES, Configuration, Envoy, envoy
from testbed.variants import write_variant

DEMO = Path("deploy/demo") / MODEL / "1"
SERVERS = 3
CALLERS = 12
# One core each; time for Envoy to see that a server drains before it refuses calls.
FLAGS = ("--provider", "cpu", "--intra-op-threads", 1, "--lame-duck-seconds", 3)
HEALTHY = 'cluster_membership_healthy{envoy_cluster_name="stable"}'

Row = tuple[str, str, str, bool]
"""What was looked at, what was seen, its bound, and whether it was kept."""


class Stage:
    """What the drills are played with.

    Args:
        folder: Where everything is written.
        program: Envoy's program.
    """

    def __init__(self, folder: Path, program: Path) -> None:
        self.folder = folder
        self.program = program
        self.authority = Authority(folder / "access")
        hosts = ("server", "localhost", "digits.localhost", "127.0.0.1")
        self.certificate = self.authority.issue("server", hosts=hosts)
        self.stable, self.canary = folder / "stable", folder / "canary"
        shutil.copytree(DEMO, self.stable / MODEL / "1")
        write_variant(DEMO, self.canary / MODEL / "2", seed=2)
        versions = {1: self.stable / MODEL / "1", 2: self.canary / MODEL / "2"}
        cases = {
            number: Artifact.open(path).golden_cases().cases[0] for number, path in versions.items()
        }
        self.image = (DEMO / cases[1].image).read_bytes()
        self.expected: dict[int, NDArray[np.float32]] = {
            number: np.asarray(case.probabilities, np.float32) for number, case in cases.items()
        }
        self._runs = itertools.count()

    def validate(self) -> None:
        """Have Envoy check its configuration, which it says of what is wrong."""
        configuration = Configuration(self.folder / "validated", {}, self.certificate)
        words = ["--mode", "validate", "--config-path", str(configuration.bootstrap)]
        subprocess.run([self.program, *words, "--log-level", "warning"], check=True)

    @contextlib.contextmanager
    def edge(
        self, *, canary: bool = False, encrypted: bool = False
    ) -> Iterator[tuple[Fleet, Envoy]]:
        """Three servers behind Envoy.

        Args:
            canary: Whether there is a canary of another version besides.
            encrypted: Whether the servers speak TLS.
        """
        run = self.folder / f"run-{next(self._runs)}"
        authority = self.authority.certificate_file if encrypted else None
        certificate, key = self.certificate
        tls = ("--tls-certificate", certificate, "--tls-key", key) if encrypted else ()
        with contextlib.ExitStack() as stack:
            stable = stack.enter_context(
                Fleet(self.stable, run, SERVERS, *FLAGS, *tls, authority=authority)
            )
            fleets = {"stable": stable.addresses}
            if canary:
                fleets["canary"] = stack.enter_context(Fleet(self.canary, run, 1, *FLAGS)).addresses
            configuration = Configuration(run / "envoy", fleets, self.certificate, authority)
            edge = stack.enter_context(envoy(self.program, configuration, "--concurrency", "2"))
            wait_until(lambda: value(edge, HEALTHY) == SERVERS)
            yield stable, edge

    def connection(self, edge: Envoy, host: str = "localhost") -> Connection:
        """How convd's own client reaches a host."""
        return Connection(edge.address, tls=Tls(ca=self.authority.pem, server_name=host))

    def loop(self, edge: Envoy, *, host: str = "localhost") -> ClosedLoop:
        """Callers of a host, with convd's own client."""
        connection = self.connection(edge, host)
        return ClosedLoop(
            lambda: connection.open(OWN_CONNECTION),
            request(self.image),
            self.expected.__getitem__,
            callers=CALLERS,
        )


def wait_until(condition: Callable[[], bool], seconds: float = 60.0) -> None:
    """Wait until something holds; end the program if it never does."""
    until = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > until:
            raise SystemExit("what the drill waited for did not happen")
        time.sleep(0.05)


def value(edge: Envoy, series: str) -> float:
    """The value of one of Envoy's series, without the prefix `envoy_`; 0 if there is none."""
    lines = edge.get("/stats/prometheus").splitlines()
    start = f"envoy_{series} "
    return next((float(line.removeprefix(start)) for line in lines if line.startswith(start)), 0.0)


def record_series(edge: Envoy) -> None:
    """Write down the series that the dashboard asks for, which have to be there."""
    asked = {variable.metric for variable in EDGE.variables}
    for panel in EDGE.panels:
        asked.update(*(series(query.expression) for query in panel.queries))
    found: dict[str, set[str]] = {}
    for name, labels in re.findall(r"^(\w+)\{(.*)\} ", edge.get("/stats/prometheus"), re.MULTILINE):
        if name in asked:
            found.setdefault(name, set()).update(re.findall(r'(\w+)="', labels))
    if asked != found.keys():
        raise SystemExit(f"Envoy has no {', '.join(sorted(asked - found.keys()))}")
    document = {name: sorted(found[name]) for name in sorted(found)}
    SERIES.write_text(json.dumps(document, indent=2) + "\n")
