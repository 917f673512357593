"""`falcon score`."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import click

from falcon_wsgi import settings

if TYPE_CHECKING:
    from falcon_wsgi.scoring.run import Limit, Summary

_MODEL = re.compile(r"([a-z0-9-]+)(?:@([0-9.]+))?")
_REJECTS = re.compile(r"([0-9]+)|([0-9]+(?:\.[0-9]+)?)%")
_INTERRUPTED = 130


def score(model: str, source: str, output: str, options: dict[str, Any]) -> int:
    """Run it; the exit code. A line for people goes to standard error, with `as_json` an object to standard output."""
    # Before numpy is loaded. The workers share out the cores, and no thread may run when they are forked.
    os.environ.update(dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"))
    from falcon_wsgi.scoring import run
    from falcon_wsgi.scoring.formats import place_of

    name, version = _model(model)
    order = run.Order(
        store=settings.load().model_store,
        model=name,
        version=version,
        input=place_of(source, options["input_format"], "--input-format"),
        output=place_of(output, options["output_format"], "--output-format"),
        rejects=options["rejects"],
        keep=_keep(options["keep"]),
        text_column=options["text_column"],
        prefix=options["prefix"],
        row_number=options["row_number"],
        workers=options["workers"] or _cores(),
        batch_rows=options["batch_rows"],
        limit=_limit(options["max_rejects"]),
        restart=options["restart"],
        checkpoint_s=options["checkpoint"],
        engine=options["engine"],
        ray_address=options["ray_address"],
    )
    former = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        summary = run.run(order, terminal=sys.stderr.isatty())
    except KeyboardInterrupt:
        advice = "; what is scored so far is kept, and the same command goes on" if order.resumable else ""
        click.echo(f"falcon: stopped{advice}", err=True)
        return _INTERRUPTED
    finally:
        signal.signal(signal.SIGTERM, former)
    _say(summary, as_json=options["as_json"], to_stderr=order.output.path is None)
    return 1 if options["strict"] and summary.rejected else 0


def _cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def _model(given: str) -> tuple[str, str | None]:
    found = _MODEL.fullmatch(given)
    if found is None:
        raise click.BadParameter(f"{given!r} is not NAME or NAME@VERSION", param_hint="MODEL")
    return found[1], found[2]


def _keep(given: str | None) -> tuple[str, ...] | None:
    if given is None:
        return None
    return tuple(name for name in given.split(",") if name)


def _limit(given: str | None) -> Limit:
    from falcon_wsgi.scoring.run import Limit

    if given is None:
        return Limit()
    found = _REJECTS.fullmatch(given)
    if found is None:
        raise click.BadParameter(
            f"{given!r} is neither a number nor a share such as 0.5%", param_hint="--max-rejects"
        )
    return Limit(count=int(found[1])) if found[1] else Limit(share=float(found[2]) / 100)


def _say(summary: Summary, *, as_json: bool, to_stderr: bool) -> None:
    if as_json:
        click.echo(json.dumps(asdict(summary)), err=to_stderr)
        return
    rejected = f", {summary.rejected:,} rejected (see {summary.rejects})" if summary.rejected else ""
    click.echo(
        f"scored {summary.rows:,} rows with {summary.model} {summary.version} in {summary.seconds:.1f} s "
        f"({summary.rows_per_second:,.0f} rows/s){rejected}: {summary.output}",
        err=to_stderr,
    )
