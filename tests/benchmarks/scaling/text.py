"""How cost grows with the length of a text, and with the number of texts in a request."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import nullcontext

from tests.benchmarks.falcon import Falcon
from tests.benchmarks.scaling.findings import Finding, at_most_linear
from tests.benchmarks.scaling.lab import CONNECTIONS, Lab, Step
from tests.benchmarks.scaling.result import Panel, Result
from tests.benchmarks.workloads import Workload

LENGTHS = (10, 100, 1000, 3000, 10_000)
SIZES = (1, 2, 5, 10, 20, 50)


def text_length(lab: Lab, falcon: Falcon | None = None, lengths: Sequence[int] = LENGTHS) -> Result:
    """On `falcon` if it is given, else on an instance of its own."""
    steps = [
        Step(length, Workload(f"{length} characters", "new texts", "sentiment", characters=length))
        for length in lengths
    ]
    with nullcontext(falcon) if falcon else lab.falcon() as started:
        points = lab.points(started, steps)
    result = Result(
        "text-length",
        "Length of a text",
        "characters",
        f"One new text a request, {CONNECTIONS} connections, each text begins with six random letters.",
        points,
    )
    cpu, p50 = result.of(lambda p: p.cpu_us), result.of(lambda p: p.p50_ms)
    result.panels = [
        Panel("CPU us/request", "characters", {"": cpu}, log_x=True, log_y=True),
        Panel("p50, ms", "characters", {"": p50}, log_x=True, log_y=True),
    ]
    result.findings = [at_most_linear("CPU/request", cpu, "us", "character", per=1000)]
    return result


def batch_size(lab: Lab, sizes: Sequence[int] = SIZES) -> Result:
    steps = [Step(size, Workload(f"batch of {size}", "new texts", "sentiment", texts=size)) for size in sizes]
    with lab.falcon() as falcon:
        points = lab.points(falcon, steps)
    result = Result(
        "batch-size",
        "Texts in a request",
        "texts",
        f"New texts of 12 words, {CONNECTIONS} connections; one text goes to /infer, more to /infer/batch.",
        points,
    )
    cpu = result.of(lambda p: p.cpu_us)
    each = [(x, y / x) for x, y in cpu]
    result.panels = [
        Panel("CPU us/request", "texts", {"": cpu}, log_x=True, log_y=True),
        Panel("CPU us/text", "texts", {"": each}, log_x=True),
    ]
    result.findings = [at_most_linear("CPU/request", cpu, "us", "text"), _cheaper(each)]
    return result


def _cheaper(each: Sequence[tuple[float, float]]) -> Finding:
    what, expected = "CPU/text, largest batch against single texts", "less than one time"
    if len(each) < 2:
        return Finding(what, expected, "", None)
    (_, alone), (size, together) = each[0], each[-1]
    share = together / alone
    return Finding(
        what, expected, f"{together:.0f} us in a batch of {size:g}, {alone:.0f} alone: {share:.2f}", share < 1
    )
