"""`falcon models replay`, and the gate of `falcon models promote`."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import click

from falcon_wsgi import settings as configuration
from falcon_wsgi.backends import request_log
from falcon_wsgi.commands import replay_html
from falcon_wsgi.commands.database import required_url
from falcon_wsgi.errors import ConfigurationError, GateRefused, TrialRefused
from falcon_wsgi.models.replay import Example, Replay, Report
from falcon_wsgi.models.sketch import Sketch
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.settings import Settings

_UNITS = {
    "m": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
}
_LONGEST_DAYS = 36_500
_QUANTILES = (0.5, 0.9, 0.99)

Gate = Callable[[ModelStore, str, str, str], None]


def replay(
    name: str,
    version: str,
    since: str,
    limit: int | None,
    *,
    html: Path | None,
    as_json: bool,
    exit_under: float | None,
    show_inputs: bool,
) -> int:
    """Print the report. The exit code: 1 if the replay was stopped, or the agreement's lower end is too low.

    Raises:
        ModelError: a version cannot be used, or there is nothing to replay.
        ConfigurationError, DependencyError: no request log to read.
    """
    settings = configuration.load()
    store = ModelStore(settings.model_store)
    began = _since(since)
    report = _run(settings, store, name, store.current(name), version, began, limit)
    if html is not None:
        try:
            html.write_text(replay_html.page(report, began, show_inputs=show_inputs), encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"{html} cannot be written: {error.strerror}") from error
    told = _described(report, began, show_inputs) if as_json else None
    click.echo(json.dumps(told, indent=2) if as_json else _text(report, began, show_inputs))
    low = report.interval[0]
    if exit_under is not None and low < exit_under:
        click.echo(f"falcon: the agreement may be as low as {low:.4f}, under {exit_under:g}", err=True)
        return 1
    return 1 if report.stopped else 0


def gate(least: float, since: str) -> Gate:
    """What `falcon models promote --gate` asks: is the lower end of the agreement's interval at least `least`?"""
    began = _since(since)

    def refuse_or_pass(store: ModelStore, name: str, current: str, version: str) -> None:
        """Raises GateRefused, or what `replay` raises."""
        report = _run(configuration.load(), store, name, current, version, began, None)
        low, high = report.interval
        told = (
            f"{report.agreed} of {report.rows} logged answers since {_moment(began)} agree: "
            f"95 % interval {low:.4f} to {high:.4f}"
        )
        if report.stopped:
            raise GateRefused(f"{name} {version} is not promoted: {report.stopped}")
        if low < least:
            raise GateRefused(
                f"{name} {version} is not promoted: {told}; its lower end has to be {least:g} or more"
            )
        click.echo(f"falcon: {told}", err=True)

    return refuse_or_pass


def _run(
    settings: Settings,
    store: ModelStore,
    name: str,
    current: str,
    version: str,
    since: datetime,
    limit: int | None,
) -> Report:
    url = required_url(settings)
    live = store.load(name, current)
    candidate = live if version == current else store.load(name, version)
    if live.manifest.kind != candidate.manifest.kind:
        raise TrialRefused(
            f"{name} {version} cannot be compared with {current}: its kind is {candidate.manifest.kind}, not "
            f"{live.manifest.kind}"
        )
    replay = Replay(
        candidate,
        live,
        timeout_s=settings.inference_timeout_seconds,
        tolerance=settings.shadow_tolerance,
    )
    report = replay.run(request_log.predictions(url, name, since, limit))
    if not report.rows:
        raise GateRefused(_nothing(url, name, since, report))
    return report


def _nothing(url: str, name: str, since: datetime, report: Report) -> str:
    moment = _moment(since)
    if report.skipped:
        return (
            f"none of {report.skipped.total()} logged inputs of {name} since {moment} fits {report.against}"
        )
    if request_log.has_any(url, name, since):
        return f"no logged request of {name} since {moment} has its input: LOG_PAYLOADS was off"
    return f"no request of {name} was logged since {moment}"


def _since(text: str) -> datetime:
    match = re.fullmatch(r"(\d{1,6})([mhdw])", text.strip())
    age = int(match[1]) * _UNITS[match[2]] if match else timedelta()
    if not timedelta() < age <= timedelta(days=_LONGEST_DAYS):
        raise ConfigurationError(
            f"--since takes a number with m, h, d or w, for example 90m, 24h or 7d (got {text!r})"
        )
    return datetime.now(UTC) - age


