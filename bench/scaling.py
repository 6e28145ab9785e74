"""`make scaling`: measure one and three servers behind Envoy, simulate them and larger fleets.

The results go between the marks in docs/scaling.md. A simulated figure that is more than 15 % off
the measured one ends with 1.
"""

import argparse
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from bench import capacity, scaling_cases
from bench.document import table
from bench.drills.envoy import PROGRAM
from bench.h2load import check_installed
from bench.machine import machine
from bench.scaling_runs import ARCHITECTURE, CALLERS, Calibration, Measured, bench

PAGE = Path("docs/scaling.md")
BEGIN = "<!-- scaling: written by make scaling -->\n"
END = "<!-- end of scaling -->"
LARGEST_ERROR = 0.15
LAGS_SECONDS = (5.0, 30.0, 90.0)


def main() -> None:
    """Measure, simulate and write."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--envoy", type=Path, default=PROGRAM, help="Envoy's program")
    parser.add_argument("--seconds", type=float, default=30.0, help="length of a measured run")
    arguments = parser.parse_args()
    check_installed()
    where = machine()
    with (
        tempfile.TemporaryDirectory(prefix="convd-scaling-") as folder,
        bench(Path(folder), arguments.envoy) as runs,
    ):
        calibration = runs.calibrate(arguments.seconds / 3)
        measured = [runs.run(servers, arguments.seconds) for servers in (1, 3)]
    checked, errors = check(calibration, measured)
    sections = [f"Measured on: {where}", checked, *simulated(calibration), machines(calibration)]
    before, rest = PAGE.read_text().split(BEGIN)
    text = "\n\n".join(sections)
    PAGE.write_text(before + BEGIN + "\n" + text + "\n\n" + END + rest.split(END, 1)[1])
    print(f"{text}\n\nwritten to {PAGE}")
    if max(errors) > LARGEST_ERROR:
        sys.exit(f"the simulation is {max(errors):.0%} off")


def check(calibration: Calibration, measured: list[Measured]) -> tuple[str, list[float]]:
    """The simulated runs beside the measured ones, and how far each figure is off."""
    rows: list[tuple[object, ...]] = []
    errors: list[float] = []
    for run in measured:
        result = scaling_cases.one_machine(
            calibration.costs, calibration.cores, run.servers, CALLERS
        )
        for what, seen, computed, unit in (
            ("calls per second", run.calls_per_second, result.calls_per_second, 1.0),
            ("p50, ms", run.p50_seconds, result.p50_seconds, 1000.0),
            ("p99, ms", run.p99_seconds, result.p99_seconds, 1000.0),
        ):
            error = computed / seen - 1
            rows.append(
                (run.servers, what, f"{unit * seen:.1f}", f"{unit * computed:.1f}", f"{error:+.0%}")
            )
            if what != "p50, ms":
                errors.append(abs(error))
    costs = calibration.costs
    head = (
        f"### Checked\n\n{ARCHITECTURE}, one prepared image a call, {CALLERS} callers in a closed "
        "loop, Envoy with TLS and all servers on the same cores. The costs were measured apart "
        "from these runs: the network's in a process of its own, the others with a lone caller. "
        f"A call costs {1e3 * costs.caller_seconds:.2f} ms of a core at the caller, "
        f"{1e3 * costs.edge_seconds:.2f} ms at Envoy and {1e3 * costs.call_seconds:.2f} ms at the "
        f"server; a batch {1e3 * costs.batch_seconds:.1f} ms and {1e3 * costs.row_seconds:.1f} ms "
        f"for each row. Together the cores do {calibration.cores:.2f} times what one does alone."
    )
    headings = ["Servers", "What", "Measured", "Simulated", "Off by"]
    return f"{head}\n\n{table(headings, rows)}", errors


def simulated(calibration: Calibration) -> Iterator[str]:
    """The cases that one machine is too small for."""
    costs = calibration.costs
    yield (
        "### Balancing, with a slow server\n\nEight servers with a core each at 60 % load; one of "
        "them ten times slower in the right half. Calls come at random moments, from a hundred "
        "connections.\n\n"
    ) + table(
        ["Policy", "p50, ms", "p99, ms", "p50, ms, one slow", "p99, ms, one slow", "Asked again"],
        [
            (
                name,
                f"{1e3 * alike.p50_seconds:.0f}",
                f"{1e3 * alike.p99_seconds:.0f}",
                f"{1e3 * slow.p50_seconds:.0f}",
                f"{1e3 * slow.p99_seconds:.0f}",
                f"{slow.attempts - 1:.0%}",
            )
            for name, alike, slow in scaling_cases.balancing(costs)
        ],
    )
    yield (
        "### Retries\n\nThe same servers, which answer a share of all calls UNAVAILABLE. The "
        "budget is that of `fleets.yaml`, without its minimum.\n\n"
    ) + table(
        ["Retries", "UNAVAILABLE", "Calls at the servers", "Failed at the caller"],
        [
            (name, f"{share:.0%}", f"{result.attempts:.2f} times", f"{result.failed:.1%}")
            for name, share, result in scaling_cases.retries(costs)
        ],
    )
    yield (
        "### Autoscaling\n\nFour servers at half load, whose load triples. Every 15 s an "
        "autoscaler wants as many servers as bring the load to 60 %; a new one answers after the "
        "lag (finding a machine, the image, the repository, loading and warming up).\n\n"
    ) + table(
        ["Lag", "Calls over 1 s, in five minutes", "In time again after", "Servers at the end"],
        [
            (
                f"{step.lag_seconds:.0f} s",
                f"{step.late:.0%}",
                "never" if step.recovered_seconds is None else f"{step.recovered_seconds:.0f} s",
                step.servers,
            )
            for step in scaling_cases.autoscaling(costs, LAGS_SECONDS)
        ],
    )


def machines(calibration: Calibration) -> str:
    """Machines, network and money for three rates."""
    picture = f"{calibration.picture_bytes / 1000:.0f} kB"
    head = (
        "### Machines, network, money\n\nResNet-50, one JPEG of 640x427 a call: "
        f"{picture} on the wire, {1e3 * calibration.picture_seconds:.1f} ms of a core to decode "
        f"and prepare, {1e3 * calibration.costs.edge_seconds:.2f} ms at Envoy. Machines are "
        f"loaded to {capacity.UTILISATION:.0%}, and there are at least two of each. Prices are "
        f"assumptions: ${capacity.CORE_DOLLARS_PER_HOUR:.2f} for a core and an hour, "
        f"${capacity.GPU_DOLLARS_PER_HOUR:.2f} for a GPU with {capacity.GPU_MACHINE_CORES} cores. "
        f"CPU machines have {capacity.CPU_MACHINE_CORES} cores, Envoy's "
        f"{capacity.EDGE_MACHINE_CORES}."
    )
    rows: list[tuple[object, ...]] = []
    for rate in capacity.IMAGES_PER_SECOND:
        for engine in capacity.engines():
            need = capacity.need(
                engine,
                rate,
                picture_bytes=calibration.picture_bytes,
                picture_seconds=calibration.picture_seconds,
                edge_seconds=calibration.costs.edge_seconds,
            )
            rows.append(
                (
                    f"{rate:,}",
                    f"{engine.name} ({engine.source})",
                    f"{need.machines:,}",
                    f"{need.edge_machines:,}",
                    f"{need.gigabits_per_second:,.1f}",
                    f"{need.dollars_per_hour:,.0f}",
                    f"{need.dollars_per_million:.2f}",
                )
            )
    headings = [
        "Images/s", "Engine", "Machines", "Envoy's", "Gbit/s in", "$ an hour", "$ a million",
    ]  # fmt: skip
    return f"{head}\n\n{table(headings, rows)}"


if __name__ == "__main__":
    main()
