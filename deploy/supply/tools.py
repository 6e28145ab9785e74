"""Other people's tools for the supply chain, installed once under `.cache/`."""

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
_ENVIRONMENT = ROOT / ".cache" / "supply-venv"
_REQUIREMENTS = Path(__file__).with_name("tools.txt")


def run(tool: str, *words: str | Path, environment: Mapping[str, str] | None = None) -> int:
    """Run one of the tools in the project's folder; its exit code.

    Args:
        tool: Name of its program.
        *words: What it is told.
        environment: Its variables; None for those of this process.
    """
    binaries = _ENVIRONMENT / "bin"
    stamp = _ENVIRONMENT / _REQUIREMENTS.name
    if not stamp.exists() or stamp.read_text() != _REQUIREMENTS.read_text():
        _must([sys.executable, "-m", "venv", "--clear", _ENVIRONMENT])
        _must([binaries / "pip", "install", "--quiet", "--requirement", _REQUIREMENTS])
        stamp.write_text(_REQUIREMENTS.read_text())
    command = [binaries / tool, *words]
    return subprocess.run(command, check=False, cwd=ROOT, env=environment).returncode  # noqa: S603


def _must(words: list[str | Path]) -> None:
    subprocess.run(words, check=True)  # noqa: S603
