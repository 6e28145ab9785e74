"""`make lock`: write the hashes of what the images are made of.

pip-compile asks PyPI for the hashes of every file of the versions in constraints.txt. PyTorch and
the CUDA build of ONNX Runtime want different versions of NVIDIA's libraries, hence two files.
"""

import os
import tempfile
from pathlib import Path

from deploy.containers.dependencies import requirements
from deploy.supply.tools import ROOT, run

FOLDER = ROOT / "deploy" / "containers"
EXTRAS = ("serve", "traces", "s3", "export")

LOCKS = {
    # What builds: older versions of pip do not take hashes from constraints.
    "build.txt": ["pip", "setuptools"],
    "constraints.txt": [],
    "constraints-cuda.txt": ["onnxruntime-gpu[cuda,cudnn]", "nvidia-ml-py"],
}
"""What each file locks, with all that it needs; nothing stands for the extras of the images."""

_HEADER = "# Written by `make lock` from constraints.txt and pyproject.toml.\n"
_OPTIONS = (
    *("--quiet", "--generate-hashes", "--allow-unsafe", "--strip-extras", "--no-header"),
    *("--no-annotate", "--no-emit-options", "--no-emit-index-url", "--no-emit-find-links"),
    *("--constraint", "constraints.txt"),
)


def main() -> None:
    """Write the files."""
    os.chdir(ROOT)
    for file, wanted in LOCKS.items():
        _lock(wanted or requirements(*EXTRAS), FOLDER / file)


def _lock(wanted: list[str], target: Path) -> None:
    # PyPI's own files, not those that lie on this machine.
    clean = {name: value for name, value in os.environ.items() if name != "PIP_FIND_LINKS"}
    clean["PIP_CONFIG_FILE"] = os.devnull
    with tempfile.TemporaryDirectory() as folder:
        source, result = Path(folder, "requirements.in"), Path(folder, "constraints.txt")
        source.write_text("\n".join(wanted) + "\n")
        words = ("--output-file", result, source)
        if run("pip-compile", *_OPTIONS, *words, environment=clean) != 0:
            raise SystemExit(f"{target.name} was not written")
        target.write_text(_HEADER + result.read_text())


if __name__ == "__main__":
    main()
