"""`make perf-analyzer`: Triton's load tester against a server on loopback.

It asks the server for metadata, configuration and statistics before and during the run, and reports
where the time went on the server's side.
"""

import csv
import os
import subprocess
import sys
import tempfile
from pathlib import Path

from testbed.server import server_process
from tests.interop.environments import perf_analyzer
from tests.tiny_artifact import publish_tiny

MODEL = "pets"
MAX_CONCURRENCY = 16
SHOWN = {
    "Concurrency": "concurrency",
    "Inferences/Second": "infer/s",
    "p50 latency": "p50 us",
    "p99 latency": "p99 us",
    "Server Queue": "queue us",
    "Server Compute Input": "input us",
    "Server Compute Infer": "infer us",
    "Server Compute Output": "output us",
}


def main() -> None:
    """Run it over all concurrencies and check what it says."""
    tool = perf_analyzer()
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        publish_tiny(root / "repository", MODEL)
        report = root / "report.csv"
        with server_process(root / "repository", root / "server.log") as server:
            command = [str(tool.binary), "-m", MODEL, "-i", "grpc"]
            command += ["-u", f"127.0.0.1:{server.grpc_port}"]
            command += ["--concurrency-range", f"1:{MAX_CONCURRENCY}", "-f", str(report)]
            # Short windows and few of them: the run shows that it works, not how fast it is.
            command += ["--measurement-interval", "1000", "--stability-percentage", "90"]
            command += ["--max-trials", "20"]
            completed = subprocess.run(
                [*command, *sys.argv[1:]],
                check=False,
                timeout=600,
                env=os.environ | {"LD_LIBRARY_PATH": tool.library_path},
            )
        if completed.returncode != 0:
            raise SystemExit(f"perf_analyzer ended with {completed.returncode}")
        rows = list(csv.DictReader(report.read_text().splitlines()))
    rows.sort(key=lambda row: int(row["Concurrency"]))
    print(" ".join(f"{title:>12}" for title in SHOWN.values()))
    for row in rows:
        print(" ".join(f"{row[column]:>12}" for column in SHOWN))
    measured = [int(row["Concurrency"]) for row in rows]
    if measured != list(range(1, MAX_CONCURRENCY + 1)):
        raise SystemExit(f"concurrencies reported: {measured}")
    if not all(int(row["Server Compute Infer"]) > 0 for row in rows):
        raise SystemExit("the server's compute times are missing from the report")
    if not any(int(row["Server Queue"]) > 0 for row in rows):
        raise SystemExit("the server's queue times are missing from the report")


if __name__ == "__main__":
    main()
