"""`make drills-monitoring`: every expression of dashboards and rules, every alert, and drift.

A real server under load, a real Prometheus with the project's rules, and one thing after another
that an operator should be told about. The findings go to docs/drills-monitoring.md.

    python -m bench.drills.monitoring --repository runs/demo/repository
"""

import argparse
import contextlib
import json
import math
import platform
import shutil
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import grpc
import numpy as np
from PIL import Image

from bench.drills.prometheus import (
    HOLD,
    RANGE,
    Prometheus,
    rules,
    running_prometheus,
    wait_until,
)
from bench.drills.server import MODEL, Server, load, png, request
from convd.artifact.bundle import MANIFEST_FILE, checksums, write_manifest
from convd.artifact.golden import GOLDEN_CASES
from convd.artifact.manifest import Manifest
from convd.models.data import load_dataset
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from deploy.grafana.dashboards import DASHBOARDS

REPORT = Path("docs/drills-monitoring.md")
PATIENCE_SECONDS = 90.0
THRESHOLD = 0.25
ONE_CLASS = 3
PREDICTIONS = 500
FLAGS = (
    "--poll-seconds=0.5",
    "--provider=cpu",
    "--max-queue-size=32",
    "--max-images-per-request=32",
    "--max-batch-size=4",
    "--response-cache-bytes=50000",
)


@dataclass
class Findings:
    """What the drills have seen."""

    expressions: list[tuple[str, str, int]] = field(default_factory=list)
    needs_gpu: list[str] = field(default_factory=list)
    alerts: list[tuple[str, str, float]] = field(default_factory=list)
    drift: list[tuple[str, float, float, str]] = field(default_factory=list)


