#!/bin/sh
# What bootstrap.sh says where there is no apt-get: a PATH of chosen programs, and made os-release files.
#   without_apt.sh BOOTSTRAP LIBTORCH WORK
set -u
bootstrap=$1 libtorch=$2 work=${3:?a folder to work in}
bin=$work/bin
unset CONDA_PREFIX MMA_FASHION_MNIST
failures=0
rm -rf "$work"
mkdir -p "$work/images"
: > "$work/images/train-images-idx3-ubyte.gz"

# programs NAME...: a PATH with these alone, beside what the script itself is made of.
programs() {
  rm -rf "${bin:?}"
  mkdir "$bin"
  for program in sh cat dirname grep ls mkdir uname "$@"; do
    ln -s "$(command -v "$program")" "$bin/$program" || exit 2
  done
}
os() { printf '%s\n' "$@" > "$work/os-release"; }

# run ARGUMENT...: bootstrap.sh's outputs and exit status.
run() {
  MMA_OS_RELEASE=$work/os-release CMAKE_PREFIX_PATH=$libtorch PATH=$bin "$bootstrap" "$@" > "$work/out" 2> "$work/err"
  status=$?
}
expect() { # expect WHAT COMMAND...
  what=$1
  shift
  "$@" > /dev/null && return
  echo "not so: $what; it ended with $status and printed:"
  cat "$work/out" "$work/err"
  failures=$((failures + 1))
}
refuses() { # refuses FIXED-TEXT...: on stderr, and nothing is printed to build with
  expect "it fails" test "$status" -eq 1
  expect "stdout is empty" test ! -s "$work/out"
  for text in "$@"; do
    expect "it says '$text'" grep -qF -- "$text" "$work/err"
  done
}

everything() { programs python3 c++ cmake make gnuplot curl; }

os 'ID=fedora' 'VERSION_ID=42'
everything
rm "$bin/gnuplot"
MMA_FASHION_MNIST=$work/images run --for demo
refuses "this is missing: gnuplot;" "on Fedora: sudo dnf install " " coin-or-Clp-devel " " cli11-devel "
os 'ID="rocky"' 'ID_LIKE="rhel centos fedora"'
run --for test
refuses "gtest-devel"
os 'ID=manjaro' 'ID_LIKE=arch'
run --for demo
refuses "on Arch: sudo pacman -S --needed " " coin-or-clp "
os 'ID="opensuse-tumbleweed"' 'ID_LIKE="opensuse suse"'
run --for demo
refuses "zypper's development packages of CLI11"
os 'ID=alpine'
run --for demo
refuses "LibTorch needs glibc and Alpine has musl"
rm "$work/os-release"
run --for demo
refuses "your system's development packages of CLI11"
CONDA_PREFIX=$work run --for demo
refuses "with conda: conda install -c conda-forge " " coin-or-clp "

rm "$bin/uname"
printf '#!/bin/sh\necho Darwin\n' > "$bin/uname" && chmod +x "$bin/uname"
run --for demo
refuses "on macOS nothing of mma was ever built"

# A header that is not there is named, as is a set of images.
programs python3 cmake make gnuplot curl sed
printf '#!/bin/sh\nsed "s,coin/,nowhere/,; s,png.h,nopng.h," | exec %s "$@"\n' "$(command -v c++)" > "$bin/c++" && chmod +x "$bin/c++"
MMA_FASHION_MNIST=$work/nowhere run --for demo
refuses "missing: <nopng.h> <nowhere/ClpSimplex.hpp> Fashion-MNIST(the folder of its four files in MMA_FASHION_MNIST);"

# Where all is there it goes on, whatever the system's name.
everything
for purpose in demo library; do
  MMA_FASHION_MNIST=$work/images run --for $purpose
  expect "--for $purpose goes on" test "$status" -eq 0
  expect "--for $purpose prints the prefix" test "$(cat "$work/out")" = "$libtorch"
done

[ "$failures" = 0 ] || exit 1
echo "bootstrap.sh without apt-get says what is missing"
