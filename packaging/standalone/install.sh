#!/bin/sh
# Installs localq below a prefix, or removes it from there: never what a person keeps.
set -eu

usage() {
    echo "usage: install.sh [--prefix FOLDER] [--remove]" >&2
    exit 2
}

if [ "$(id -u)" = 0 ]; then prefix=/usr/local; else prefix=$HOME/.local; fi
remove=no
while [ $# -gt 0 ]; do
    case $1 in
        --prefix) [ $# -ge 2 ] || usage; prefix=$2; shift 2 ;;
        --remove) remove=yes; shift ;;
        *) usage ;;
    esac
done
case $prefix in /*) ;; *) prefix=$(pwd)/$prefix ;; esac
case $prefix in / | *'|'* | *'&'* | *\\* | *%* | *'"'* | *'$'*) echo "install.sh: $prefix is no folder that a unit can name" >&2; exit 2 ;; esac
list=$prefix/lib/localq/installed

uninstall() {
    # every file that was written, by name; then the folders that are ours and empty
    while IFS= read -r name; do rm -f "$prefix/$name"; done < "$list"
    rm -f "$list"
    for folder in "$prefix/lib/localq" "$prefix/share/doc/localq"; do
        if [ -d "$folder" ]; then find "$folder" -depth -type d -exec rmdir {} + 2> /dev/null || true; fi
    done
}

if [ "$remove" = yes ]; then
    [ -f "$list" ] || { echo "install.sh: there is no localq that this script installed below $prefix" >&2; exit 1; }
    uninstall
    echo "removed localq from $prefix"
    echo "models and chats stay in ~/.local/share/localq, settings in ~/.config/localq (or where LOCALQ_HOME and LOCALQ_CONFIG say)"
    exit 0
fi

here=$(CDPATH='' cd "$(dirname "$0")" && pwd)
[ -x "$here/lib/localq/localq" ] || { echo "install.sh: $here is not the unpacked archive" >&2; exit 1; }
if [ -f "$list" ]; then
    uninstall
elif [ -e "$prefix/bin/localq" ] || [ -L "$prefix/bin/localq" ]; then
    echo "install.sh: $prefix/bin/localq is there already, from another installation (uv, pipx?); remove that first" >&2
    exit 1
fi
# the list first: what is interrupted can be removed
mkdir -p "$prefix/lib/localq"
(cd "$here" && find bin lib share ! -type d | LC_ALL=C sort) > "$list"
# files alone: tar would put a folder of its own in the place of a link to one
(cd "$here" && tar -cf - -T "$list") | (cd "$prefix" && tar -xf - --no-same-owner)
sed "s|@PREFIX@|$prefix|g" "$here/lib/systemd/user/localq.service" > "$prefix/lib/systemd/user/localq.service"
echo "installed localq @VERSION@: $prefix/bin/localq"
case :$PATH: in *":$prefix/bin:"*) ;; *) echo "add $prefix/bin to PATH to call it by name" ;; esac
