"""The model store on disk: what is written is what is loaded, and whatever was tampered with is refused."""

from __future__ import annotations

import io
import json
import os
import pickle
import shutil
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import joblib
import pytest
from sklearn.ensemble import RandomForestClassifier
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import FunctionTransformer
from skops.io import dumps

from falcon_wsgi.errors import (
    DigestMismatch,
    GoldenMismatch,
    ManifestInvalid,
    ModelError,
    ModelNotFound,
    TrainingDataInvalid,
    UntrustedModel,
)
from falcon_wsgi.models import served
from falcon_wsgi.models.manifest import MODEL_FILE
from falcon_wsgi.models.store import ModelStore
from falcon_wsgi.models.training import train
from tests.e2e import heavy_model


class Bomb:
    """Writes a file when it is unpickled."""

    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {self.marker}",)


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return heavy_model.store(tmp_path_factory.mktemp("store"), heavy_model.light())


@pytest.fixture
def folder(written: Path, tmp_path: Path) -> Path:
    """sentiment/1.0.0 in a store of the test's own."""
    shutil.copytree(written, tmp_path / "store")
    return tmp_path / "store" / "sentiment" / "1.0.0"


def load(folder: Path) -> served.ServedModel:
    return ModelStore(folder.parent.parent).load("sentiment")


def refused(folder: Path, error: type[ModelError], match: str) -> None:
    """It is refused for that reason, in one line that names what is meant and shows no path."""
    with pytest.raises(error, match=match) as caught:
        load(folder)
    assert type(caught.value) is error
    message = str(caught.value)
    assert "\n" not in message
    assert "sentiment" in message
    assert str(folder.parent.parent) not in message


def edit_manifest(folder: Path, edit: Callable[[dict[str, Any]], Any]) -> None:
    path = folder / "manifest.json"
    content = json.loads(path.read_text())
    edit(content)
    path.write_text(json.dumps(content))


def replace_model(folder: Path, archive: bytes) -> None:
    """Put another file in the model's place, with its true digest in the manifest, as its author would."""
    (folder / MODEL_FILE).write_bytes(archive)
    digest = heavy_model.manifest_for(archive, heavy_model.light()).files[MODEL_FILE]
    edit_manifest(folder, lambda m: m["files"].update({MODEL_FILE: digest.model_dump()}))


def test_what_was_written_is_loaded(folder: Path) -> None:
    model = load(folder)
    assert (model.name, model.version, model.predictor.name) == ("sentiment", "1.0.0", "compiled")
    assert not model.heavy
    assert model.digest == model.manifest.digest
    assert model.load_s > 0
    for example in model.manifest.golden:
        answer = model.predictor.predict([example.input])[0]
        assert answer.output == example.prediction
        assert answer.probabilities == pytest.approx(example.probabilities, abs=1e-9)


def test_a_written_version_is_whole_and_leaves_nothing_beside_it(folder: Path) -> None:
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", "1.0.0"]
    assert sorted(path.name for path in folder.iterdir()) == ["manifest.json", MODEL_FILE]


def test_a_failed_write_leaves_no_trace(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = ModelStore(folder.parent.parent)
    new = store.manifest("sentiment", "1.0.0").model_copy(update={"version": "1.1.0"})

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match="No space"):
        store.write(new, {MODEL_FILE: b"half"})
    assert sorted(path.name for path in folder.parent.iterdir()) == [".lock", "1.0.0"]
    load(folder)


def test_the_highest_number_is_served_unless_a_pointer_names_another(folder: Path) -> None:
    store = ModelStore(folder.parent.parent)
    for version in ("1.9.0", "1.10.0"):
        copy = folder.parent / version
        shutil.copytree(folder, copy)
        edit_manifest(copy, lambda m, version=version: m.update(version=version))
    assert store.versions("sentiment") == ["1.0.0", "1.9.0", "1.10.0"]
    assert store.current("sentiment") == "1.10.0"
    (folder.parent / "current").write_text("1.9.0\n")
    assert store.load("sentiment").version == "1.9.0"
    assert store.load_current()["sentiment"].version == "1.9.0"
    assert store.load("sentiment", "1.0.0").version == "1.0.0"


