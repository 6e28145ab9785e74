"""`make envoy-drill`: three servers behind Envoy, and what callers notice of what befalls them.

Envoy runs with the files of deploy/envoy, which only get the ports of this machine. Callers are
connections of convd's own client over TLS, with the retry policy that every client of convd has,
and check every answer. A drill that fails ends with 1; the figures go to docs/drills/envoy.md.
"""

import argparse
import contextlib
import re
import ssl
import statistics
import struct
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from bench.document import table, write_document
from bench.drills.envoy_protocols import protocols
from bench.drills.envoy_stage import (
    CALLERS,
    HEALTHY,
    SERVERS,
    Row,
    Stage,
    record_series,
    value,
    wait_until,
)
from bench.machine import machine
from testbed.closed_loop import Call, percentile
from testbed.raw_http2 import RawConnection

PROGRAM = Path(".cache/envoy/bin/envoy")
DOCUMENT = Path("docs/drills/envoy.md")

CALLS = 10_000
ROUNDS = 5
CANARY_PERCENT = 10
STOPPED_SECONDS, RUNNING_SECONDS = 0.09, 0.01
RETRIED = 'cluster_upstream_rq_retry{envoy_cluster_name="stable"}'
ACTIVE = 'http_downstream_rq_active{envoy_http_conn_manager_prefix="edge"}'
HALF_SENT_CONNECTIONS, HALF_SENT_STREAMS = 40, 10


def even(stage: Stage) -> Iterator[Row]:
    """Ten thousand calls are spread evenly."""
    with stage.edge() as (fleet, edge):
        before = fleet.answered()
        with stage.loop(edge) as loop:
            wait_until(lambda: len(loop.calls) >= CALLS, 300.0)
        record_series(edge)
        counts = [after - earlier for after, earlier in zip(fleet.answered(), before, strict=True)]
    worst = max(abs(count / statistics.fmean(counts) - 1) for count in counts)
    yield from _no_failed_call(loop.calls)
    yield (
        "calls of each server",
        ", ".join(f"{one:,}" for one in counts),
        "5 % from even",
        worst <= 0.05,
    )


def killed(stage: Stage) -> Iterator[Row]:
    """One of three is killed with SIGKILL under load."""
    with stage.edge() as (fleet, edge), stage.loop(edge) as loop:
        time.sleep(3.0)
        fleet.kill(0)
        time.sleep(5.0)
        retried = value(edge, RETRIED)
    yield from _no_failed_call(loop.calls)
    yield "retried by Envoy", f"{retried:.0f}", "at least 1", retried >= 1


def slow(stage: Stage) -> Iterator[Row]:
    """One of three has a tenth of its time."""
    share = RUNNING_SECONDS / (RUNNING_SECONDS + STOPPED_SECONDS)
    rounds: list[tuple[float, float]] = []
    with stage.edge() as (fleet, edge), stage.loop(edge) as loop:
        begun = time.monotonic()
        time.sleep(4.0)
        # What routes.yaml recommends.
        hedge_ms = percentile(loop.between(begun + 1.0, time.monotonic()), 95)
        edge.configuration.set_hedge(hedge_ms / 1000)
        time.sleep(1.0)
        for _ in range(ROUNDS):
            marks = [time.monotonic()]
            time.sleep(3.0)
            marks.append(time.monotonic())
            with fleet.slowed(0, stopped_seconds=STOPPED_SECONDS, running_seconds=RUNNING_SECONDS):
                time.sleep(1.0)
                marks.append(time.monotonic())
                time.sleep(3.0)
                marks.append(time.monotonic())
            quiet, slowed = loop.between(*marks[:2]), loop.between(*marks[2:])
            rounds.append((percentile(quiet, 99), percentile(slowed, 99)))
    ratio = statistics.median(after / before for before, after in rounds)
    yield from _no_failed_call(loop.calls)
    yield f"p99 with one server at {share:.0%}, over that without", f"{ratio:.2f}", "2", ratio <= 2


def canary(stage: Stage) -> Iterator[Row]:
    """A weight of ten percent, set while Envoy runs."""
    with stage.edge(canary=True) as (_, edge), stage.loop(edge, host="digits.localhost") as loop:
        wait_until(lambda: len(loop.calls) >= 100)
        edge.configuration.set_canary(CANARY_PERCENT)
        wait_until(lambda: any(call.version == 2 for call in loop.calls[-100:]))
        begun = len(loop.calls)
        wait_until(lambda: len(loop.calls) >= begun + CALLS, 300.0)
        versions = Counter(call.version for call in loop.calls[begun : begun + CALLS])
    percent = 100 * versions[2] / versions.total()
    yield from _no_failed_call(loop.calls)
    yield (
        "calls that the canary answered",
        f"{percent:.1f} %",
        "10 % within 1 point",
        abs(percent - 10) <= 1,
    )


def rolling(stage: Stage) -> Iterator[Row]:
    """All three are restarted, one after another, under load."""
    with stage.edge() as (fleet, edge), stage.loop(edge) as loop:
        time.sleep(1.0)
        codes = []
        for number in range(SERVERS):
            codes.append(fleet.restart(number))
            wait_until(lambda: value(edge, HEALTHY) == SERVERS)
        time.sleep(1.0)
    yield from _no_failed_call(loop.calls)
    yield "exit codes", ", ".join(map(str, codes)), "0 of each", not any(codes)


