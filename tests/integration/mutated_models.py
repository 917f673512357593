"""Changes stored models at random, loads each and predicts with it in a forked process, and counts how that ends.

`python -m tests.integration.mutated_models COUNT SEED [NAME ...]` prints the counts as JSON; with `--keep FOLDER`
it writes each file that ended in a way that must not happen.
"""

from __future__ import annotations

import os

if __name__ == "__main__":
    # Forked after a computation in several threads, a child would wait for threads that it does not have.
    os.environ.update(OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")

import collections
import gc
import io
import json
import random
import resource
import signal
import sys
import warnings
import zipfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import scipy.sparse as sp
from skops.io import dumps

from falcon_wsgi.errors import FalconError
from falcon_wsgi.models.loading import deserialise, deserialise_booster
from tests.unit.models import fitted_models

# What a predictor takes for a failed prediction (`falcon_wsgi.models.predictor`).
FAILED = (ValueError, TypeError, ArithmeticError, LookupError, AttributeError, RuntimeError)
ENDS = {
    0: "predicted",
    10: "refused",
    11: "failed",
    12: "out of memory",
    13: "another error",
}
HARMLESS = {"predicted", "refused", "failed", "out of memory"}

_MEMORY = 12 << 30
_SECONDS = 60
_NUMBERS = [
    0,
    -1,
    1,
    2,
    3,
    7,
    255,
    256,
    -2,
    1 << 20,
    (1 << 31) - 1,
    -(1 << 31),
    1 << 40,
    (1 << 63) - 1,
    -(1 << 63),
]
_LITERALS = [
    *map(str, _NUMBERS),
    "null",
    "true",
    '"x"',
    "[]",
    "[1,2]",
    "NaN",
    "1.5",
    '"brute"',
    '"zero"',
    '"poly"',
]
_TYPES = ["f4", "f8", "i4", "i8", "u1", "?", ">i8", ">f8", "U3", "i2"]


@dataclass(frozen=True)
class Original:
    name: str
    contents: bytes
    load: Callable[[bytes], Any]
    rows: Any
    change: Callable[[bytes, random.Random], bytes]


def originals(only: list[str]) -> list[Original]:
    """Small fitted models of every kind whose prediction runs in compiled code."""
    found = []
    for name, (estimator, rows) in fitted_models.compiled().items():
        if not only or name in only:
            found.append(
                Original(name, dumps(estimator), lambda c: deserialise(c, "model"), rows, change_archive)
            )
    for name, (contents, labels, rows) in fitted_models.boosters().items():
        if not only or name in only:
            load = lambda c, labels=labels: deserialise_booster(c, None, labels, "model")  # noqa: E731
            found.append(Original(name, contents, load, rows, change_booster))
    return found


def run(count: int, seed: int, only: list[str], keep: Path | None) -> dict[str, dict[str, int]]:
    """How many changed copies of each model ended in which way."""
    chance = random.Random(seed)
    models = originals(only)
    gc.freeze()
    ends: dict[str, collections.Counter[str]] = collections.defaultdict(collections.Counter)
    for number in range(count):
        model = models[number % len(models)]
        changed = model.change(model.contents, chance)
        end = in_a_process_of_its_own(model, changed)
        ends[model.name][end] += 1
        if keep is not None and end not in HARMLESS:
            (keep / f"{seed}-{number}-{model.name}-{end.replace(' ', '-')}").write_bytes(changed)
    return {name: dict(counter) for name, counter in ends.items()}


def in_a_process_of_its_own(model: Original, contents: bytes) -> str:
    child = os.fork()
    if child == 0:
        end = 13
        try:
            end = _load_and_predict(model, contents)
        finally:
            os._exit(end)
    _, status = os.waitpid(child, 0)
    if os.WIFSIGNALED(status):
        return f"signal {os.WTERMSIG(status)}"
    return ENDS[os.WEXITSTATUS(status)]


def _load_and_predict(model: Original, contents: bytes) -> int:
    signal.alarm(_SECONDS)
    resource.setrlimit(resource.RLIMIT_AS, (_MEMORY, _MEMORY))
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
    try:
        estimator = model.load(contents)
    except FalconError:
        return 10
    ends = [_predict(estimator, rows) for rows in _shapes(model.rows)]
    return ends[0]


def _predict(estimator: Any, rows: Any) -> int:
    end = 11
    for method in ("predict_proba", "predict", "transform"):
        try:
            answer = getattr(estimator, method)(rows)
            if sp.issparse(answer):
                answer.toarray()
            end = 0
        except FAILED:
            continue
        except MemoryError:
            return 12
    return end


def _shapes(rows: Any) -> Iterator[Any]:
    """The rows as they belong, and as a hostile model might have them come through: narrower, wider, missing."""
    yield rows
    if isinstance(rows, np.ndarray) and rows.dtype.kind == "f":
        yield rows[:5, :1]
        yield np.hstack([rows[:5], rows[:5], np.zeros((len(rows[:5]), 200))])
        missing = rows[:5] * 1e30
        missing[:, ::2] = np.nan
        yield missing


def change_archive(contents: bytes, chance: random.Random) -> bytes:
    members = _members(contents)
    arrays = [name for name in members if name != "schema.json"]
    draw = chance.random()
    if draw < 0.3 or not arrays:
        members["schema.json"] = _change_schema(members["schema.json"], chance)
    elif draw < 0.9:
        name = chance.choice(arrays)
        members[name] = (_change_matrix if name.endswith(".npz") else _change_array)(members[name], chance)
    elif draw < 0.97 and len(arrays) > 1:
        one, other = chance.sample(arrays, 2)
        members[one], members[other] = members[other], members[one]
    else:
        return flip(contents, chance)
    return _zipped(members)


def change_booster(contents: bytes, chance: random.Random) -> bytes:
    if not contents.startswith(b'{"'):
        return flip(contents, chance) if chance.random() < 0.5 else _overwrite(contents, chance, "big")
    if chance.random() < 0.2:
        return flip(contents, chance)
    document = json.loads(contents)
    for _ in range(chance.choice([1, 1, 2, 3])):
        holder, key, value = chance.choice(list(_places(document)))
        if isinstance(value, list):
            value.append(value[0] if value else 1) if chance.random() < 0.5 else value and value.pop()
        elif isinstance(value, int | float):
            holder[key] = chance.choice([*_NUMBERS[:11], chance.randrange(64), 1.5, 1e30])
        elif isinstance(value, str):
            holder[key] = chance.choice(
                [*map(str, _NUMBERS), "", "[0.5]", "[1,2,3]", "dart", "gblinear", "gbtree"]
            )
        elif isinstance(holder, dict):
            holder.pop(key)
    return json.dumps(document).encode()


def flip(contents: bytes, chance: random.Random) -> bytes:
    changed = bytearray(contents)
    for _ in range(chance.choice([1, 2, 8, 32])):
        if changed:
            changed[chance.randrange(len(changed))] = chance.randrange(256)
    return bytes(changed)


def _overwrite(contents: bytes, chance: random.Random, order: Any) -> bytes:
    """Put numbers that point far away, or near, over words of the contents."""
    changed = bytearray(contents)
    for _ in range(chance.choice([1, 1, 2, 4])):
        width = chance.choice([1, 2, 4, 8])
        if len(changed) >= width:
            start = chance.randrange(len(changed) - width + 1)
            start -= start % width if order == "little" else 0
            value = chance.choice([*_NUMBERS, *range(16)]) & ((1 << 8 * width) - 1)
            changed[start : start + width] = value.to_bytes(width, order)
    return bytes(changed)


def _change_array(contents: bytes, chance: random.Random) -> bytes:
    body = 10 + int.from_bytes(contents[8:10], "little")
    draw = chance.random()
    if draw < 0.45:
        return contents[:body] + _overwrite(contents[body:], chance, "little")
    if draw < 0.6:
        return contents[:body] + flip(contents[body:], chance)
    if draw < 0.65:
        return flip(contents[:body], chance) + contents[body:]
    array = np.load(io.BytesIO(contents))
    if array.ndim and draw < 0.8:
        array = array[: chance.randrange(len(array) + 1)]
    elif array.ndim and draw < 0.85:
        array = np.concatenate([array, array])
    elif array.ndim > 1 and draw < 0.92:
        array = (
            np.ascontiguousarray(array.T) if draw < 0.88 else array[:, : chance.randrange(array.shape[1] + 1)]
        )
    elif array.dtype.fields is None and array.dtype.kind in "iufb":
        with np.errstate(all="ignore"):
            array = array.astype(chance.choice(_TYPES))
    buffer = io.BytesIO()
    np.save(buffer, array)
    return buffer.getvalue()


def _change_matrix(contents: bytes, chance: random.Random) -> bytes:
    parts = _members(contents)
    name = chance.choice(list(parts))
    parts[name] = _change_array(parts[name], chance)
    return _zipped(parts)


def _change_schema(contents: bytes, chance: random.Random) -> bytes:
    if chance.random() < 0.1:
        return flip(contents, chance)
    document = json.loads(contents)
    places = list(_places(document))
    literals = [place for place in places if place[1] == "content" and isinstance(place[2], str)]
    for _ in range(chance.choice([1, 1, 2, 3])):
        holder, key, value = chance.choice(places)
        draw = chance.random()
        if draw < 0.45 and literals:
            holder, key, value = chance.choice(literals)
            holder[key] = chance.choice(_LITERALS)
        elif draw < 0.75:
            other_holder, other_key, other = chance.choice(places)
            # Through JSON, because one part within itself could not be written any more.
            holder[key], other_holder[other_key] = (
                json.loads(json.dumps(other)),
                json.loads(json.dumps(value)),
            )
        elif draw < 0.85 and isinstance(holder, dict):
            holder.pop(key, None)
        elif isinstance(value, int):
            holder[key] = chance.choice(_NUMBERS)
        elif isinstance(value, str):
            holder[key] = chance.choice(["", "x", "builtins", "numpy"])
        elif isinstance(value, list):
            value.append(None)
        places = list(_places(document))
    return json.dumps(document).encode()


def _places(document: Any) -> Iterator[tuple[Any, Any, Any]]:
    """Every (holder, key, value) of a JSON document."""
    waiting = [document]
    while waiting:
        holder = waiting.pop()
        pairs = (
            holder.items()
            if isinstance(holder, dict)
            else enumerate(holder)
            if isinstance(holder, list)
            else ()
        )
        for key, value in list(pairs):
            yield holder, key, value
            waiting.append(value)


def _members(contents: bytes) -> dict[str, bytes]:
    with zipfile.ZipFile(io.BytesIO(contents)) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def _zipped(members: dict[str, bytes]) -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        for name, contents in members.items():
            archive.writestr(name, contents)
    return buffer.getvalue()


def main(arguments: list[str]) -> None:
    warnings.simplefilter("ignore")
    keep = None
    if "--keep" in arguments:
        at = arguments.index("--keep")
        keep = Path(arguments[at + 1])
        keep.mkdir(parents=True, exist_ok=True)
        del arguments[at : at + 2]
    count, seed, *only = arguments
    print(json.dumps(run(int(count), int(seed), only, keep), indent=1))


if __name__ == "__main__":
    main(sys.argv[1:])
