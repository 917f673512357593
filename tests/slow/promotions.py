"""Fifty promotions under load: no failed request, no mixed answer, and memory that stays.

Takes some six minutes, so pytest does not collect it by itself: `make promotions`.
"""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path
from statistics import median

from falcon_wsgi import resources
from falcon_wsgi.launch.embedded import EmbeddedRedis
from falcon_wsgi.models.training import train
from tests.e2e.instance import Instance, running, wait_until
from tests.e2e.promotions import Judges, footprint, succeed

PROMOTIONS = 50
TEXT = "the food was great and I loved it"
EXPECTED = {"1.0.0": "positive", "1.1.0": "negative"}
FLIPPED = {"positive": "negative", "negative": "positive", "neutral": "neutral"}
MOST_GROWTH = 0.05


def contrary_data(path: Path) -> Path:
    """The project's labelled sentences, with good and bad exchanged."""
    with path.open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(["text", "label"])
        for label, said in FLIPPED.items():
            source = resources.RECIPES / "sentiment" / "data" / f"sentences_{label}.csv"
            with source.open(newline="", encoding="utf-8") as sentences:
                rows.writerows([row["text"], said] for row in csv.DictReader(sentences))
    return path


def test_fifty_promotions_under_load(tmp_path: Path, redis_server: EmbeddedRedis) -> None:
    store = tmp_path / "store"
    silent: Callable[[str, float], None] = lambda stage, share: None  # noqa: E731
    train("sentiment", None, store, silent)
    train("sentiment", contrary_data(tmp_path / "contrary.csv"), store, silent)
    (store / "sentiment" / "current").write_text("1.0.0\n")
    with (
        running(Instance(tmp_path, store, redis_url=redis_server.url)) as instance,
        Judges(instance.port, TEXT, EXPECTED) as judges,
    ):
        sizes = []
        for number in range(PROMOTIONS + 1):
            enough = sum(judges.versions.values()) + 200
            wait_until(lambda enough=enough: sum(judges.versions.values()) >= enough, 60, "200 answers")
            sizes.append(footprint(instance))
            if number < PROMOTIONS:
                version = "1.0.0" if number % 2 else "1.1.0"
                succeed(instance, "models", "promote", "sentiment", version)
                assert succeed(instance, "reload").count(f"sentiment {version}") == 2
    answers = dict(judges.versions)
    print(f"\n{PROMOTIONS} promotions, answers by version {answers}, failed {len(judges.failures)}")
    for name in ("Rss", "Pss_Anon"):
        found = [size[name] // 1024 for size in sizes]
        print(f"{name} of master and workers in MiB, before each promotion and at the end: {found}")
    assert judges.failures == []
    assert judges.mixed == []
    # Not the proportional size, which is printed: how much processes share changes from one moment to the next.
    first, last = (median(size["Rss"] for size in some) for some in (sizes[:5], sizes[-5:]))
    assert last < first * (1 + MOST_GROWTH)
