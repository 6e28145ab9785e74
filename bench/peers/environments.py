"""An environment for each peer, from pinned requirements: peers never share packages with convd."""

import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).parent
ENVIRONMENTS = Path(".cache/peers")


def environment_of(peer: str) -> Path:
    """The folder of a peer's programs; its environment is built where it is missing or outdated."""
    requirements = HERE / "requirements" / f"{peer}.txt"
    folder = ENVIRONMENTS / peer
    stamp = folder / "requirements.txt"
    pinned = requirements.read_text(encoding="utf-8")
    if not stamp.is_file() or stamp.read_text(encoding="utf-8") != pinned:
        print(f"building the environment of {peer} in {folder}", file=sys.stderr)
        subprocess.run([sys.executable, "-m", "venv", "--clear", folder], check=True)
        pip = folder / "bin" / "pip"
        subprocess.run([pip, "install", "--quiet", "--requirement", requirements], check=True)
        stamp.write_text(pinned, encoding="utf-8")
    return (folder / "bin").absolute()
