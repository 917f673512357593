"""A file that crashes, hangs or fills the memory of the process that loads it ends that process only."""

from __future__ import annotations

import sys
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from sklearn.linear_model import Ridge
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from skops.io import dumps

from falcon_wsgi.errors import ModelCrashed, ModelError
from falcon_wsgi.launch import proving
from falcon_wsgi.models.examination import Offer
from falcon_wsgi.models.offer import Expectation
from falcon_wsgi.models.signature import NumberField, TabularSignature

X = np.arange(12.0).reshape(-1, 2)
SIGNATURE = TabularSignature(fields=tuple(NumberField(name=name, type="number") for name in "ab"))
ROW = {"a": 1.0, "b": 2.0}


def offered(folder: Path, contents: bytes, *expected: Expectation, **more: Any) -> Offer:
    (folder / "model.skops").write_bytes(contents)
    return Offer(
        name="mine",
        version="1.0.0",
        files=("model.skops",),
        called={"model.skops": "mine.skops"},
        signature=more.get("signature", SIGNATURE),
        labels=more.get("labels"),
        examples=expected or (Expectation(ROW, "example.json"),),
    )


def child(script: str) -> list[str]:
    """A process in the place of the one that loads the file."""
    return [sys.executable, "-c", script]


RIDGE = make_pipeline(StandardScaler(), Ridge()).fit(X, X[:, 0])


def test_crash_is_told_by_its_signal(tmp_path: Path) -> None:
    script = child("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)")
    with pytest.raises(ModelCrashed, match=r"^mine\.skops cannot be loaded: .* was ended by SIGSEGV$"):
        proving.prove(tmp_path, offered(tmp_path, dumps(RIDGE)), command=script)


def test_death_with_a_traceback_is_told_by_its_last_line(tmp_path: Path) -> None:
    with pytest.raises(ModelCrashed, match=r"cannot be loaded: ZeroDivisionError: division by zero$"):
        proving.prove(tmp_path, offered(tmp_path, dumps(RIDGE)), command=child("1 / 0"))


def test_one_that_does_not_end_is_ended(tmp_path: Path) -> None:
    script = child("import time; time.sleep(60)")
    with pytest.raises(ModelCrashed, match=r"did not end within 0\.2 s$"):
        proving.prove(tmp_path, offered(tmp_path, dumps(RIDGE)), command=script, timeout_s=0.2)


def test_one_that_needs_more_memory_than_it_may_have_is_refused(tmp_path: Path) -> None:
    large = Ridge().fit(X, X[:, 0])
    large.coef_ = np.zeros(50_000_000)  # 400 MB, of which less than one is left in the file
    offer = offered(tmp_path, dumps(large, compression=zipfile.ZIP_DEFLATED, compresslevel=1))
    with pytest.raises(ModelError, match=r"emory") as refused:
        proving.prove(tmp_path, offer, memory=800 << 20)
    assert "\n" not in str(refused.value)


def test_good_file_gives_its_manifest(tmp_path: Path) -> None:
    manifest, notes = proving.prove(tmp_path, offered(tmp_path, dumps(RIDGE)))
    assert (manifest.name, manifest.kind, manifest.signature, notes) == (
        "mine",
        "tabular_regression",
        SIGNATURE,
        [],
    )


def test_refusal_comes_in_the_words_of_the_examination(tmp_path: Path) -> None:
    wrong = Expectation(ROW, "example.json: /0", 99.0)
    with pytest.raises(
        ModelError, match=r"^example\.json: /0: the expected answer is 99\.0, but here the model"
    ):
        proving.prove(tmp_path, offered(tmp_path, dumps(RIDGE), wrong))
