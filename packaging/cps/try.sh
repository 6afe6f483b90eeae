#!/bin/sh
# A CMake that reads CPS files, from PyPI, finds mma by its mma.cps and builds and runs the consumer.
# shellcheck source=packaging/common.sh
. "$(dirname "$0")/../common.sh"
needs python3 c++ make
python_tools cmake==4.4.5
site=$(libtorch)
rm -rf "$work/prefix" "$work/build"
{
  cmake -S "$repository" -B "$work/build" -DMMA_HEADERS_ONLY=ON && cmake --install "$work/build" --prefix "$work/prefix"
} > "$work/log" 2>&1 || {
  cat "$work/log" >&2
  failed "the installation"
}
CMAKE_PREFIX_PATH=$work/prefix:$site build_and_run_consumer "$work/consumer"
used=$(sed -n 's/^mma_DIR:PATH=//p' "$work/consumer/CMakeCache.txt")
[ "$used" = "$work/prefix/share/cps/mma" ] || failed "mma was found in $used"
passed "$(cmake --version | head -1) found mma by mma.cps; the consumer built and ran"
