#!/bin/sh
# Makes libmma-dev by CPack, has lintian look at it, installs it with dpkg in a new Debian of this one's release, and builds
# and runs the consumer there, with the LibTorch of make test mounted. Needs root and Debian's mirror.
# shellcheck source=packaging/common.sh
. "$(dirname "$0")/../common.sh"
needs c++ cmake cpack dpkg-deb mmdebstrap unshare lintian
[ "$(id -u)" = 0 ] || not_tried "root is missing"
site=$(libtorch)
release=$(sed -n 's/^VERSION_CODENAME=//p' /etc/os-release)
DEBFULLNAME=${DEBFULLNAME:-The mma authors} DEBEMAIL=${DEBEMAIL:-nobody@mma.invalid}
export DEBFULLNAME DEBEMAIL

rm -rf "$work/build"
{ cmake -S "$packaging" -B "$work/build" && (cd "$work/build" && cpack -G DEB); } > "$work/log" 2>&1 || {
  cat "$work/log" >&2
  failed "cpack"
}
deb=$(echo "$work"/build/*.deb)
# The suppressed tag is for packages that go into Debian itself, whose first upload closes a bug of theirs.
lintian --allow-root --fail-on error,warning --suppress-tags initial-upload-closes-no-bugs "$deb" || failed "lintian"

[ -x "$work/debian/usr/bin/cmake" ] ||
  mmdebstrap --quiet --variant=apt --include=g++,cmake,make "${release:-stable}" "$work/debian" > "$work/log" 2>&1 || {
  cat "$work/log" >&2
  rm -rf "$work/debian"
  not_tried "Debian's mirror is missing: no chroot could be made"
}
cp "$deb" "$work/debian/tmp/libmma-dev.deb"
rm -rf "$work/debian/tmp/consumer"
cp -r "$consumer" "$work/debian/tmp/consumer"
mkdir -p "$work/debian/mnt/libtorch"
# In a mount namespace of its own: nothing stays mounted.
# shellcheck disable=SC2016 # the inner shell expands it
unshare --mount sh -euc '
  mount --bind "$1" "$2/mnt/libtorch"
  mount --bind /proc "$2/proc"
  exec chroot "$2" sh -euc "
    dpkg -i /tmp/libmma-dev.deb
    CMAKE_PREFIX_PATH=/mnt/libtorch cmake -S /tmp/consumer -B /tmp/consumer/build -DCMAKE_BUILD_TYPE=Release
    cmake --build /tmp/consumer/build
    /tmp/consumer/build/consumer
    dpkg -r libmma-dev
    test ! -e /usr/include/mma
  "' - "$site" "$work/debian" > "$work/log" 2>&1 || {
  cat "$work/log" >&2
  failed "the package in the chroot"
}
grep '^mma [0-9]' "$work/log"
passed "$(basename "$deb") passed lintian; in a new Debian ${release:-stable} dpkg installed it, the consumer built and ran, dpkg removed it"
