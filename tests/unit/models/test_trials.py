"""Versions on trial: which ones may be, whom they answer, and how inputs become theirs."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from falcon_wsgi.errors import ModelNotFound, TrialRefused, UnknownModel
from falcon_wsgi.models.catalogue import Catalogue
from falcon_wsgi.models.forms import form_of
from falcon_wsgi.models.manifest import GoldenExample, Manifest, StoredFile
from falcon_wsgi.models.signature import CategoryField, NumberField, TabularSignature, TextSignature
from falcon_wsgi.models.trials import Trial, place, prepare, translation
from falcon_wsgi.settings import VersionShare

X = NumberField(name="x", type="number", minimum=0, maximum=10)
WIDER_X = NumberField(name="x", type="number", minimum=-1)
COLOUR = CategoryField(name="colour", type="category", categories=("red",), nullable=True)


def rows(*fields: Any) -> TabularSignature:
    return TabularSignature(fields=fields)


def version(number: str, signature: Any, kind: str = "tabular_classification", name: str = "m") -> Any:
    manifest = Manifest(
        format=1,
        name=name,
        version=number,
        kind=kind,
        signature=signature,
        labels=("a", "b") if kind.endswith("classification") else (),
        files={"model.skops": StoredFile(sha256="0" * 64, bytes=1)},
        libraries={},
        trained_at=datetime.now(UTC),
        metrics={},
        data={},
        golden=(GoldenExample(input={}, prediction="a"),),
    )
    return SimpleNamespace(name=name, version=number, manifest=manifest, form=form_of(signature))


def loads(*versions: Any) -> Callable[[str, str], Any]:
    known = {(each.name, each.version): each for each in versions}
    return lambda name, number: known[name, number]


LIVE = version("1.0.0", rows(X))
ASKED = [VersionShare("m", "2.0.0", 0.5)]


@pytest.mark.parametrize(
    "signature", [rows(X), rows(WIDER_X), rows(COLOUR, X)], ids=["same", "wider", "more"]
)
def test_a_version_that_takes_all_that_the_live_one_takes_may_be_a_shadow(
    signature: TabularSignature,
) -> None:
    candidate = version("2.0.0", signature)
    trials = prepare(ASKED, [], {"m": LIVE}, loads(candidate))
    assert trials.shadow == {"m": Trial(candidate, 0.5)}
    assert list(trials) == [candidate]


@pytest.mark.parametrize(
    ("candidate", "reason"),
    [
        (version("2.0.0", rows(NumberField(name="x", type="number", minimum=5, maximum=10))), "minimum is 5"),
        (version("2.0.0", rows(NumberField(name="y", type="number"))), "x is no longer a field"),
        (version("2.0.0", rows(X, NumberField(name="y", type="number"))), "y is a new field"),
        (version("2.0.0", TextSignature(), "text_classification"), "its kind is text_classification"),
        (version("2.0.0", rows(X), "tabular_regression"), "its kind is tabular_regression"),
    ],
    ids=["narrower", "renamed", "more", "text", "number"],
)
def test_a_shadow_that_cannot_answer_live_inputs_is_refused_with_the_reason(
    candidate: Any, reason: str
) -> None:
    with pytest.raises(TrialRefused, match=rf"SHADOW: m 2.0.0 cannot answer what 1.0.0 does: .*{reason}"):
        prepare(ASKED, [], {"m": LIVE}, loads(candidate))


@pytest.mark.parametrize("signature", [rows(WIDER_X), rows(COLOUR, X)], ids=["wider", "more"])
def test_a_canary_that_takes_other_inputs_is_refused(signature: TabularSignature) -> None:
    with pytest.raises(
        TrialRefused, match=r"CANARY: m 2\.0\.0 takes other inputs than 1\.0\.0, which is served"
    ):
        prepare([], ASKED, {"m": LIVE}, loads(version("2.0.0", signature)))


def test_a_trial_of_a_model_that_is_not_served_is_refused() -> None:
    for shadow, canary in ((ASKED, []), ([], ASKED)):
        with pytest.raises(ModelNotFound, match="no model m is served; there is: other"):
            prepare(shadow, canary, {"other": LIVE}, loads(LIVE))


def test_why_a_version_does_not_load_passes_through() -> None:
    def load(name: str, number: str) -> Any:
        raise ModelNotFound("the store has no model m in version 2.0.0")

    with pytest.raises(ModelNotFound, match=r"in version 2\.0\.0"):
        prepare(ASKED, [], {"m": LIVE}, load)


def test_the_same_version_may_be_shadow_and_canary() -> None:
    candidate = version("2.0.0", rows(X))
    trials = prepare(ASKED, ASKED, {"m": LIVE}, loads(candidate))
    assert trials.shadow["m"].model is trials.canary["m"].model is candidate


@given(st.text(), st.text())
def test_a_place_is_in_the_unit_interval_and_stays(salt: str, identity: str) -> None:
    assert 0 <= place(salt, identity) < 1
    assert place(salt, identity) == place(salt, identity)


def test_places_are_the_same_in_every_process() -> None:
    """Else a restart would hand clients from version to version."""
    assert place("sentiment", "ip:10.0.0.1") == 0.3932147354776813


def test_places_are_spread_evenly() -> None:
    places = [place("m", f"client:{i}") for i in range(20_000)]
    for tenth in range(10):
        share = sum(tenth / 10 <= each < (tenth + 1) / 10 for each in places) / len(places)
        assert share == pytest.approx(0.1, abs=0.01)


def test_other_models_take_other_clients() -> None:
    both = sum(place("a", f"client:{i}") < 0.1 and place("b", f"client:{i}") < 0.1 for i in range(20_000))
    assert both / 20_000 == pytest.approx(0.01, abs=0.003)


def test_rows_are_put_into_the_candidates_order() -> None:
    a, b, c = (NumberField(name=name, type="number", nullable=name == "c") for name in "abc")
    translate = translation(form_of(rows(a, b)), form_of(rows(c, b, a)))
    assert translate((1.0, 2.0)) == (None, 2.0, 1.0)


def test_a_row_of_one_field_stays_a_row() -> None:
    assert translation(form_of(rows(X)), form_of(rows(X)))((1.0,)) == (1.0,)
    more = form_of(rows(COLOUR, X))
    assert translation(form_of(rows(X)), more)((1.0,)) == (None, 1.0)


def test_texts_stay_as_they_are() -> None:
    assert translation(form_of(TextSignature()), form_of(TextSignature()))("a b") == "a b"


@pytest.fixture
def catalogue() -> Catalogue:
    return Catalogue({"m": LIVE}, {"m": Trial(version("2.0.0", rows(X)), 0.3)})


def answered_by(catalogue: Catalogue, clients: int = 2000) -> list[str]:
    return [catalogue.answering(LIVE, f"client:{i}").version for i in range(clients)]


def test_a_canary_answers_its_share_of_the_clients_and_always_the_same(catalogue: Catalogue) -> None:
    first = answered_by(catalogue)
    assert first.count("2.0.0") / len(first) == pytest.approx(0.3, abs=0.04)
    assert answered_by(catalogue) == first


def test_clients_of_a_canary_stay_when_its_share_grows(catalogue: Catalogue) -> None:
    wider = Catalogue({"m": LIVE}, {"m": Trial(version("2.0.0", rows(X)), 0.6)})
    for before, after in zip(answered_by(catalogue), answered_by(wider), strict=True):
        assert before == "1.0.0" or after == "2.0.0"


def test_without_a_canary_the_current_version_answers(catalogue: Catalogue) -> None:
    assert set(answered_by(Catalogue({"m": LIVE}))) == {"1.0.0"}


def test_a_version_that_is_named_answers_every_client(catalogue: Catalogue) -> None:
    assert catalogue.named("m").version == "1.0.0"
    assert catalogue.named("m", "1.0.0").version == "1.0.0"
    assert catalogue.named("m", "2.0.0").version == "2.0.0"
    with pytest.raises(UnknownModel):
        catalogue.named("m", "3.0.0")


def test_only_current_versions_are_listed(catalogue: Catalogue) -> None:
    assert [each.version for each in catalogue] == ["1.0.0"]
