"""W3C Trace Context (https://www.w3.org/TR/trace-context/): the incoming `traceparent`, or none."""

from __future__ import annotations

import re

_TRACEPARENT = re.compile(r"([0-9a-f]{2})-([0-9a-f]{32})-([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


def trace_id(traceparent: str | None) -> str | None:
    """The trace id (32 lower-case hex digits) of a valid header, else None.

    Section 3.2.2: version ff and ids of zeros are invalid, and only versions after 00 may carry more fields.
    """
    if not traceparent or not (match := _TRACEPARENT.fullmatch(traceparent)):
        return None
    version, trace, parent, more = match.groups()
    if version == "ff" or (version == "00" and more) or not trace.strip("0") or not parent.strip("0"):
        return None
    return trace
