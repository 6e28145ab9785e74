"""Twice the load that the server can carry, for a minute: what still arrives in time?"""

import argparse
import statistics
import tempfile
from pathlib import Path

from bench.document import table, write_document
from bench.load import OK, Load, random_requests, run_load
from bench.machine import machine
from bench.networks import publish_network
from bench.report import plot, summarize
from bench.server import RunningServer, serving

RUN = Path("runs/bench")
DOCUMENT = Path("docs/drills/overload.md")
SATURATION_SECONDS = 15.0
WARM_UP_SECONDS = 3.0
MINIMUM_SHARE = 0.90
MAXIMUM_REFUSAL_SECONDS = 0.010
MAXIMUM_GROWTH = 1.03


def main() -> None:
    """Measure saturation, then an open loop at twice that rate; exit 1 if a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--model", default="resnet50")
    options.add_argument("--seconds", type=float, default=60.0)
    options.add_argument("--deadline-seconds", type=float, default=0.2)
    chosen = options.parse_args()
    before = machine()
    with tempfile.TemporaryDirectory() as folder:
        publish_network(RUN / "repository", chosen.model)
        repository = Path(folder)
        (repository / chosen.model).symlink_to((RUN / "repository" / chosen.model).absolute())
        with serving(repository, RUN / "overload.log") as server:
            _measure(server, chosen.model, chosen.seconds, chosen.deadline_seconds, before)


def _measure(
    server: RunningServer, model: str, seconds: float, deadline_seconds: float, before: str
) -> None:
    requests = random_requests(model, (224, 224, 3), rows=[1] * 16)
    closed = Load(server.address, requests, SATURATION_SECONDS, concurrency=32)

    def saturation() -> float:
        return summarize(run_load(closed), warm_up_seconds=WARM_UP_SECONDS).requests_per_second

    # The machine's speed drifts: what it can do is measured before and after.
    saturations = [saturation()]
    rate = 2 * saturations[0]
    open_loop = Load(
        server.address,
        requests,
        WARM_UP_SECONDS + seconds,
        rate=rate,
        deadline_seconds=deadline_seconds,
    )
    memory_before = server.resident_bytes()
    samples = run_load(open_loop)
    memory_after = server.resident_bytes()
    saturations.append(saturation())
    report = summarize(samples, warm_up_seconds=WARM_UP_SECONDS)
    plot(samples, RUN / "overload.png", f"{model}: twice the capacity")
    in_time = sum(
        sample.code == OK and sample.seconds <= deadline_seconds
        for sample in samples
        if sample.started_at >= WARM_UP_SECONDS
    )
    share = in_time / seconds / statistics.mean(saturations)
    refusal_seconds = report.refusal_seconds.get(95.0, 0.0)
    growth = memory_after / memory_before
    checks = [
        ("answered within the deadline, of the closed loop's rate", f"{share:.1%}",
         f"at least {MINIMUM_SHARE:.0%}", share >= MINIMUM_SHARE),
        ("time of a refusal, p95", f"{refusal_seconds * 1e3:.1f} ms",
         f"at most {MAXIMUM_REFUSAL_SECONDS * 1e3:.0f} ms",
         refusal_seconds <= MAXIMUM_REFUSAL_SECONDS),
        ("resident memory, after to before", f"{growth:.3f}", f"at most {MAXIMUM_GROWTH}",
         growth <= MAXIMUM_GROWTH),
    ]  # fmt: skip
    latency = {f"p{percent:g}": value for percent, value in report.latency_seconds.items()}
    write_document(
        DOCUMENT,
        "Overload",
        before,
        f"`make drills-load`: {model}, prepared images over `convd.v1`, client and server on the "
        f"same cores. A closed loop of 32 callers for {SATURATION_SECONDS:.0f} s gives "
        f"{saturations[0]:.1f} answers per second before and {saturations[1]:.1f} after; the mean "
        f"is its rate. In between an open loop of {rate:.1f} requests per second for "
        f"{seconds:.0f} s, each with a deadline of {deadline_seconds * 1e3:.0f} ms.",
        table(
            ["What", "Measured", "Bound", "Kept"],
            [
                (what, value, bound, "yes" if kept else "**no**")
                for what, value, bound, kept in checks
            ],
        ),
        table(
            ["Status", "Requests"], [(code, count) for code, count in sorted(report.codes.items())]
        ),
        table(
            ["Latency of answers", "ms"],
            [(name, f"{value * 1e3:.0f}") for name, value in latency.items()],
        ),
    )
    if not all(kept for *_, kept in checks):
        raise SystemExit(1)


if __name__ == "__main__":
    main()
