"""What the steps of a fitted pipeline know of its columns: categories, and whether values may be missing."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Literal

from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import HistGradientBoostingClassifier, HistGradientBoostingRegressor
from sklearn.feature_extraction.text import CountVectorizer, HashingVectorizer
from sklearn.impute._base import _BaseImputer  # IterativeImputer cannot be imported without an experiment
from sklearn.model_selection import FixedThresholdClassifier, TunedThresholdClassifierCV
from sklearn.model_selection._search import BaseSearchCV
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import (
    FunctionTransformer,
    MaxAbsScaler,
    MinMaxScaler,
    OneHotEncoder,
    OrdinalEncoder,
    PowerTransformer,
    QuantileTransformer,
    RobustScaler,
    StandardScaler,
    TargetEncoder,
)

Missing = Literal["nan", "none"]

_ENCODERS = (OneHotEncoder, OrdinalEncoder, TargetEncoder)
_VECTORIZERS = (CountVectorizer, HashingVectorizer)  # TfidfVectorizer is a CountVectorizer
# One column in, the same column out, and what is missing stays missing.
_SCALERS = (
    StandardScaler,
    MinMaxScaler,
    MaxAbsScaler,
    RobustScaler,
    QuantileTransformer,
    PowerTransformer,
)
_TAKE_MISSING = (HistGradientBoostingClassifier, HistGradientBoostingRegressor)
# Estimators that hand their columns on to another one, by the attribute that holds it.
_WRAPPERS = {
    BaseSearchCV: "best_estimator_",
    FixedThresholdClassifier: "estimator_",
    TransformedTargetRegressor: "regressor_",
    TunedThresholdClassifierCV: "estimator_",
}


@dataclass(slots=True)
class Met:
    """What a column meets on its way.

    Attributes:
        categories: those that every encoder in its way knows; None without an encoder.
        closed: an encoder raises on any other value.
        text: it is split into words.
        missing: what stands for a missing value there, as far as an imputer or an encoder says.
        filled_with: the constants that imputers put in its place.
    """

    categories: tuple[Any, ...] | None = None
    closed: bool = False
    text: bool = False
    missing: Missing | None = None
    filled_with: set[Any] = field(default_factory=set)
    _branches: list[bool] = field(default_factory=list)

    @property
    def may_be_missing(self) -> bool:
        """Whether all that the column goes to was made for missing values."""
        return bool(self._branches) and all(self._branches)

    def ends(self, takes_missing: bool) -> None:
        self._branches.append(takes_missing)

    def encoded(self, known: Sequence[Any], closed: bool, filled: bool) -> None:
        values = [_plain(value) for value in known]
        if None in values or any(map(_is_nan, values)):
            self.missing = self.missing or ("none" if None in values else "nan")
            filled = True
        present = tuple(value for value in values if value is not None and not _is_nan(value))
        if self.categories is not None:
            present = tuple(value for value in self.categories if value in present)
        self.categories = present
        self.closed |= closed
        self.ends(filled)


def met_by(estimator: Any, columns: int) -> list[Met]:
    """For each column, by position."""
    met = [Met() for _ in range(columns)]
    _walk(estimator, met, then=False, filled=False)
    return met


def _walk(step: Any, met: Sequence[Met], *, then: bool, filled: bool) -> None:
    """Note what `step` does with these columns.

    Args:
        then: whatever comes after the step takes missing values.
        filled: no value is missing any more.
    """
    inner = _wrapped(step)
    if inner is not None:
        _walk(inner, met, then=then, filled=filled)
    elif isinstance(step, Pipeline):
        _walk_through([each for _, each in step.steps], met, then, filled)
    elif isinstance(step, ColumnTransformer):
        _walk_apart(step, met, then, filled)
    elif isinstance(step, FeatureUnion):
        for _, each in step.transformer_list:
            _walk(each, met, then=then, filled=filled)
    elif isinstance(step, _ENCODERS):
        for column, known, closed in zip(met, step.categories_, itertools.repeat(_refuses_unknown(step))):
            column.encoded(known, closed, filled)
    else:
        for column in met:
            column.text |= isinstance(step, _VECTORIZERS)
            column.ends(filled or _takes_missing(step, then))


def _walk_through(steps: Sequence[Any], met: Sequence[Met], then: bool, filled: bool) -> None:
    """As far as each column of a step's output is that of its input."""
    for i, step in enumerate(steps):
        last = i == len(steps) - 1
        if not last and (step is None or step == "passthrough"):
            continue
        if not last and _fills(step, len(met)):
            marker: Missing = "none" if step.missing_values is None else "nan"
            for column in met:
                column.missing = column.missing or marker
                if getattr(step, "strategy", None) == "constant":
                    column.filled_with |= {_plain(value) for value in step.statistics_}
            filled = True
            continue
        if not last and isinstance(step, (*_SCALERS, FunctionTransformer)):
            continue
        _walk(step, met, then=_all_take_missing(steps[i + 1 :], then), filled=filled)
        return


def _walk_apart(step: ColumnTransformer, met: Sequence[Met], then: bool, filled: bool) -> None:
    positions = (
        step._transformer_to_input_indices
    )  # the one place where all ways to name columns are resolved
    for name, transformer, _ in step.transformers_:
        columns = [met[position] for position in positions[name]]
        if transformer == "drop":
            for column in columns:
                column.ends(True)
        elif transformer == "passthrough":
            for column in columns:
                column.ends(filled or then)
        elif _fills(transformer, len(columns)):
            _walk_through([transformer, "passthrough"], columns, then, filled)
        else:
            _walk(transformer, columns, then=then, filled=filled)


def _wrapped(step: Any) -> Any:
    for kind, attribute in _WRAPPERS.items():
        if isinstance(step, kind):
            return getattr(step, attribute, None)
    if isinstance(step, CalibratedClassifierCV):
        return step.calibrated_classifiers_[0].estimator
    return None


def _fills(step: Any, columns: int) -> bool:
    """Whether it is an imputer whose columns are those it was given, and which null can stand for."""
    return (
        isinstance(step, _BaseImputer)
        and not step.add_indicator
        and (step.missing_values is None or _is_nan(step.missing_values))
        and len(step.get_feature_names_out()) == columns
    )


def _takes_missing(step: Any, then: bool) -> bool:
    """Whether NaN may come in: a model that was made for it, or a step that hands it on to such a one."""
    if isinstance(step, Pipeline):
        return _all_take_missing([each for _, each in step.steps], then)
    if isinstance(step, _TAKE_MISSING) or type(step).__module__.startswith("xgboost."):
        return True
    if isinstance(step, _BaseImputer):
        return step.missing_values is not None and _is_nan(step.missing_values)
    return isinstance(step, (*_SCALERS, FunctionTransformer)) and then


def _all_take_missing(steps: Sequence[Any], then: bool) -> bool:
    for step in reversed(steps):
        then = _takes_missing(step, then)
    return then


def _refuses_unknown(encoder: Any) -> bool:
    return getattr(encoder, "handle_unknown", "ignore") == "error"


def _is_nan(value: Any) -> bool:
    return isinstance(value, float) and value != value


def _plain(value: Any) -> Any:
    return value.item() if hasattr(value, "item") else value
