"""`make ray-check`: convd on a Ray cluster of two nodes, next to plain servers on the same cores.

Callers check every answer against the weights of the version that says it gave it. The figures go
to docs/drills/ray.md; a claim that does not hold ends the drill with 1.
"""

import argparse
import os
import shutil
import signal
import statistics
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import grpc
import numpy as np
from numpy.typing import NDArray

from bench.document import table, write_document
from bench.drills.ray_batch import bulk
from bench.drills.ray_plain import Plain, plain_servers
from bench.drills.ray_stage import HAPROXY, RayCluster, ray_cluster
from bench.h2load import CLASSIFY, check_installed, load, write_request
from bench.machine import machine
from convd.artifact.bundle import Artifact
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.closed_loop import Call, ClosedLoop, plain_channel
from testbed.server import ServerProcess
from testbed.variants import write_variant

REPORT = Path("docs/drills/ray.md")
DEMO = Path("deploy/demo/digits/1")
MODEL = "digits"

_NODES = 2
_CONNECTIONS = 16


class Scene:
    """Two versions that answer differently, and what each answers to one picture."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "repository"
        shutil.copytree(DEMO, self.repository / MODEL / "1")
        write_variant(DEMO, self.repository / MODEL / "2", seed=2)
        self.pictures = [
            (DEMO / case.image).read_bytes() for case in Artifact.open(DEMO).golden_cases().cases
        ]
        self._expected = {
            version: np.array(
                Artifact.open(self.repository / MODEL / str(version))
                .golden_cases()
                .cases[0]
                .probabilities,
                np.float32,
            )
            for version in (1, 2)
        }
        self.lines: list[str] = []
        self.missed = False

    def question(self, picture: bytes | None = None) -> pb.ClassifyRequest:
        """A request for every class of one picture."""
        image = pb.Image(encoded=self.pictures[0] if picture is None else picture)
        return pb.ClassifyRequest(model=pb.ModelSpec(name=MODEL), images=[image])

    def callers(self, port: int, *, retry: bool) -> ClosedLoop:
        """Callers on several connections, each of which may reach another proxy."""
        return ClosedLoop(
            plain_channel(port, retry=retry),
            self.question(),
            self._expected_of,
            callers=_CONNECTIONS,
            connections=_CONNECTIONS,
        )

    def claim(self, text: str, *, holds: bool) -> None:
        """Note a claim, and whether it holds."""
        self.lines.append(f"- {'' if holds else '**Missed:** '}{text}")
        self.missed = self.missed or not holds
        print(self.lines[-1], flush=True)

    def _expected_of(self, version: int) -> NDArray[np.float32]:
        return self._expected.get(version, np.zeros(0, np.float32))


def main() -> None:
    """Play the drill."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=4.0, help="of each round of load")
    parser.add_argument("--rounds", type=int, default=3, help="of load")
    parser.add_argument("--pictures", type=int, default=2000, help="of the bulk run")
    parser.add_argument("--report", type=Path, default=REPORT)
    arguments = parser.parse_args()
    check_installed()
    measured_on = machine()
    rows: list[tuple[object, ...]] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        scene = Scene(folder)
        request = write_request(folder / "request", scene.question().SerializeToString())

        def measure(cluster: RayCluster, plain: Plain) -> None:
            for concurrency in (1, 32):
                run = partial(load, method=CLASSIFY, request=request, concurrency=concurrency)
                rates = [
                    [
                        run(address, seconds=arguments.seconds, tls=tls).requests_per_second
                        for address, tls in (
                            (f"127.0.0.1:{cluster.grpc_port}", False),
                            (plain.edge, True),
                            (plain.workers.address, False),
                        )
                    ]
                    for _ in range(arguments.rounds)
                ]
                medians = [statistics.median(rate) for rate in zip(*rates, strict=True)]
                shares = [f"{medians[0] / one:.2f}" for one in medians[1:]]
                rows.append((cluster.proxy, concurrency, *(f"{m:.0f}" for m in medians), *shares))

        def play(cluster: RayCluster, plain: Plain) -> None:
            cluster.deploy(scene.repository, f"{MODEL}:1")
            cluster.wait_until_running()
            same_bits(scene, cluster, plain.workers)
            both_nodes(scene, cluster, arguments.seconds)
            measure(cluster, plain)
            killed_replica(scene, cluster)
            rolled_version(scene, cluster)

        with plain_servers(scene.repository, f"{MODEL}:1", folder) as plain:
            with ray_cluster(folder / "proxies.log") as cluster:
                play(cluster, plain)
                cluster.shut_down()
                for text, holds in bulk(cluster, DEMO, folder, arguments.pictures):
                    scene.claim(text, holds=holds)
            with ray_cluster(folder / "haproxy.log", haproxy=True) as cluster:
                play(cluster, plain)
    headings = ("Proxy", "Under way", "Ray", "Behind Envoy", "Workers", "Ray/Envoy", "Ray/workers")
    write_document(
        arguments.report,
        "convd on Ray, played",
        measured_on,
        "Two nodes of one core each on this machine, made by `ray.cluster_utils.Cluster`. Clients, "
        "proxies and servers share its cores. `make ray-check` plays this again.",
        "\n".join(scene.lines),
        "Requests a second of LeNet, one picture a request; medians of "
        f"{arguments.rounds} rounds that take turns. Behind Envoy are two servers of one core "
        "each, with TLS at the edge; the server with two workers has no proxy before it.",
        table(headings, rows),
    )
    sys.exit(1 if scene.missed else 0)