class Drills:
    """All drills, in order.

    Args:
        server: The server.
        prometheus: What watches it.
        repository: What the server serves.
        load_seconds: How long it is loaded before the expressions are asked.
    """

    def __init__(
        self, server: Server, prometheus: Prometheus, repository: Path, load_seconds: float
    ) -> None:
        self._server = server
        self._prometheus = prometheus
        self._repository = repository
        self._load_seconds = load_seconds
        self.findings = Findings()
        splits = load_dataset("digits")
        self._mix = [png(splits.held_out.picture(i)) for i in range(len(splits.held_out))]
        every = [(splits.train, i) for i in range(len(splits.train))]
        every += [(splits.held_out, i) for i in range(len(splits.held_out))]
        # All digits, not only those that the baseline was made of.
        generator = np.random.default_rng(0)
        chosen = [every[i] for i in generator.permutation(len(every))[:PREDICTIONS]]
        self._natural_mix = [png(split.picture(i)) for split, i in chosen]
        self._one_class = [
            png(split.picture(i)) for split, i in every if split.target(i) == ONE_CLASS
        ]

    def run(self) -> None:
        """Run them all."""
        self._wrong_answers()
        self._broken_version()
        self._expressions()
        self._drift()
        self._slow()
        self._too_much()
        self._not_ready()
        self._down()

    def _fires(self, alert: str, how: str) -> None:
        seconds = wait_until(
            lambda: alert in self._prometheus.firing(), f"{alert} fires", PATIENCE_SECONDS
        )
        print(f"{alert}: fired after {seconds:.1f} s ({how})", flush=True)
        self.findings.alerts.append((alert, how, seconds))

    def _is_silent(self, alert: str) -> None:
        wait_until(
            lambda: alert not in self._prometheus.firing(), f"{alert} ends", PATIENCE_SECONDS
        )

    def _wrong_answers(self) -> None:
        self._publish(2, _lie_about_the_golden_answers)
        self._fires("ConvdGoldenFailure", "a version whose golden answers are other ones")

    def _broken_version(self) -> None:
        self._publish(3, lambda version: (version / "model.onnx").write_bytes(b"nothing"))
        self._fires("ConvdVersionFailed", "a version whose network was altered")

    def _expressions(self) -> None:
        """Load the server with all that dashboards can show, then ask all that they ask."""
        requests = [request(image) for image in self._mix]
        requests += [request(*self._mix[:8], b"no picture"), request(self._mix[0], model="none")]
        with self._loaded(requests, clients=6), self._streaming():
            time.sleep(self._load_seconds)
            replaced = {"$instance": ".*", "$model": ".*", "$version": ".*"}
            for board in DASHBOARDS:
                for panel in board.panels:
                    for query in panel.queries:
                        expression = query.expression.replace("$__rate_interval", RANGE)
                        for variable, value in replaced.items():
                            expression = expression.replace(variable, value)
                        self._has_data(f"{board.title}, {panel.title}", expression)
            for rule in rules():
                if "record" in rule:
                    self._has_data(rule["record"], rule["record"])
                    self._has_data(f"{rule['record']} (expression)", rule["expr"])
        print(f"{len(self.findings.expressions)} expressions returned data", flush=True)

    def _has_data(self, where: str, expression: str) -> None:
        samples = self._prometheus.query(expression)
        numbers = [float(sample["value"][1]) for sample in samples]
        if "convd_gpu_" in expression and not self._prometheus.query("convd_gpu_busy_ratio"):
            self.findings.needs_gpu.append(where)
            return
        if not any(math.isfinite(number) for number in numbers):
            raise SystemExit(f"{where}: no data for {expression}")
        self.findings.expressions.append((where, expression, len(samples)))

    def _drift(self) -> None:
        """The natural mix stays below the threshold; one class alone passes it; the mix heals."""
        self._send(self._natural_mix, "the natural mix")
        if "ConvdDrift" in self._prometheus.firing():
            raise SystemExit("ConvdDrift fires for the natural mix")
        self._send(self._one_class, f"digits of class {ONE_CLASS} only")
        self._fires("ConvdDrift", f"{PREDICTIONS} digits of class {ONE_CLASS} only")
        self._send(self._natural_mix, "the natural mix again")
        self._is_silent("ConvdDrift")

    def _send(self, images: list[bytes], what: str) -> None:
        with grpc.insecure_channel(self._server.address) as channel:
            stub = ClassificationServiceStub(channel)
            for number in range(PREDICTIONS):
                stub.Classify(request(images[number % len(images)]), timeout=30)
        seen = self._prometheus.value("vector(time())")
        wait_until(
            lambda: self._prometheus.value("max(timestamp(convd_drift_index))") > seen,
            "a scrape after the last request",
            PATIENCE_SECONDS,
        )
        index = {
            of: self._prometheus.value(f'max(convd_drift_index{{of="{of}"}})')
            for of in ("class", "confidence")
        }
        print(f"drift of {what}: {index['class']:.3f}, {index['confidence']:.3f}", flush=True)
        passes = max(index.values()) > THRESHOLD
        if passes != ("only" in what):
            raise SystemExit(f"the drift index after {what} is {index}")
        verdict = "alert" if passes else "quiet"
        self.findings.drift.append((what, index["class"], index["confidence"], verdict))

    def _slow(self) -> None:
        picture = png(Image.new("L", (8000, 8000), 128))
        with self._loaded([request(picture)], clients=4):
            self._fires("ConvdSlow", "pictures of 64 megapixels")
        self._is_silent("ConvdSlow")

    def _too_much(self) -> None:
        """More rows than may wait are refused with RESOURCE_EXHAUSTED, which is an error too."""
        requests = [request(*self._mix[start : start + 16]) for start in range(0, 160, 16)]
        with self._loaded(requests, clients=16):
            self._fires("ConvdQueueFull", "16 clients, 16 images each, room for 32")
            self._fires("ConvdErrors", "the same clients, refused")
        self._is_silent("ConvdErrors")

    def _not_ready(self) -> None:
        model, aside = self._repository / MODEL, self._repository.with_name("aside")
        model.rename(aside)
        self._fires("ConvdNotReady", "the only model taken out of the repository")
        aside.rename(model)
        self._is_silent("ConvdNotReady")

    def _down(self) -> None:
        self._server.kill()
        self._fires("ConvdDown", "the server killed with SIGKILL")
        self._server.start()
        self._is_silent("ConvdDown")

    def _publish(self, version: int, spoil: Callable[[Path], object]) -> None:
        """Publish version 1 once more, spoilt."""
        model = self._repository / MODEL
        staging = model / f".staging-{version}"
        shutil.copytree(model / "1", staging)
        spoil(staging)
        staging.rename(model / str(version))

    def _loaded(
        self, requests: list[pb.ClassifyRequest], clients: int
    ) -> contextlib.AbstractContextManager[None]:
        return load(self._server.address, requests, clients=clients)

    @contextlib.contextmanager
    def _streaming(self) -> Iterator[None]:
        """Open and end some streams, so that there are series of them."""
        with grpc.insecure_channel(self._server.address) as channel:
            stub = ClassificationServiceStub(channel)
            for _ in range(3):
                messages = [pb.ClassifyStreamRequest(request=request(self._mix[0]))] * 5
                list(stub.ClassifyStream(iter(messages), timeout=30))
            yield


