#!/bin/sh
# Brings .venv up to what the lock files say: `setup.sh run` for serving, `setup.sh test` for the tests too, and then
# also .venv-interop, where clients live that the tests run. `setup.sh benchmark` is for .venv-benchmark, where Falcon is
# measured, and `setup.sh peers` for .venv-peers, with what it is measured against on request.
# What is up to date is left alone, without a call of pip.
set -u
cd "$(dirname "$0")/.." || exit 1
here=$(pwd -P)

usable() {
    [ "$(cat "$1/falcon/clone" 2>/dev/null)" = "$here" ] && "$1/bin/python" -I -S -c '' 2>/dev/null
}

made_from() {
    cmp -s "$2" "$1/falcon/$2"
}

current() {
    case $1 in
    benchmark | peers)
        usable ".venv-$1" && made_from ".venv-$1" pyproject.toml && made_from ".venv-$1" "requirements-$1.lock"
        return
        ;;
    esac
    usable .venv && made_from .venv pyproject.toml && made_from .venv requirements.lock || return 1
    [ "$1" = run ] || {
        made_from .venv requirements-test.lock &&
            usable .venv-interop && made_from .venv-interop requirements-interop.lock
    }
}

current "$1" && exit 0
python=$(scripts/find-python.sh) || exit 1
exec "$python" -I scripts/setup.py "$1"
