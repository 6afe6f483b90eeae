#!/usr/bin/env bash
# Compiles each source file of programs and tests by itself with clang++: what g++ lets pass, and includes that another file
# of the same batch has hidden.
#
#   each_file.sh [WORDS]     WORDS: only files whose path holds all of them, as "tests/ training"
#
# Says which file fails and why, then how many were compiled; bad_objective.cpp, which is meant to fail, is left out. Needs what
# cmake/bootstrap.sh --for test installs. Ends with 1 where a file fails.
set -euo pipefail
cd "$(dirname "$0")/.."
build='build-clang'

CMAKE_PREFIX_PATH=$(cmake/bootstrap.sh --for test) cmake --preset default -B "$build" -DCMAKE_CXX_COMPILER=clang++ \
  -DCMAKE_UNITY_BUILD=OFF -DCMAKE_EXPORT_COMPILE_COMMANDS=ON > "$build.log" || { cat "$build.log" >&2 && exit 1; }
cmake --build "$build" --target mma_write_kernels > "$build.log" 2>&1 || { cat "$build.log" >&2 && exit 1; }
"$build"/bin/mma_write_kernels "$build/tests/library/cuda/emulated/kernels.inl" # cuda/emulated_launcher.cpp includes it
python3 - "$build/compile_commands.json" "$@" << 'PYTHON'
import concurrent.futures, json, os, re, subprocess, sys


def is_wanted(path):
    is_ours = not path.startswith("build") and not path.endswith("bad_objective.cpp") and os.path.exists(path)
    return is_ours and all(word in path for word in sys.argv[2:])


commands = {}
for entry in json.load(open(sys.argv[1])):
    path = os.path.relpath(entry["file"])
    if is_wanted(path):
        commands[path] = (re.sub(r" -o \S+ -c ", " -fsyntax-only -Werror ", entry["command"]), entry["directory"])


def problem_of(path):
    command, directory = commands[path]
    result = subprocess.run(command, shell=True, cwd=directory, capture_output=True, text=True)
    return result.stderr if result.returncode else ""


failed = 0
with concurrent.futures.ThreadPoolExecutor(os.cpu_count()) as threads:
    for path, problem in zip(commands, threads.map(problem_of, commands)):
        if problem:
            failed += 1
            print(f"{path}:\n{problem}", flush=True)
print(f"{len(commands)} files compiled by themselves, {failed} failed")
sys.exit(1 if failed or not commands else 0)
PYTHON
