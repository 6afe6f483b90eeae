# For the try.sh of each folder, which sources it: where things are, and the words at the end.
# Every try ends with one line: "mma: packaging/NAME: ...", or "mma: packaging/NAME not tried: ..." where a tool is missing.
# shellcheck shell=sh disable=SC2034
set -eu
repository=$(cd "$(dirname "$0")/../.." && pwd)
name=$(basename "$(cd "$(dirname "$0")" && pwd)")
packaging=$repository/packaging/$name
work=$repository/build-packages/$name
consumer=$repository/packaging/consumer
mkdir -p "$work"

passed() { echo "mma: packaging/$name: $*"; }
not_tried() {
  echo "mma: packaging/$name not tried: $*"
  exit 0
}
failed() {
  echo "mma: packaging/$name failed: $*" >&2
  exit 1
}
needs() {
  for tool in "$@"; do
    command -v "$tool" > /dev/null 2>&1 || not_tried "$tool is missing"
  done
}

# The LibTorch that the consumers are linked to, as make test installs it.
libtorch() { "$repository/cmake/bootstrap.sh" --for library; }

# python_tools PACKAGE...: from PyPI into a virtual environment of this try, whose programs then come first.
python_tools() {
  [ -x "$work/venv/bin/pip" ] || python3 -m venv "$work/venv" || not_tried "python3 -m venv does not work"
  "$work/venv/bin/pip" install -q --disable-pip-version-check "$@" || not_tried "pip could not install $*"
  PATH=$work/venv/bin:$PATH
}

# build_and_run_consumer FOLDER [CMAKE-ARGUMENT...]: from nothing; mma and LibTorch are found as CMAKE_PREFIX_PATH says.
build_and_run_consumer() {
  folder=$1
  shift
  rm -rf "$folder"
  if command -v ccache > /dev/null 2>&1; then
    set -- -DCMAKE_CXX_COMPILER_LAUNCHER=ccache "$@"
  fi
  if ! { cmake -S "$consumer" -B "$folder" -DCMAKE_BUILD_TYPE=Release "$@" && cmake --build "$folder"; } > "$folder.log" 2>&1; then
    cat "$folder.log" >&2
    failed "the consumer does not build"
  fi
  "$folder/consumer" || failed "the consumer does not run"
}
