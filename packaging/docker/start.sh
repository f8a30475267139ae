#!/bin/sh
# What the container runs: `serve` for all who can reach the container, with a key; or any other command.
set -eu

if [ "${1:-serve}" != serve ]; then exec localq "$@"; fi
[ $# -eq 0 ] || shift
key=$LOCALQ_HOME/container.key
if [ ! -s "$key" ]; then
    localq key rm container --quiet 2> /dev/null || true  # of a first start that was cut off
    (umask 077; localq key new container --quiet > "$key.new")
    mv "$key.new" "$key"
    echo "localq: requests need the key in $key" >&2
fi
exec localq serve --host 0.0.0.0 "$@"
