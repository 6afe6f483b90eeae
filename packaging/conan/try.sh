#!/bin/sh
# conan create with the LibTorch of make test; the consumer is its test_package. Conan's cache stays below build-packages/.
# shellcheck source=packaging/common.sh
. "$(dirname "$0")/../common.sh"
needs python3 c++ cmake
python_tools conan==2.34.0
CMAKE_PREFIX_PATH=$(libtorch)
export CMAKE_PREFIX_PATH CONAN_HOME="$work/home"
rm -rf "$CONAN_HOME"
conan profile detect --force > "$work/log" 2>&1
rm -rf "$work/consumer"
cp -r "$consumer" "$work/consumer" # Conan builds beside the sources
conan create "$packaging" -tf "$work/consumer" --no-remote -s compiler.cppstd=20 >> "$work/log" 2>&1 || {
  tail -40 "$work/log" >&2
  failed "conan create"
}
grep '^mma .*minimal_angle_loss' "$work/log"
# One package whatever the compiler, build type and architecture are.
conan list 'mma/*:*' --format=compact > "$work/list" 2>&1
[ "$(grep -cE ':[0-9a-f]{40}$' "$work/list")" = 1 ] || failed "expected one package: $(cat "$work/list")"
passed "conan $(conan --version | cut -d' ' -f3) created$(sed -nE 's/^ *(mma\/[0-9.]+)$/ \1/p' "$work/list"), the consumer built and ran"
