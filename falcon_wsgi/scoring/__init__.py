"""Bulk scoring: a file of rows or texts through one model version, in constant memory, resumable."""
