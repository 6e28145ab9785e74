"""Play the rounds, give the verdict, and write it down; `make soak` and `make soak-quick`."""

import argparse
import itertools
import random
import shutil
import threading
import time
from collections import Counter
from pathlib import Path

import numpy as np

from bench.document import table, write_document
from bench.machine import machine
from testbed.server import server_process
from tests.soak.callers import Caller, Convd, OpenInference
from tests.soak.events import EVENTS, SILENCE_SECONDS, Stage
from tests.soak.ledger import Ledger
from tests.soak.models import STEADY, STEADY_VERSIONS, VISITOR, Models
from tests.soak.rounds import Round, play
from tests.soak.vitals import Vitals, VitalsWatch, plot, rise

RUN = Path("runs/soak")
DOCUMENT = Path("docs/drills/soak.md")
PLOT = Path("docs/drills/soak.svg")

MAX_RISE_MEBIBYTES = 50.0
# A server has up to 64 threads for calls in each worker, and starts them as calls need them.
MAX_RISE_THREADS = 40.0
MAX_RISE_DESCRIPTORS = 20.0

_LOAD_SHARE = 0.8
_FULL_LOAD_SECONDS = 8.0
_WORKERS = 2
_FLAGS = (
    *("--workers", _WORKERS, "--provider", "cpu", "--intra-op-threads", 1),
    *("--poll-seconds", 0.5, "--drain-seconds", 5, "--message-timeout-seconds", 5),
    *("--worker-silence-seconds", SILENCE_SECONDS, "--decode-budget-bytes", 256 * 1024 * 1024),
)


