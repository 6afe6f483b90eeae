#!/usr/bin/env python3
"""A training step of mma-train beside the same step in Python's eager PyTorch, taken in turn on the same machine.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 numpy
    venv/bin/python benchmarks/eager.py --bench build-demo/bin/bench-step --data data/cifar-100-binary

Both hold CIFAR-100 in memory as bytes and do the same work in the time that is measured: choose the batch, crop and
mirror it, normalise it, forward, cross-entropy, backward, SGD with momentum and weight decay, and read the loss.
bench-step runs mma-train's own step. Python's step is measured as it is usually written (contiguous images,
torch.optim.SGD's defaults) and tuned (channels_last, fused SGD, ReLU in place). Prints Markdown: medians over rounds.
"""
import argparse
import ast
import os
import statistics
import subprocess
import time
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")  # as mma-train sets it: threads that wait leave the core

try:
    import numpy as np
    import torch
    from torch.nn import functional as F
except ModuleNotFoundError as missing:
    raise SystemExit(f"eager.py: Python's {missing.name} is not there; expected a venv with torch and numpy:\n{__doc__}")

ROOT = Path(__file__).resolve().parent.parent
MEAN, DEVIATION = (0.50708, 0.48655, 0.44092), (0.26733, 0.25644, 0.27615)
PADDING, CLASSES, WARM_UP = 4, 100, 5


def reference_models():
    """The classes of tests/training/models/reference_models.py without what that program prints."""
    path = ROOT / "tests/training/models/reference_models.py"
    tree = ast.parse(path.read_text())
    tree.body = [node for node in tree.body if isinstance(node, (ast.Import, ast.ImportFrom, ast.ClassDef))]
    names = {}
    exec(compile(tree, str(path), "exec"), names)
    return names


def model_named(name, in_place):
    names = reference_models()
    if name.startswith("resnet"):
        if in_place:  # the classes call F.relu on results that nothing else needs
            names["F"] = type("InPlace", (), {"relu": staticmethod(lambda x: F.relu(x, inplace=True))})
        return names["ResNet"](int(name.removeprefix("resnet")), 3, CLASSES)
    depth = {"vgg16-bn": 16, "vgg19-bn": 19, "vgg11-bn-narrow": 11}[name]
    model = names["Vgg"](depth, 3, CLASSES)
    for module in model.modules():
        if isinstance(module, torch.nn.ReLU):
            module.inplace = in_place
    return model


def read_cifar100(folder, device):
    records = np.fromfile(Path(folder) / "train.bin", dtype=np.uint8).reshape(-1, 2 + 3 * 32 * 32)
    images = torch.from_numpy(records[:, 2:].reshape(-1, 3, 32, 32).copy())
    return images.to(device), torch.from_numpy(records[:, 1].astype(np.int64)).to(device)


def cropped_and_mirrored(images):
    """A crop of its own for each image, by one gather."""
    count, channels, height, width = images.shape
    device = images.device
    padded = F.pad(images, (PADDING,) * 4)
    top, left = torch.randint(0, 2 * PADDING + 1, (2, count, 1)).to(device)
    mirrored = torch.randint(0, 2, (count, 1)).to(device)
    x = torch.arange(width, device=device)
    rows = top + torch.arange(height, device=device)
    columns = left + torch.where(mirrored == 1, width - 1 - x, x)
    index = (rows.unsqueeze(2) * padded.shape[3] + columns.unsqueeze(1)).view(count, 1, -1).expand(-1, channels, -1)
    return padded.flatten(2).gather(2, index).view(images.shape)


class PythonStep:
    def __init__(self, arguments, data, tuned):
        torch.manual_seed(1)
        self.images, self.labels = data
        self.arguments = arguments
        self.device = torch.device(arguments.device)
        self.format = torch.channels_last if tuned else torch.contiguous_format
        self.model = model_named(arguments.model, in_place=tuned).to(self.device, memory_format=self.format).train()
        decay = 1e-4 if arguments.model.startswith("resnet") else 5e-4
        options = {"fused": True} if tuned else {}
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, weight_decay=decay, **options)
        self.order = torch.randperm(len(self.labels)).to(self.device)
        self.mean = torch.tensor(MEAN, device=self.device).view(1, 3, 1, 1) * 255
        self.deviation = torch.tensor(DEVIATION, device=self.device).view(1, 3, 1, 1) * 255
        self.round = 0

    def seconds(self):
        start = time.perf_counter()
        batch = self.arguments.batch
        first = self.round % (len(self.labels) // batch) * batch
        self.round += 1
        chosen = self.order[first:first + batch]
        images = (cropped_and_mirrored(self.images[chosen]).float() - self.mean) / self.deviation
        images = images.contiguous(memory_format=self.format)
        self.optimizer.zero_grad()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.arguments.precision == "bf16"):
            loss = F.cross_entropy(self.model(images).float(), self.labels[chosen])
        loss.backward()
        self.optimizer.step()
        loss.item()  # waits for a GPU
        return time.perf_counter() - start

    def parameter_count(self):
        return sum(p.numel() for p in self.model.parameters())


