#!/bin/sh
# Cross-compiles the quickstart and mma_library_test for arm64 and runs both under qemu: half an hour on two cores, so
# make packages leaves it out. Debian's packages: g++-aarch64-linux-gnu qemu-user googletest.
# shellcheck source=packaging/common.sh
. "$(dirname "$0")/../common.sh"
needs cmake make python3 aarch64-linux-gnu-g++ qemu-aarch64
[ -e /usr/src/googletest ] || not_tried "/usr/src/googletest (Debian's googletest) is missing"
export OMP_NUM_THREADS=1

# LibTorch's wheel for arm64, and the two that its CPU half is linked to.
if [ ! -e "$work/libtorch/torch/lib/libtorch_cpu.so" ]; then
  rm -rf "$work/libtorch.part"
  python3 -m pip install -q --disable-pip-version-check --root-user-action ignore --no-compile --target "$work/libtorch.part" \
    --no-deps --only-binary=:all: --platform manylinux_2_28_aarch64 --platform manylinux_2_25_aarch64 \
    --platform manylinux_2_17_aarch64 torch==2.11.0 nvidia-cuda-runtime==13.0.96 nvidia-cuda-cupti==13.0.85 ||
    not_tried "pip could not install LibTorch's wheel for arm64"
  mv "$work/libtorch.part" "$work/libtorch"
fi

build() { # build SOURCE FOLDER [CMAKE-ARGUMENT...]
  source=$1 folder=$2
  shift 2
  cmake -S "$source" -B "$folder" -DCMAKE_BUILD_TYPE=Release -DCMAKE_TOOLCHAIN_FILE="$packaging/toolchain.cmake" "$@" &&
    cmake --build "$folder" --parallel "$(nproc)"
}
{
  build /usr/src/googletest "$work/googletest" -DBUILD_GMOCK=OFF -DCMAKE_INSTALL_PREFIX="$work/prefix" &&
    cmake --install "$work/googletest" &&
    CMAKE_PREFIX_PATH=$work/libtorch:$work/prefix build "$packaging" "$work/build"
} > "$work/log" 2>&1 || {
  tail -40 "$work/log" >&2
  failed "the build"
}
emulated() { qemu-aarch64 -L /usr/aarch64-linux-gnu "$@"; }
emulated "$work/build/quickstart/mma-quickstart" || failed "the quickstart"
emulated "$work/build/mma/bin/mma_library_test" > "$work/tests" 2>&1 || {
  grep -B 20 FAILED "$work/tests" >&2
  failed "mma_library_test"
}
passed "under $(qemu-aarch64 --version | head -1) the quickstart ran, and of mma_library_test$(sed -n 's/^\[  PASSED  \]/ passed:/p; s/^\[  SKIPPED \] \([0-9]* test\).*/ skipped: \1/p' "$work/tests" | tr '\n' ';')"