def same_bits(scene: Scene, cluster: RayCluster, plain: ServerProcess) -> None:
    """Ask both for the same pictures, one at a time."""
    different = 0
    with (
        grpc.insecure_channel(f"127.0.0.1:{cluster.grpc_port}") as on_ray,
        grpc.insecure_channel(plain.address) as here,
    ):
        stubs = [ClassificationServiceStub(channel) for channel in (on_ray, here)]
        for picture in scene.pictures:
            answers = [
                stub.Classify(scene.question(picture), timeout=30).SerializeToString()
                for stub in stubs
            ]
            different += answers[0] != answers[1]
    scene.claim(
        f"{cluster.proxy}: {len(scene.pictures)} pictures get the plain server's answers, bit for "
        f"bit; {different} differ.",
        holds=not different,
    )


def both_nodes(scene: Scene, cluster: RayCluster, seconds: float) -> None:
    """Put load on the application, and count what each node answered."""
    before = cluster.answered()
    with scene.callers(cluster.grpc_port, retry=False) as loop:
        time.sleep(seconds)
    nodes = {replica.node for replica in cluster.replicas()}
    counts = sorted(count - before.get(replica, 0) for replica, count in cluster.answered().items())
    scene.claim(
        f"{cluster.proxy}: both nodes answer, {' and '.join(map(str, counts))} of "
        f"{len(loop.calls)} calls; {_failed(loop.calls)}.",
        holds=len(nodes) == len(counts) == 2
        and min(counts) > len(loop.calls) / 10
        and not _problems(loop.calls),
    )


def killed_replica(scene: Scene, cluster: RayCluster) -> None:
    """Kill a replica with -9 under load, and wait for another one."""
    killed = cluster.replicas()[0].pid
    assert killed is not None, "it runs"  # noqa: S101
    with scene.callers(cluster.grpc_port, retry=True) as loop:
        time.sleep(1)
        os.kill(killed, signal.SIGKILL)
        seconds = cluster.wait_until_running(without=[killed])
        time.sleep(1)
    scene.claim(
        f"{cluster.proxy}: a replica killed with -9 under load is back after {seconds:.0f} s; "
        f"{_failed(loop.calls)}, with a client that retries UNAVAILABLE.",
        holds=len(loop.calls) > 0,
    )


def rolled_version(scene: Scene, cluster: RayCluster) -> None:
    """Deploy another version under load."""
    old = [replica.pid for replica in cluster.replicas() if replica.pid is not None]
    # HAProxy refuses the calls that it had on their way to a replica that drains.
    retry = cluster.proxy == HAPROXY
    with scene.callers(cluster.grpc_port, retry=retry) as loop:
        time.sleep(1)
        cluster.deploy(scene.repository, f"{MODEL}:2")
        seconds = cluster.wait_until_running(without=old)
        rolled_at = time.monotonic()
        time.sleep(1)
    versions = Counter(call.version for call in loop.calls)
    after = {call.version for call in loop.calls if call.ended_at - call.seconds > rolled_at}
    scene.claim(
        f"{cluster.proxy}: version 2 rolls out in {seconds:.0f} s; {versions[1]} answers of "
        f"version 1 and {versions[2]} of version 2, {_failed(loop.calls)}, "
        f"with{'' if retry else 'out'} retries of UNAVAILABLE.",
        holds=not _problems(loop.calls) and after == {2},
    )


def _problems(calls: Sequence[Call]) -> Counter[str]:
    return Counter(call.problem for call in calls if call.problem)


def _failed(calls: Sequence[Call]) -> str:
    problems = _problems(calls)
    kinds = "".join(
        f"; {count} x {problem.splitlines()[0]}" for problem, count in problems.most_common(3)
    )
    return f"{problems.total()} of {len(calls)} calls failed{kinds}"


if __name__ == "__main__":
    main()
