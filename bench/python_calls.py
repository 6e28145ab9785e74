"""Python calls per request, by room: what a lone request on an idle server costs the interpreter.

python -m bench.python_calls [--functions]
"""

import argparse
import sys
import threading
import time
from collections import Counter, defaultdict
from operator import itemgetter
from pathlib import Path
from types import FrameType

from bench.document import table
from bench.h2load import INFER, check_installed, load, load_count
from bench.networks import repository_of_one
from bench.performance import infer_request
from convd.service.application import Application
from convd.service.settings_sources import load_settings

RUN = Path("runs/bench")
REQUESTS = 2000


class CallCounter:
    """Counts the Python functions that every thread calls, from `start` to `stop`."""

    def __init__(self) -> None:
        self.calls: Counter[tuple[str, str]] = Counter()
        self._counting = False

    def install(self) -> None:
        """Count in this thread and in all that start from now on."""
        threading.setprofile(self._profile)
        sys.setprofile(self._profile)

    def start(self) -> None:
        """Begin to count."""
        self.calls.clear()
        self._counting = True

    def stop(self) -> None:
        """End."""
        self._counting = False

    def _profile(self, frame: FrameType, event: str, _: object) -> None:
        if self._counting and event == "call":
            self.calls[str(frame.f_globals.get("__name__")), frame.f_code.co_qualname] += 1


def main() -> None:
    """Serve LeNet in this process, load it from another, and print the table."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--functions", action="store_true", help="list every function")
    list_functions = options.parse_args().functions
    check_installed()
    request = infer_request("lenet5")
    counter = CallCounter()
    counter.install()
    with repository_of_one(RUN / "repository", "lenet5") as repository:
        settings = load_settings(
            {"repository": repository, "grpc_port": 0, "http_port": 0, "provider": "cpu"}
        )
        application = Application(settings)
        application.start()
        while application.unready_reason():
            time.sleep(0.1)
        address = f"127.0.0.1:{application.grpc_port}"
        load(address, INFER, request, concurrency=1, seconds=1)
        counter.start()
        requests = load_count(address, INFER, request, REQUESTS)
        counter.stop()
        application.drain()
    per_request = {key: count / requests for key, count in counter.calls.items()}
    rooms: defaultdict[str, float] = defaultdict(float)
    for (module, _), calls in per_request.items():
        rooms[_room(module)] += calls
    print(
        table(
            ["Room", "Python calls of one request"],
            [
                (room, f"{calls:.1f}")
                for room, calls in sorted(rooms.items(), key=itemgetter(1), reverse=True)
                if calls >= 0.1
            ],
        )
    )
    ours = sum(calls for room, calls in rooms.items() if room.startswith("convd."))
    print(f"\n{ours:.1f} of convd, {sum(rooms.values()):.1f} altogether")
    if list_functions:
        for (module, name), calls in sorted(per_request.items(), key=lambda item: -item[1]):
            if calls >= 0.05:
                print(f"{calls:6.2f}  {module}:{name}")


def _room(module: str) -> str:
    parts = module.split(".")
    return ".".join(parts[:3]) if parts[0] == "convd" else parts[0]


if __name__ == "__main__":
    main()
