"""Does `convd tune` find what a full sweep finds, and what does the default lose against it?"""

import argparse
import itertools
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from bench.document import table, write_document
from bench.machine import machine
from bench.networks import publish_network
from convd.commands.tuning.conclusions import conclusions
from convd.commands.tuning.engine_choice import (
    EngineChoice,
    batch_sizes,
    parallelism,
    providers,
)
from convd.commands.tuning.frontier import Row, plot, rows_of
from convd.commands.tuning.published_model import PublishedModel
from convd.commands.tuning.race import Course, Gain
from convd.commands.tuning.search import Task, find_best
from convd.commands.tuning.trial_server import Contestant, TrialServer
from convd.runtime.cores import available_cores

NETWORKS = Path("runs/bench/repository")
DOCUMENT = Path("docs/performance-tuning.md")
PICTURE = Path("docs/performance-tuning.png")
CALLERS = 32
MOST_SECONDS = 180.0
LEAST_OF_SWEEP, LEAST_OF_DEFAULT = 0.97, 0.9
_FINALISTS = 4
_FINAL_ROUNDS = 9


def main() -> None:
    """Tune, sweep, compare both in turns, and write the page; exit 1 where a bound is missed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--network", default="resnet18")
    chosen = options.parse_args()
    before = machine()
    name = publish_network(NETWORKS, chosen.network)
    model = PublishedModel.find(str(NETWORKS), name)
    with tempfile.TemporaryDirectory() as scratch:
        task = Task(
            model.subject(Path(scratch, "versions")),
            EngineChoice(),
            CALLERS,
            p99_seconds=None,
            cores=available_cores(),
            limit_seconds=100.0,
            alternatives={},
        )
        began = time.perf_counter()
        outcome = find_best(task, Path(scratch, "tune"), print)
        tune_seconds = time.perf_counter() - began
        began = time.perf_counter()
        with TrialServer(Path(scratch, "sweep"), task.subject) as server:
            course = Course(outcome.goal)
            swept = list(_sweep(server, course, task))
            sweep_seconds = time.perf_counter() - began
            best = max(swept, key=lambda one: one[1])[0].choice
            finalists = {
                choice: server.load(choice)
                for choice in dict.fromkeys([best, outcome.best.choice, EngineChoice()])
            }
            scores = dict(
                zip(finalists, course.compare([*finalists.values()], _FINAL_ROUNDS), strict=True)
            )
    rows = rows_of(outcome)
    plot(rows, PICTURE, f"{name}, {CALLERS} callers", None)
    found = Gain.of(scores[outcome.best.choice], scores[best])
    default = Gain.of(scores[EngineChoice()], scores[best])
    bounds = [
        ("tune's choice, as a share of the sweep's", found.ratio, LEAST_OF_SWEEP, found.noise),
        ("the default, as a share of the sweep's", default.ratio, LEAST_OF_DEFAULT, default.noise),
    ]
    kept = tune_seconds <= MOST_SECONDS and all(share >= least for _, share, least, _ in bounds)
    write_document(
        DOCUMENT,
        "Tuning",
        before,
        f"`make bench-tune`: {name}, {CALLERS} callers that send its golden pictures one by one to "
        "a server on loopback. `convd tune` goes from provider to threads to batch size, races the "
        "values of each in turns and drops those without hope; the sweep measures every "
        "combination, then its best ones in turns. In the end the choices of both and the default "
        f"run in turns once more, {_FINAL_ROUNDS} rounds.",
        table(
            ["What", "Seen", "Noise", "At least", "Kept"],
            [
                (what, f"{share:.2f}", f"{noise:.2f}", least, "yes" if share >= least else "**no**")
                for what, share, least, noise in bounds
            ],
        ),
        f"`convd tune` took {tune_seconds:.0f} s (at most {MOST_SECONDS:.0f}: "
        f"{'kept' if tune_seconds <= MOST_SECONDS else '**missed**'}) for "
        f"{len({row.choice for row in rows})} choices, the sweep {sweep_seconds:.0f} s for "
        f"{len(swept)}. The sweep's best: {best}. tune's: {outcome.best.choice}.",
        "## What tune measured",
        _rows_table(rows),
        "```text\n" + "\n".join(conclusions(model, outcome, written=False)) + "\n```",
        f"![Throughput against latency]({PICTURE.name})",
        "## What the sweep measured",
        table(
            ["Choice", "Images per second"],
            [
                (one, f"{rate:.1f}")
                for one, rate in sorted(swept, key=lambda pair: pair[1], reverse=True)
            ],
        ),
    )
    if not kept:
        raise SystemExit(1)


def _sweep(server: TrialServer, course: Course, task: Task) -> Iterator[tuple[Contestant, float]]:
    """Every combination, with its score; the best ones are measured again."""
    seen: dict[Contestant, float] = {}
    for choice in _combinations(task):
        one = server.load(choice)
        seen[one] = course.run_once(one)
        one.close()
    ranked = sorted(seen, key=lambda one: seen[one], reverse=True)
    again = [server.load(one.choice) for one in ranked[:_FINALISTS]]
    scores = course.compare(again, 3)
    for one, measured in zip(again, scores, strict=True):
        yield one, sorted(measured)[1]
        one.close()
    for one in ranked[_FINALISTS:]:
        yield one, seen[one]


def _combinations(task: Task) -> Sequence[EngineChoice]:
    default = EngineChoice()
    on = list(dict.fromkeys(providers(default)))
    divided = [default, *parallelism(default, task.cores)]
    rows = [default, *batch_sizes(default, task.callers)]
    return [
        provider.but(
            intra_op_threads=cores.intra_op_threads,
            max_concurrent_executions=cores.max_concurrent_executions,
            max_batch_size=batch.max_batch_size,
        )
        for provider, cores, batch in itertools.product(on, divided, rows)
    ]


def _rows_table(rows: Sequence[Row]) -> str:
    return table(
        ["Choice", "Images per second", "p50, ms", "p99, ms", ""],
        [
            (
                row.choice,
                f"{row.images_per_second:.1f}",
                f"{row.p50_ms:.0f}",
                f"{row.p99_ms:.0f}",
                ", ".join(filter(None, [row.role, "on the frontier" if row.on_frontier else ""])),
            )
            for row in rows
        ],
    )


if __name__ == "__main__":
    main()