def main() -> None:
    """Soak a server; exit 1 if it did what it must not."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--seconds", type=float, default=1800.0)
    options.add_argument("--round-seconds", type=float, default=45.0)
    options.add_argument("--write", action="store_true", help=f"write {DOCUMENT} and {PLOT}")
    options.add_argument("--seed", type=int, default=0)
    chosen = options.parse_args()
    before = machine()
    shutil.rmtree(RUN, ignore_errors=True)
    models = Models(RUN)
    rounds: list[Round] = []
    idle: list[Vitals] = []
    with (
        server_process(models.repository, RUN / "server.log", *_FLAGS) as server,
        VitalsWatch(server.pid) as watch,
    ):
        callers = _callers(server.grpc_port, models)
        stage = Stage(server, models, callers, random.Random(chosen.seed))
        rate = _full_load(callers) * _LOAD_SHARE
        began = time.monotonic()
        for event in itertools.cycle(EVENTS):
            played = play(stage, event, chosen.round_seconds, len(callers) / rate)
            rounds.append(played)
            idle.append(watch.look())
            print(_line(played, idle[-1]), flush=True)
            if len(rounds) >= len(EVENTS) and time.monotonic() - began > chosen.seconds:
                break
        for caller in callers:
            caller.close()
        log = server.log.read_text()
    problems = [problem for played in rounds for problem in played.problems]
    rises = {
        "resident MiB": (rise([one.resident_mebibytes for one in idle]), MAX_RISE_MEBIBYTES),
        "threads": (rise([one.threads for one in idle]), MAX_RISE_THREADS),
        "descriptors": (rise([one.descriptors for one in idle]), MAX_RISE_DESCRIPTORS),
    }
    problems += [f"{name} rose by {by:.1f}" for name, (by, most) in rises.items() if by > most]
    for model, fewest in ((STEADY, STEADY_VERSIONS), (VISITOR, 2)):
        versions = {one for caller in callers if caller.model == model for one in caller.versions}
        if len(versions) < fewest:
            problems.append(f"only these versions of {model} answered: {sorted(versions)}")
    problems += ["the log has a traceback"] * ("Traceback" in log)
    figures = _figures(rounds, callers, rate)
    if chosen.write:
        plot(watch.seen, idle, PLOT)
        verdict = "Nothing of this failed." if not problems else "**It failed**: see below."
        rows = [(name, f"{by:+.1f}", f"{most:g}") for name, (by, most) in rises.items()]
        write_document(
            DOCUMENT,
            "Soak",
            before,
            _PROSE.format(workers=_WORKERS, share=_LOAD_SHARE, minutes=chosen.seconds / 60),
            verdict,
            figures,
            table(["After the rounds, second half", "Rise", "Allowed"], rows),
            f"![Memory, threads and descriptors]({PLOT.name})",
            *(f"- {problem}" for problem in problems[:20]),
        )
    else:
        print(figures)
    if problems:
        raise SystemExit("\n".join(problems[:50]))


_PROSE = """\
`make soak`: {workers} workers of a tiny model for {minutes:.0f} minutes, at {share:.0%} of the rate
that the callers reach in a closed loop. Each caller has a connection of its own and compares every
answer with what the version that gave it must answer. Meanwhile other clients send hostile
pictures, half-sent calls, resets, calls whose answers they do not take, and cancellations; versions
are published, removed, loaded and unloaded. Each round has an event. It ends without load, and then
the counts are compared: for each model, method and code, what clients saw must be what the metrics
have counted. Where a worker died, the metrics may lack the calls that were under way or ended
between its last report and its death. Those that it could not answer ended at their clients with
UNAVAILABLE or DEADLINE_EXCEEDED, which the metrics do not have, and may be counted as answered."""


def _callers(port: int, models: Models) -> list[Caller]:
    protocols = (Convd, OpenInference)
    asked = (STEADY, STEADY, STEADY, VISITOR)
    return [
        Caller(port, protocols[seed % 2], asked[seed // 2 % 4], models, seed) for seed in range(8)
    ]


def _full_load(callers: list[Caller]) -> float:
    """Requests a second, all callers together, when nobody pauses."""
    ledger, stop = Ledger(), threading.Event()
    threads = [threading.Thread(target=caller.run, args=(ledger, stop, 0.0)) for caller in callers]
    for thread in threads:
        thread.start()
    stop.wait(_FULL_LOAD_SECONDS)
    stop.set()
    for thread in threads:
        thread.join()
    for caller in callers:
        caller.waited_seconds.clear()
    return len(ledger.attempts) / _FULL_LOAD_SECONDS


def _line(played: Round, idle: Vitals) -> str:
    codes = Counter[str]()
    for (model, _, code), count in played.counts.items():
        codes[f"{model} {code}"] += count
    told = ", ".join(f"{count} {code}" for code, count in sorted(codes.items()))
    lines = [
        f"{idle.seconds:5.0f} s {played.event}: {told}; {idle.resident_mebibytes:.0f} MiB, "
        f"{idle.threads} threads, {idle.descriptors} descriptors"
    ]
    return "\n    ".join(lines + played.problems[:10])


def _figures(rounds: list[Round], callers: list[Caller], rate: float) -> str:
    rows = []
    for event in EVENTS:
        played = [one for one in rounds if one.event == event]
        codes = Counter[str]()
        for one in played:
            for (model, _, code), count in one.counts.items():
                if model in (STEADY, VISITOR):
                    codes[code] += count
        answered = codes.pop("OK", 0)
        refused = ", ".join(f"{count} {code}" for code, count in codes.most_common()) or "0"
        unequal = sum(len(one.problems) for one in played)
        rows.append((event, len(played), f"{answered:,}", refused, unequal))
    waited = np.array([seconds for caller in callers for seconds in caller.waited_seconds])
    headings = ["Round", "Times", "Valid requests answered right", "Attempts refused", "Problems"]
    percentiles = [1000 * float(np.percentile(waited, percent)) for percent in (50, 99, 99.9)]
    return (
        table(headings, rows)
        + f"\n\n{rate:.0f} valid requests a second were asked for. With all retries one took "
        f"{percentiles[0]:.0f} ms in the median, {percentiles[1]:.0f} ms at p99, "
        f"{percentiles[2]:.0f} ms at p99.9 and {1000 * waited.max():.0f} ms at most."
    )


if __name__ == "__main__":
    main()