def half_sent(stage: Stage) -> Iterator[Row]:
    """Hundreds of calls that are never finished, while others call."""
    tls = ssl.create_default_context(cafile=str(stage.authority.certificate_file))
    tls.set_alpn_protocols(["h2"])
    # A message of a megabyte is announced, and a hundred bytes of it are sent.
    beginning = struct.pack(">BI", 0, 2**20) + bytes(100)
    with contextlib.ExitStack() as stack:
        fleet, edge = stack.enter_context(stage.edge())
        loop = stack.enter_context(stage.loop(edge))
        time.sleep(2.0)
        port = edge.configuration.port
        for _ in range(HALF_SENT_CONNECTIONS):
            connection = stack.enter_context(RawConnection(port, tls))
            for number in range(HALF_SENT_STREAMS):
                connection.begin(
                    b"/convd.v1.ClassificationService/Classify",
                    stream=2 * number + 1,
                    sent=beginning,
                )
        begun = time.monotonic()
        time.sleep(5.0)
        held = value(edge, ACTIVE)
        inside = max(sum(fleet[n].counted("convd_waiting_calls").values()) for n in range(SERVERS))
        during = loop.between(begun, time.monotonic())
    count = HALF_SENT_CONNECTIONS * HALF_SENT_STREAMS
    yield from _no_failed_call(loop.calls)
    yield "half-sent calls that Envoy holds", f"{held:.0f}", f"at least {count}", held >= count
    yield "calls of others answered meanwhile", f"{len(during):,}", "some", bool(during)
    yield "calls that wait in a server", f"{inside:.0f}", f"at most {CALLERS}", inside <= CALLERS


DRILLS: dict[str, Callable[[Stage], Iterator[Row]]] = {
    "Even": even,
    "Killed": killed,
    "Slow": slow,
    "Canary": canary,
    "Rolling restart": rolling,
    "Half-sent": half_sent,
    "Protocols": protocols,
}


def main() -> None:
    """Play the drills and write the document."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envoy", type=Path, default=PROGRAM, help="Envoy's program")
    parser.add_argument("--only", choices=DRILLS)
    arguments = parser.parse_args()
    rows: list[tuple[str, Row]] = []
    with tempfile.TemporaryDirectory(prefix="convd-envoy-") as folder:
        stage = Stage(Path(folder), arguments.envoy)
        stage.validate()
        for name, drill in DRILLS.items():
            if arguments.only in (None, name):
                for row in drill(stage):
                    rows.append((name, row))
                    print(name, *row, flush=True)
    if arguments.only is None:
        write(rows, arguments.envoy)
    if not all(row[-1] for _, row in rows):
        sys.exit("a drill failed")


def _no_failed_call(calls: list[Call]) -> Iterator[Row]:
    problems = Counter(call.problem for call in calls if call.problem)
    found = ", ".join(f"{count} {problem}" for problem, count in problems.items())
    yield f"failed or wrong of {len(calls):,} calls", found or "0", "0", not problems


def write(rows: list[tuple[str, Row]], program: Path) -> None:
    """Write the document."""
    told = subprocess.run([program, "--version"], capture_output=True, text=True, check=True).stdout
    [version] = re.findall(r"/(\d+\.\d+\.\d+)/", told)
    write_document(
        DOCUMENT,
        "Drills of Envoy in front of convd",
        machine(),
        f"`make envoy-drill`: Envoy {version} with the files of deploy/envoy, {SERVERS} servers of "
        f"the demo's LeNet, and {CALLERS} callers in a closed loop: connections of convd's client "
        "over TLS with its retry policy, which check every answer. Envoy, servers and callers "
        "share the cores, so the ratios say more than the times.",
        table(
            ["Drill", "What", "Seen", "Bound", "Kept"],
            [
                (name, what, seen, bound, "yes" if kept else "**no**")
                for name, (what, seen, bound, kept) in rows
            ],
        ),
        f"- *Even*: {CALLS:,} calls, counted by each server.\n"
        "- *Killed*: SIGKILL to one of three under load.\n"
        f"- *Slow*: SIGSTOP for {1000 * STOPPED_SECONDS:.0f} ms and SIGCONT for "
        f"{1000 * RUNNING_SECONDS:.0f} ms, in turns; `per_try_timeout` is the 95th percentile "
        f"measured before. The median of {ROUNDS} rounds, each next to one without.\n"
        f"- *Canary*: the weight is set to {CANARY_PERCENT} % while Envoy runs; the canary answers "
        f"with another version. {CALLS:,} calls.\n"
        "- *Rolling restart*: SIGTERM, and a new process on the same ports, one after another.\n"
        f"- *Half-sent*: {HALF_SENT_CONNECTIONS} connections with {HALF_SENT_STREAMS} calls each, "
        "of whose message a hundred bytes of a megabyte arrive.\n"
        "- *Protocols*: results of a call, of one with 20 pictures of a megabyte, messages of a "
        "stream; statuses over HTTP and of what is not for callers.",
    )


if __name__ == "__main__":
    main()
