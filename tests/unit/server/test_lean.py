"""A server has pandas in its memory only where a model needs it."""

from __future__ import annotations

import subprocess
import sys

PROGRAM = """
import sys
from falcon_wsgi.server.lean import import_scikit_learn
import_scikit_learn()
import falcon_wsgi.app, falcon_wsgi.services
print("pandas" in sys.modules, "pyarrow" in sys.modules, "xgboost" in sys.modules)
import pandas as pd
from sklearn.compose import make_column_transformer
from sklearn.preprocessing import OneHotEncoder
frame = pd.DataFrame({"a": ["x", "y"], "b": [1, 2]})
transformer = make_column_transformer((OneHotEncoder(sparse_output=False), ["a"]), remainder="passthrough")
print(transformer.set_output(transform="pandas").fit_transform(frame).shape)
"""


def test_the_service_imports_none_of_the_large_libraries_and_frames_work_all_the_same() -> None:
    done = subprocess.run([sys.executable, "-c", PROGRAM], capture_output=True, text=True, check=True)
    assert done.stdout.split("\n")[:2] == ["False False False", "(2, 3)"]
