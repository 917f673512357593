"""What Python programs may call: `falcon_wsgi.add_model`."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from threadpoolctl import threadpool_limits

from falcon_wsgi import settings
from falcon_wsgi.models.bringing import add_model as _add_model
from falcon_wsgi.models.examples import Bounds, Wishes
from falcon_wsgi.models.manifest import Manifest
from falcon_wsgi.models.store import ModelStore

# A program that logs nothing should not see the events of a load on standard error.
logging.getLogger("falcon_wsgi").addHandler(logging.NullHandler())


def add_model(
    name: str,
    estimator: Any,
    examples: Any,
    *,
    store: Path | str | None = None,
    version: str | None = None,
    bounds: Bounds | None = None,
    categories: Mapping[str, Sequence[Any] | None] | None = None,
    nullable: Iterable[str] = (),
    descriptions: Mapping[str, str] | None = None,
    labels: Sequence[bool | int | str] | Mapping[Any, bool | int | str] | None = None,
    field_names: Sequence[str] | None = None,
    metrics: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    signature: Any = None,
    promote: bool = False,
) -> Manifest:
    """Store a fitted estimator as a version that can be served, and return its manifest.

    The signature is inferred from the examples and from the estimator's own encoders and imputers (docs/MODELS.md
    has the rules). The stored version is loaded as a server would, and has to answer the examples as the estimator
    itself does. Nothing is stored if any of that fails. The first version of a model is served from the next
    reload on; of a model that is there already, the served version stays until the new one is promoted.

    Args:
        name: a to z, 0 to 9 and -.
        estimator: a fitted classifier or regressor of scikit-learn or XGBoost, or a pipeline that ends in one.
        examples: rows as a pandas.DataFrame, a numpy array or a list of dictionaries; or texts as a list. Columns that
            the estimator was not fitted on are left out.
        store: folder of the model store; by default the setting MODEL_STORE.
        version: for example "1.2.0"; by default the next free minor version.
        bounds: lowest and highest value by field, None for no limit; or "examples" for those of the examples.
        categories: the values that a field may have; None allows any value of its type.
        nullable: fields that a request may leave out, beside those that are found to be.
        descriptions: of fields, for the API's documentation.
        labels: what the classes are answered as: in the order of `classes_`, or by class.
        field_names: names of an array's columns; by default those that the estimator knows, else x0, x1, ...
        metrics, data: JSON values, kept in the manifest: how good the model is, and what it was trained on.
        signature: the whole signature, as a dictionary or a `TabularSignature` or `TextSignature`; goes before all
            that would be inferred.
        promote: also let it be the served version.

    Raises:
        falcon_wsgi.errors.ModelError: it cannot be served; the message is one line that says why.
        falcon_wsgi.errors.ConfigurationError: the store cannot be written.

    Warns:
        UserWarning: the signature allows numbers so large that the model cannot answer them.
    """
    root = Path(store) if store is not None else settings.load().model_store
    with threadpool_limits(1):  # as in a server's worker; and for many small calls it is quicker
        manifest, notes = _add_model(
            ModelStore(root),
            name,
            estimator,
            examples,
            version=version,
            wishes=Wishes(bounds or {}, categories or {}, tuple(nullable), descriptions or {}),
            signature=signature,
            field_names=field_names,
            labels=labels,
            metrics=metrics,
            data=data,
            promote=promote,
        )
    for note in notes:
        warnings.warn(f"{name}: {note}", stacklevel=2)
    return manifest