@pytest.mark.parametrize("pointer", ["9.9.9", "", "../../etc", "1.0.0\n1.9.0", "/"])
def test_a_pointer_to_nothing_is_refused(folder: Path, pointer: str) -> None:
    (folder.parent / "current").write_text(pointer)
    with pytest.raises(ModelNotFound, match="sentiment/current names version"):
        load(folder)


@pytest.mark.parametrize("name", ["absent", "..", "", "Sentiment", "a/b", "sentiment/1.0.0"])
def test_an_unknown_name_is_not_found(folder: Path, name: str) -> None:
    with pytest.raises(ModelNotFound):
        ModelStore(folder.parent.parent).load(name)


def test_an_empty_store_says_what_to_do(tmp_path: Path) -> None:
    for root in (tmp_path, tmp_path / "absent"):
        with pytest.raises(ModelNotFound, match="falcon train sentiment"):
            ModelStore(root).load_current()


def test_a_changed_byte_is_found(folder: Path) -> None:
    path = folder / MODEL_FILE
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    refused(folder, DigestMismatch, "sentiment/1.0.0/model.skops")


@pytest.mark.parametrize("share", [0.0, 0.5, 0.999])
def test_a_truncated_file_is_found(folder: Path, share: float) -> None:
    path = folder / MODEL_FILE
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * share)])
    refused(folder, DigestMismatch, "sentiment/1.0.0/model.skops")


