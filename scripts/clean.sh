#!/bin/sh
# `clean.sh` deletes what setup and the tools made; `clean.sh data` what instances that do not run have written.
set -u
cd "$(dirname "$0")/.." || exit 1
python=$(scripts/find-python.sh) || exit 1
exec "$python" -I -B scripts/clean.py "$@"
