"""`make drills`: what happens to callers when versions change, break, and workers die.

Three drills against real servers, under a closed loop of 32 callers that check every answer against
the weights of the version that says it gave it. The figures go to docs/drills.md; a drill that
fails ends with 1.
"""

import argparse
import contextlib
import datetime
import os
import platform
import re
import signal
import statistics
import sys
import tempfile
import time
import urllib.request
from collections import Counter
from collections.abc import Callable, Iterator
from http import HTTPStatus
from pathlib import Path

import grpc
import onnxruntime as ort
import psutil

from bench.drills.stage import MODEL, Stage, claim_size, flip_byte, set_up, swap_network
from bench.h2load import CLASSIFY, check_installed, load, write_request
from convd.protos.convd.v1 import classification_pb2 as pb
from convd.protos.convd.v1.classification_pb2_grpc import ClassificationServiceStub
from testbed.closed_loop import Call, ClosedLoop, percentile, plain_channel
from testbed.server import ServerProcess, server_process

REPORT = Path("docs/drills.md")
FLAGS = ("--provider", "cpu", "--intra-op-threads", "1", "--poll-seconds", "0.2")
PATIENCE_SECONDS = 60.0
CONNECTIONS = 64
CAPACITY_ROUNDS = 7


def drop(prepared: Path, repository: Path, version: int) -> None:
    """Publish a prepared version at once, as `convd export` does."""
    prepared.rename(repository / MODEL / str(version))


def reloads(stage: Stage, seconds: float, versions: int) -> list[str]:
    """Publish one version after another under load."""
    repository = stage.repository("reloads")
    drop(stage.prepare(1), repository, 1)
    prepared = {version: stage.prepare(version) for version in range(2, versions + 2)}
    log = stage.folder / "reloads.log"
    with server_process(repository, log, *FLAGS) as server, _loop(stage, server) as loop:
        time.sleep(3.0)
        quiet_from = time.monotonic()
        time.sleep(seconds)
        published_from = time.monotonic()
        for version, path in prepared.items():
            drop(path, repository, version)
            _wait_until(lambda v=version: loop.calls[-1].version == v)  # type: ignore[misc]
            time.sleep(seconds / versions)
        published_to = time.monotonic()
    before = loop.between(quiet_from, published_from)
    during = loop.between(published_from, published_to)
    ratio = percentile(during, 99) / percentile(before, 99)
    seen = {call.version for call in during}
    _demand(not _problems(loop.calls), f"failed calls: {_problems(loop.calls)}")
    _demand(seen == set(range(1, versions + 2)), f"versions that answered: {sorted(seen)}")
    _demand(ratio <= 2.0, f"p99 rose {ratio:.2f} times")
    return [
        f"{versions} versions were published one after another. Every one of {len(loop.calls):,} "
        "calls was answered, each with the probabilities of the version that it named.",
        "",
        "| | calls | p50 ms | p99 ms |",
        "| --- | --- | --- | --- |",
        _row("before", before),
        _row("during the reloads", during),
        "",
        f"The p99 during the reloads is {ratio:.2f} times that before.",
    ]


def broken_versions(stage: Stage, seconds: float) -> list[str]:
    """Publish versions that must never answer, and good ones, under load."""
    repository = stage.repository("broken")
    drop(stage.prepare(1), repository, 1)
    plans: list[tuple[int, str, Callable[[Path], None], str]] = [
        (
            2,
            "a byte of the network is flipped",
            flip_byte,
            "model.onnx does not match its checksum",
        ),
        (3, "the golden answers are another network's", swap_network, "golden probabilities"),
        (4, "the manifest names another input size", claim_size, ""),
    ]
    lines = ["| version | what is wrong | reason given |", "| --- | --- | --- |"]
    log = stage.folder / "broken.log"
    with server_process(repository, log, *FLAGS) as server, _loop(stage, server) as loop:
        time.sleep(seconds / 4)
        for version, what, spoil, reason in plans:
            path = stage.prepare(version)
            spoil(path)
            drop(path, repository, version)
            _wait_until(lambda v=version: _listed(server, v).state == pb.ModelVersion.STATE_FAILED)  # type: ignore[misc]
            given = _listed(server, version).reason
            state = f'convd_version_state{{model="{MODEL}",state="failed",version="{version}"}} 1.0'
            _demand(reason in given, f"version {version}: {given}")
            _demand(state in server.metrics(), f"no metric says that {version} failed")
            _demand(f"refused {MODEL} version {version}: {given}" in log.read_text(), "not logged")
            lines.append(f"| {version} | {what} | {given} |")
            time.sleep(seconds / 4)
        drop(stage.prepare(5, size=40), repository, 5)
        _wait_until(lambda: loop.calls[-1].version == 5)
        time.sleep(seconds / 4)
        drop(stage.prepare(6), repository, 6)
        _wait_until(lambda: loop.calls[-1].version == 6)
        time.sleep(seconds / 4)
    answered = Counter(call.version for call in loop.calls)
    _demand(not _problems(loop.calls), f"failed calls: {_problems(loop.calls)}")
    _demand(set(answered) == {1, 5, 6}, f"versions that answered: {dict(answered)}")
    return [
        f"None of {len(loop.calls):,} calls failed, and none was answered by a broken version. "
        "Version 5 has another input size and is good: callers that send files never notice. "
        f"Calls by version: {', '.join(f'{one}: {answered[one]:,}' for one in sorted(answered))}.",
        "",
        *lines,
    ]


