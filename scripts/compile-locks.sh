#!/bin/sh
# Writes requirements.lock and the requirements-*.lock files from pyproject.toml, for every
# platform and Python that Falcon supports. The lock files name versions and hashes, and no package index.
set -eu
cd "$(dirname "$0")/.."

compile() {
    output=$1
    shift
    uv pip compile --universal --python-version 3.11 \
        --generate-hashes --no-header --no-annotate --no-emit-index-url --no-emit-find-links --quiet \
        --output-file "$output" "$@"
    if grep -n -E '://|--(index|extra-index|find-links)' "$output"; then
        echo "falcon: $output names a package index" >&2
        exit 1
    fi
}

compile requirements.lock pyproject.toml --group build --extra embedded --extra stack "$@"
compile requirements-test.lock pyproject.toml --group build --extra embedded --extra stack --extra test --extra ray \
    --constraint requirements.lock "$@"
compile requirements-interop.lock --group interop "$@"
compile requirements-benchmark.lock pyproject.toml --group build --extra embedded --extra stack --group benchmark \
    --constraint requirements-test.lock "$@"
compile requirements-peers.lock pyproject.toml --group build --group peers --constraint requirements.lock \
    --no-strip-extras "$@"
