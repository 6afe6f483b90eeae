#!/usr/bin/env python3
"""What MMA costs from Python, beside what people use today: value and gradient over the weights of VGG19-BN.

    make wheel && python3 -m venv venv
    venv/bin/pip install torch==2.11.0 pytorch-metric-learning==2.9.0 build-python/*.whl
    venv/bin/python benchmarks/python.py

All in turn in one process, round after round, so that whatever else the machine does falls on all of them alike.
Prints Markdown; a bar that is missed is shown as missed, and then the exit code is 1.
"""

import argparse
import platform
import statistics
import sys
import time

import mma
import torch
from torch import nn

WARM_UP = 2
DEPTHS, WIDTHS, CLASSES = (2, 2, 4, 4, 4), (64, 128, 256, 512, 512), 100  # as benchmarks/network_shapes.hpp


def vgg19():
    layers, channels = [], 3
    for depth, width in zip(DEPTHS, WIDTHS):
        for _ in range(depth):
            layers.append(nn.Conv2d(channels, width, 3, bias=False))
            channels = width
    layers.append(nn.Linear(channels, CLASSES, bias=False))
    model = nn.Sequential(*layers)
    generator = torch.Generator().manual_seed(1)
    for p in model.parameters():
        p.data.normal_(generator=generator)
        p.grad = torch.zeros_like(p)
    return model


def authors_formula(weights):
    """The paper's authors' function, summed over the layers."""
    total = 0.0
    for weight in weights:
        unit = nn.functional.normalize(weight.flatten(1), p=2, dim=1)
        cosine = unit @ unit.t()
        cosine = cosine - 2.0 * torch.diag(torch.diag(cosine))
        total = total - torch.acos(cosine.max(dim=1)[0].clamp(-0.99999, 0.99999)).mean()
    return total


def contenders():
    model = vgg19()
    weights = list(model.parameters())
    regularizer = mma.Regularizer(model, coefficient=1.0)
    # The same engine without this package's Python: the extension's call with the weights at hand.
    bare = mma.Regularizer(model, coefficient=1.0)
    compiled = torch.compile(authors_formula, fullgraph=True)
    steps = {
        "C++ alone": lambda: bare._engine.accumulate_gradient(weights, 1.0),
        "accumulate_gradient(), which attach calls": regularizer.accumulate_gradient,
        "regularizer().backward()": lambda: regularizer().backward(),
        "the authors' formula, eager": lambda: authors_formula(weights).backward(),
        "the authors' formula, torch.compile": lambda: compiled(weights).backward(),
    }
    rest = {}
    try:
        from pytorch_metric_learning.regularizers import RegularFaceRegularizer

        regular_face = RegularFaceRegularizer()
        rest["pytorch-metric-learning's RegularFaceRegularizer"] = lambda: sum(regular_face(w.flatten(1)) for w in weights).backward()
    except ImportError:
        print("pytorch-metric-learning is not installed: left out", file=sys.stderr)
    return steps | rest


ORTHOGONAL = "parametrizations.orthogonal, its forward and backward, once"


def orthogonal_step():
    """Each layer's weight as orthogonal rows, computed from its parameter, and a gradient through that."""
    matrices = [nn.Linear(w[0].numel(), len(w), bias=False) for w in vgg19().parameters()]
    for matrix in matrices:
        nn.utils.parametrizations.orthogonal(matrix)
    return lambda: sum(matrix.weight.sum() for matrix in matrices).backward()


def measure(steps, rounds):
    times = {name: [] for name in steps}
    for round_number in range(WARM_UP + rounds):
        for name, step in steps.items():
            start = time.perf_counter()
            step()
            if round_number >= WARM_UP:
                times[name].append(1e3 * (time.perf_counter() - start))
    return times


def cell(numbers, digits):
    low, _, high = statistics.quantiles(numbers, n=4)
    return f"{statistics.median(numbers):.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--orthogonal", action="store_true", help="torch's parametrization too: minutes a step")
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    times = measure(contenders(), options.rounds)
    cpp, ours = times["C++ alone"], times["accumulate_gradient(), which attach calls"]
    print(f"torch {torch.__version__}, {options.threads} threads, {options.rounds} rounds, Python {platform.python_version()}\n")
    print("| | ms | of accumulate_gradient() |\n|---|---:|---:|")
    for name, numbers in times.items():
        ratios = [theirs / own for theirs, own in zip(numbers, ours)]
        print(f"| {name} | {cell(numbers, 1)} | {statistics.median(ratios):.2f} |")
    if options.orthogonal:
        start = time.perf_counter()
        orthogonal_step()()
        seconds = time.perf_counter() - start
        print(f"| {ORTHOGONAL} | {1e3 * seconds:.0f} | {1e3 * seconds / statistics.median(ours):.0f} |")
    compiled = statistics.median(a / b for a, b in zip(times["the authors' formula, torch.compile"], ours))
    overhead = statistics.median(a / b for a, b in zip(ours, cpp)) - 1
    bars = [(compiled >= 4, f"{compiled:.2f} times faster than the compiled formula (asked: at least 4)")]
    bars.append((overhead <= 0.05, f"{100 * overhead:.1f} % over the C++ alone (asked: at most 5 %)"))
    print()
    for met, words in bars:
        print(f"- {words}: {'met' if met else 'MISSED'}")
    return 0 if all(met for met, _ in bars) else 1


if __name__ == "__main__":
    sys.exit(main())
