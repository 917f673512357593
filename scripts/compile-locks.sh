#!/bin/sh
# Writes requirements.lock and requirements-test.lock from pyproject.toml, for every platform and Python that
# Falcon supports. The lock files name versions and hashes, and no package index.
set -eu
cd "$(dirname "$0")/.."

compile() {
    output=$1
    shift
    uv pip compile pyproject.toml --group build --extra embedded --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
        --output-file "$output" "$@"
    if grep -n -E '://|--(index|extra-index|find-links)' "$output"; then
        echo "falcon: $output names a package index" >&2
        exit 1
    fi
}

compile requirements.lock "$@"
compile requirements-test.lock --extra test --constraint requirements.lock "$@"
