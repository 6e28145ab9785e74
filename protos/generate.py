"""Generates the stubs of every contract, or checks that the committed ones are fresh.

Run as `python -m convd.protos.generate [--check]` from the repository's root.
"""

import filecmp
import sys
import sysconfig
import tempfile
from pathlib import Path

from grpc_tools import protoc

import convd

ROOT = Path(convd.__file__).parent.parent


def generate(output: Path) -> list[Path]:
    """Generate all stubs below a folder and return their relative paths."""
    contracts = sorted(path.relative_to(ROOT) for path in ROOT.glob("convd/protos/**/*.proto"))
    arguments = ["protoc", f"--proto_path={ROOT}"]
    arguments += [f"--{kind}_out={output}" for kind in ("python", "grpc_python", "mypy")]
    # The plug-ins stand beside this interpreter, whose folder need not be on the PATH.
    scripts = Path(sysconfig.get_path("scripts"))
    arguments += [
        f"--plugin={name}={scripts / name}" for name in ("protoc-gen-mypy", "protoc-gen-mypy_grpc")
    ]
    arguments += [f"--mypy_grpc_out={output}", *map(str, contracts)]
    if protoc.main(arguments) != 0:
        raise SystemExit("protoc failed; see its message above")
    return sorted(path.relative_to(output) for path in output.glob("convd/protos/**/*_pb2*.py*"))


def main() -> None:
    """Write the stubs beside their contracts, or with `--check` compare them."""
    if sys.argv[1:] != ["--check"]:
        generate(ROOT)
        return
    with tempfile.TemporaryDirectory() as folder:
        stubs = generate(Path(folder))
        stale = [
            str(stub)
            for stub in stubs
            if not (ROOT / stub).exists()
            or not filecmp.cmp(ROOT / stub, Path(folder, stub), shallow=False)
        ]
    if stale:
        raise SystemExit(f"stale stubs: {', '.join(stale)}; run `make protos` and commit them")


if __name__ == "__main__":
    main()