def test_a_missing_file_is_found(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()
    refused(folder, ModelNotFound, "sentiment/1.0.0/model.skops cannot be read: No such file")


def test_a_folder_in_a_files_place_is_refused(folder: Path) -> None:
    (folder / MODEL_FILE).unlink()
    (folder / MODEL_FILE).mkdir()
    refused(folder, ModelNotFound, "cannot be read")


def test_every_listed_file_is_checked(folder: Path) -> None:
    extra = {"sha256": "0" * 64, "bytes": 5}
    (folder / "labels.txt").write_text("hello")
    edit_manifest(folder, lambda m: m["files"].update({"labels.txt": extra}))
    refused(folder, DigestMismatch, "sentiment/1.0.0/labels.txt")


@pytest.mark.parametrize("protocol", range(6))
def test_a_pickle_is_refused_and_never_run(folder: Path, tmp_path: Path, protocol: int) -> None:
    marker = tmp_path / "ran"
    replace_model(folder, pickle.dumps(Bomb(marker), protocol=protocol))
    refused(folder, UntrustedModel, "Pickle and joblib files can run code")
    assert not marker.exists()


@pytest.mark.parametrize("compress", [0, ("zlib", 3), ("gzip", 3), ("lzma", 3)])
def test_a_joblib_file_is_refused_and_never_run(folder: Path, tmp_path: Path, compress: Any) -> None:
    marker, buffer = tmp_path / "ran", io.BytesIO()
    joblib.dump({"model": Bomb(marker)}, buffer, compress=compress)
    replace_model(folder, buffer.getvalue())
    refused(folder, UntrustedModel, "Pickle and joblib files can run code")
    assert not marker.exists()


def test_a_pickle_inside_a_zip_is_refused_and_never_run(folder: Path, tmp_path: Path) -> None:
    marker, buffer = tmp_path / "ran", io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("schema.json", pickle.dumps(Bomb(marker)))
    replace_model(folder, buffer.getvalue())
    refused(folder, UntrustedModel, "cannot be read")
    assert not marker.exists()


def shout(texts: list[str]) -> list[str]:
    return [text.upper() for text in texts]


@pytest.mark.parametrize(
    "estimator",
    [
        Pipeline([("shout", FunctionTransformer(shout)), ("vectorizer", TfidfVectorizer())]),
        Pipeline([("vectorizer", TfidfVectorizer(tokenizer=shout)), ("classifier", LogisticRegression())]),
        Pipeline([("system", FunctionTransformer(os.system))]),
    ],
    ids=["a function of a user's own", "a tokenizer", "os.system"],
)
def test_a_type_outside_the_allow_list_is_refused_by_name(folder: Path, estimator: Pipeline) -> None:
    replace_model(folder, dumps(estimator))
    refused(folder, UntrustedModel, "Untrusted types found in the file")


def test_a_file_that_names_a_trusted_type_but_lies_about_it_is_refused(folder: Path) -> None:
    """The types are those that the archive declares; what it makes of them is checked too."""
    archive = zipfile.ZipFile(io.BytesIO((folder / MODEL_FILE).read_bytes()))
    schema = json.loads(archive.read("schema.json"))
    schema["__module__"], schema["__class__"] = "os", "system"
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as changed:
        for name in archive.namelist():
            changed.writestr(name, json.dumps(schema) if name == "schema.json" else archive.read(name))
    replace_model(folder, buffer.getvalue())
    refused(folder, UntrustedModel, "sentiment/1.0.0/model.skops")


@pytest.mark.parametrize(
    "archive",
    [
        b"PK\x03\x04",
        b"PK\x03\x04" + b"\x00" * 100,
        b"",
        b"nothing",
    ],
)
def test_a_file_that_is_no_archive_is_refused(folder: Path, archive: bytes) -> None:
    replace_model(folder, archive or b" ")
    refused(folder, UntrustedModel, "sentiment/1.0.0/model.skops")


@pytest.mark.parametrize("stored", [TfidfVectorizer().fit(["a text"]), LogisticRegression(), {"a": [1]}, 5])
def test_what_is_no_fitted_classifier_is_refused(folder: Path, stored: Any) -> None:
    replace_model(folder, dumps(stored))
    refused(folder, ManifestInvalid, f"its file holds a {type(stored).__name__}")


def test_a_classifier_of_something_else_than_text_misses_its_golden_example(folder: Path) -> None:
    numbers = LogisticRegression().fit([[0.0], [1.0], [2.0]], ["negative", "neutral", "positive"])
    replace_model(folder, dumps(numbers))
    refused(folder, GoldenMismatch, "cannot answer its golden example")


@pytest.mark.parametrize(
    ("edit", "match"),
    [
        (lambda m: m.update(format=2), "format"),
        (lambda m: m.update(kind="tabular_regression"), "kind"),
        (lambda m: m.pop("golden"), "golden"),
        (lambda m: m.update(golden=[]), "golden"),
        (lambda m: m.update(labels=["one"]), "labels"),
        (lambda m: m.update(surprise=1), "surprise"),
        (lambda m: m.update(files={}), "files"),
        (lambda m: m["files"][MODEL_FILE].update(sha256="short"), "sha256"),
        (lambda m: m["files"].update({"../../secret": m["files"][MODEL_FILE]}), "files"),
        (lambda m: m["files"].update({"other": m["files"].pop(MODEL_FILE)}), "files must list"),
        (lambda m: m.update(name="another"), "is of another/1.0.0"),
        (lambda m: m.update(version="2.0.0"), "is of sentiment/2.0.0"),
        (lambda m: m.update(version="1.0"), "version"),
        (lambda m: m["signature"].update(max_length=10**9), "signature"),
    ],
)
def test_a_manifest_that_breaks_its_schema_is_refused(folder: Path, edit: Any, match: str) -> None:
    edit_manifest(folder, edit)
    refused(folder, ManifestInvalid, match)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_no_object_is_refused(folder: Path, content: bytes) -> None:
    (folder / "manifest.json").write_bytes(content)
    refused(folder, ManifestInvalid, "sentiment/1.0.0/manifest.json")


def test_a_missing_manifest_is_refused(folder: Path) -> None:
    (folder / "manifest.json").unlink()
    refused(folder, ManifestInvalid, "manifest.json cannot be read")


@pytest.mark.parametrize(
    "edit",
    [
        lambda golden: golden.update(prediction="negative"),
        lambda golden: golden["probabilities"].update(positive=golden["probabilities"]["positive"] + 1e-5),
        lambda golden: golden["probabilities"].pop("neutral"),
        lambda golden: golden.update(input="a bad and awful thing"),
    ],
)
def test_a_missed_golden_example_is_refused(folder: Path, edit: Any) -> None:
    edit_manifest(folder, lambda m: edit(m["golden"][0]))
    refused(folder, GoldenMismatch, "golden example")


def test_another_model_under_the_same_manifest_misses_its_golden_example(folder: Path) -> None:
    swapped = Pipeline([("vectorizer", TfidfVectorizer()), ("classifier", LogisticRegression())]).fit(
        heavy_model.TEXTS, ["negative", "positive", "neutral"] * 40
    )
    replace_model(folder, dumps(swapped))
    refused(folder, GoldenMismatch, "expected positive, got negative")


def test_models_are_held_to_one_thread(tmp_path: Path) -> None:
    root = heavy_model.store(tmp_path, heavy_model.heavy())
    model = ModelStore(root).load("sentiment")
    assert model.heavy
    pipeline = model.predictor._predict_proba.__self__
    assert pipeline.get_params()["classifier__n_jobs"] == 1


def test_a_tokenizer_of_unknown_time_makes_a_model_heavy_though_it_compiles(tmp_path: Path) -> None:
    model = ModelStore(heavy_model.store(tmp_path, heavy_model.stuck())).load("sentiment")
    assert model.predictor.name == "compiled"
    assert model.heavy


def test_a_change_of_the_served_set_changes_the_state(folder: Path) -> None:
    store = ModelStore(folder.parent.parent)
    before = store.state()
    assert store.state() == before
    (folder.parent / "current").write_text("1.0.0")
    shutil.copytree(folder, folder.parent / "1.1.0")
    assert store.state() == before  # the pointer still names the same version
    (folder.parent / "current").write_text("1.1.0")
    assert store.state() != before


# Training, end to end.


def silent(stage: str, fraction: float) -> None:
    pass


@pytest.fixture(scope="module")
def own_data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    rows = [
        (f"the {noun} was {word}", label)
        for noun in ("food", "room", "service", "staff", "price", "view", "bed", "bar", "pool", "desk")
        for word, label in (
            ("great", "positive"),
            ("awful", "negative"),
            ("there", "neutral"),
            ("lovely", "positive"),
            ("dreadful", "negative"),
            ("blue", "neutral"),
        )
    ]
    path = tmp_path_factory.mktemp("data") / "reviews.csv"
    path.write_text("text,label\n" + "\n".join(f'"{text}",{label}' for text, label in rows) + "\n")
    return path


def test_training_on_a_users_file_gives_a_version_that_serves(own_data: Path, tmp_path: Path) -> None:
    stages: list[str] = []
    manifest = train("sentiment", own_data, tmp_path, lambda stage, fraction: stages.append(stage))
    assert len(set(stages)) > 1
    model = ModelStore(tmp_path).load("sentiment")
    assert model.version == manifest.version
    answers = model.predictor.predict(["the food was great", "the room was awful"])
    assert [answer.output for answer in answers] == ["positive", "negative"]
    again = train("sentiment", own_data, tmp_path, silent)
    assert ModelStore(tmp_path).current("sentiment") == again.version != manifest.version


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"text,label\n",
        b"words,kind\ngood,positive\n",
        b"text,label\ngood,positive\n",
        b"text,label\n" + b"good,positive\n" * 100,
        b"text,label\n\xff\xfe,positive\n" * 20,
        b"text,label\ngood\n" * 20,
    ],
    ids=["empty", "no rows", "other columns", "one row", "one label", "not UTF-8", "a missing field"],
)
def test_a_bad_training_file_is_refused_in_one_line_and_stores_nothing(
    tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "bad.csv"
    path.write_bytes(content)
    with pytest.raises(TrainingDataInvalid) as caught:
        train("sentiment", path, tmp_path / "store", silent)
    assert "\n" not in str(caught.value)
    assert not list((tmp_path / "store").glob("sentiment/*"))


def test_an_absent_training_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TrainingDataInvalid):
        train("sentiment", tmp_path / "absent.csv", tmp_path / "store", silent)


def test_an_unknown_recipe_is_refused_and_the_known_ones_named(tmp_path: Path) -> None:
    with pytest.raises(ModelNotFound, match="sentiment"):
        train("absent", None, tmp_path, silent)


def test_a_forest_takes_the_place_of_a_linear_model_only_where_it_answers_alike(folder: Path) -> None:
    """Forests are loaded; this one is another model than the manifest records."""
    forest = Pipeline([("vectorizer", TfidfVectorizer()), ("classifier", RandomForestClassifier(2))])
    replace_model(folder, dumps(forest.fit(heavy_model.TEXTS, heavy_model.LABELS)))
    refused(folder, GoldenMismatch, "golden example")
