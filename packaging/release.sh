#!/usr/bin/env bash
# What a release is made of, the same bytes whoever makes it: the source of a tag, a list of what is in it and what it links
# (SPDX 2.3), and the checksums of both.
#
#   release.sh TAG [FOLDER]     into FOLDER (default: build-release)
#
# TAG: a tag or a commit. Times and owners are the commit's, gzip writes no name and no time.
set -euo pipefail
folder=$(realpath -m "${2:-build-release}")
cd "$(dirname "$0")/.."

fail() {
  echo "release.sh: $*" >&2
  exit 1
}

[ $# -ge 1 ] || fail "expected a tag or a commit"
commit=$(git rev-parse --verify --quiet "$1^{commit}") || fail "there is no tag or commit '$1'"
version=$(git show "$commit:include/mma/version.hpp" | sed -n 's/.*string_view version = "\(.*\)".*/\1/p')
[ -n "$version" ] || fail "include/mma/version.hpp of '$1' names no version"
name=mma-$version
mkdir -p "$folder"
git archive --format=tar --prefix="$name/" "$commit" | gzip -9 -n > "$folder/$name.tar.gz"

# A line for each file of the archive, then what is linked: the library LibTorch alone, the programs what bootstrap.sh installs.
git archive --format=tar "$commit" | python3 packaging/spdx.py "$name" "$version" "$commit" \
  "$(TZ=UTC git show -s --format=%cd --date=format-local:%Y-%m-%dT%H:%M:%SZ "$commit")" > "$folder/$name.spdx.json"
(cd "$folder" && sha256sum "$name.tar.gz" "$name.spdx.json" > SHA256SUMS && cat SHA256SUMS)
