"""mma-train, a program without Python, under the real torchrun: two processes, one of which is killed."""

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

PROGRAM = Path(os.environ.get("MMA_TRAIN", Path(__file__).parents[2] / "build/bin/mma-train")).resolve()
IMAGES = Path("/usr/share/datasets/fashion-mnist")


def processes_below(torchrun, rank):
    below = psutil.Process(torchrun.pid).children(recursive=True)
    return [p for p in below if p.exe() == str(PROGRAM) and p.environ().get("RANK") == str(rank)]


@pytest.mark.skipif(not PROGRAM.exists(), reason=f"{PROGRAM} is not built (make test builds it; or set MMA_TRAIN)")
@pytest.mark.skipif(not IMAGES.exists(), reason=f"{IMAGES} is missing (Debian: dataset-fashion-mnist)")
def test_torchrun_starts_anew_what_was_killed(tmp_path):
    out = tmp_path / "run"
    launcher = [sys.executable, "-m", "torch.distributed.run", "--no-python", "--standalone"]
    launcher += ["--nproc-per-node", "2", "--max-restarts", "1"]
    options = "--model resnet20 --dataset fashion-mnist --limit-train 64 --limit-test 64 --batch 16 --threads 1"
    options += " --epochs 8 --timeout 20"
    torchrun = subprocess.Popen(
        [*launcher, PROGRAM, *options.split(), "--out", out],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    text = ""
    for line in torchrun.stdout:
        text += line
        if line.startswith("epoch 2/8"):
            for process in processes_below(torchrun, 1):
                process.kill()
    assert torchrun.wait() == 0, text
    assert "mma-train: rank 1 has ended or is out of reach: rank 0 lost it (" in text, text
    before, after = text.split("started anew by the launcher (1): goes on from the checkpoint")
    assert "epoch 1/8" in before and "epoch 1/8" not in after, text
    assert "epoch 8/8" in after, text
    rows = (out / "metrics.csv").read_text().splitlines()
    assert len(rows) == 1 + 8
