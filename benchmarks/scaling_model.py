#!/usr/bin/env python3
"""What data-parallel training costs on P GPUs, from bytes and FLOPs a step: the formulas of docs/scaling.md.

    scaling_model.py                 the tables of docs/scaling.md
    scaling_model.py --parameters 25.6e6 --flops 4.1e9 --batch 64    the same for a network of your own

All times in seconds, all rates a GPU. Nothing here was measured but what MEASURED says.
"""

import argparse
from dataclasses import dataclass

MEASURED = {  # benchmarks/results/h100, float32, batch 128: a step without a regularizer, and MMA of all layers
    "vgg19-bn": {"step": 9.4e-3, "mma": 1.4e-3},
    "wrn-28-10": {"mma": 2.3e-3},
}
BACKWARD = 2 / 3  # of a step's FLOPs: two products where forward has one
BYTES = 4  # of a gradient's number: float32, with bf16 and fp16 too
LAST_BUCKET = 25 * 2**20  # bytes at most that c10d's Reducer sends when nothing is left to compute


@dataclass
class Machine:
    """GPUs, and the links between them: bytes a second in one direction that an all-reduce really gets."""

    rate: float = 33e12  # what VGG19-BN reaches in float32 on an H100, see MEASURED
    inside: float = 350e9  # NVLink, eight H100
    outside: float = 40e9  # one 400 Gbit/s adapter
    adapters: int = 8  # of a machine of eight GPUs
    gpus: int = 8  # of a machine
    latency: float = 10e-6  # a step of a ring

    def bandwidth(self, processes):
        """Of a ring: it crosses each machine's border once, by all adapters at a time."""
        return self.inside if processes <= self.gpus else min(self.inside, self.adapters * self.outside)


@dataclass
class Network:
    name: str
    parameters: float
    flops: float  # of one image forward, 2 for a multiplication and an addition
    batch: int = 128  # of each GPU
    step: float = 0  # seconds of a step on one GPU, where it was measured
    mma: float = 0  # seconds of MMA on all layers, the same
    largest: float = 1  # the costliest layer's share of that


def all_reduce(size, processes, machine):
    if processes == 1:
        return 0.0
    ring = 2 * (processes - 1)
    return ring / processes * size / machine.bandwidth(processes) + ring * machine.latency


def step_seconds(network, processes, machine):
    """(seconds a step, of them in communication alone)"""
    compute = network.step or 3 * network.flops * network.batch / machine.rate
    share = network.mma * max(1 / processes, network.largest if processes > 1 else 1)
    gradient = BYTES * network.parameters
    whole = all_reduce(gradient, processes, machine)
    last = all_reduce(min(LAST_BUCKET, gradient), processes, machine)
    exposed = max(last, whole - BACKWARD * compute) if processes > 1 else 0.0
    return compute + share + exposed, exposed


def convolution(side, kernel, into, out):
    return kernel * kernel * into * out, 2 * side * side * kernel * kernel * into * out


def vgg19(classes=100):
    layers, into, side = [], 3, 32
    for depth, width in zip((2, 2, 4, 4, 4), (64, 128, 256, 512, 512)):
        for _ in range(depth):
            layers.append((convolution(side, 3, into, width), width, 9 * into))
            into = width
        side //= 2
    return layers, [((into * classes, 2 * into * classes), classes, into)]


def wrn_28_10(classes=100):
    layers, into, side = [(convolution(32, 3, 3, 16), 16, 27)], 16, 32
    for block, width in enumerate((160, 320, 640)):
        side = 32 // 2**block
        for k in range(4):
            layers.append((convolution(side, 3, into, width), width, 9 * into))
            layers.append((convolution(side, 3, width, width), width, 9 * width))
            if k == 0:
                layers.append((convolution(side, 1, into, width), width, into))
            into = width
    return layers, [((into * classes, 2 * into * classes), classes, into)]


def network_of(name, layers, output):
    """Weights of all layers, and the share of MMA's cost, rows squared times dimension, that the largest has."""
    every = layers + output
    costs = [rows * rows * dimension for _, rows, dimension in every]
    return Network(
        name,
        parameters=sum(weights for (weights, _), _, _ in every),
        flops=sum(flops for (_, flops), _, _ in every),
        largest=max(costs) / sum(costs),
        **MEASURED.get(name, {}),
    )


def print_network(network, machine):
    print(f"\n{network.name}: {network.parameters / 1e6:.1f} million weights, {BYTES * network.parameters / 1e6:.0f} MB "
          f"of gradients, {3 * network.flops * network.batch / 1e12:.2f} TFLOP a step of {network.batch} images\n")
    print("| GPUs | ms a step | of them in communication alone | images/s | of P times one GPU's |")
    print("|---:|---:|---:|---:|---:|")
    alone = network.batch / step_seconds(network, 1, machine)[0]
    for processes in (1, 2, 8, 64):
        seconds, exposed = step_seconds(network, processes, machine)
        images = processes * network.batch / seconds
        print(f"| {processes} | {1e3 * seconds:.2f} | {1e3 * exposed:.2f} | {images:.0f} | "
              f"{100 * images / processes / alone:.0f} % |")


def print_head(machine, rows=10_000_000, dimension=512, batch=128):
    """Rows over the processes: what each of them has, sends and computes."""
    print(f"\nhead of {rows:,} rows of {dimension}, batch {batch} a GPU\n")
    print("| GPUs | GB of weights, gradients and momentum | GB of logits | GFLOP of logits | MB sent a step | "
          "TFLOP of a search | s of it | GB sent for it |")
    print("|---:|---:|---:|---:|---:|---:|---:|---:|")
    for processes in (1, 8, 64):
        own, whole_batch = rows / processes, batch * processes
        weights = 3 * own * dimension * BYTES / 1e9
        logits = whole_batch * own * BYTES / 1e9
        flops = 3 * 2 * whole_batch * own * dimension / 1e9
        # Embeddings to all and their gradients back, maximum and sum of each softmax.
        sent = (processes - 1) / processes * whole_batch * (2 * dimension + 2) * BYTES / 1e6
        search = 2 * own * rows * dimension / 1e12
        passed = (processes - 1) * own * dimension * BYTES / 1e9
        print(f"| {processes} | {weights:.1f} | {logits:.1f} | {flops:.0f} | {sent:.1f} | {search:.0f} | "
              f"{1e12 * search / machine.rate:.0f} | {passed:.1f} |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parameters", type=float, help="weights of your network")
    parser.add_argument("--flops", type=float, help="FLOPs of one image forward (2 for a multiply-add)")
    parser.add_argument("--batch", type=int, default=128, help="images a GPU")
    parser.add_argument("--step", type=float, default=0, help="seconds of a step on one GPU, where you measured it")
    for name, value in vars(Machine()).items():
        parser.add_argument(f"--{name}", type=type(value), default=value, help=f"default {value:g}")
    words = vars(parser.parse_args())
    machine = Machine(**{name: words[name] for name in vars(Machine())})
    if words["parameters"]:
        print_network(Network("yours", words["parameters"], words["flops"] or 0, words["batch"], words["step"]), machine)
        return
    for network in (network_of("vgg19-bn", *vgg19()), network_of("wrn-28-10", *wrn_28_10())):
        print_network(network, machine)
    print_head(machine)


if __name__ == "__main__":
    main()
