"""Runs before any other module of the tests is imported, as the first line of gunicorn.conf.py does in a worker."""

from __future__ import annotations

from gevent import monkey

monkey.patch_all()
