"""Measures the sentiment recipe on a file of real sentences that it was not trained on.

    python scripts/measure_sentiment.py FILE.tsv

Each line is a text, a tab, and 0 (negative) or 1 (positive); other lines are passed over and counted. A neutral
answer counts as wrong. The model is trained from the project's own data first; nothing is stored.
"""

from __future__ import annotations

import importlib.util
import sys
from collections import Counter
from pathlib import Path
from typing import Any

RECIPE = Path(__file__).resolve().parent.parent / "model_store" / "sentiment" / "recipe.py"
LABELS = {"0": "negative", "1": "positive"}
ANSWERS = ("negative", "neutral", "positive")


def read(path: Path) -> tuple[list[str], list[str], int]:
    """Texts, their labels, and the number of lines that are not of the form."""
    texts: list[str] = []
    labels: list[str] = []
    passed_over = 0
    for line in path.read_text(encoding="utf-8").split("\n"):
        text, tab, mark = line.rstrip("\r").rpartition("\t")
        if tab and mark in LABELS:
            texts.append(text)
            labels.append(LABELS[mark])
        elif line.strip():
            passed_over += 1
    return texts, labels, passed_over


def trained_estimator() -> Any:
    spec = importlib.util.spec_from_file_location("falcon_recipe_sentiment", RECIPE)
    assert spec is not None
    assert spec.loader is not None
    recipe = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = recipe
    spec.loader.exec_module(recipe)
    return recipe.train(None, lambda stage, share: None).estimator


def main(arguments: list[str]) -> int:
    if len(arguments) != 1:
        print("usage: measure_sentiment.py FILE.tsv", file=sys.stderr)
        return 2
    try:
        texts, labels, passed_over = read(Path(arguments[0]))
    except (OSError, UnicodeDecodeError) as error:
        print(f"{arguments[0]} cannot be read: {error}", file=sys.stderr)
        return 1
    if not texts:
        print(f"{arguments[0]} has no line of the form: text TAB 0 or 1", file=sys.stderr)
        return 1
    answers = [str(answer) for answer in trained_estimator().predict(texts)]
    pairs = Counter(zip(labels, answers, strict=True))
    right = sum(pairs[label, label] for label in LABELS.values())
    print(f"texts {len(texts)} (lines passed over: {passed_over})")
    print(f"accuracy, neutral counted as wrong: {right / len(texts):.3f}")
    print(f"share of neutral answers: {answers.count('neutral') / len(texts):.3f}")
    print(f"{'':12}" + "".join(f"{answer:>10}" for answer in ANSWERS))
    for label in LABELS.values():
        print(f"{label:12}" + "".join(f"{pairs[label, answer]:>10}" for answer in ANSWERS))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
