"""What the drill of Ray is played with: a cluster, the application on it, and its replicas."""

import contextlib
import json
import os
import re
import subprocess
import time
from collections import Counter
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from testbed.server import free_ports, http_get

BIN = Path(".cache/ray/bin")
HAPROXY = "HAProxy"
CONFIG = Path("deploy/ray/serve.yaml")

_NODES = 2
_START_SECONDS = 300.0
_CLUSTER = "bench.drills.ray_cluster"


class RayError(RuntimeError):
    """The cluster or the application did not do what was waited for."""


class Replica(NamedTuple):
    """A process that answers.

    Attributes:
        pid: Its process id; None while it starts.
        node: The node that it runs on; None while it starts.
        state: What Ray says of it.
    """

    pid: int | None
    node: str | None
    state: str


class RayCluster:
    """Two nodes of one core each, and convd on them.

    Args:
        started: The process that holds the nodes.
        dashboard: Where `serve` sends its requests.

    Attributes:
        address: Where `ray.init` finds the cluster.
        grpc_port: Where the application answers.
        proxy: What takes the calls.
    """

    def __init__(self, started: "subprocess.Popen[str]", dashboard: int, *, haproxy: bool) -> None:
        self.proxy = HAPROXY if haproxy else "Ray's proxies"
        # HAProxy shares no port with a second one on the same machine.
        self._proxies, self._proxy_nodes = ("HeadOnly", 1) if haproxy else ("EveryNode", _NODES)
        assert started.stdout is not None  # noqa: S101
        place = json.loads(started.stdout.readline())
        self.address: str = place["address"]
        self.grpc_port, self._http_port = free_ports(2)
        self._logs = Path(place["session"], "logs", "serve")
        self._dashboard = dashboard

    def deploy(self, repository: Path, models: str) -> None:
        """Deploy the application of `deploy/ray/serve.yaml`: a replica on each node."""
        config = yaml.safe_load(CONFIG.read_text())
        config["proxy_location"] = self._proxies
        config["http_options"] = {"host": "127.0.0.1", "port": self._http_port}
        config["grpc_options"]["port"] = self.grpc_port
        (application,) = config["applications"]
        application["args"] = {
            "repository": str(repository.absolute()),
            "models": models,
            "provider": "cpu",
            "intra_op_threads": 1,
        }
        (deployment,) = application["deployments"]
        del deployment["autoscaling_config"]
        deployment |= {"num_replicas": _NODES, "max_replicas_per_node": 1}
        file = self._logs.parent / "convd.yaml"
        file.write_text(yaml.safe_dump(config))
        self._serve("deploy", file)

    def shut_down(self) -> None:
        """Remove the application, which gives its cores back."""
        self._serve("shutdown", "-y")
        self._wait(lambda: not self.replicas(), "the replicas did not end")

    def wait_until_running(self, *, without: Collection[int] = ()) -> float:
        """Wait until both replicas run, no other, and the proxies; how many seconds that took.

        Args:
            without: Processes that must be gone.
        """
        started = time.monotonic()

        def is_running() -> bool:
            proxies = self._details()["proxies"].values()
            if Counter(one["status"] for one in proxies) != {"HEALTHY": self._proxy_nodes}:
                return False
            replicas = self.replicas()
            running = [one.pid for one in replicas if one.state == "RUNNING"]
            return len(running) == len(replicas) == _NODES and not set(running) & set(without)

        self._wait(is_running, "the application is not running")
        return time.monotonic() - started

    def replicas(self) -> list[Replica]:
        """What Ray says of the replicas; empty if there is no application."""
        application = self._details()["applications"].get("convd")
        if application is None:
            return []
        if application["status"] == "DEPLOY_FAILED":
            raise RayError(application["message"])
        listed = application["deployments"].get("convd", {}).get("replicas", [])
        return [Replica(one.get("pid"), one.get("node_id"), one["state"]) for one in listed]

    def answered(self) -> dict[str, int]:
        """How many calls each replica has logged, by its log's name."""
        logs = self._logs.glob("replica_convd_convd_*.log")
        return {log.stem: len(re.findall(r" -- CALL ", log.read_text())) for log in logs}

    def _details(self) -> dict[str, Any]:
        details: dict[str, Any] = json.loads(
            http_get(self._dashboard, "/api/serve/applications/")[1]
        )
        return details

    def _serve(self, *words: object) -> None:
        place = f"http://127.0.0.1:{self._dashboard}"
        command = [BIN / "serve", words[0], "--address", place, *words[1:]]
        finished = subprocess.run(
            list(map(str, command)), capture_output=True, text=True, check=False, timeout=120
        )
        if finished.returncode:
            raise RayError(finished.stdout + finished.stderr)

    def _wait(self, condition: Any, problem: str) -> None:  # noqa: ANN401
        deadline = time.monotonic() + _START_SECONDS
        while not condition():
            if time.monotonic() > deadline:
                raise RayError(f"{problem}: {self.replicas()}")
            time.sleep(0.2)


@contextlib.contextmanager
def ray_cluster(log: Path, *, haproxy: bool = False) -> Iterator[RayCluster]:
    """Run a cluster; its nodes are gone when the block ends."""
    (dashboard,) = free_ports(1)
    given = {
        "PYTHONPATH": str(Path.cwd()),
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_SERVE_ENABLE_HA_PROXY": str(int(haproxy)),
        # On a busy machine a proxy takes longer to start.
        "RAY_SERVE_PROXY_READY_CHECK_TIMEOUT_S": "60",
        "RAY_SERVE_PROXY_HEALTH_CHECK_TIMEOUT_S": "60",
    }
    with log.open("w") as output:
        process = subprocess.Popen(
            [str(BIN / "python"), "-m", _CLUSTER, str(dashboard)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=output,
            text=True,
            env=os.environ | given,
        )
    try:
        yield RayCluster(process, dashboard, haproxy=haproxy)
    finally:
        process.communicate(timeout=60)
