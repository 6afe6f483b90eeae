"""Builds mma._C against the torch that is installed. The library's headers lie beside this folder, in an sdist in it."""

import re
import shutil
from pathlib import Path

from setuptools import setup
from setuptools.command.sdist import sdist
from torch.utils.cpp_extension import BuildExtension, CppExtension

here = Path(__file__).resolve().parent
headers = next(folder for folder in (here / "include", here.parent / "include") if (folder / "mma").is_dir())
version = re.search(r'version = "(.*)"', (headers / "mma" / "version.hpp").read_text())[1]


class SdistWithHeaders(sdist):
    def make_release_tree(self, base_dir, files):
        super().make_release_tree(base_dir, files)
        shutil.copytree(headers / "mma", Path(base_dir, "include", "mma"), dirs_exist_ok=True)


setup(
    version=version,
    cmdclass={"build_ext": BuildExtension, "sdist": SdistWithHeaders},
    ext_modules=[
        CppExtension(
            "mma._C",
            sorted(str(source.relative_to(here)) for source in (here / "src").glob("*.cpp")),
            include_dirs=[str(headers)],
            depends=[str(header) for folder in (headers, here / "src") for header in folder.rglob("*.hpp")],
            extra_compile_args=["-std=c++20", "-O3", "-g0", "-DNDEBUG", "-fvisibility=hidden"],
            extra_link_args=["-ldl"],
        )
    ],
)
