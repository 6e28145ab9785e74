"""Exports one ONNX file again and again, each time killed at another moment.

A program of its own: it forks, which a process with threads must not do. It prints one line for
each export: the moment, how it ended, and what the repository shows after it.
"""

import os
import random
import signal
import sys
from pathlib import Path
from types import FrameType

from convd.artifact.bundle import Artifact
from convd.artifact.repository import ModelRepository
from convd.export.publication import publish
from convd.export.sources.description import GivenDescription
from convd.export.sources.loading import SourceRequest, load_source
from tests.export.networks import CLASSES

ROOMS = ("convd.artifact.", "convd.export.", "convd.runtime.")
NEVER = 10**9


def main() -> None:
    file, root, count = Path(sys.argv[1]), Path(sys.argv[2]), int(sys.argv[3])
    report = root.parent / "moments"
    moments = [NEVER]
    for number in range(count + 2):
        kill_at = moments[number] if number <= count else NEVER
        child = os.fork()
        if child == 0:
            export(file, root, kill_at, report)
            os._exit(0)
        _, status = os.waitpid(child, 0)
        if number == 0:
            moments += chosen(int(report.read_text()), count)
        print(kill_at, os.waitstatus_to_exitcode(status), *look_at(root), flush=True)  # noqa: T201


def export(file: Path, root: Path, kill_at: int, report: Path) -> None:
    seen = 0

    def watch(frame: FrameType, event: str, _: object) -> None:
        nonlocal seen
        if event in ("call", "c_call") and str(frame.f_globals.get("__name__")).startswith(ROOMS):
            seen += 1
            if seen == kill_at:
                os.kill(os.getpid(), signal.SIGKILL)

    given = GivenDescription(labels=CLASSES, mean=(0.5,), std=(0.5,))
    source = load_source(SourceRequest(str(file), given=given))
    sys.setprofile(watch)
    publish(source, ModelRepository(root), "killed")
    sys.setprofile(None)
    report.write_text(str(seen))


def chosen(total: int, count: int) -> list[int]:
    """Moments of the whole export, half of them at its end, where the version becomes visible."""
    generator = random.Random(0)  # noqa: S311
    early = sorted(generator.sample(range(1, total), count // 2))
    late = sorted(generator.sample(range(total - 60, total), count - count // 2))
    return early + late


def look_at(root: Path) -> tuple[int, int]:
    """Number of visible versions, each of which must be whole, and of hidden folders."""
    repository = ModelRepository(root)
    versions = repository.versions("killed")
    for version in versions:
        Artifact.open(repository.version_path("killed", version)).check_all_files()
    hidden = [path for path in (root / "killed").iterdir() if path.name.startswith(".staging")]
    return len(versions), len(hidden)


if __name__ == "__main__":
    main()
