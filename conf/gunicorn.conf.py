"""Gunicorn's configuration: `gunicorn -c conf/gunicorn.conf.py falcon_wsgi.wsgi:app`.

Every value comes from the settings (docs/SETTINGS.md). Executed once at the start and again on each SIGHUP.
"""

# First, because it patches the standard library.
from falcon_wsgi.server import imports  # noqa: F401, I001

import os
import sys

from falcon_wsgi.errors import ConfigurationError
from falcon_wsgi.server import master as _master

try:
    _settings = _master.effective_settings()
except ConfigurationError as _error:
    sys.exit(f"falcon: {_error}")

# Where prometheus_client keeps a worker's metric files; which ones, metrics.use_slot says.
os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(_settings.metrics_path)

bind = [f"{_settings.host}:{_settings.port}"]
backlog = 2048
workers = _settings.workers
worker_class = "falcon_wsgi.server.worker.FalconWorker"
worker_connections = 2000
keepalive = _settings.keepalive_seconds
max_requests = _settings.max_requests
max_requests_jitter = _settings.max_requests // 10
graceful_timeout = _settings.graceful_shutdown_timeout_seconds
# A worker whose event loop stands still for this long is killed. Longer than any prediction may take.
timeout = int(_settings.inference_timeout_seconds) + 10
control_socket_disable = True
preload_app = False
# What is refused as not being HTTP must not depend on whether the optional C parser happens to be installed.
http_parser = "python"
limit_request_line = 4094
limit_request_fields = 100
limit_request_field_size = 8190
proc_name = "falcon"
loglevel = _settings.log_level.lower()
logger_class = "falcon_wsgi.server.logger.GunicornLogger"
# Forwarding headers are judged by http/context.py against TRUSTED_PROXIES, so Gunicorn gives them no meaning.
forwarder_headers = ""
secure_scheme_headers = {}

on_starting = _master.on_starting
when_ready = _master.when_ready
pre_fork = _master.pre_fork
post_fork = _master.post_fork
child_exit = _master.child_exit
on_reload = _master.on_reload
on_exit = _master.on_exit