def killed_worker(stage: Stage, seconds: float) -> list[str]:
    """Kill one of two workers under load, with and without the client's retry policy."""
    check_installed()
    request = write_request(stage.folder / "classify.request", stage.request().SerializeToString())
    repository = stage.repository("killed")
    drop(stage.prepare(1), repository, 1)
    log = stage.folder / "killed.log"
    with server_process(repository, log, *FLAGS, "--workers", 2) as server:
        before = _capacity(server, request)
        with (
            _loop(stage, server, callers=16, retry=True) as patient,
            _loop(stage, server, callers=16) as hasty,
        ):
            time.sleep(seconds)
            victim = _worker(log, 1)
            counted = _counted(server)
            killed_at = time.monotonic()
            os.kill(victim, signal.SIGKILL)
            _wait_until(lambda: not _is_ready(server))
            _wait_until(lambda: _is_ready(server))
            ready_at = time.monotonic()
            counted_after = _counted(server)
            time.sleep(max(killed_at + 5.0 - time.monotonic(), 0.0))
        used = [-_cpu_seconds(log, number) for number in (1, 2)]
        after = _capacity(server, request)
        used = [used[number - 1] + _cpu_seconds(log, number) for number in (1, 2)]
    share = used[0] / sum(used)
    lost = _problems(hasty.calls)
    calls = patient.calls + hasty.calls
    rates = [
        (span, _rate(calls, killed_at + start, killed_at + start + 1.0))
        for span, start in [("before", -1.0), *((f"second {n}", n - 1.0) for n in range(1, 6))]
    ]
    _demand(not _problems(patient.calls), f"with retries: {_problems(patient.calls)}")
    _demand(all(one.startswith("UNAVAILABLE") for one in lost), f"without retries: {lost}")
    _demand(sum(lost.values()) <= 32, f"more calls failed than were in flight: {lost}")
    _demand(ready_at - killed_at <= 5.0, f"ready again after {ready_at - killed_at:.1f} s")
    # Whatever else runs on the machine slows both workers alike, so the share tells the most.
    _demand(0.35 <= share <= 0.65, f"the new worker does {share:.0%} of the work")
    _demand(after >= 0.9 * before, f"{after:.0f} calls per second after, {before:.0f} before")
    _demand(counted_after >= counted, "the count of requests fell")
    return [
        f"One of two workers was killed with SIGKILL. The server was ready again after "
        f"{ready_at - killed_at:.1f} s. Of 16 callers with the retry policy of "
        f"`testbed/closed_loop.py` none saw an error in {len(patient.calls):,} calls; of 16 "
        f"without it {sum(lost.values())} calls in flight ended UNAVAILABLE. The count of answered "
        f"requests went on from {counted:,.0f} to {counted_after:,.0f}.",
        "",
        "| | calls per second |",
        "| --- | --- |",
        *(f"| {span} | {rate:.0f} |" for span, rate in rates),
        "",
        f"What {CONNECTIONS} new connections get (h2load, median of {CAPACITY_ROUNDS} rounds): "
        f"{before:.0f} per second before, {after:.0f} from 5 s after the kill on, of which the new "
        f"worker did {share:.0%}.",
    ]


