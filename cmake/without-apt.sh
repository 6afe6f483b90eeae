# For bootstrap.sh, which sources it where there is no apt-get: what is missing, and what to type in that system's words.
# Uses $purpose and fail of bootstrap.sh. MMA_OS_RELEASE: another file than /etc/os-release, for the test.
# shellcheck shell=sh disable=SC2154

# What has to be there for a purpose, told by what a build touches, whatever a system calls its packages.
find_missing() {
  headers=''
  tools=python3
  case $purpose in
    demo | test | bench)
      headers="CLI/CLI.hpp nlohmann/json.hpp zlib.h jpeglib.h png.h coin/ClpSimplex.hpp boost/version.hpp"
      tools="python3 c++ cmake make gnuplot curl"
      ;;
    lint) tools="python3 clang-format-14 clang-tidy-14 shellcheck" ;;
    docs) tools=doxygen ;;
    python) tools="python3 c++" ;;
  esac
  case $purpose in
    test) headers="$headers gtest/gtest.h" ;;
    bench) headers="$headers benchmark/benchmark.h" ;;
  esac
  missing=
  for tool in $tools; do
    command -v "$tool" >/dev/null 2>&1 || missing="$missing $tool"
  done
  if command -v c++ >/dev/null 2>&1; then # it says which headers it has not got
    missing="$missing$(for header in $headers; do
      printf '#if !__has_include(<%s>)\n <%s>\n#endif\n' "$header" "$header"
    done | c++ -std=c++20 -E -P -x c++ ${CONDA_PREFIX:+"-I$CONDA_PREFIX/include"} -)"
  fi
  images=${MMA_FASHION_MNIST:-/usr/share/datasets/fashion-mnist}
  if [ "$purpose" = demo ] && ! ls "$images"/train-images-idx3-ubyte* >/dev/null 2>&1; then
    missing="$missing Fashion-MNIST(the folder of its four files in MMA_FASHION_MNIST)"
  fi
}

# The line to type, where the names of the packages are known, else what they hold.
how_to_install() {
  case $purpose in
    demo | test | bench) ;;
    *) return ;;
  esac
  more=
  if [ "$(uname -s)" = Darwin ]; then
    echo "but on macOS nothing of mma was ever built: its CMake looks for Linux's libraries"
    return
  fi
  if [ -n "${CONDA_PREFIX:-}" ]; then
    [ "$purpose" = test ] && more=" gtest"
    [ "$purpose" = bench ] && more=" benchmark"
    echo "with conda: conda install -c conda-forge cxx-compiler cmake make pip cli11 nlohmann_json zlib libjpeg-turbo libpng coin-or-clp libboost-headers gnuplot curl$more"
    return
  fi
  release=${MMA_OS_RELEASE:-/etc/os-release}
  # shellcheck disable=SC1090
  family=" $(if [ -r "$release" ]; then . "$release" && echo "${ID:-} ${ID_LIKE:-}"; fi) "
  case $family in
    *" fedora "* | *" rhel "*)
      [ "$purpose" = test ] && more=" gtest-devel"
      [ "$purpose" = bench ] && more=" google-benchmark-devel"
      echo "on Fedora: sudo dnf install gcc-c++ cmake make python3-pip cli11-devel json-devel zlib-devel libjpeg-turbo-devel libpng-devel coin-or-Clp-devel boost-devel gnuplot dejavu-sans-fonts curl$more"
      ;;
    *" arch "*)
      [ "$purpose" = test ] && more=" gtest"
      [ "$purpose" = bench ] && more=" benchmark"
      echo "on Arch: sudo pacman -S --needed gcc cmake make python-pip cli11 nlohmann-json zlib libjpeg-turbo libpng coin-or-clp boost gnuplot ttf-dejavu curl$more"
      ;;
    *" alpine "*) echo "but LibTorch needs glibc and Alpine has musl: take another system, or conda" ;;
    *)
      case $family in
        *suse*) manager="zypper's" ;;
        *) manager="your system's" ;;
      esac
      echo "install $manager development packages of CLI11, nlohmann-json, zlib, libjpeg-turbo, libpng, COIN-OR Clp and Boost, and gnuplot, curl, CMake, a C++20 compiler and Python with pip"
      ;;
  esac
}

expect_installed() {
  find_missing
  # shellcheck disable=SC2086 # one line, however many
  [ -z "$missing" ] || fail "there is no apt-get here, and this is missing:" $missing"; $(how_to_install)"
}
