"""Tree ensembles of scikit-learn and XGBoost, behind no or simple scalers, in a compiled form.

The caller proves each equal to the library's own answers before it uses it (`predictor.build`).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import scipy.special
from numpy.typing import NDArray
from sklearn.ensemble import (
    ExtraTreesClassifier,
    ExtraTreesRegressor,
    GradientBoostingClassifier,
    GradientBoostingRegressor,
    HistGradientBoostingClassifier,
    HistGradientBoostingRegressor,
    RandomForestClassifier,
    RandomForestRegressor,
)
from sklearn.pipeline import Pipeline
from sklearn.preprocessing import MaxAbsScaler, MinMaxScaler, StandardScaler
from sklearn.tree import (
    DecisionTreeClassifier,
    DecisionTreeRegressor,
    ExtraTreeClassifier,
    ExtraTreeRegressor,
)

from falcon_wsgi.models.boosted import BoostedModel
from falcon_wsgi.models.compiled import NotCompilable
from falcon_wsgi.models.forest import Forest, Tree
from falcon_wsgi.models.signature import BooleanField, NumberField, TabularSignature

_SINGLE = (DecisionTreeClassifier, DecisionTreeRegressor, ExtraTreeClassifier, ExtraTreeRegressor)
_AVERAGED = (RandomForestClassifier, RandomForestRegressor, ExtraTreesClassifier, ExtraTreesRegressor)
_BOOSTED = (GradientBoostingClassifier, GradientBoostingRegressor)
_BINNED = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
_PLAIN_LOSSES = ("squared_error", "absolute_error", "quantile", "huber")

Array = NDArray[Any]
Link = Callable[[Array], Array]


class CompiledTrees:
    """Equivalent of a pipeline of scalers and one tree ensemble.

    `scores` gives each row's class probabilities in the order of the classes, or a regressor's one value.
    """

    one_by_one = False

    def __init__(self, estimator: Any, signature: TabularSignature) -> None:
        """Raises NotCompilable where a step, a parameter or a field is not covered."""
        if not all(
            isinstance(field, NumberField | BooleanField) and not field.nullable for field in signature.fields
        ):
            raise NotCompilable("a field may be missing or is no number")
        scalers, model = _steps(estimator)
        self._scale = [_scaler(scaler) for scaler in scalers]
        self._model = _compile(model, len(signature.fields))

    def scores(self, rows: Sequence[Any]) -> list[list[float]]:
        x = np.array(rows, dtype=np.float64)
        for scale in self._scale:
            x = scale(x)
        found: list[list[float]] = self._model(x).tolist()
        return found


def _steps(estimator: Any) -> tuple[list[Any], Any]:
    steps = [step for _, step in estimator.steps] if isinstance(estimator, Pipeline) else [estimator]
    *before, model = steps
    if type(model) is BoostedModel and model.transform is not None:
        inner = model.transform
        before += [step for _, step in inner.steps] if isinstance(inner, Pipeline) else [inner]
    return before, model


def _scaler(scaler: Any) -> Link:
    """The very operations of the scaler, in its order: a split may lie on the last bit."""
    if type(scaler) is StandardScaler:
        mean = scaler.mean_ if scaler.with_mean else 0.0
        scale = scaler.scale_ if scaler.with_std else 1.0
        return lambda x: (x - mean) / scale
    if type(scaler) is MinMaxScaler and not scaler.clip:
        return lambda x: x * scaler.scale_ + scaler.min_
    if type(scaler) is MaxAbsScaler and not getattr(scaler, "clip", False):
        return lambda x: x / scaler.scale_
    raise NotCompilable(f"{type(scaler).__name__} is not covered")


def _compile(model: Any, width: int) -> Link:
    # Subclasses may override anything, so the exact types are asked for.
    kind = type(model)
    if kind in _SINGLE:
        return _mean(Forest([_sklearn_tree(model)]))
    if kind in _AVERAGED:
        return _mean(Forest(map(_sklearn_tree, model.estimators_)))
    if kind in _BOOSTED:
        trees = (_sklearn_tree(tree, model.learning_rate) for tree in model.estimators_.ravel())
        return _summed(Forest(trees), model, model.estimators_.shape[1], np.float32, width)
    if kind in _BINNED:
        if model.is_categorical_ is not None:
            raise NotCompilable("a field is categorical")
        rounds = model._predictors
        trees = (_binned_tree(tree.nodes) for each in rounds for tree in each)
        return _summed(Forest(trees), model, len(rounds[0]), np.float64, width)
    if kind is BoostedModel:
        return _xgboost(model, width)
    raise NotCompilable(f"{kind.__name__} is not covered")


def _sklearn_tree(model: Any, factor: float = 1.0) -> Tree:
    tree = model.tree_
    values = tree.value[:, 0, :] * factor if factor != 1.0 else tree.value[:, 0, :]
    return Tree(tree.children_left, tree.children_right, tree.feature, tree.threshold, values)


def _binned_tree(nodes: Array) -> Tree:
    leaf = nodes["is_leaf"] != 0
    left = np.where(leaf, -1, nodes["left"].astype(np.int64))
    right = np.where(leaf, -1, nodes["right"].astype(np.int64))
    return Tree(left, right, nodes["feature_idx"], nodes["num_threshold"], nodes["value"][:, None])


def _mean(forest: Forest) -> Link:
    """Of what the trees say: probabilities, or the value. scikit-learn's trees compare float32."""
    return lambda x: forest.values(x.astype(np.float32)).mean(axis=1)


