"""A stored XGBoost model as a checked copy of it, which is all that XGBoost's own loader gets to see.

XGBoost follows the numbers in a model file (children, features, groups, array lengths) with few checks of its own:
a changed byte ends the process. So the file is read here, each number is compared with what it points into, and
the model is written anew from the parts that were checked. Whatever else the file holds is not passed on.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from falcon_wsgi.models import ubjson
from falcon_wsgi.models.refusal import Refused, need

CLASSIFIERS = ("binary:logistic", "multi:softprob", "multi:softmax")
REGRESSORS = (
    "reg:squarederror",
    "reg:squaredlogerror",
    "reg:logistic",
    "reg:pseudohubererror",
    "reg:absoluteerror",
    "count:poisson",
    "reg:gamma",
    "reg:tweedie",
)

_NO_PARENT = 2**31 - 1
_MAX_FEATURES = 2**31 - 2
_TREE_ARRAYS: dict[str, Any] = {
    "left_children": np.int32,
    "right_children": np.int32,
    "parents": np.int32,
    "split_indices": np.int32,
    "split_conditions": np.float32,
    "default_left": np.uint8,
    "base_weights": np.float32,
    "loss_changes": np.float32,
    "sum_hessian": np.float32,
}
# Arrays of categorical splits: always written, always empty.
_NO_CATEGORIES: dict[str, Any] = {
    "split_type": np.uint8,
    "categories": np.int32,
    "categories_nodes": np.int32,
    "categories_segments": np.int64,
    "categories_sizes": np.int64,
}
_CATEGORIES_REMEDY = (
    "it splits by categories, which is not supported; encode them in the steps before the model, for instance with "
    "OneHotEncoder or OrdinalEncoder, and train without enable_categorical"
)


@dataclass(frozen=True, slots=True)
class CheckedBooster:
    """A model that XGBoost may load.

    Attributes:
        contents: UBJSON, written here.
        classes: number of classes; 0 for a regressor.
        attributes: what its author wrote beside the model, such as `best_iteration`.
    """

    contents: bytes
    objective: str
    booster: str
    classes: int
    features: int
    feature_names: tuple[str, ...]
    attributes: Mapping[str, str]
    rounds: int


def check(contents: bytes) -> CheckedBooster:
    """Read JSON or UBJSON as `Booster.save_model` writes it.

    Raises:
        Refused: a number points outside of what it counts, or the model is of a kind that is not served.
        ValueError, LookupError, TypeError, ...: it is no such model.
    """
    document = _read(contents)
    need(
        "Model" not in document, "it is a snapshot of training; save it with booster.save_model('model.ubj')"
    )
    learner = document["learner"]
    shape = learner["learner_model_param"]
    features, num_class = (
        _number(shape["num_feature"], 1, _MAX_FEATURES),
        _number(shape["num_class"], 0, 1 << 16),
    )
    need(
        _number(shape.get("num_target", "1"), 0, 1 << 16) <= 1,
        "it predicts several targets; one is supported",
    )
    groups = max(num_class, 1)
    objective, name = _objective(learner["objective"], num_class)
    booster, rounds = _booster(learner["gradient_booster"], features, groups)
    names = _texts(learner.get("feature_names", []), features, "feature_names")
    types = _texts(learner.get("feature_types", []), features, "feature_types")
    need("c" not in types, _CATEGORIES_REMEDY)
    attributes = learner.get("attributes", {})
    need(all(type(value) is str for value in attributes.values()), "its attributes are no text")
    model = {
        "learner": {
            "attributes": {},
            "feature_names": [],
            "feature_types": [],
            "gradient_booster": booster,
            "learner_model_param": {
                "base_score": _base_score(shape["base_score"], groups),
                "boost_from_average": "1",
                "num_class": str(num_class),
                "num_feature": str(features),
                "num_target": "1",
            },
            "objective": objective,
        },
        "version": [_number(part, 0, 10**6) for part in document["version"]][:3],
    }
    classes = 0 if name in REGRESSORS else max(num_class, 2)
    return CheckedBooster(
        ubjson.encode(model), name, booster["name"], classes, features, names, attributes, rounds
    )


def _read(contents: bytes) -> dict[str, Any]:
    """XGBoost tells the two formats apart as this does: after the brace, JSON has a quote or white space."""
    binary = contents[:1] == b"{" and contents[1:2].isalpha()
    document = ubjson.decode(contents) if binary else json.loads(contents)
    need(isinstance(document, dict), "it is no XGBoost model")
    return document  # type: ignore[no-any-return]


def _number(value: Any, low: int, high: int) -> int:
    number = int(value)
    need(low <= number <= high, f"{number} stands where {low} to {high} is expected")
    return number


def _texts(values: Any, length: int, what: str) -> tuple[str, ...]:
    texts = tuple(values)
    need(
        len(texts) in (0, length) and all(type(text) is str for text in texts),
        f"{what} are not one for each feature",
    )
    return texts


def _base_score(value: Any, groups: int) -> str:
    """One number, or one for each group: "5E-1", or since XGBoost 3.1 "[5E-1]"."""
    scores = [float(score) for score in str(value).strip("[]").split(",")]
    need(
        len(scores) in (1, groups) and np.isfinite(scores).all(),
        "base_score is not one number for each class",
    )
    # Nine digits give a float32 back exactly.
    text = ",".join(f"{score:.9E}" for score in scores)
    return f"[{text}]" if str(value).startswith("[") else text


def _objective(stored: Mapping[str, Any], num_class: int) -> tuple[dict[str, Any], str]:
    name = stored["name"]
    if name not in CLASSIFIERS + REGRESSORS:
        raise Refused(
            f"its objective {str(name)[:60]!r} is not served; these are: {', '.join(CLASSIFIERS + REGRESSORS)}"
        )
    if name.startswith("multi:"):
        need(num_class >= 2, "it has no classes")
        given = stored["softmax_multiclass_param"]["num_class"]
        need(_number(given, 0, 1 << 16) == num_class, "its objective is for another number of classes")
    else:
        need(num_class <= 1, "its objective is for one output, not for classes")
    parameters = {key: _parameters(value) for key, value in stored.items() if key != "name"}
    return {"name": name, **parameters}, name


def _parameters(stored: Any) -> dict[str, str]:
    need(isinstance(stored, dict), "the parameters of its objective are none")
    for value in stored.values():
        float(value)
    return {key: str(value) for key, value in stored.items()}


def _booster(stored: Mapping[str, Any], features: int, groups: int) -> tuple[dict[str, Any], int]:
    """The gradient booster, and its number of rounds."""
    name = stored["name"]
    if name == "gblinear":
        weights = _array(stored["model"]["weights"], np.float32, "weights")
        need(len(weights) == (features + 1) * groups, "its weights are not one for each feature and class")
        rounds = _number(stored["model"].get("boosted_rounds", 0), 0, _NO_PARENT)
        return {"name": name, "model": {"boosted_rounds": rounds, "weights": weights}}, rounds
    if name == "dart":
        model, rounds = _trees(stored["gbtree"]["model"], features, groups)
        weights = _array(stored["weight_drop"], np.float32, "weight_drop")
        need(len(weights) == len(model["trees"]), "its weights are not one for each tree")
        inner = {"name": "gbtree", "model": model}
        return {"name": name, "gbtree": inner, "weight_drop": weights.tolist()}, rounds
    need(name == "gbtree", f"its booster {str(name)[:60]!r} is unknown")
    model, rounds = _trees(stored["model"], features, groups)
    return {"name": name, "model": model}, rounds


def _trees(stored: Mapping[str, Any], features: int, groups: int) -> tuple[dict[str, Any], int]:
    trees, param = stored["trees"], stored["gbtree_model_param"]
    need(isinstance(trees, list), "its trees are no list")
    need(_number(param["num_trees"], 0, _NO_PARENT) == len(trees), "its trees are not as many as it says")
    need(not len(stored.get("cats", {}).get("enc", [])), _CATEGORIES_REMEDY)
    parallel = _number(param.get("num_parallel_tree", 1), 0, _NO_PARENT) or 1
    group_of = _array(stored["tree_info"], np.int32, "tree_info")
    need(len(group_of) == len(trees), "its trees are not each of one class")
    need(((group_of >= 0) & (group_of < groups)).all(), "a tree is of a class that there is not")
    each_round = groups * parallel
    need(len(trees) % each_round == 0, "its last round is not whole")
    starts = np.arange(0, len(trees) + 1, each_round)
    if "iteration_indptr" in stored:
        starts = _array(stored["iteration_indptr"], np.int32, "iteration_indptr")
        need(len(starts) and starts[0] == 0 and starts[-1] == len(trees), "its rounds do not cover its trees")
        need((np.diff(starts) >= 0).all(), "its rounds are out of order")
    model = {
        "cats": {"enc": [], "feature_segments": np.array([], np.int32), "sorted_idx": np.array([], np.int32)},
        "gbtree_model_param": {"num_parallel_tree": str(parallel), "num_trees": str(len(trees))},
        "iteration_indptr": starts.tolist(),
        "tree_info": group_of.tolist(),
        "trees": [_tree(number, tree, features) for number, tree in enumerate(trees)],
    }
    return model, len(starts) - 1


def _array(values: Any, dtype: Any, what: str) -> NDArray[Any]:
    """One dimension of exactly this type; a number that does not fit into it is refused, not cut."""
    given = np.asarray(values)
    if not given.size:
        return np.array([], dtype)
    whole = np.dtype(dtype).kind in "iu"
    need(
        given.ndim == 1 and given.dtype.kind in ("biu" if whole else "biuf"), f"{what} is no list of numbers"
    )
    if whole:
        limits = np.iinfo(dtype)
        need(given.min() >= limits.min and given.max() <= limits.max, f"{what} holds a number out of range")
    with np.errstate(over="ignore"):
        return given.astype(dtype)


def _tree(number: int, stored: Mapping[str, Any], features: int) -> dict[str, Any]:
    param = stored["tree_param"]
    n = _number(param["num_nodes"], 1, _NO_PARENT)
    need(_number(param.get("size_leaf_vector", 0), 0, _NO_PARENT) <= 1, "its leaves hold several values")
    arrays = {name: _array(stored[name], dtype, name) for name, dtype in _TREE_ARRAYS.items()}
    need(all(len(values) == n for values in arrays.values()), f"the arrays of tree {number} differ in length")
    need(len(_array(stored.get("categories", []), np.int64, "categories")) == 0, _CATEGORIES_REMEDY)
    need(not _array(stored.get("split_type", []), np.int64, "split_type").any(), _CATEGORIES_REMEDY)
    deleted = n - _check_nodes(number, arrays, features)
    need(
        _number(param.get("num_deleted", 0), 0, n) == deleted, f"tree {number} has nodes that belong nowhere"
    )
    empty = {name: np.array([], dtype) for name, dtype in _NO_CATEGORIES.items()}
    return {
        **arrays,
        **empty,
        "split_type": np.zeros(n, np.uint8),
        "id": number,
        "tree_param": {
            "num_deleted": str(deleted),
            "num_feature": str(features),
            "num_nodes": str(n),
            "size_leaf_vector": "1",
        },
    }


def _check_nodes(number: int, arrays: Mapping[str, NDArray[Any]], features: int) -> int:
    """Follow the tree from its root, level by level. The number of nodes that belong to it."""
    left, right, parents = (arrays[name] for name in ("left_children", "right_children", "parents"))
    n = len(left)
    need(parents[0] == _NO_PARENT, f"tree {number} does not begin with its root")
    reached, level = 0, np.array([0])
    while level.size:
        reached += level.size
        need(reached <= n, f"tree {number} runs in a circle")
        inner = level[left[level] != -1]
        leaves = level[left[level] == -1]
        need((right[leaves] == -1).all(), f"a leaf of tree {number} has a child")
        split = arrays["split_indices"][inner]
        need(
            ((split >= 0) & (split < features)).all(),
            f"tree {number} splits on a feature outside 0 to {features - 1}",
        )
        level = np.concatenate([left[inner], right[inner]]).astype(np.int64)
        need(((level > 0) & (level < n)).all(), f"tree {number} has a child outside 1 to {n - 1}")
        need(
            (parents[level] == np.concatenate([inner, inner])).all(),
            f"tree {number} has a node with two parents",
        )
        need((left[inner] != right[inner]).all(), f"tree {number} has one child twice")
    need((arrays["default_left"] <= 1).all(), f"default_left of tree {number} is neither 0 nor 1")
    return reached
