"""`falcon models compare`: what the running instance's shadows have shown since it started."""

from __future__ import annotations

import json
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator
from typing import Any

import click
from prometheus_client import Metric

from falcon_wsgi import settings as configuration
from falcon_wsgi.launch import recycling
from falcon_wsgi.models.comparison import bucket_quantile, wilson
from falcon_wsgi.observability import metrics
from falcon_wsgi.settings import Settings

_NONE_RUNS = 3
_QUANTILES = (0.5, 0.9, 0.99)
_OUTCOMES = ("agree", "disagree", "error", "timeout", "dropped")

Pair = tuple[str, str, str]  # model, version in the shadow, the served one


def show(name: str | None, as_json: bool) -> int:
    """Print it; the exit code: 3 if no instance runs, 1 if it has no shadow to show."""
    settings = configuration.load()
    if not recycling.runs(settings):
        click.echo(f"falcon: no instance runs on port {settings.port}", err=True)
        return _NONE_RUNS
    found = [one for one in figures(_collected(settings)) if name in (None, one["model"])]
    if as_json:
        click.echo(json.dumps(found, indent=2))
    elif found:
        click.echo("\n\n".join(map(_text, found)))
    if not found:
        what = f"{name} has no shadow" if name else "there is no shadow"
        click.echo(f"falcon: {what} on port {settings.port}; SHADOW=NAME@VERSION starts one", err=True)
    return 0 if found else 1


def _collected(settings: Settings) -> list[Metric]:
    """From the files behind /metrics, so that no key is needed and no worker asked."""
    return metrics.collect(settings.metrics_path)


def figures(families: Iterable[Metric]) -> list[dict[str, Any]]:
    """One entry for each pair of versions that was compared, in order."""
    outcomes: dict[Pair, dict[str, float]] = defaultdict(dict)
    disagreements: dict[Pair, list[dict[str, Any]]] = defaultdict(list)
    sums: dict[tuple[Pair, str], dict[str, float]] = defaultdict(dict)
    buckets: dict[Pair, list[tuple[float, float]]] = defaultdict(list)
    for name, labels, value in _samples(families):
        pair = labels["model"], labels["version"], labels["against"]
        match name:
            case "shadow_predictions_total":
                outcomes[pair][labels["outcome"]] = value
            case "shadow_disagreements_total":
                disagreements[pair].append(
                    {"live": labels["live"], "candidate": labels["candidate"], "count": int(value)}
                )
            case "shadow_score_distance_bucket":
                buckets[pair].append((float(labels["le"]), value))
            case "shadow_duration_seconds_sum" | "shadow_duration_seconds_count":
                sums[pair, labels["side"]][name.rpartition("_")[2]] = value
    return [
        _figures(pair, outcomes[pair], disagreements[pair], buckets[pair], sums) for pair in sorted(outcomes)
    ]


def _samples(families: Iterable[Metric]) -> Iterator[tuple[str, dict[str, str], float]]:
    for family in families:
        if family.name.startswith("shadow_"):
            for sample in family.samples:
                yield sample.name, sample.labels, sample.value


def _figures(
    pair: Pair,
    outcomes: dict[str, float],
    disagreements: list[dict[str, Any]],
    buckets: list[tuple[float, float]],
    sums: dict[tuple[Pair, str], dict[str, float]],
) -> dict[str, Any]:
    counts = {outcome: int(outcomes.get(outcome, 0)) for outcome in _OUTCOMES}
    compared = counts["agree"] + counts["disagree"]
    low, high = wilson(counts["agree"], compared)
    return {
        "model": pair[0],
        "version": pair[1],
        "against": pair[2],
        "compared": compared,
        **counts,
        "agreement": counts["agree"] / compared if compared else None,
        "agreement_interval_95": [low, high],
        "disagreements": sorted(disagreements, key=lambda each: -each["count"]),
        "score_distance": {f"p{q * 100:g}": bucket_quantile(buckets, q) for q in _QUANTILES},
        "mean_call_ms": {side: _mean_ms(sums[pair, side]) for side in ("candidate", "live")},
    }


def _mean_ms(sums: dict[str, float]) -> float | None:
    mean = 1000 * sums["sum"] / sums["count"] if sums.get("count") else math.nan
    return None if math.isnan(mean) else mean


def _text(one: dict[str, Any]) -> str:
    low, high = one["agreement_interval_95"]
    share = (
        f"{one['agreement']:.4f} (95 % interval {low:.4f} to {high:.4f})" if one["compared"] else "none yet"
    )
    distance = ", ".join(f"{name} {_plain(value)}" for name, value in one["score_distance"].items())
    calls = one["mean_call_ms"]
    lines = [
        f"{one['model']} {one['version']} in the shadow of {one['against']}, since the instance started",
        f"  compared   {one['compared']} predictions",
        f"  agreement  {share}",
        f"  distance   {distance} (of the score; from the histogram)",
        f"  mean call  candidate {_plain(calls['candidate'])} ms, live {_plain(calls['live'])} ms",
        f"  failed     {one['error']} errors, {one['timeout']} timeouts, {one['dropped']} dropped",
    ]
    if one["disagreements"]:
        lines.append("  disagreements, live -> candidate")
        lines += [
            f"    {each['count']:>8}  {each['live']} -> {each['candidate']}" for each in one["disagreements"]
        ]
    return "\n".join(lines)


def _plain(value: float | None) -> str:
    return "-" if value is None else f"{value:.4g}"