def main() -> None:
    """Play the drills and write the report."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10.0, help="length of each phase")
    parser.add_argument("--versions", type=int, default=20, help="versions to publish")
    parser.add_argument("--report", type=Path, default=REPORT)
    parser.add_argument("--only", choices=("reloads", "broken", "killed"))
    arguments = parser.parse_args()
    seconds = arguments.seconds
    with tempfile.TemporaryDirectory(prefix="convd-drills-") as folder:
        stage = set_up(Path(folder))
        drills: dict[str, tuple[str, Callable[[], list[str]]]] = {
            "reloads": ("Reloads", lambda: reloads(stage, seconds, arguments.versions)),
            "broken": ("Broken versions", lambda: broken_versions(stage, seconds)),
            "killed": ("A worker is killed", lambda: killed_worker(stage, seconds)),
        }
        sections = []
        for name, (title, drill) in drills.items():
            if arguments.only in (None, name):
                lines = drill()
                print("\n".join([f"## {title}", "", *lines, ""]), flush=True)
                sections.append([f"## {title}", "", *lines, ""])
    if arguments.only is None:
        lines = [line for section in sections for line in section]
        arguments.report.write_text("\n".join([*_heading(), *lines]).rstrip() + "\n")


def _loop(
    stage: Stage, server: ServerProcess, *, callers: int = 32, retry: bool = False
) -> ClosedLoop:
    return ClosedLoop(
        plain_channel(server.grpc_port, retry=retry),
        stage.request(),
        stage.expected.__getitem__,
        callers=callers,
    )


@contextlib.contextmanager
def _stub(server: ServerProcess) -> Iterator[ClassificationServiceStub]:
    with grpc.insecure_channel(f"127.0.0.1:{server.grpc_port}") as channel:
        yield ClassificationServiceStub(channel)


def _listed(server: ServerProcess, version: int) -> pb.ModelVersion:
    with _stub(server) as stub:
        models = stub.ListModels(pb.ListModelsRequest(), timeout=10).models
    return next((one for one in models if one.version == version), pb.ModelVersion())


def _worker(log: Path, number: int) -> int:
    return int(re.findall(rf"worker {number} is process (\d+)", log.read_text())[-1])


def _cpu_seconds(log: Path, number: int) -> float:
    times = psutil.Process(_worker(log, number)).cpu_times()
    return float(times.user + times.system)


def _counted(server: ServerProcess) -> float:
    counts = server.counted("convd_requests_total")
    return sum(counts[one] for one in counts if 'code="OK"' in one and "/Classify" in one)


def _is_ready(server: ServerProcess) -> bool:
    with (
        contextlib.suppress(OSError),
        urllib.request.urlopen(f"http://127.0.0.1:{server.http_port}/readyz", timeout=10) as answer,
    ):
        return bool(answer.status == HTTPStatus.OK)
    return False


def _rate(calls: list[Call], start: float, end: float) -> float:
    good = sum(start <= call.ended_at < end and not call.problem for call in calls)
    return good / (end - start)


def _capacity(server: ServerProcess, request: Path) -> float:
    """Answers per second that many new connections get, so that each worker has enough of them."""
    return statistics.median(
        load(
            server.address, CLASSIFY, request, concurrency=CONNECTIONS, seconds=2.0
        ).requests_per_second
        for _ in range(CAPACITY_ROUNDS)
    )


def _row(name: str, calls: list[Call]) -> str:
    return (
        f"| {name} | {len(calls):,} | {percentile(calls, 50):.1f} | {percentile(calls, 99):.1f} |"
    )


def _problems(calls: list[Call]) -> Counter[str]:
    return Counter(call.problem for call in calls if call.problem)


def _wait_until(condition: Callable[[], bool]) -> None:
    deadline = time.monotonic() + PATIENCE_SECONDS
    while not condition():
        if time.monotonic() > deadline:
            raise SystemExit("what the drill waited for did not happen")
        time.sleep(0.01)


def _demand(holds: bool, failure: str) -> None:
    if not holds:
        sys.exit(f"the drill failed: {failure}")


def _heading() -> list[str]:
    today = datetime.datetime.now(datetime.UTC).date()
    return [
        "# Drills",
        "",
        "What callers notice when versions change, break, and workers die. `make drills` plays "
        "them and writes this page.",
        "",
        f"{today}; {os.cpu_count()} cores ({platform.machine()}), Python "
        f"{platform.python_version()}, ONNX Runtime {ort.__version__}, gRPC {grpc.__version__}. "
        "LeNet-5 on the CPU provider; the callers run on the same cores as the server, so the "
        "ratios say more than the times.",
        "",
    ]


if __name__ == "__main__":
    main()
