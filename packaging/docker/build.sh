#!/bin/sh
# The Dockerfile's build step: the self-contained localq from the checkout SOURCE, installed below TARGET.
set -eu

source=$1
target=$2
work=$(mktemp -d)
python3 -m venv "$work/venv"
python=$work/venv/bin/python
"$python" -m pip install --quiet --disable-pip-version-check --require-hashes -r "$source/packaging/lock/tools.txt"
export PYTHONPATH="$source/packaging" SOURCE_DATE_EPOCH="${SOURCE_DATE_EPOCH:-$(git -C "$source" log -1 --format=%ct)}"
"$python" "$source/packaging/llama/build.py" "$work/dist"
"$python" "$source/packaging/wheels/build.py" "$work/dist"
"$python" "$source/packaging/standalone/build.py" "$work/dist"
tar -xzf "$work"/dist/localq-*-linux-*.tar.gz -C "$work"
(cd "$work"/localq-*-linux-*/ && ./install.sh --prefix "$target")
rm -rf "$work"
