#!/usr/bin/env python3
"""The networks of examples/faces/networks.hpp once more, in PyTorch: prints the numbers that networks_test.cpp expects.

    pip install torch==2.11.0 && python reference_networks.py

Weights and images come from a formula of the index, everything runs in float64 on the CPU.
"""
import os
import sys

import torch
from torch import nn

sys.path.insert(0, os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "train"))
from reference_models import fill, noise


class Block(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in, eps=1e-5)
        self.conv1 = nn.Conv2d(width_in, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width, eps=1e-5)
        self.prelu = nn.PReLU(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(width, eps=1e-5)
        self.downsample = None
        if stride == 2 or width_in != width:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, stride, bias=False),
                                            nn.BatchNorm2d(width, eps=1e-5))

    def forward(self, x):
        out = self.bn3(self.conv2(self.prelu(self.bn2(self.conv1(self.bn1(x))))))
        return out + (x if self.downsample is None else self.downsample(x))


class Network(nn.Module):
    def __init__(self, blocks, widths, stem_stride, channels, size, embedding):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, widths[0], 3, stem_stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0], eps=1e-5)
        self.prelu = nn.PReLU(widths[0])
        before = widths[0]
        side = -(-size // stem_stride)
        for number, (count, width) in enumerate(zip(blocks, widths), 1):
            layer = [Block(before, width, 2)] + [Block(width, width, 1) for _ in range(count - 1)]
            self.add_module(f"layer{number}", nn.Sequential(*layer))
            before, side = width, -(-side // 2)
        self.bn2 = nn.BatchNorm2d(before, eps=1e-5)
        self.fc = nn.Linear(before * side * side, embedding)
        self.features = nn.BatchNorm1d(embedding, eps=1e-5)
        self.features.weight.requires_grad = False

    def forward(self, x):
        x = self.prelu(self.bn1(self.conv1(x)))
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        return self.features(self.fc(self.bn2(x).flatten(1)))


FULL, NARROW = (64, 128, 256, 512), (16, 32, 64, 128)
NETWORKS = {"ir-18": ((2, 2, 2, 2), FULL, 1), "ir-50": ((3, 4, 14, 3), FULL, 1), "ir-100": ((3, 13, 30, 3), FULL, 1),
            "ir-small": ((1, 2, 2, 1), NARROW, 2)}


def reference(name, channels, size, embedding):
    model = Network(*NETWORKS[name], channels, size, embedding).double()
    fill(model)
    images = 2 * noise(1000, (4, channels, size, size))
    with torch.no_grad():
        embeddings = model.eval()(images)
    loss = (model.train()(images) * noise(2000, (4, embedding))).sum()
    loss.backward()
    gradients = [p.grad for p in model.parameters() if p.requires_grad]
    numbers = [embeddings[0, 0], embeddings[3, 1], embeddings.norm(), loss.detach(), gradients[0].norm(),
               torch.cat([g.flatten() for g in gradients]).norm(),
               torch.cat([b.flatten().double() for b in model.buffers()]).norm()]
    print(f'    {{"{name}", {channels}, {size}, {embedding}, {{' + ", ".join(f"{float(n):.12g}" for n in numbers) + "}},")


def sizes(name, channels, embedding):
    model = Network(*NETWORKS[name], channels, 112, embedding)
    names = list(model.state_dict())
    print(f'    {{"{name}", {channels}, {sum(p.numel() for p in model.parameters())}, {len(names)}}},')


reference("ir-18", 3, 64, 512)
reference("ir-18", 1, 112, 64)
reference("ir-50", 3, 48, 512)
reference("ir-small", 1, 112, 128)
reference("ir-small", 3, 100, 128)
for name, channels, embedding in (("ir-18", 3, 512), ("ir-50", 3, 512), ("ir-100", 3, 512), ("ir-small", 1, 128)):
    sizes(name, channels, embedding)
