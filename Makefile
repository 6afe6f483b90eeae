# make demo   installs what is missing, builds, trains ResNet20 on Fashion-MNIST without and with MMA, shows a table
# make test   the same set-up, then every test
# make wheel  the package mma for Python, against torch 2.11.0, into build-python/
# make test-python   builds it, installs it beside its tests and runs them; PYTEST="-m 'not slow'" for the quick ones
# make bench  what MMA costs on this machine's CPU, against the paper's formula and the floor, at random and at trained
#             weights, and on a face network's head
# make lint   format, clang-tidy over the headers, shellcheck; fails on any finding
# make docs   the API reference from the headers, in build-docs/html; fails on a public name without a comment
# make check-sanitize   the tests under AddressSanitizer and UndefinedBehaviorSanitizer, those of threads and processes under
#             ThreadSanitizer, the quickstart under valgrind
# make fuzz TARGET=weights SECONDS=600   a reader of files under libFuzzer; TARGET=all; without TARGET their names
# make packages   tries the recipes below packaging/, one line each: what came out, or which tool is missing
# make data-cifar100   downloads CIFAR-100 from its publisher into data/
#
# Build by hand with the presets of CMakePresets.json.

JOBS ?= $(shell nproc)

.PHONY: demo test wheel test-python bench lint docs check-sanitize fuzz packages data-cifar100 format clean

demo:
	@prefix=$$(cmake/bootstrap.sh --for demo) && \
	export CMAKE_PREFIX_PATH="$$prefix" && \
	cmake --preset demo > /dev/null && \
	cmake --build --preset demo --parallel $(JOBS) --target mma-train && \
	examples/train/demo.sh build-demo/bin/mma-train

test:
	@prefix=$$(cmake/bootstrap.sh --for test) && newest=$$(cmake/bootstrap.sh --for test --newest) && \
	readers=$$(cmake/bootstrap.sh --python-readers) && \
	export CMAKE_PREFIX_PATH="$$prefix" && \
	cmake --preset default -DMMA_NEWEST_LIBTORCH="$$newest" -DMMA_PYTHON_READERS="$$readers" && \
	cmake --build --preset default --parallel $(JOBS) && \
	ctest --preset default --parallel $(JOBS)

wheel:
	@python=$$(cmake/bootstrap.sh --python) && rm -f build-python/*.whl && \
	MAX_JOBS=$(JOBS) "$$python" -m pip wheel -q --disable-pip-version-check --no-build-isolation --no-deps \
	  --wheel-dir build-python ./python && ls build-python/*.whl

test-python: wheel
	@python=$$(cmake/bootstrap.sh --python) && rm -rf build-python/site && \
	"$$python" -m pip install -q --disable-pip-version-check --root-user-action ignore --no-deps --no-index \
	  --target build-python/site build-python/*.whl && \
	PYTHONPATH=$(CURDIR)/build-python/site OMP_NUM_THREADS=1 "$$python" -m pytest -q python/tests $(PYTEST)

bench:
	@prefix=$$(cmake/bootstrap.sh --for bench) && \
	export CMAKE_PREFIX_PATH="$$prefix" && \
	cmake --preset bench > /dev/null && \
	cmake --build --preset bench --parallel $(JOBS) --target mma-train bench-cpu bench-head > /dev/null && \
	benchmarks/train.sh build-bench/bin/mma-train build-bench/trained && \
	{ build-bench/bin/bench-cpu --trained build-bench/trained; missed=$$?; build-bench/bin/bench-head && exit $$missed; }

lint:
	@prefix=$$(cmake/bootstrap.sh --for lint) && cmake/lint.sh "$$prefix"

docs:
	@cmake/bootstrap.sh --for docs && rm -rf build-docs && doxygen docs/Doxyfile && echo build-docs/html/index.html

check-sanitize:
	@prefix=$$(cmake/bootstrap.sh --for sanitize) && export CMAKE_PREFIX_PATH="$$prefix" && \
	cmake --preset sanitize > /dev/null && cmake --build build-sanitize --parallel $(JOBS) && \
	ctest --preset sanitize --parallel $(JOBS) && \
	cmake --preset sanitize-threads > /dev/null && \
	cmake --build build-sanitize-threads --parallel $(JOBS) --target mma_layers_test mma_distributed_test support_test \
	  training_test train_test && \
	ctest --preset sanitize-threads --parallel $(JOBS) && \
	cmake --preset demo > /dev/null && cmake --build --preset demo --parallel $(JOBS) --target mma-quickstart && \
	tests/sanitize/quickstart.sh build-demo/bin/mma-quickstart

fuzz:
	@prefix=$$(cmake/bootstrap.sh --for fuzz) && CMAKE_PREFIX_PATH="$$prefix" JOBS=$(JOBS) tests/fuzz/fuzz.sh "$(TARGET)" $(SECONDS)

packages:
	@failed=; for package in conan conda cps debian vcpkg; do packaging/$$package/try.sh || failed="$$failed $$package"; done; \
	test -z "$$failed" || { echo "mma: failed:$$failed" >&2; exit 1; }

data-cifar100:
	@examples/train/download-cifar100.sh data

format:
	git ls-files '*.hpp' '*.cpp' | xargs clang-format-14 -i

clean:
	rm -rf build build-bench build-clang build-demo build-docs build-fuzz build-library build-lint build-packages build-python \
	  build-sanitize build-sanitize-threads \
	  python/build python/*.egg-info
