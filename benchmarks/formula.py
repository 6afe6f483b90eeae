#!/usr/bin/env python3
"""The paper's formula over all weights of VGG19-BN in Python, forward and backward, eager and through torch.compile, in
turn in one process: what bench-gpu's figures, which are ratios to the eager formula, are to be read against.

    python3 benchmarks/formula.py [--device cuda] [--rounds 20] [--tf32]

Prints Markdown: medians over rounds, and how many times faster than eager.
"""
import argparse
import statistics
import time

try:
    import torch
except ModuleNotFoundError:
    raise SystemExit("formula.py: Python's torch is not there; expected a venv with torch")

WARM_UP = 5


def vgg19_shapes(classes=100):
    channels = 3
    for width, layers in ((64, 2), (128, 2), (256, 4), (512, 4), (512, 4)):
        for _ in range(layers):
            yield width, channels * 9
            channels = width
    yield classes, channels


def minimal_angle_loss(weight):
    """Eq 6: minus the mean angle to the nearest row."""
    unit = torch.nn.functional.normalize(weight, dim=1)
    cosine = unit @ unit.t()
    cosine = cosine - 2 * torch.diag(torch.diag(cosine))
    return -torch.acos(cosine.max(1).values.clamp(-0.99999, 0.99999)).mean()


def loss(weights):
    return sum(minimal_angle_loss(weight) for weight in weights)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--rounds", type=int, default=20)
    parser.add_argument("--tf32", action="store_true", help="products in TF32, as PyTorch allows on request")
    arguments = parser.parse_args()
    torch.backends.cuda.matmul.allow_tf32 = arguments.tf32
    torch.manual_seed(1)
    weights = [torch.randn(shape, device=arguments.device, requires_grad=True) for shape in vgg19_shapes()]

    def seconds_of(function):
        for weight in weights:
            weight.grad = None
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        begin = time.perf_counter()
        function(weights).backward()
        if arguments.device == "cuda":
            torch.cuda.synchronize()
        return time.perf_counter() - begin

    candidates = {"eager": loss, "torch.compile": torch.compile(loss)}
    seconds = {name: [] for name in candidates}
    for turn in range(WARM_UP + arguments.rounds):
        for name, function in candidates.items():
            taken = seconds_of(function)
            if turn >= WARM_UP:
                seconds[name].append(taken)
    kind = "TF32" if arguments.tf32 else "float32"
    print(f"The paper's formula over VGG19-BN's weights in Python, torch {torch.__version__}, {arguments.device}, {kind},")
    print(f"medians of {arguments.rounds} alternating rounds.\n")
    print("| | ms | times faster than eager |\n|---|---:|---:|")
    for name, taken in seconds.items():
        ratio = statistics.median(e / t for e, t in zip(seconds["eager"], taken))
        print(f"| {name} | {1e3 * statistics.median(taken):.3f} | {ratio:.2f} |")


if __name__ == "__main__":
    main()
