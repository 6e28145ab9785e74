"""What a machine offers convd, and what is in its way: one finding for each."""

import importlib.metadata
import os
import platform
import re
import shutil
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import convd
from convd.artifact.errors import ArtifactError
from convd.artifact.object_storage import ObjectStorage
from convd.artifact.repository import ModelRepository
from convd.artifact.stored_versions import published_versions
from convd.installation import install_command
from convd.runtime.cgroup import cpu_quota, memory_limit_bytes
from convd.service.address import try_port

_GIBIBYTE = 2**30
_EXTRAS = ("client", "serve", "train", "export", "traces")
_LEAST_MEMORY_BYTES = 512 * 2**20
_LEAST_PYTHON = (3, 11)


@dataclass(frozen=True)
class Finding:
    """What was found about one thing.

    Attributes:
        subject: The thing.
        state: `problem` keeps convd from working as asked, `note` is worth knowing.
        text: What is, and where it is not well, what to do.
    """

    subject: str
    state: Literal["ok", "note", "problem"]
    text: str


def examine_machine() -> Iterator[Finding]:
    """Python, the command, extras, providers, cores and memory."""
    version = platform.python_version()
    if sys.version_info < _LEAST_PYTHON:
        yield Finding("python", "problem", f"{version}: convd needs Python 3.11 or newer")
    else:
        yield Finding("python", "ok", f"{version} at {sys.executable}")
    yield _command()
    yield from _extras()
    yield from _providers()
    yield _cores()
    yield _memory()
    off = os.environ.get("ORT_DISABLE_TELEMETRY") == "1"
    yield Finding(
        "telemetry",
        "ok" if off else "note",
        "none: ONNX Runtime's own is turned off"
        if off
        else "ORT_DISABLE_TELEMETRY=0 lets ONNX Runtime ask DNS servers for its maker's hosts",
    )


def examine_storage(url: str) -> Iterator[Finding]:
    """The models of a repository in object storage."""
    try:
        versions = published_versions(ObjectStorage(url))
    except ArtifactError as error:
        yield Finding("repository", "problem", str(error))
        return
    for name, published in versions.items():
        yield Finding("repository", "ok", f"{name}: version {', '.join(map(str, published))}")


def examine_repository(repository: Path) -> Iterator[Finding]:
    """The models of a repository, and what in it is none."""
    models = ModelRepository(repository)
    try:
        models.check_whole()
        versions = {name: models.versions(name) for name in models.models()}
    except ArtifactError as error:
        yield Finding("repository", "problem", str(error))
        return
    if not any(versions.values()):
        yield Finding(
            "repository",
            "problem",
            f"{repository} has no models: publish one with 'convd export ... --repository "
            f"{repository}'",
        )
    for name, published in versions.items():
        if published:
            text = f"{name}: version {', '.join(map(str, published))}"
            yield Finding("repository", "ok", text)
        else:
            yield Finding("repository", "note", f"{name} has no version")
    for folder, reason in models.refused.items():
        yield Finding("repository", "note", f"{folder} is not served: {reason}")


def examine_port(host: str, port: int, setting: str) -> Finding:
    """Whether a server could listen on a port."""
    if port == 0:
        return Finding("ports", "ok", f"{setting}: a free one is taken")
    try:
        try_port(host, port)
    except OSError as error:
        flag = setting.replace("_", "-")
        return Finding(
            "ports",
            "problem",
            f"{host}:{port}: {error.strerror}; end what listens there, or choose another one with "
            f"--{flag}",
        )
    return Finding("ports", "ok", f"{host}:{port} is free ({setting})")


def _command() -> Finding:
    place = shutil.which("convd")
    if place is not None:
        return Finding("convd", "ok", f"{convd.__version__}, the command is {place}")
    own = Path(sys.executable).with_name("convd")
    return Finding(
        "convd",
        "note",
        f"{convd.__version__}; the shell does not find 'convd': type "
        + (f"{own}, or 'source {own.with_name('activate')}' once" if own.exists() else "")
        + ("" if own.exists() else "'python -m convd'"),
    )


def _extras() -> Iterator[Finding]:
    try:
        required = importlib.metadata.requires("convd-serve") or []
    except importlib.metadata.PackageNotFoundError:
        yield Finding(
            "extras", "note", f"convd is not installed; {install_command('serve,export')}"
        )
        return
    for extra in _EXTRAS:
        missing = [name for name in _packages_of(extra, required) if not _is_installed(name)]
        if missing:
            text = f"{extra} lacks {', '.join(missing)}: {install_command(extra)}"
            yield Finding("extras", "note", text)
        else:
            yield Finding("extras", "ok", extra)


def _packages_of(extra: str, required: list[str]) -> list[str]:
    pattern = re.compile(rf"([A-Za-z0-9_.-]+).*extra == ['\"]{extra}['\"]")
    names = [found[1] for line in required if (found := pattern.match(line))]
    return [name for name in names if name != "convd-serve"]


def _is_installed(package: str) -> bool:
    # Builds of ONNX Runtime come under several names.
    names = [package, f"{package}-gpu", f"{package}-openvino"]
    for name in names if package == "onnxruntime" else [package]:
        try:
            importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
        return True
    return False


def _providers() -> Iterator[Finding]:
    try:
        from convd.runtime.providers import KNOWN_PROVIDERS
    except ModuleNotFoundError:
        return
    for provider in KNOWN_PROVIDERS:
        reason = provider.why_missing()
        yield Finding("providers", "note" if reason else "ok", f"{provider}: {reason or 'ready'}")


def _cores() -> Finding:
    affinity, quota = len(os.sched_getaffinity(0)), cpu_quota()
    text = f"{affinity} that this process may run on"
    if quota is not None:
        text += f", and a quota of {quota:g}"
        if quota < 1:
            return Finding("cores", "note", f"{text}: every batch is stopped now and then")
    return Finding("cores", "ok", text)


def _memory() -> Finding:
    pages = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    limit = memory_limit_bytes()
    text = f"{pages / _GIBIBYTE:.1f} GiB"
    if limit is not None and limit < pages:
        text += f", of which this container may use {limit / _GIBIBYTE:.1f} GiB"
    if min(pages, limit or pages) < _LEAST_MEMORY_BYTES:
        return Finding("memory", "note", f"{text}: give it 512 MiB or more")
    return Finding("memory", "ok", text)
