from pathlib import Path

import pytest

from convd.runtime import cores
from convd.runtime.cgroup import cpu_quota, memory_limit_bytes
from convd.runtime.cores import cores_of_quota

V1 = "4:memory:/docker/ab\n3:cpu,cpuacct:/docker/ab\n0::/ignored\n"
V2 = "0::/system.slice/convd.service\n"

QUOTAS: list[tuple[str, dict[str, str], str, float | None]] = [
    ("no cgroups at all", {}, "", None),
    ("v2 in a namespace", {"cpu.max": "100000 100000"}, "0::/\n", 1.0),
    ("v2 without a quota", {"cpu.max": "max 100000"}, "0::/\n", None),
    ("v2 half a core", {"cpu.max": "50000 100000\n"}, "0::/\n", 0.5),
    ("v2 own group", {"system.slice/convd.service/cpu.max": "150000 100000"}, V2, 1.5),
    (
        "v2 an outer group is smaller",
        {
            "system.slice/convd.service/cpu.max": "300000 100000",
            "system.slice/cpu.max": "200000 100000",
            "cpu.max": "max 100000",
        },
        V2,
        2.0,
    ),
    ("v2 of another host path", {"cpu.max": "200000 100000"}, "0::/host/only\n", 2.0),
    ("v2 unreadable words", {"cpu.max": "what is this"}, "0::/\n", None),
    ("v2 no period", {"cpu.max": "100000 0"}, "0::/\n", None),
    (
        "v1",
        {"cpu,cpuacct/cpu.cfs_quota_us": "200000", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        V1,
        2.0,
    ),
    (
        "v1 no quota",
        {"cpu,cpuacct/cpu.cfs_quota_us": "-1", "cpu,cpuacct/cpu.cfs_period_us": "100000"},
        V1,
        None,
    ),
    (
        "v1 own group, with its controller mounted alone",
        {
            "cpu/cpu.cfs_quota_us": "-1",
            "cpu/cpu.cfs_period_us": "100000",
            "cpu/docker/ab/cpu.cfs_quota_us": "50000",
            "cpu/docker/ab/cpu.cfs_period_us": "20000",
        },
        V1,
        2.5,
    ),
    (
        "v1 with the unified tree beside it",
        {
            "cpu/cpu.cfs_quota_us": "300000",
            "cpu/cpu.cfs_period_us": "100000",
            "unified/cgroup.controllers": "",
            "unified/cpu.max": "max 100000",
        },
        V1,
        3.0,
    ),
]

LIMITS: list[tuple[str, dict[str, str], str, int | None]] = [
    ("none at all", {}, "", None),
    ("v2", {"memory.max": "2147483648\n"}, "0::/\n", 2**31),
    ("v2 no limit", {"memory.max": "max\n"}, "0::/\n", None),
    (
        "v2 the smaller of two",
        {"system.slice/convd.service/memory.max": "max", "system.slice/memory.max": "1048576"},
        V2,
        2**20,
    ),
    ("v1", {"memory/docker/ab/memory.limit_in_bytes": "1073741824"}, V1, 2**30),
    ("v1 no limit", {"memory/memory.limit_in_bytes": "9223372036854771712"}, V1, None),
]


def tree(folder: Path, files: dict[str, str], own: str) -> tuple[Path, Path]:
    root, listing = folder / "cgroup", folder / "own"
    root.mkdir()
    if own.startswith("0::"):
        (root / "cgroup.controllers").write_text("cpu memory")
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    listing.write_text(own)
    return root, listing


@pytest.mark.parametrize(
    ("files", "own", "wanted"), [row[1:] for row in QUOTAS], ids=[row[0] for row in QUOTAS]
)
def test_a_quota(tmp_path: Path, files: dict[str, str], own: str, wanted: float | None) -> None:
    assert cpu_quota(*tree(tmp_path, files, own)) == wanted


@pytest.mark.parametrize(
    ("files", "own", "wanted"), [row[1:] for row in LIMITS], ids=[row[0] for row in LIMITS]
)
def test_a_limit(tmp_path: Path, files: dict[str, str], own: str, wanted: int | None) -> None:
    assert memory_limit_bytes(*tree(tmp_path, files, own)) == wanted


@pytest.mark.parametrize(
    ("affinity", "quota", "wanted"),
    [(2, None, 2), (2, 1.0, 1), (2, 0.2, 1), (8, 1.9, 1), (8, 2.0, 2), (8, 3.5, 3), (4, 64.0, 4)],
)
def test_the_cores_of_a_quota(affinity: int, quota: float | None, wanted: int) -> None:
    assert cores_of_quota(affinity, quota) == wanted


def test_the_quota_bounds_the_cores_of_this_process(monkeypatch: pytest.MonkeyPatch) -> None:
    before = cores.available_cores()
    monkeypatch.setattr(cores, "cpu_quota", lambda: 1.0)
    assert cores.available_cores() == 1 <= before
