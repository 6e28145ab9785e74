"""What a container may use: processor quota and memory limit, from the kernel's cgroup files.

A limit of an outer group holds for all groups in it, so the smallest counts, from the process's own
group up to the root. Inside a container the root is the container's own group as a rule.

https://docs.kernel.org/admin-guide/cgroup-v2.html,
https://docs.kernel.org/admin-guide/cgroup-v1/memory.html
"""

from collections.abc import Iterator
from pathlib import Path

_ROOT = Path("/sys/fs/cgroup")
_OWN = Path("/proc/self/cgroup")
_MOUNTS_V1 = {"cpu": ("cpu,cpuacct", "cpu"), "memory": ("memory",)}
# Version 1 writes the largest multiple of a page for "no limit".
_NO_LIMIT_BYTES = 2**60


def cpu_quota(root: Path = _ROOT, own: Path = _OWN) -> float | None:
    """How many cores' time the process may use; None for no quota.

    Args:
        root: Where the cgroup file systems are mounted.
        own: The file that tells the process's groups, as `/proc/self/cgroup`.
    """
    quotas = [
        quota
        for folder, version in _groups("cpu", root, own)
        if (quota := _quota_v2(folder) if version == 2 else _quota_v1(folder)) is not None
    ]
    return min(quotas, default=None)


def memory_limit_bytes(root: Path = _ROOT, own: Path = _OWN) -> int | None:
    """How much memory the process's group may use; None for no limit.

    Args:
        root: Where the cgroup file systems are mounted.
        own: The file that tells the process's groups, as `/proc/self/cgroup`.
    """
    limits = []
    for folder, version in _groups("memory", root, own):
        words = _words(folder / ("memory.max" if version == 2 else "memory.limit_in_bytes"))
        if words and words[0].isdecimal() and int(words[0]) < _NO_LIMIT_BYTES:
            limits.append(int(words[0]))
    return min(limits, default=None)


def _groups(controller: str, root: Path, own: Path) -> Iterator[tuple[Path, int]]:
    """The folders of the process's groups, innermost first, each with its cgroup version."""
    paths = {}
    for line in _text(own).splitlines():
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        for name in controllers.split(","):
            paths[name] = path
    mounts: list[tuple[Path, str | None, int]] = [
        (root / folder, paths.get(controller), 1) for folder in _MOUNTS_V1[controller]
    ]
    mounts += [
        (folder, paths.get(""), 2)
        for folder in (root, root / "unified")
        if (folder / "cgroup.controllers").exists()
    ]
    for mount, own_path, version in mounts:
        if not mount.is_dir():
            continue
        # Without a cgroup namespace the path is the host's, of which the container sees nothing.
        group = mount / (own_path or "/").lstrip("/")
        for folder in (group, *group.parents):
            if folder.is_relative_to(mount) and folder.is_dir():
                yield folder, version


def _quota_v2(folder: Path) -> float | None:
    words = _words(folder / "cpu.max")
    if len(words) != 2 or not all(word.isdecimal() for word in words) or words[1] == "0":
        return None
    return int(words[0]) / int(words[1])


def _quota_v1(folder: Path) -> float | None:
    quota, period = _words(folder / "cpu.cfs_quota_us"), _words(folder / "cpu.cfs_period_us")
    # A quota of -1 is none.
    if not quota or not period or not quota[0].isdecimal() or not int(period[0]):
        return None
    return int(quota[0]) / int(period[0])


def _words(file: Path) -> list[str]:
    return _text(file).split()


def _text(file: Path) -> str:
    try:
        return file.read_text(encoding="ascii")
    except (OSError, ValueError):
        return ""
