"""docs/performance-peers.md and its plot, from every part that has been run."""

import json
from dataclasses import asdict, dataclass
from pathlib import Path

import matplotlib as mpl

from bench.document import table, write_document
from bench.peers.contestants import CONVD, PEERS
from bench.peers.wire import Form

mpl.use("Agg")
from matplotlib import pyplot as plt

PAGE = Path("docs/performance-peers.md")
PLOT = Path("docs/performance-peers.png")
LEAST_RATIO = {"lenet5": {16: 1.2, 64: 1.2}}
_ORDER = [one.name for one in (CONVD, *PEERS)]


@dataclass(frozen=True)
class Result:
    """One server at one concurrency: medians over the rounds.

    Attributes:
        server: Its name.
        concurrency: Requests under way.
        requests_per_second: Answers in a second.
        p50_seconds: Median time of a request.
        p99_seconds: Time that 99 % of the requests do not exceed.
        cpu_seconds: Processor time of the server for each request.
        memory_bytes: Memory of all its processes, with what they share counted once.
        ready_seconds: From its start to its first correct answer.
        ratio: convd's rate divided by this one's, the median of the rounds.
    """

    server: str
    concurrency: int
    requests_per_second: float
    p50_seconds: float
    p99_seconds: float
    cpu_seconds: float
    memory_bytes: float
    ready_seconds: float
    ratio: float


@dataclass(frozen=True)
class Part:
    """One run.

    Attributes:
        network: The network.
        form: What a request holds.
        machine: Where and with what it was measured.
        rounds: How often the servers took turns.
        results: Of each server and concurrency.
    """

    network: str
    form: Form
    machine: str
    rounds: int
    results: tuple[Result, ...]

    def write(self, folder: Path) -> None:
        """Keep it for the page."""
        folder.mkdir(parents=True, exist_ok=True)
        text = json.dumps(asdict(self), indent=1)
        (folder / f"{self.network}-{self.form}.json").write_text(text, encoding="utf-8")

    @classmethod
    def read(cls, path: Path) -> "Part":
        """One that was kept."""
        fields = json.loads(path.read_text(encoding="utf-8"))
        results = tuple(Result(**one) for one in fields.pop("results"))
        return cls(results=results, **fields)


def write_page(folder: Path, versions: dict[str, str]) -> None:
    """Write the page and its plot from every part in a folder.

    Args:
        folder: Where the parts are.
        versions: Of each peer's package.
    """
    parts = [Part.read(path) for path in sorted(folder.glob("*.json"))]
    _draw(parts)
    protocols = [(one.name, versions.get(one.name, ""), one.protocol) for one in (CONVD, *PEERS)]
    write_document(
        PAGE,
        "convd and other model servers",
        parts[-1].machine,
        "The same ONNX file on ONNX Runtime's CPU provider, with the same number of threads, on "
        "the same machine. h2load keeps 1 to 64 requests of one picture under way, each on a "
        "connection of its own. In each round every server is started, checked for the right "
        "probabilities, loaded and ended, one after another; figures are medians over the rounds, "
        "and ratios medians of the rounds' ratios. LeNet-5 runs on one core and the client on the "
        "other; ResNets run on both cores, with two threads. Batches have at most 32 rows.",
        "`make bench-peers` measures everything; `python -m bench.peers --only lenet5` (or "
        "`resnet18`, `resnet50`, with `--form jpeg`) one part, in less than ten minutes. Peers get "
        "environments of their own under `.cache/peers`, from `bench/peers/requirements`; "
        "`bench/peers/servers` has a file for each, written as its guide does it, with batching "
        "on. Where a peer waits for batches by the clock, it waits a millisecond, the least that "
        "all of them can.",
        table(["server", "version", "clients speak"], protocols),
        f"![Requests per second of each server]({PLOT.name})",
        *[paragraph for part in parts for paragraph in _part(part)],
    )


def _part(part: Part) -> list[str]:
    what = "raw pixels" if part.form == "pixels" else "a JPEG of 640 x 427"
    rows = [
        (
            one.concurrency,
            one.server,
            f"{one.requests_per_second:,.0f}",
            f"{one.ratio:.2f}",
            f"{one.p50_seconds * 1e3:.1f}",
            f"{one.p99_seconds * 1e3:.1f}",
            f"{one.cpu_seconds * 1e3:.2f}",
            f"{one.memory_bytes / 1e6:,.0f}",
            f"{one.ready_seconds:.1f}",
        )
        for one in sorted(part.results, key=lambda one: (one.concurrency, _ORDER.index(one.server)))
    ]
    headings = [
        "under way",
        "server",
        "requests/s",
        "convd's rate / its rate",
        "p50, ms",
        "p99, ms",
        "processor time per request, ms",
        "memory, MB",
        "start to ready, s",
    ]
    return [
        f"## {part.network}, {what}",
        f"{part.rounds} rounds. {part.machine}",
        table(headings, rows),
        _verdict(part),
    ]


def _verdict(part: Part) -> str:
    """Where convd misses what it should reach."""
    by_load = {one.concurrency: one for one in part.results if one.server == CONVD.name}
    missed = []
    for one in part.results:
        own = by_load[one.concurrency]
        least = LEAST_RATIO.get(part.network, {}).get(one.concurrency, 1.0)
        if one.server == CONVD.name or (part.network in LEAST_RATIO and one.concurrency == 1):
            continue
        if one.ratio < least:
            missed.append(f"{one.ratio:.2f} of {one.server}'s rate at {one.concurrency}")
        if own.p99_seconds > one.p99_seconds:
            missed.append(
                f"a p99 of {own.p99_seconds * 1e3:.1f} ms against {one.server}'s "
                f"{one.p99_seconds * 1e3:.1f} ms at {one.concurrency}"
            )
    if not missed:
        return "convd is ahead of each of them in rate and p99."
    return f"Where convd is not ahead: {'; '.join(missed)}."


def _draw(parts: list[Part]) -> None:
    figure, axes = plt.subplots(
        1, len(parts), figsize=(4.2 * len(parts), 3.6), squeeze=False, layout="constrained"
    )
    for part, plot in zip(parts, axes[0], strict=True):
        for name in _ORDER:
            own = sorted(
                (one.concurrency, one.requests_per_second)
                for one in part.results
                if one.server == name
            )
            if own:
                width = 2.5 if name == CONVD.name else 1.2
                plot.plot(*zip(*own, strict=True), marker="o", label=name, linewidth=width)
        plot.set_xscale("log", base=2)
        plot.set_ylim(bottom=0)
        plot.set_xlabel("requests under way")
        plot.set_title(f"{part.network}, {part.form}")
        plot.grid(alpha=0.3)
    axes[0][0].set_ylabel("requests per second")
    axes[0][0].legend(fontsize="small")
    PLOT.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(PLOT, dpi=110)
    plt.close(figure)