def _lie_about_the_golden_answers(version: Path) -> None:
    """Alter the expected probabilities with all checksums in order: only running it can tell."""
    cases = json.loads((version / GOLDEN_CASES).read_text())
    cases["cases"][0]["probabilities"][0] += 0.5
    (version / GOLDEN_CASES).write_text(json.dumps(cases))
    manifest = Manifest.model_validate_json((version / MANIFEST_FILE).read_bytes())
    found = checksums(version)
    files = {name: found[name] for name in manifest.files}
    write_manifest(version, manifest.model_copy(update={"files": files}))


def report(findings: Findings, load_seconds: float) -> str:
    """The findings as a page."""
    expected = {rule["alert"] for rule in rules() if "alert" in rule}
    missing = expected - {alert for alert, _, _ in findings.alerts}
    if missing:
        raise SystemExit(f"never seen firing: {', '.join(sorted(missing))}")
    lines = [
        "# Drills of the monitoring",
        "",
        "Written by `make drills-monitoring`, which fails if anything here is otherwise than it "
        f"should be. Last run on {platform.machine()}, Python {platform.python_version()}.",
        "",
        "A real server, and a real Prometheus that scrapes it every second. The rules are those "
        f"of `deploy/prometheus/rules`, with `[5m]` shortened to `[{RANGE}]` and every `for:` to "
        f"{HOLD}.",
        "",
        "## Expressions",
        "",
        f"After {load_seconds:g} s of load, {len(findings.expressions)} expressions of the "
        "dashboards and of the recording rules returned data.",
    ]
    if findings.needs_gpu:
        lines += ["", f"Not asked, for want of a GPU: {'; '.join(findings.needs_gpu)}."]
    lines += [
        "",
        "## Alerts",
        "",
        "| Alert | Brought about by | Fired after |",
        "| --- | --- | --- |",
    ]
    lines += [f"| {name} | {how} | {seconds:.0f} s |" for name, how, seconds in findings.alerts]
    lines += [
        "",
        "## Drift",
        "",
        f"{PREDICTIONS} predictions each; the threshold of ConvdDrift is {THRESHOLD}.",
        "",
        "| Sent | Index of the classes | Index of the confidence | |",
        "| --- | --- | --- | --- |",
    ]
    lines += [
        f"| {what} | {classes:.3f} | {confidence:.3f} | {verdict} |"
        for what, classes, confidence, verdict in findings.drift
    ]
    return "\n".join(lines) + "\n"


def main() -> None:
    """Run the drills and write what they found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repository", type=Path, required=True, help="with the model 'digits'")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long to load the server")
    arguments = parser.parse_args()
    if shutil.which("prometheus") is None:
        raise SystemExit("prometheus is missing: install it, as with apt-get install prometheus")
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        repository = folder / "repository"
        versions = arguments.repository / MODEL
        newest = max(int(path.name) for path in versions.iterdir() if path.name.isdigit())
        shutil.copytree(versions / str(newest), repository / MODEL / "1")
        grpc_port, http_port, prometheus_port = _free_ports(3)
        server = Server(repository, folder / "server.log", grpc_port, http_port, FLAGS)
        try:
            server.start()
            with running_prometheus(
                folder / "prometheus", prometheus_port, server.metrics_address
            ) as prometheus:
                drills = Drills(server, prometheus, repository, arguments.seconds)
                drills.run()
        finally:
            server.kill()
    REPORT.write_text(report(drills.findings, arguments.seconds))
    print(f"written to {REPORT}")


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in sockets:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in sockets]


if __name__ == "__main__":
    main()
