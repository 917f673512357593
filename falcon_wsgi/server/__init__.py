"""Gunicorn's side: the worker class and the hooks of the master process."""