def _moment(when: datetime) -> str:
    return f"{when:%Y-%m-%d %H:%M} UTC"


def _quantiles(sketch: Sketch) -> dict[str, float | None]:
    return {f"p{q * 100:g}": sketch.quantile(q) for q in _QUANTILES} | {
        "max": sketch.largest if sketch.count else None
    }


def _described(report: Report, since: datetime, show_inputs: bool) -> dict[str, Any]:
    return {
        "model": report.model,
        "version": report.candidate,
        "against": report.against,
        "since": since.isoformat(timespec="seconds"),
        "rows": report.rows,
        "live_answers": {"logged": report.logged, "computed_afresh": report.afresh},
        "agreed": report.agreed,
        "agreement": report.agreement,
        "agreement_interval_95": list(report.interval),
        "confusion": [
            {"live": live, "candidate": candidate, "count": count}
            for (live, candidate), count in sorted(report.confusion.items())
        ],
        "score_distance": _quantiles(report.distance),
        "absolute_difference": _quantiles(report.absolute) if report.absolute.count else None,
        "latency_ms": {
            "candidate": _quantiles(report.candidate_ms) | {"rows": report.candidate_ms.count},
            "logged": _quantiles(report.logged_ms) | {"rows": report.logged_ms.count},
        },
        "errors": dict(report.errors),
        "skipped": dict(report.skipped),
        "stopped": report.stopped,
        "largest_differences": [_example(example, show_inputs) for example in report.examples],
    }


def _example(example: Example, show_inputs: bool) -> dict[str, Any]:
    told: dict[str, Any] = {
        "event_id": example.event_id,
        "batch_index": example.batch_index,
        "live": example.live,
        "candidate": example.candidate,
        "distance": example.found.distance,
        "absolute": example.found.absolute,
    }
    return told | ({"input": example.payload} if show_inputs else {})


def _text(report: Report, since: datetime, show_inputs: bool) -> str:
    low, high = report.interval
    lines = [
        f"{report.model} {report.candidate} against {report.against}: {report.rows} logged predictions since "
        f"{_moment(since)}",
        f"  live answers  {report.logged} as logged, {report.afresh} computed afresh with {report.against}, where "
        "another version had answered",
        f"  agreement     {report.agreement:.4f} (95 % interval {low:.4f} to {high:.4f}): {report.agreed} of "
        f"{report.rows}; an error of the candidate counts as a disagreement",
        f"  distance      {_inline(report.distance)}",
    ]
    if report.absolute.count:
        lines.append(f"  difference    {_inline(report.absolute)}")
    lines += [
        f"  latency ms    candidate {_inline(report.candidate_ms)} ({report.candidate_ms.count} asked alone)",
        f"                logged {_inline(report.logged_ms)} ({report.logged_ms.count} not from the cache)",
        f"  errors        {_counted(report.errors)}",
        f"  not compared  {_counted(report.skipped)}",
    ]
    if report.stopped:
        lines.append(f"  stopped       {report.stopped}")
    if report.confusion:
        lines.append("  live -> candidate")
        lines += [f"    {n:>8}  {live} -> {to}" for (live, to), n in sorted(report.confusion.items())]
    if report.examples:
        lines.append("  largest differences (event_id batch_index: live -> candidate, distance)")
        lines += [_example_line(example, show_inputs) for example in report.examples]
    return "\n".join(lines)


def _inline(sketch: Sketch) -> str:
    if not sketch.count:
        return "none"
    return ", ".join(f"{name} {value:.4g}" for name, value in _quantiles(sketch).items())


def _counted(kinds: dict[str, int]) -> str:
    if not kinds:
        return "0"
    return f"{sum(kinds.values())}: " + ", ".join(f"{kind} {count}" for kind, count in sorted(kinds.items()))


def _example_line(example: Example, show_inputs: bool) -> str:
    distance = "-" if example.found.distance is None else f"{example.found.distance:.4g}"
    line = f"    {example.event_id} {example.batch_index}: {example.live} -> {example.candidate}, {distance}"
    return f"{line}  {json.dumps(example.payload, ensure_ascii=False)}" if show_inputs else line
