"""Runs every command of the documents in a fresh clone and a fresh environment.

`python -m tests.docs.run_commands` makes both, which takes minutes and needs a package index; with
`--here` the commands run in the clone with the environment of this interpreter.
"""

import argparse
import io
import os
import pickle
import re
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from tests.docs.commands import DOCUMENTS, blocks, commands
from tests.support import ROOT, free_ports

NOT_RUN = {
    "make test": "it runs this",
    "make quick": "the tests have a run of their own",
    "make search": "the tests have a run of their own",
    "make lint": "the tests have a run of their own",
    "make help": "it only prints",
    "docker ": "tests/containers.sh runs it, with an engine",
    "kubectl ": "no cluster runs here",
    "torchvision:resnet50": "it downloads weights",
    "s3://": "tests/object_storage.py has a server for it",
}
"""Commands that are not run here, by what they contain, with the reason."""

SHORTENED = {
    "convd train resnet18": " --epochs 1 --passes-per-epoch 1",
    "convd train vgg11_bn": " --epochs 1 --passes-per-epoch 1",
    "convd tune": " --search-seconds 10",
}
"""What is added to commands that would take long, by how they begin."""

_IN_A_FRESH_ENVIRONMENT = ("python3 -m venv", "pip install", "make demo", "source ")


def reason_not_to_run(command: str) -> str:
    """Why a command is not run; empty if it is."""
    return next((reason for part, reason in NOT_RUN.items() if part in command), "")


def script_of(document: Path, *, fresh: bool, ports: tuple[int, int]) -> str:
    """A shell script with all commands of a document, in their order.

    Args:
        document: The document.
        fresh: Whether the environment is to be made, too.
        ports: The gRPC port and the HTTP port that take the place of 8001 and 8002.
    """
    lines = ["set -euo pipefail", "trap 'kill $(jobs -p) 2>/dev/null || true; wait' EXIT"]
    for block in blocks(document):
        if block.language == "python":
            if "import convd" in block.text:
                lines.append(f"python - <<'PROGRAM'\n{_moved(block.text, ports)}PROGRAM")
            continue
        for command in commands(block):
            if reason_not_to_run(command):
                continue
            if not fresh and command.startswith(_IN_A_FRESH_ENVIRONMENT):
                continue
            lines += _steps(_moved(command, ports))
    return "\n".join(lines) + "\n"


def _steps(command: str) -> list[str]:
    extra = next((more for start, more in SHORTENED.items() if command.startswith(start)), "")
    steps = [f"echo {_quoted('$ ' + command + extra)}"]
    if command.startswith("convd serve"):
        # The reader's next command is typed in another terminal; one server at a time has the port.
        steps += [
            '[ -z "${server:-}" ] || { kill $server; wait $server || true; }',
            f"{command.rstrip(' &')} & server=$!",
            "until convd health >/dev/null 2>&1; do kill -0 $server; sleep 0.2; done",
        ]
    else:
        steps.append(command + extra)
    return steps


def _quoted(text: str) -> str:
    return "'" + text.replace("'", "'\\''") + "'"


def _moved(text: str, ports: tuple[int, int]) -> str:
    for port, other in zip((8001, 8002), ports, strict=True):
        text = re.sub(rf"(?<=:){port}\b", str(other), text)
    return text


def prepare(folder: Path) -> None:
    """Write what readers have of their own: photos, pictures to ask about, published versions."""
    random = np.random.default_rng(0)
    for number, name in enumerate(("cat", "dog", "ship", "bird")):
        (folder / "photos" / name).mkdir(parents=True, exist_ok=True)
        for index in range(30):
            picture = Image.fromarray(random.integers(0, 90, (96, 128, 3), np.uint8))
            box = (10 + 20 * number, 20, 60 + 20 * number, 60)
            ImageDraw.Draw(picture).ellipse(box, fill=(255, 60 * number, 120))
            picture.save(folder / "photos" / name / f"{index}.jpg")
    picture.save(folder / "cat.jpg")
    demo = ROOT / "deploy" / "demo" / "digits" / "1"
    digit = next((demo / "golden").glob("*.png"))
    (folder / "digit.png").write_bytes(digit.read_bytes())
    _write_cifar10(folder / "cifar-10-python.tar.gz", random)
    for version in ("1", "2", "3"):
        target = folder / "repository" / "digits" / version
        subprocess.run(["mkdir", "-p", target.parent], check=True)
        subprocess.run(["cp", "-r", demo, target], check=True)


def _write_cifar10(path: Path, random: np.random.Generator) -> None:
    """A small archive in CIFAR-10's own format."""
    names = [b"airplane", b"automobile", b"bird", b"cat", b"deer"]
    names += [b"dog", b"frog", b"horse", b"ship", b"truck"]
    files: dict[str, dict[bytes, object]] = {"batches.meta": {b"label_names": names}}
    for name in [*(f"data_batch_{number}" for number in range(1, 6)), "test_batch"]:
        labels = [index % 10 for index in range(40)]
        data = random.integers(0, 256, (40, 3072), np.uint8)
        files[name] = {b"data": data, b"labels": labels}
    with tarfile.open(path, "w:gz") as archive:
        for name, content in files.items():
            packed = pickle.dumps(content)
            member = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            member.size = len(packed)
            archive.addfile(member, io.BytesIO(packed))


def main() -> None:
    """Run them; the exit code is 1 if a command of any document failed."""
    options = argparse.ArgumentParser(description=__doc__)
    options.add_argument("--here", action="store_true", help="use this interpreter's environment")
    options.add_argument("documents", nargs="*", type=Path, default=DOCUMENTS)
    chosen = options.parse_args()
    failed = []
    with tempfile.TemporaryDirectory() as folder:
        clone = Path(folder) / "convd"
        subprocess.run(["git", "clone", "--quiet", ROOT, clone], check=True)
        grpc_port, http_port = free_ports(2)
        environment = os.environ | {
            "CONVD_GRPC_PORT": str(grpc_port),
            "CONVD_HTTP_PORT": str(http_port),
            "CONVD_SERVER": f"127.0.0.1:{grpc_port}",
            "OMP_NUM_THREADS": "1",
        }
        binaries = Path(sys.executable).parent if chosen.here else clone / ".venv" / "bin"
        environment["PATH"] = f"{binaries}:{environment['PATH']}"
        for document in chosen.documents:
            subprocess.run(
                ["git", "clean", "-ffdxq", "--exclude=.venv", "--exclude=.ready"],
                cwd=clone,
                check=True,
            )
            prepare(clone)
            print(f"\n=== {document.name}", flush=True)
            script = script_of(ROOT / document, fresh=not chosen.here, ports=(grpc_port, http_port))
            done = subprocess.run(["bash", "-c", script], cwd=clone, env=environment, check=False)
            if done.returncode:
                failed.append(document.name)
    if failed:
        raise SystemExit(f"a command failed in {', '.join(failed)}")
    print("\nevery command of the documents runs")


if __name__ == "__main__":
    main()
