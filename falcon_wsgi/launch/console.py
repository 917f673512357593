"""What the supervisor tells people, on standard error."""

from __future__ import annotations

import contextlib
import sys


def say(message: str) -> None:
    """One line. A terminal that is gone must not end the instance."""
    with contextlib.suppress(OSError):
        print(f"falcon: {message}", file=sys.stderr, flush=True)
