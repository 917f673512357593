"""The memory of this process, and the drill that makes it grow."""

from __future__ import annotations

import logging
import os
from pathlib import Path

log = logging.getLogger(__name__)

_MIB = 1024 * 1024
_PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")
_STATM = Path("/proc/self/statm")


class MemoryWatch:
    """Reads the resident size.

    Args:
        growth_mib: leaked by each call of `grow`, for the memory drill; 0 leaks nothing. Warns at its making.
    """

    def __init__(self, growth_mib: float) -> None:
        self._growth_bytes = int(growth_mib * _MIB)
        self._leaked: list[bytearray] = []
        if self._growth_bytes:
            log.warning("memory_growth_drill_is_on", extra={"mib_per_request": growth_mib})

    def grow(self) -> None:
        if self._growth_bytes:
            # A filled array is resident; a zeroed one would only be reserved.
            self._leaked.append(bytearray(b"\xa5") * self._growth_bytes)

    def resident_bytes(self) -> int:
        """Resident set size in bytes, 0 where the platform has no /proc."""
        try:
            return int(_STATM.read_text().split()[1]) * _PAGE_BYTES
        except (OSError, ValueError, IndexError):
            return 0
