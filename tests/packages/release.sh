#!/bin/sh
# A release is the same bytes each time, wherever it is made, and its list names each file of the archive.
set -eu
cd "$(dirname "$0")/../.."
git rev-parse --verify --quiet HEAD > /dev/null || { echo "no git repository here, so no release can be made"; exit 77; }
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
TZ=UTC packaging/release.sh HEAD "$work/first" > /dev/null
umask 077 && TZ=Asia/Tokyo packaging/release.sh HEAD "$work/second" > /dev/null
cmp "$work/first/SHA256SUMS" "$work/second/SHA256SUMS"
tar -tzf "$work"/first/mma-*.tar.gz | grep -v '/$' | sed 's|^[^/]*/|./|' | sort > "$work/archive"
sed -n 's/.*"fileName": "\(.*\)".*/\1/p' "$work"/first/*.spdx.json | sort > "$work/listed"
diff "$work/archive" "$work/listed"
if packaging/release.sh no-such-tag "$work/third" 2> "$work/said"; then exit 1; fi
grep -q "there is no tag or commit 'no-such-tag'" "$work/said"
