"""A server has pandas, and what of scikit-learn nothing uses, in its memory only where a model needs it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from falcon_wsgi.server.lean import import_scikit_learn
import_scikit_learn()
import falcon_wsgi.app, falcon_wsgi.services
print([name for name in ("pandas", "pyarrow", "xgboost", "sklearn.inspection") if name in sys.modules])
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder
frame = pd.DataFrame({"a": ["x", "y"], "b": [1, 2]})
transformer = make_column_transformer((OneHotEncoder(sparse_output=False), ["a"]), remainder="passthrough")
print(transformer.set_output(transform="pandas").fit_transform(frame).shape)
from skops.io import dumps, get_untrusted_types
print(get_untrusted_types(data=dumps(OneHotEncoder())))
from sklearn.utils import all_estimators
print(len(all_estimators()) > 100)
"""


def test_the_service_imports_nothing_that_it_does_not_use_and_that_works_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    imported, frame, distrusted, listed = done.stdout.splitlines()
    assert imported == "[]"
    assert frame == "(2, 3)"
    # Of scikit-learn, skops trusts what it is told to and nothing else.
    assert distrusted == "['sklearn.preprocessing._encoders.OneHotEncoder']"
    assert listed == "True"
