# make demo   installs what is missing, builds, trains ResNet20 on Fashion-MNIST without and with MMA, shows a table
# make test   the same set-up, then every test
# make bench  what MMA costs on this machine's CPU, against the paper's formula and the floor, at random and at trained
#             weights, and on a face network's head
# make data-cifar100   downloads CIFAR-100 from its publisher into data/
#
# Build by hand with the presets of CMakePresets.json.

JOBS ?= $(shell nproc)

.PHONY: demo test bench data-cifar100 format clean

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

bench:
	@prefix=$$(cmake/bootstrap.sh --for bench) && \
	export CMAKE_PREFIX_PATH="$$prefix" && \
	cmake --preset bench > /dev/null && \
	cmake --build --preset bench --parallel $(JOBS) --target mma-train bench-cpu bench-head > /dev/null && \
	benchmarks/train.sh build-bench/bin/mma-train build-bench/trained && \
	{ build-bench/bin/bench-cpu --trained build-bench/trained; missed=$$?; build-bench/bin/bench-head && exit $$missed; }

data-cifar100:
	@examples/train/download-cifar100.sh data

format:
	git ls-files '*.hpp' '*.cpp' | xargs clang-format -i

clean:
	rm -rf build build-bench build-demo build-library
