"""A model of XGBoost is passed on only where each number in it points into what it counts."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from falcon_wsgi.models import ubjson
from falcon_wsgi.models.booster_format import check
from falcon_wsgi.models.refusal import Refused
from tests.unit.models import fitted_models

Document = dict[str, Any]


def document(name: str) -> Document:
    return json.loads(fitted_models.boosters()[f"{name} json"][0])  # type: ignore[no-any-return]


def tree(stored: Document) -> Document:
    """The first tree that splits at all."""
    trees = stored["learner"]["gradient_booster"]["model"]["trees"]
    return next(tree for tree in trees if len(tree["left_children"]) > 3)


def param(stored: Document, **changes: str) -> None:
    stored["learner"]["learner_model_param"].update(changes)


def model(stored: Document) -> Document:
    return stored["learner"]["gradient_booster"]["model"]  # type: ignore[no-any-return]


CHANGES: list[tuple[Callable[[Document], Any], str]] = [
    (lambda d: tree(d)["left_children"].__setitem__(0, 10**6), "has a child outside"),
    (lambda d: tree(d)["left_children"].__setitem__(0, -2), "has a child outside"),
    (lambda d: tree(d)["left_children"].__setitem__(0, 0), "has a child outside"),
    (lambda d: tree(d)["left_children"].__setitem__(1, 2), "two parents|belong nowhere"),
    (lambda d: tree(d)["right_children"].__setitem__(0, 1), "twice"),
    (lambda d: tree(d)["right_children"].__setitem__(-1, 1), "a leaf"),
    (lambda d: tree(d)["right_children"].__setitem__(0, 2**40), "out of range"),
    (lambda d: tree(d)["split_indices"].__setitem__(0, 4), "splits on a feature outside"),
    (lambda d: tree(d)["split_indices"].__setitem__(0, -1), "splits on a feature outside"),
    (lambda d: tree(d)["split_indices"].__setitem__(0, 1.5), "no list of numbers"),
    (lambda d: tree(d)["parents"].__setitem__(0, 0), "begin with its root"),
    (lambda d: tree(d)["parents"].__setitem__(1, 2), "two parents"),
    (lambda d: tree(d)["default_left"].__setitem__(0, 2), "neither 0 nor 1"),
    (lambda d: tree(d)["split_conditions"].pop(), "differ in length"),
    (lambda d: tree(d)["sum_hessian"].append(1.0), "differ in length"),
    (lambda d: tree(d)["tree_param"].update(num_nodes="99"), "differ in length"),
    (lambda d: tree(d)["tree_param"].update(num_deleted="1"), "belong nowhere"),
    (lambda d: tree(d)["tree_param"].update(size_leaf_vector="3"), "several values"),
    (lambda d: tree(d)["split_type"].__setitem__(0, 1), "splits by categories"),
    (lambda d: tree(d)["categories"].append(1), "splits by categories"),
    (lambda d: model(d)["cats"]["enc"].append({}), "splits by categories"),
    (lambda d: d["learner"].update(feature_types=["c"] * 4), "splits by categories"),
    (lambda d: d["learner"].update(feature_names=["a"]), "one for each feature"),
    (lambda d: model(d)["trees"].pop(), "as many as it says"),
    (lambda d: model(d)["tree_info"].__setitem__(0, 3), "a class that there is not"),
    (lambda d: model(d)["tree_info"].pop(), "each of one class"),
    (lambda d: model(d)["iteration_indptr"].__setitem__(-1, 99), "do not cover"),
    (lambda d: model(d)["iteration_indptr"].__setitem__(1, 8), "out of order"),
    (lambda d: model(d)["gbtree_model_param"].update(num_parallel_tree="2"), "last round"),
    (lambda d: param(d, num_class="0"), "class"),
    (lambda d: param(d, num_class="4"), "number of classes"),
    (lambda d: param(d, num_feature="2147483647"), "stands where"),
    (lambda d: param(d, num_target="2"), "several targets"),
    (lambda d: param(d, base_score="[1,2]"), "base_score"),
    (lambda d: param(d, base_score="nan"), "base_score"),
    (lambda d: d["learner"]["objective"].update(name="rank:ndcg"), "'rank:ndcg' is not served"),
    (lambda d: d["learner"]["objective"].update(name="survival:aft"), "'survival:aft' is not served"),
    (
        lambda d: d["learner"]["objective"]["softmax_multiclass_param"].update(num_class="0"),
        "another number of classes",
    ),
    (lambda d: d["learner"]["gradient_booster"].update(name="other"), "booster 'other' is unknown"),
    (lambda d: d["learner"].update(attributes={"a": 1}), "attributes"),
    (lambda d: d.update(Model={}), "snapshot of training"),
]


def test_what_is_passed_on_is_a_model_of_the_same_shape() -> None:
    for name, (contents, labels, _) in fitted_models.boosters().items():
        checked = check(contents)
        assert checked.features == 4
        assert checked.classes == len(labels or ())
        assert checked.rounds in (2, 3), name
        assert ubjson.decode(checked.contents)["learner"]["gradient_booster"]["name"] == checked.booster


@pytest.mark.parametrize(("change", "match"), CHANGES, ids=[str(n) for n in range(len(CHANGES))])
def test_a_number_that_points_outside_is_refused(change: Callable[[Document], Any], match: str) -> None:
    stored = document("xgboost")
    change(stored)
    with pytest.raises(Refused, match=match):
        check(json.dumps(stored).encode())


@pytest.mark.parametrize("name", ["xgboost dart", "xgboost linear"])
def test_weights_of_another_length_are_refused(name: str) -> None:
    stored = document(name)
    booster = stored["learner"]["gradient_booster"]
    (booster["weight_drop"] if "weight_drop" in booster else booster["model"]["weights"]).pop()
    with pytest.raises(Refused, match="its weights are not one for each"):
        check(json.dumps(stored).encode())


def test_what_is_not_known_is_not_passed_on() -> None:
    stored = document("xgboost")
    stored["learner"]["surprise"] = stored["surprise"] = tree(stored)["surprise"] = [1, 2, 3]
    assert b"surprise" not in check(json.dumps(stored).encode()).contents


@pytest.mark.parametrize("contents", [b"", b"[]", b"null", b"{}", b"nothing", b"{L", b'{"learner": 5}'])
def test_what_is_no_model_is_refused(contents: bytes) -> None:
    with pytest.raises((Refused, ValueError, LookupError, TypeError)):
        check(contents)
