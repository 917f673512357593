#!/bin/sh
# Brings .venv up to what the lock files say: `setup.sh run` for serving, `setup.sh test` for the tests too.
# What is up to date is left alone, without a call of pip.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$(pwd -P)

current() {
    [ "$(cat .venv/falcon/clone 2>/dev/null)" = "$here" ] &&
        cmp -s pyproject.toml .venv/falcon/pyproject.toml &&
        cmp -s requirements.lock .venv/falcon/requirements.lock &&
        { [ "$1" = run ] || cmp -s requirements-test.lock .venv/falcon/requirements-test.lock; } &&
        .venv/bin/python -I -S -c '' 2>/dev/null
}

current "$1" && exit 0
python=$(scripts/find-python.sh) || exit 1
exec "$python" -I scripts/setup.py "$1"
