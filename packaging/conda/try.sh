#!/bin/sh
# Builds the recipe with rattler-build from PyPI and runs its tests, against a channel of stand-ins (try_build.py): the
# compiler, CMake, make and LibTorch are this machine's. That conda-forge has those names is not tried.
# shellcheck source=packaging/common.sh
. "$(dirname "$0")/../common.sh"
needs python3 c++ cmake make
python_tools py-rattler-build==0.73.0
site=$(libtorch)
if ! python "$packaging/try_build.py" "$packaging" "$site" "$work/channel" > "$work/log" 2>&1; then
  tail -40 "$work/log" >&2
  failed "rattler-build"
fi
passed "rattler-build built $(basename "$work"/channel/noarch/mma-*.conda); the consumer was built and ran in its test"
