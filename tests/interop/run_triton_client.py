"""`make interop`: Triton's client against servers on loopback."""

import subprocess
import tempfile
from pathlib import Path

from tests.interop.environments import triton_client_python
from tests.support import ROOT, running_server
from tests.tiny_artifact import publish_tiny

MODEL = "pets"


def main() -> None:
    """Run every check; a non-zero exit says that one failed."""
    python = triton_client_python()
    with tempfile.TemporaryDirectory() as folder:
        repository = Path(folder)
        publish_tiny(repository, MODEL)
        with (
            running_server(repository, allow_repository_control=True) as server,
            running_server(repository, max_queue_delay_seconds=60.0) as waiting,
        ):
            completed = subprocess.run(
                [
                    str(python),
                    "-m",
                    "tests.interop.triton_client",
                    f"127.0.0.1:{server.grpc_port}",
                    f"127.0.0.1:{waiting.grpc_port}",
                    MODEL,
                ],
                check=False,
                timeout=300,
                cwd=ROOT,
            )
    raise SystemExit(completed.returncode)


if __name__ == "__main__":
    main()
