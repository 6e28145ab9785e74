"""Where a server's time goes: py-spy's samples of the threads that run, by part of the server."""

import contextlib
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from bench.document import table
from testbed.server import ServerProcess

_SAMPLES_PER_SECOND = 250

# The first that a stack matches, read from its innermost frame outwards.
_PARTS = (
    ("waiting", ("_worker (concurrent", "wait (threading", "select (selectors", "_timer (")),
    ("inference", ("onnxruntime/",)),
    ("numpy", ("numpy/",)),
    ("metrics", ("prometheus_client/", "service/metrics", "service/statistics")),
    ("batcher", ("service/batching/", "runtime/")),
    ("decoding and preprocessing", ("artifact/", "PIL/")),
    ("use case", ("service/inference", "service/lifecycle", "service/servable", "service/ranking")),
    ("handler", ("service/protocols/classification", "service/protocols/open_inference")),
    ("interceptor", ("service/rpc/", "service/call")),
    ("transport", ("grpc/", "concurrent/futures", "threading.py")),
)


@dataclass
class Profile:
    """Samples by part of the server.

    Attributes:
        samples: Samples of threads that ran Python or native code, by part.
        problem: Why there are none; empty otherwise.
    """

    samples: Counter[str] = field(default_factory=Counter)
    problem: str = ""

    def table(self) -> str:
        """A Markdown table of the shares, or why there is none."""
        if self.problem or not self.samples:
            return f"No profile: {self.problem or 'py-spy saw no samples'}."
        total = self.samples.total()
        rows = [(part, f"{count / total:.0%}") for part, count in self.samples.most_common()]
        return table(["Where the server's busy threads were", "Share"], rows)


@contextlib.contextmanager
def profile_server(server: ServerProcess, path: Path, seconds: float) -> Iterator[Profile]:
    """Sample a server while the block loads it; the profile is filled when the block ends.

    Args:
        server: The server.
        path: Where the samples go, one stack a line, as flame graphs are made of.
        seconds: For how long to sample.
    """
    profile = Profile()
    # It lies beside the interpreter, which need not be on the path.
    beside = Path(sys.executable).parent / "py-spy"
    py_spy = str(beside) if beside.exists() else shutil.which("py-spy")
    if py_spy is None:
        profile.problem = "py-spy is not installed"
        yield profile
        return
    command = [py_spy, "record", "--pid", server.pid, "--duration", int(seconds)]
    command += ["--rate", _SAMPLES_PER_SECOND, "--format", "raw", "--output", path, "--nonblocking"]
    path.unlink(missing_ok=True)
    spy = subprocess.Popen(
        [str(word) for word in command], stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
    )
    yield profile
    _, errors = spy.communicate(timeout=seconds + 60)
    if not path.is_file():
        profile.problem = f"py-spy failed: {errors.decode(errors='replace').strip()[:200]}"
        return
    profile.samples = _by_part(path.read_text(encoding="utf-8"))


def _by_part(stacks: str) -> Counter[str]:
    samples: Counter[str] = Counter()
    for line in stacks.splitlines():
        stack, _, count = line.rpartition(" ")
        part = _part(stack.split(";"))
        if part != "waiting":
            samples[part] += int(count)
    return samples


def _part(frames: list[str]) -> str:
    if any(word in frames[-1] for word in _PARTS[0][1]):
        return "waiting"
    for frame in reversed(frames):
        for part, words in _PARTS[1:]:
            if any(word in frame for word in words):
                return part
    return "other"
