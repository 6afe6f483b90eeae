"""Conan 2's recipe: the headers and our own CMake package. LibTorch is the user's, found in CMAKE_PREFIX_PATH.

Kept beside the sources, which it exports: `conan create packaging/conan`.
"""

import os
import re

from conan import ConanFile
from conan.tools.build import check_min_cppstd
from conan.tools.cmake import CMake, CMakeToolchain, cmake_layout
from conan.tools.files import copy, load


class Mma(ConanFile):
    name = "mma"
    description = "MMA regularization for LibTorch: weight vectors that point as far apart as possible"
    license = "MIT"
    topics = ("libtorch", "pytorch", "regularization", "deep-learning", "header-only")
    package_type = "header-library"
    test_package_folder = os.path.join("..", "consumer")
    settings = "os", "arch", "compiler", "build_type"
    no_copy_source = True

    @property
    def _repository(self):
        return os.path.join(self.recipe_folder, "..", "..")

    def set_version(self):
        header = load(self, os.path.join(self._repository, "include", "mma", "version.hpp"))
        self.version = re.search(r'version = "(.*)"', header).group(1)

    def export_sources(self):
        for pattern in ("include/*", "cmake/*", "CMakeLists.txt", "LICENSE"):
            copy(self, pattern, self._repository, self.export_sources_folder)

    def layout(self):
        cmake_layout(self)

    def validate(self):
        check_min_cppstd(self, 20)

    def package_id(self):
        self.info.clear()

    def generate(self):
        toolchain = CMakeToolchain(self)
        toolchain.cache_variables["MMA_HEADERS_ONLY"] = True
        toolchain.generate()

    def build(self):
        CMake(self).configure()

    def package(self):
        CMake(self).install()
        copy(self, "LICENSE", self.source_folder, os.path.join(self.package_folder, "licenses"))

    def package_info(self):
        self.cpp_info.bindirs = []
        self.cpp_info.libdirs = []
        # find_package(mma) gets the package that was installed, which also finds LibTorch; CMakeDeps would write one
        # without it.
        self.cpp_info.set_property("cmake_find_mode", "none")
        self.cpp_info.builddirs = [os.path.join("share", "cmake", "mma")]
