#!/bin/sh
# The overlay port by vcpkg where there is one, else by stand-ins of the functions that portfile.cmake calls; then a
# consumer is built with what was installed. vcpkg.json is only looked at by vcpkg.
# shellcheck source=packaging/common.sh
. "$(dirname "$0")/../common.sh"
needs c++ cmake make
site=$(libtorch)
if command -v vcpkg > /dev/null 2>&1; then
  how=vcpkg
  vcpkg install mma --overlay-ports="$packaging" --x-install-root="$work/installed" > "$work/log" 2>&1 || {
    tail -40 "$work/log" >&2
    failed "vcpkg install"
  }
  package=$(echo "$work"/installed/*/share/mma)
  package=${package%/share/mma}
else
  how="stand-ins of its functions (vcpkg itself is missing, so vcpkg.json was only parsed)"
  needs python3
  python3 -m json.tool "$packaging/mma/vcpkg.json" > /dev/null || failed "vcpkg.json is not JSON"
  cmake -DWORK="$work" -P "$packaging/stand_ins.cmake" > "$work/log" 2>&1 || {
    tail -40 "$work/log" >&2
    failed "portfile.cmake"
  }
  package=$work/package
fi
CMAKE_PREFIX_PATH=$package:$site build_and_run_consumer "$work/consumer"
passed "portfile.cmake ran by $how; the consumer was built and ran"