class MmaTrainStep:
    """bench-step, which makes a step for each line and waits without using the CPU in between."""

    def __init__(self, arguments, threads, regularizer):
        command = [arguments.bench, "--on-request", "--model", arguments.model, "--dataset", "cifar100", "--data",
                   arguments.data, "--batch", str(arguments.batch), "--threads", str(threads), "--device",
                   arguments.device, "--precision", arguments.precision, "--regularizers", regularizer]
        if arguments.cuda_graph:
            command.append("--cuda-graph")
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        first = self.process.stdout.readline()
        if not first:
            raise SystemExit(f"eager.py: {arguments.bench} did not start, see above")
        self.parameters = int(first)

    def all_seconds(self):
        print(file=self.process.stdin, flush=True)
        return [float(word) for word in self.process.stdout.readline().split()]

    def close(self):
        self.process.stdin.close()
        self.process.wait()


def rows_of(arguments, regularizer):
    """What bench-step's answers are, in its order."""
    names = ["mma-train"] + ([f"mma-train, {regularizer}"] if regularizer != "none" else [])
    changed = ([arguments.precision] if arguments.precision != "float32" else []) + ["CUDA graph"] * arguments.cuda_graph
    return names + [", ".join([name] + changed) for name in names if changed]


def measure(arguments, threads, data):
    torch.set_num_threads(threads)
    python = {"Python eager, as usually written": PythonStep(arguments, data, tuned=False),
              "Python eager, tuned": PythonStep(arguments, data, tuned=True)}
    mma_train = MmaTrainStep(arguments, threads, arguments.regularizer)
    plain = python["Python eager, as usually written"]
    if mma_train.parameters != plain.parameter_count():
        raise SystemExit(f"eager.py: {mma_train.parameters} parameters in mma-train's {arguments.model}, "
                         f"{plain.parameter_count()} in Python's; expected the same network")
    seconds = {name: [] for name in [*python, *rows_of(arguments, arguments.regularizer)]}

    def measure_python():
        for name, step in python.items():
            seconds[name].append(step.seconds())

    def measure_mma_train():
        for name, value in zip(rows_of(arguments, arguments.regularizer), mma_train.all_seconds()):
            seconds[name].append(value)

    for k in range(WARM_UP + arguments.rounds):
        if k == WARM_UP:
            for values in seconds.values():
                values.clear()
        for part in (measure_python, measure_mma_train)[::1 if k % 2 == 0 else -1]:
            part()
    mma_train.close()
    return seconds


def ratio(values, others):
    """Median and quartiles over the rounds of one by the other."""
    ratios = [a / b for a, b in zip(values, others)]
    low, middle, high = statistics.quantiles(ratios, n=4)
    return f"{middle:.2f} ({low:.2f} to {high:.2f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--bench", required=True, help="the program bench-step")
    parser.add_argument("--data", required=True, help="the folder of CIFAR-100's train.bin")
    parser.add_argument("--model", default="resnet20")
    parser.add_argument("--regularizer", default="none", help="also mma-train's step with this one")
    parser.add_argument("--batch", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", default="1,2", help="separated by commas")
    parser.add_argument("--device", default="cpu", choices=["cpu", "cuda"])
    parser.add_argument("--precision", default="float32", choices=["float32", "bf16"])
    parser.add_argument("--cuda-graph", action="store_true")
    arguments = parser.parse_args()
    if not (Path(arguments.data) / "train.bin").exists():
        raise SystemExit(f"eager.py: no train.bin in {arguments.data}; expected CIFAR-100's binary files")
    data = read_cifar100(arguments.data, arguments.device)
    print(f"{arguments.model}, CIFAR-100, batch {arguments.batch}, {arguments.device}, torch {torch.__version__}, "
          f"Python in {arguments.precision}, {arguments.rounds} rounds in alternating order\n")
    print("| threads | step | median seconds | Python as usually written / this | Python tuned / this |")
    print("|---:|---|---:|---:|---:|")
    for threads in map(int, arguments.threads.split(",")):
        seconds = measure(arguments, threads, data)
        plain, tuned = list(seconds.values())[:2]
        for name, values in seconds.items():
            print(f"| {threads} | {name} | {statistics.median(values):.4f} | {ratio(plain, values)} | "
                  f"{ratio(tuned, values)} |", flush=True)


if __name__ == "__main__":
    main()