def _summed(forest: Forest, model: Any, groups: int, dtype: Any, width: int) -> Link:
    """Boosting: a start value for each group, and the sum of its trees over all rounds; then the link."""
    link = _boosting_link(model, groups)

    def raw(x: Array) -> Array:
        leaves: Array = forest.values(x.astype(dtype))
        summed: Array = leaves.reshape(len(x), -1, groups).sum(axis=1)
        return summed

    zeros = np.zeros((1, width))
    library = getattr(model, "decision_function", model.predict)
    start = np.asarray(library(zeros)).reshape(1, groups) - raw(zeros)
    return lambda x: link(raw(x) + start)


def _boosting_link(model: Any, groups: int) -> Link:
    if not hasattr(model, "classes_"):
        if model.loss not in _PLAIN_LOSSES:
            raise NotCompilable(f"the loss {model.loss!r} is not covered")
        return np.asarray
    if model.loss != "log_loss":
        raise NotCompilable(f"the loss {model.loss!r} is not covered")
    if groups > 1:
        return _softmax
    return _both_classes(_sigmoid)


def _softmax(raw: Array) -> Array:
    each: Array = np.exp(raw - raw.max(axis=1, keepdims=True))
    shares: Array = each / each.sum(axis=1, keepdims=True)
    return shares


def _sigmoid(raw: Array) -> Array:
    shares: Array = scipy.special.expit(raw)
    return shares


def _both_classes(sigmoid: Link) -> Link:
    def link(raw: Array) -> Array:
        p = sigmoid(raw)
        return np.concatenate((1 - p, p), axis=1)

    return link


# XGBoost: float32 throughout, and a row goes left where it is below the threshold, not at it.


def _xgboost(model: BoostedModel, width: int) -> Link:
    booster = json.loads(bytes(model.booster.save_raw("json")))["learner"]["gradient_booster"]
    if booster["name"] != "gbtree":
        raise NotCompilable(f"the booster {booster['name']} is not covered")
    link = _xgboost_link(model.objective)
    groups = len(model.classes_) if model.objective.startswith("multi:") else 1
    forest = Forest(_xgboost_trees(booster["model"], model.rounds, groups))

    def margin(x: Array, start: Array) -> Array:
        leaves: Array = forest.values(x.astype(np.float32))
        summed: Array = start + leaves.reshape(len(x), -1, groups).sum(axis=1)
        return summed

    zeros = np.zeros((1, width), dtype=np.float32)
    library = model.booster.inplace_predict(
        zeros, iteration_range=(0, model.rounds), predict_type="margin", validate_features=False
    )
    start = np.asarray(library).reshape(1, groups) - margin(zeros, np.zeros((1, groups), dtype=np.float32))
    return lambda x: link(margin(x, start))


def _xgboost_trees(model: dict[str, Any], rounds: int, groups: int) -> Iterator[Tree]:
    """Those of the rounds that predict, round by round, a tree of each group in turn."""
    trees, info = model["trees"], model["tree_info"]
    parallel = int(model["gbtree_model_param"].get("num_parallel_tree", 1) or 1)
    count = rounds * groups * parallel if rounds else len(trees)
    by_group = [
        [tree for tree, group in zip(trees[:count], info, strict=False) if group == k] for k in range(groups)
    ]
    if len({len(each) for each in by_group}) != 1:
        raise NotCompilable("the classes have different numbers of trees")
    for at_once in zip(*by_group, strict=True):
        yield from map(_xgboost_tree, at_once)


def _xgboost_tree(stored: dict[str, Any]) -> Tree:
    left = np.array(stored["left_children"])
    conditions = np.array(stored["split_conditions"], dtype=np.float32)
    return Tree(
        left,
        np.array(stored["right_children"]),
        np.array(stored["split_indices"]),
        np.nextafter(conditions, np.float32(-np.inf)),
        np.where(left == -1, conditions, np.float32(0))[:, None],
    )


def _xgboost_link(objective: str) -> Link:
    if objective.startswith("multi:"):
        return _softmax
    if objective == "binary:logistic":
        return _both_classes(_sigmoid)
    if objective == "reg:logistic":
        return _sigmoid
    if objective in ("count:poisson", "reg:gamma", "reg:tweedie"):
        return np.exp
    return np.asarray
