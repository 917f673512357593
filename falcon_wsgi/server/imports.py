"""Imports all that a master needs, in the order that it needs; Gunicorn's configuration imports this first.

The workers inherit it by the fork.
"""

# ruff: noqa: E402 - the patch has to come before any import that binds sockets, locks or psycopg's wait.
from gevent import monkey

monkey.patch_all()

import gc
import os

# One thread per process: predictions are small, and thread pools do not survive the fork.
for _variable in ("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"):
    os.environ.setdefault(_variable, "1")

# What is imported stays, so each look of the collector at it is for nothing: 0.3 s of 2.2 s, and again in
# every full collection while the models are loaded.
gc.disable()

from falcon_wsgi.server.lean import import_scikit_learn

import_scikit_learn()

import falcon_wsgi.server.master
import falcon_wsgi.server.worker  # noqa: F401

gc.freeze()
# What a request leaves behind lives on in the local cache, so a collection each 700 objects finds next to nothing.
gc.set_threshold(20_000, 10, 10)
gc.enable()
