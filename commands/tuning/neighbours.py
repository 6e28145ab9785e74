"""What else runs on this machine and would disturb a measurement."""

import os
import time
from collections.abc import Iterator
from pathlib import Path

_PROC = Path("/proc")
_LOOK_SECONDS = 0.5
_BUSY_SHARE = 0.1


def disturbances() -> Iterator[str]:
    """Servers of convd and busy cores, each in a sentence."""
    for process in running_servers():
        yield (
            f"another convd server runs on this machine (process {process}): what it is asked "
            "meanwhile takes cores from what is measured"
        )
    share = _busy_share()
    if share > _BUSY_SHARE:
        cores = share * (os.cpu_count() or 1)
        yield (
            f"other programs keep {cores:.1f} cores busy: the choices are compared in turns, but "
            "their figures are lower than on a quiet machine"
        )


def running_servers() -> list[int]:
    """Process ids of servers that other users of this command have started here."""
    found = []
    for process in _PROC.glob("[0-9]*"):
        try:
            words = process.joinpath("cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        programs = [Path(os.fsdecode(word)).name for word in words[:3]]
        if "convd" in programs and b"serve" in words:
            found.append(int(process.name))
    return sorted(found)


def _busy_share() -> float:
    """The share of the processor's time that is used now, with nothing measured; 0 if unknown."""
    try:
        before = _cpu_times()
        time.sleep(_LOOK_SECONDS)
        after = _cpu_times()
    except (OSError, ValueError):
        return 0.0
    spent = [late - early for early, late in zip(before, after, strict=True)]
    idle, total = spent[3] + spent[4], sum(spent)
    return 1 - idle / total if total else 0.0


def _cpu_times() -> list[int]:
    """Ticks by user, nice, system, idle, iowait, irq, softirq and steal, of all cores."""
    line = (_PROC / "stat").read_text(encoding="ascii").partition("\n")[0]
    return [int(word) for word in line.split()[1:9]]
