#!/usr/bin/env python3
"""A few small files of each kind that mma's readers take, as seeds for their fuzzing: seeds.py TARGET FOLDER.

What the tests keep in their data folders is copied; the rest is made here, by Python alone.
"""
import gzip
import json
import pathlib
import shutil
import struct
import sys
import zlib

ROOT = pathlib.Path(__file__).resolve().parent.parent.parent
LARGEST = 64 << 10  # of a file that is copied: longer ones only make fuzzing slow


def png(width, height, channels):
    def chunk(kind, content):
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))
    rows = b"".join(b"\0" + bytes(range(width * channels)) for _ in range(height))
    header = struct.pack(">IIBBBBB", width, height, 8, {1: 0, 3: 2}[channels], 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def idx(images):
    pixels = struct.pack(">IIII", 0x803, images, 28, 28) + bytes(images * 784)
    labels = struct.pack(">II", 0x801, images) + bytes(i % 10 for i in range(images))
    return pixels, labels


def idx_pair(images, packed):
    pixels, labels = idx(images)
    if packed:
        pixels, labels = gzip.compress(pixels), gzip.compress(labels)
    return struct.pack(">H", len(pixels)) + pixels + labels


RESULTS = ROOT / "benchmarks" / "results" / "study-resnet20"


def run_of_ours():
    """The settings and the figures of a run whose results are kept."""
    folder = sorted(path.parent for path in RESULTS.rglob("config.json"))[0]
    return json.loads((folder / "config.json").read_text())["settings"], (folder / "metrics.csv").read_bytes()


def safetensors(tensors, metadata):
    """float32 tensors by their shapes, filled with small numbers."""
    header, data = {"__metadata__": metadata}, b""
    for name, shape in tensors.items():
        count = shape[0] * shape[1]
        header[name] = {"dtype": "F32", "shape": shape, "data_offsets": [len(data), len(data) + 4 * count]}
        data += struct.pack(f"<{count}f", *(i % 7 - 3 for i in range(count)))
    text = json.dumps(header).encode()
    return struct.pack("<Q", len(text)) + text + data


SETTINGS, CSV = run_of_ours()
EPOCH = {"epoch": 1, "learning_rate": 0.1, "loss": 4.5, "regularization_loss": -0.1, "top1_percent": 2.5, "top5_percent": 9.0,
         "mean_nearest_angle_degrees": 80.0, "pairs_above_0.2": 7, "minimal_angle_degrees": {"conv1": 60.0}, "skipped_steps": 0,
         "seconds": 1.5, "seconds_per_step": 0.5, "communication_share": 0.0, "peak_memory_mib": 100.0, "finished_at": "now"}
RECORD = {"program": "mma-train", "version": "0.2.0", "settings": SETTINGS, "train_images": 24, "classes": 100, "epoch": 1, "step": 0,
          "loss_sum": 0.0, "regularization_sum": 0.0, "seconds": 1.5, "skipped_steps": 0, "communication_seconds": 0.0,
          "history": [EPOCH]}

MADE = {
    "config": [json.dumps(SETTINGS).encode()],
    "checkpoint": [json.dumps(RECORD).encode()],
    "metrics": [b"".join(CSV.splitlines(True)[:3])],
    "png": [png(3, 2, 3), png(4, 4, 1)],
    "pgm": [b"P5 3 2 255\nabcdef", b"P2 # a comment\n2 2 9\n1 2 3 4\n", b"P5 1 1 65535\nab"],
    "pairs": [b"2\t1\nA\t1\t2\nA\t1\tB\t1\nB\t1\t2\nB\t2\tA\t1\n", b"1\nA 1 2\nA 1 B 1\n",
              b"name,imagenum1,imagenum2\nA,1,2\nB,1,2\n"],
    "points": [b"1,0,0\n0,1,0\n", b"x y\n1 0\n0 1\n", b"1\n0\n0\n0\n1\n0\n"],
    "cifar-binary": [bytes([1, 2]) + bytes(3072), (bytes([1, 2]) + bytes(3072)) * 2],
    "idx": [idx_pair(1, False), idx_pair(2, True)],
    "gzip": [gzip.compress(b"some text " * 9), b"plain"],
    "tiny-imagenet": [b"n01443537\nval_0.JPEG\tn01443537\t0\t0\t63\t63\n"],
    "features": [safetensors({"features": [4, 8]}, {}),
                 safetensors({"features": [2, 3]}, {"images": "A/A_0001\nB/B_0001", "program": "mma-faces"})],
    "pattern": [b"layer*.[ab]?\nlayer1.a2", b"**a**b**c\naaaaaaaaaaaaaaaaaaaab", b"\\*[!x-z]\n*a"],
    "command-line": [b"--model resnet20 --dataset cifar100 --epochs 3 --lr 0.1 --mma 0.07 --out here",
                     b"--recipe table2-vgg19-bn --milestones 1,2 --seed 9 --precision bf16 --help"],
}
KEPT = {
    "pickle": ["tests/faces/data/*.bin"],
    "weights": ["tests/support/data/*.pt", "tests/angles/data/*"],
    "safetensors": ["tests/support/data/*.safetensors", "tests/angles/data/*.safetensors"],
    "features": ["tests/support/data/*.safetensors"],
    "jpeg": ["tests/support/data/images/*.jp*g"],
    "png": ["tests/support/data/images/*.png"],
    "pgm": ["tests/support/data/images/*.p?m"],
    "bin": ["tests/faces/data/*.bin"],
    "points": ["tests/tammes/data/*.npy"],
}


def cifar_pickles():
    """As publishers write them, with NumPy's arrays; without NumPy none."""
    try:
        import numpy
        import pickle
    except ModuleNotFoundError:
        return []
    table = {b"data": numpy.zeros((2, 3072), numpy.uint8), b"fine_labels": [0, 1], b"coarse_labels": [0, 1],
             b"filenames": [b"a", b"b"]}
    return [pickle.dumps(table, protocol) for protocol in (2, 4)]


def main():
    target, folder = sys.argv[1], pathlib.Path(sys.argv[2])
    folder.mkdir(parents=True, exist_ok=True)
    made = MADE.get(target, []) + (cifar_pickles() if target == "cifar-python" else [])
    for number, content in enumerate(made):
        (folder / f"made{number}").write_bytes(content)
    for pattern in KEPT.get(target, []):
        for path in ROOT.glob(pattern):
            if path.is_file() and path.stat().st_size <= LARGEST:
                shutil.copyfile(path, folder / path.name)


if __name__ == "__main__":
    main()
