"""Gunicorn's configuration as conf/gunicorn.conf.py sets what concerns requests."""

from __future__ import annotations

from typing import Any

from gunicorn.config import Config

_USUAL = {
    "limit_request_line": 4094,
    "limit_request_fields": 100,
    "limit_request_field_size": 8190,
    "forwarder_headers": "",
    "secure_scheme_headers": {},
    "http_parser": "python",
    "workers": 2,
}


def configured(**changes: Any) -> Config:
    cfg = Config()
    for name, value in (_USUAL | changes).items():
        cfg.set(name, value)
    return cfg
