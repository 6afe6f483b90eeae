"""Builds a channel of stand-ins, then the recipe with it: try_build.py RECIPE SITE CHANNEL, SITE a folder with torch/.

The compiler, CMake and make are empty packages, so that this machine's do their work; libtorch is one of links to SITE's.
"""

import pathlib
import shutil
import sys
import warnings

import rattler_build

recipe, site, channel = (pathlib.Path(argument).resolve() for argument in sys.argv[1:])
warnings.simplefilter("ignore", DeprecationWarning)


def build(folder, **options):
    rattler_build.build_recipes([folder / "recipe.yaml"], channel=[channel.as_uri()], output_dir=channel, **options)


def stand_in(name, script="true", version="1"):
    folder = channel.with_name("stand-ins") / name
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "recipe.yaml").write_text(
        f"package: {{name: {name}, version: '{version}'}}\nbuild: {{script: '{script}', dynamic_linking: {{binary_relocation: false}}}}\n"
    )
    build(folder, test="skip")


shutil.rmtree(channel, ignore_errors=True)
for name in ("gxx_linux-64", "cmake", "make"):
    stand_in(name)
torch = site / "torch"
links = f'mkdir -p "$PREFIX/lib" "$PREFIX/include" && ln -s {torch}/include/* "$PREFIX/include/" && ln -s {torch}/lib/*.so* {site}/nvidia/*/lib/*.so* "$PREFIX/lib/"'
stand_in("libtorch", links, (torch / "version.py").read_text().split("__version__ = '")[1].split("'")[0].split("+")[0])
build(recipe, test="native")
