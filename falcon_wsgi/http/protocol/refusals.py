"""Refusals that point into the request document."""

from __future__ import annotations

from falcon_wsgi.errors import ValidationFailed

MAX_ISSUES = 50


def issue(pointer: str, message: str, kind: str) -> dict[str, str]:
    return {"pointer": pointer, "message": message, "type": kind}


def refusal(pointer: str, message: str, kind: str) -> ValidationFailed:
    return refusal_of([issue(pointer, message, kind)])


def refusal_of(issues: list[dict[str, str]]) -> ValidationFailed:
    """One error for all issues, of which the first `MAX_ISSUES` are named."""
    first = issues[0]
    more = f" (and {len(issues) - 1} more)" if len(issues) > 1 else ""
    return ValidationFailed(f"{first['pointer']}: {first['message']}{more}"[:2000], issues[:MAX_ISSUES])
