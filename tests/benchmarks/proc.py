"""What processes cost, from /proc: processor time and proportional memory of whole process trees."""

from __future__ import annotations

import os
from collections import defaultdict
from collections.abc import Iterable, Mapping
from pathlib import Path

_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")
# Fields of /proc/PID/stat behind the name: parent, then utime, stime, cutime, cstime.
_PARENT, _TIMES = 1, slice(11, 15)

Groups = Mapping[str, Iterable[int]]
"""Root processes by what they are (`app`, `redis`, ...). A process belongs to its nearest root's group."""


def trees(groups: Groups) -> dict[str, list[int]]:
    """All living processes below the roots, by group."""
    group_of = {root: group for group, roots in groups.items() for root in roots}
    children = defaultdict(list)
    for pid, fields in _all_stats().items():
        children[int(fields[_PARENT])].append(pid)
    found: dict[str, list[int]] = {group: [] for group in groups}
    for root, group in group_of.items():
        open_ = [root]
        while open_:
            pid = open_.pop()
            found[group].append(pid)
            open_ += [child for child in children[pid] if child not in group_of]
    return found


def cpu_s(groups: Groups) -> dict[str, float]:
    """Processor seconds so far, user and system, with those of children that have ended and were waited for.

    Counted in ticks of 10 ms for each process.
    """
    return {group: sum(map(_cpu_s, pids)) for group, pids in trees(groups).items()}


def pss_mb(groups: Groups) -> dict[str, float]:
    """Proportional memory in megabytes (10^6 bytes): a page that n processes share counts 1/n in each."""
    return {group: sum(_pss_kb(pid) for pid in pids) * 1024 / 1e6 for group, pids in trees(groups).items()}


def rss_mb(groups: Groups) -> dict[str, float]:
    """Resident memory in megabytes; shared pages count in each process."""
    return {
        group: sum(_kb(_PROC / str(pid) / "status", "VmRSS:") for pid in pids) * 1024 / 1e6
        for group, pids in trees(groups).items()
    }


def _all_stats() -> dict[int, list[str]]:
    found = {}
    for entry in _PROC.iterdir():
        if entry.name.isdigit() and (fields := _stat(int(entry.name))):
            found[int(entry.name)] = fields
    return found


def _stat(pid: int) -> list[str]:
    """From the state on; empty if the process is gone. The name before it may hold spaces."""
    try:
        return (_PROC / str(pid) / "stat").read_text().rpartition(")")[2].split()
    except (OSError, UnicodeDecodeError):
        return []


def _cpu_s(pid: int) -> float:
    return sum(map(int, _stat(pid)[_TIMES])) / _TICKS


def _pss_kb(pid: int) -> int:
    return _kb(_PROC / str(pid) / "smaps_rollup", "Pss:")


def _kb(path: Path, name: str) -> int:
    """The value of a line `name 123 kB`; 0 if the process is gone or another user's."""
    try:
        for line in path.read_text().splitlines():
            if line.startswith(name):
                return int(line.split()[1])
    except OSError:
        pass
    return 0
