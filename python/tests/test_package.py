"""What a newcomer meets: version, help, types, the lines of README.md and docs/python.md, the example."""

import os
import pydoc
import re
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import mma
import pytest

REPOSITORY = Path(__file__).resolve().parents[2]


def run(*command, **kwargs):
    return subprocess.run([sys.executable, *map(str, command)], capture_output=True, text=True, check=False, **kwargs)


def test_the_version_is_the_librarys():
    header = (REPOSITORY / "include/mma/version.hpp").read_text()
    assert f'version = "{mma.__version__}"' in header


def test_an_extension_for_another_torch_is_told(tmp_path):
    shutil.copytree(Path(mma.__file__).parent, tmp_path / "mma")
    for extension in (tmp_path / "mma").glob("_C*.so"):
        extension.write_bytes(b"")
    done = run("-c", "import mma", cwd=tmp_path, env={**os.environ, "PYTHONPATH": f"{tmp_path}:{os.environ.get('PYTHONPATH', '')}"})
    assert "ImportError: mma: the extension cannot be loaded with torch" in done.stderr


def test_help_says_what_there_is():
    text = pydoc.render_doc(mma, renderer=pydoc.plaintext)
    for words in ("mma.attach(model, optimizer, coefficient=0.07)", "refresh_every", "get_mma_loss", "in radians"):
        assert words in text


def test_every_public_name_has_words_of_its_own():
    public = [getattr(mma, name) for name in mma.__all__ if name != "__version__"]
    public += [getattr(mma.functional, name) for name in mma.functional.__all__]
    public += [getattr(cls, name) for cls in (mma.Regularizer, mma.Attachment, mma.Report) for name in vars(cls) if name[0] != "_"]
    assert [thing for thing in public if not (thing.__doc__ or "").strip()] == []


def python_blocks(file):
    return re.findall(r"```python\n(.*?)```", (REPOSITORY / file).read_text(), re.DOTALL)


def test_the_readmes_lines_train():
    (block,) = [b for b in python_blocks("README.md") if "mma.attach" in b]
    torch_lines = "import torch\nmodel = torch.nn.Sequential(torch.nn.Linear(6, 9), torch.nn.ReLU(), torch.nn.Linear(9, 4))\n"
    torch_lines += "optimizer = torch.optim.SGD(model.parameters(), lr=0.1)\nloader = [(torch.randn(5, 6), torch.arange(4).repeat(2)[:5])] * 3\n"
    done = run("-c", torch_lines + block)
    assert done.returncode == 0, done.stderr
    assert "minimal angle" in done.stdout


@pytest.mark.slow
def test_a_source_distribution_has_what_the_build_needs(tmp_path):
    shutil.copytree(REPOSITORY / "python", tmp_path / "python", ignore=shutil.ignore_patterns("build", "*.so", "*.egg-info"))
    (tmp_path / "include").symlink_to(REPOSITORY / "include")
    done = run("setup.py", "-q", "sdist", cwd=tmp_path / "python")
    assert done.returncode == 0, done.stderr
    (archive,) = (tmp_path / "python/dist").glob("*.tar.gz")
    with tarfile.open(archive) as file:
        names = {name.partition("/")[2] for name in file.getnames()}
    needed = [*(REPOSITORY / "include").rglob("*.hpp"), *(REPOSITORY / "python/src").iterdir()]
    parts = [*needed, *(REPOSITORY / "python/mma").glob("*.py*"), REPOSITORY / "python/mma/py.typed"]
    assert {str(p.relative_to(REPOSITORY)).removeprefix("python/") for p in parts} <= names


@pytest.mark.slow
def test_types():
    pytest.importorskip("mypy")
    done = run("-m", "mypy", cwd=REPOSITORY / "python")
    assert done.returncode == 0, done.stdout


@pytest.mark.slow
@pytest.mark.skipif(not Path("/usr/share/datasets/fashion-mnist").exists(), reason="dataset-fashion-mnist is not installed")
def test_the_example_trains():
    script = REPOSITORY / "python/examples/fashion_mnist.py"
    done = run(script, "--images", 2000, "--epochs", 2, env={**os.environ, "OMP_NUM_THREADS": "1"})
    assert done.returncode == 0, done.stderr
    accuracy = float(re.search(r"epoch 2 .*accuracy ([\d.]+) %", done.stdout)[1])
    assert accuracy > 60
    assert "mean nearest" in done.stdout
