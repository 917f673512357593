"""Trees, and the ensembles that hand rows to them in compiled code."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.tree._tree import Tree
from sklearn.utils.validation import check_array

from falcon_wsgi.models.refusal import need

_LEAF = -1
_BITSET_WORDS = 8
_MAX_CATEGORY = 255
_MAX_FEATURES = 1 << 24


def _check_tree(estimator: Any) -> None:
    """A DecisionTree or ExtraTree of either kind."""
    tree = estimator.tree_
    need(type(tree) is Tree, "a tree is none")
    need(
        tree.n_features == estimator.n_features_in_,
        "a tree is for another number of features than its estimator",
    )
    need(tree.n_outputs == estimator.n_outputs_ == 1, "a tree has several outputs; one is supported")
    need(
        tree.max_n_classes == _n_classes(estimator),
        "a tree is for another number of classes than its estimator",
    )
    need(tree.node_count >= 1, "a tree has no nodes")
    inner = tree.children_left != _LEAF
    _check_children(inner, tree.children_left, tree.children_right)
    need((tree.children_right[~inner] == _LEAF).all(), "a leaf of a tree has a child")
    _check_range(tree.feature[inner], tree.n_features, "a tree splits on feature")
    need(
        tree.value.shape == (tree.node_count, 1, tree.max_n_classes),
        "a tree's values are not as many as its nodes",
    )
    need(tree.compute_node_depths().max() - 1 == tree.max_depth, "a tree is not as deep as it says")


def _n_classes(estimator: Any) -> int:
    """1 for a regressor."""
    if not hasattr(estimator, "classes_"):
        return 1
    need(estimator.n_classes_ == len(estimator.classes_), "classes and their number do not agree")
    return len(estimator.classes_)


def _check_children(inner: NDArray[np.bool_], left: NDArray[Any], right: NDArray[Any]) -> None:
    """Each node but the first is the child of exactly one that stands before it, so every walk ends at a leaf."""
    parents = np.flatnonzero(inner)
    children = np.concatenate([left[inner], right[inner]]).astype(np.int64)
    need(
        (children > np.concatenate([parents, parents])).all(),
        "a tree's child does not stand after its parent",
    )
    need(
        np.array_equal(np.sort(children), np.arange(1, len(inner))),
        "a tree's child numbers are out of range or repeated",
    )


def _check_range(numbers: NDArray[Any], end: int, what: str) -> None:
    outside = numbers[(numbers < 0) | (numbers >= end)]
    need(not outside.size, f"{what} {outside[:1].tolist()}, outside 0 to {end - 1}")


def _check_forest(forest: Any) -> None:
    need(isinstance(forest.estimators_, list) and forest.estimators_, "a forest has no trees")
    for tree in forest.estimators_:
        need(_is_tree(tree), f"a forest holds a {type(tree).__name__}")
        need(
            tree.n_features_in_ == forest.n_features_in_ and _n_classes(tree) == _n_classes(forest),
            "a tree is for other features or classes than its forest",
        )
    need(forest.n_outputs_ == 1, "a forest has several outputs; one is supported")


def _check_isolation_forest(forest: Any) -> None:
    for tree in forest.estimators_:
        need(_is_tree(tree), f"a forest holds a {type(tree).__name__}")


def _is_tree(estimator: Any) -> bool:
    return f"{type(estimator).__module__}.{type(estimator).__name__}" in _TREES


def _check_boosting(model: Any) -> None:
    """GradientBoosting*: the sum over stages is written through a bare pointer."""
    stages = model.estimators_
    need(isinstance(stages, np.ndarray) and stages.ndim == 2 and stages.size, "boosting has no stages")
    for tree in stages.ravel():
        need(_is_tree(tree) and _n_classes(tree) == 1, "a stage of boosting is no regression tree")
        need(tree.n_features_in_ == model.n_features_in_, "a tree is for other features than its ensemble")
    initial = type(model.init_).__name__
    need(
        initial in ("DummyClassifier", "DummyRegressor") or model.init_ == "zero",
        f"boosting starts from a {initial}; train it with init=None or init='zero'",
    )
    need(model.n_features_in_ <= _MAX_FEATURES, f"there are more than {_MAX_FEATURES} features")
    start = model._raw_predict_init(np.zeros((2, model.n_features_in_), np.float32))
    need(
        start.shape == (2, stages.shape[1]) and start.dtype == np.float64,
        "boosting starts from other outputs than it has stages for",
    )


def _check_histogram_boosting(model: Any) -> None:
    """HistGradientBoosting*."""
    need(not vars(model).get("_in_fit"), "the model is still being fitted")
    n_features = model._n_features
    need(n_features == model.n_features_in_, "the numbers of features do not agree")
    bins = model._bin_mapper
    categorical = bins.is_categorical_
    need(
        isinstance(categorical, np.ndarray)
        and categorical.dtype.kind in "bu"
        and categorical.shape == (n_features,),
        "categorical features are not marked one by one",
    )
    for feature in np.flatnonzero(categorical):
        known = np.asarray(bins.bin_thresholds_[feature])
        need(
            known.ndim == 1
            and known.dtype.kind in "iuf"
            and ((known >= 0) & (known <= _MAX_CATEGORY) & (known == np.floor(known))).all(),
            f"a category of feature {feature} is outside 0 to {_MAX_CATEGORY}",
        )
    if model._preprocessor is not None:
        _check_categorical_preprocessor(model._preprocessor, n_features)
    for stage in model._predictors:
        for predictor in stage:
            _check_predictor(predictor, n_features, categorical.astype(bool))


def _check_predictor(predictor: Any, n_features: int, categorical: NDArray[np.bool_]) -> None:
    need(type(predictor).__name__ == "TreePredictor", "a stage of boosting is no tree")
    nodes, bitsets = predictor.nodes, predictor.raw_left_cat_bitsets
    need(isinstance(nodes, np.ndarray) and nodes.ndim == 1 and nodes.size, "a tree has no nodes")
    need(
        isinstance(bitsets, np.ndarray) and bitsets.ndim == 2 and bitsets.shape[1] == _BITSET_WORDS,
        "a tree's sets of categories have the wrong shape",
    )
    inner = nodes["is_leaf"] == 0
    _check_children(inner, nodes["left"], nodes["right"])
    features = nodes["feature_idx"][inner]
    _check_range(features, n_features, "a tree splits on feature")
    splits = nodes["is_categorical"][inner] != 0
    need(categorical[features[splits]].all(), "a tree splits a number by categories")
    _check_range(nodes["bitset_idx"][inner][splits], len(bitsets), "a tree names the set of categories")


def _check_categorical_preprocessor(preprocessor: Any, n_features: int) -> None:
    """It must give back as many columns as it takes: its result goes to the trees unchecked."""
    need(type(preprocessor).__name__ == "ColumnTransformer", "the preprocessor is no ColumnTransformer")
    need(preprocessor.n_features_in_ == n_features, "the preprocessor is for another number of features")
    (_, encoder, encoded), (_, numerical, passed), *rest = preprocessor.transformers_
    need(all(step == "drop" for _, step, _ in rest), "the preprocessor has a third step")
    encoded, passed = np.asarray(encoded), np.asarray(passed)
    need(
        encoded.dtype == passed.dtype == np.bool_
        and encoded.shape == passed.shape == (n_features,)
        and (encoded != passed).all(),
        "the preprocessor does not take each feature once",
    )
    need(
        type(encoder).__name__ == "OrdinalEncoder"
        and len(encoder.categories_) == encoded.sum() == encoder.n_features_in_,
        "the preprocessor encodes other features than it takes",
    )
    func = numerical.func if type(numerical).__name__ == "FunctionTransformer" else None
    need(
        isinstance(func, functools.partial)
        and func.func is check_array
        and set(func.keywords) <= {"dtype", "ensure_all_finite"}
        and not numerical.kw_args,
        "the preprocessor changes numbers",
    )
    need(preprocessor.sparse_output_ is False, "the preprocessor gives sparse output")


_TREES = {
    f"sklearn.tree._classes.{name}"
    for name in (
        "DecisionTreeClassifier",
        "DecisionTreeRegressor",
        "ExtraTreeClassifier",
        "ExtraTreeRegressor",
    )
}
_FORESTS = (
    "RandomForestClassifier",
    "RandomForestRegressor",
    "ExtraTreesClassifier",
    "ExtraTreesRegressor",
)
_HISTOGRAM = "sklearn.ensemble._hist_gradient_boosting.gradient_boosting"

CHECKS: dict[str, Callable[[Any], None]] = {
    **dict.fromkeys(_TREES, _check_tree),
    **{f"sklearn.ensemble._forest.{name}": _check_forest for name in _FORESTS},
    "sklearn.ensemble._iforest.IsolationForest": _check_isolation_forest,
    "sklearn.ensemble._gb.GradientBoostingClassifier": _check_boosting,
    "sklearn.ensemble._gb.GradientBoostingRegressor": _check_boosting,
    f"{_HISTOGRAM}.HistGradientBoostingClassifier": _check_histogram_boosting,
    f"{_HISTOGRAM}.HistGradientBoostingRegressor": _check_histogram_boosting,
}
