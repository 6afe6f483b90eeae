#!/usr/bin/env python3
"""The networks of examples/training/models once more, in PyTorch: prints the numbers that models_test.cpp expects.

    pip install torch==2.11.0 && python reference_models.py

Weights, images and labels come from a formula of the index, everything runs in float64 on the CPU.
"""
import torch
from torch import nn
from torch.nn import functional as F


class Block(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = None
        if stride == 2:
            self.downsample = nn.Sequential(nn.Conv2d(width_in, width, 1, 2, bias=False), nn.BatchNorm2d(width))

    def forward(self, x):
        out = self.bn2(self.conv2(F.relu(self.bn1(self.conv1(x)))))
        return F.relu(out + (x if self.downsample is None else self.downsample(x)))


class ResNet(nn.Module):
    def __init__(self, depth, channels, classes):
        super().__init__()
        n = (depth - 2) // 6
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(16)
        self.layer1 = nn.Sequential(*[Block(16, 16, 1) for _ in range(n)])
        self.layer2 = nn.Sequential(Block(16, 32, 2), *[Block(32, 32, 1) for _ in range(n - 1)])
        self.layer3 = nn.Sequential(Block(32, 64, 2), *[Block(64, 64, 1) for _ in range(n - 1)])
        self.fc = nn.Linear(64, classes)

    def forward(self, x):
        x = F.relu(self.bn1(self.conv1(x)))
        return self.fc(self.layer3(self.layer2(self.layer1(x))).mean((2, 3)))


class Halve(nn.Module):
    def forward(self, x):
        return F.max_pool2d(x, 2) if x.shape[-1] > 1 else x


class Vgg(nn.Module):
    WIDTHS = {16: "64 64 M 128 128 M 256 256 256 M 512 512 512 M 512 512 512 M",
              11: "64 M 64 M 128 128 M 128 128 M 128 128 M",  # narrow
              19: "64 64 M 128 128 M 256 256 256 256 M 512 512 512 512 M 512 512 512 512 M"}

    def __init__(self, depth, channels, classes):
        super().__init__()
        layers = []
        for item in self.WIDTHS[depth].split():
            if item == "M":
                layers += [Halve()]
            else:
                layers += [nn.Conv2d(channels, int(item), 3, padding=1), nn.BatchNorm2d(int(item)), nn.ReLU()]
                channels = int(item)
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x):
        return self.classifier(self.features(x).mean((2, 3)))


class WideBlock(nn.Module):
    def __init__(self, width_in, width, stride):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        if width_in != width:
            self.convShortcut = nn.Conv2d(width_in, width, 1, stride, bias=False)

    def forward(self, x):
        pre = F.relu(self.bn1(x))
        if hasattr(self, "convShortcut"):
            x = self.convShortcut(pre)
        return x + self.conv2(F.relu(self.bn2(self.conv1(pre))))


class WideResNet(nn.Module):
    def __init__(self, depth, factor, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        width_in = 16
        for number, width in enumerate([16 * factor, 32 * factor, 64 * factor], 1):
            blocks = []
            for i in range((depth - 4) // 6):
                blocks.append(WideBlock(width_in, width, 2 if number > 1 and i == 0 else 1))
                width_in = width
            self.add_module(f"block{number}", nn.ModuleDict({"layer": nn.Sequential(*blocks)}))
        self.bn1 = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def forward(self, x):
        x = self.conv1(x)
        for stage in (self.block1, self.block2, self.block3):
            x = stage["layer"](x)
        return self.fc(F.relu(self.bn1(x)).mean((2, 3)))


class Composite(nn.Module):
    """BatchNorm, ReLU, convolution: what the DenseNet paper calls H."""

    def __init__(self, width_in, width, kernel):
        super().__init__()
        self.bn1 = nn.BatchNorm2d(width_in)
        self.conv1 = nn.Conv2d(width_in, width, kernel, 1, kernel // 2, bias=False)

    def forward(self, x):
        return self.conv1(F.relu(self.bn1(x)))


class DenseNet(nn.Module):
    def __init__(self, depth, growth, channels, classes):
        super().__init__()
        self.conv1 = nn.Conv2d(channels, 16, 3, 1, 1, bias=False)
        width = 16
        for number in (1, 2, 3):
            layers = (depth - 4) // 3
            self.add_module(f"dense{number}",
                            nn.ModuleList([Composite(width + i * growth, growth, 3) for i in range(layers)]))
            width += layers * growth
            if number < 3:
                self.add_module(f"trans{number}", Composite(width, width, 1))
        self.bn = nn.BatchNorm2d(width)
        self.fc = nn.Linear(width, classes)

    def block(self, layers, x):
        maps = [x]
        for layer in layers:
            maps.append(layer(torch.cat(maps, 1)))
        return torch.cat(maps, 1)

    def forward(self, x):
        x = self.conv1(x)
        x = F.avg_pool2d(self.trans1(self.block(self.dense1, x)), 2)
        x = F.avg_pool2d(self.trans2(self.block(self.dense2, x)), 2)
        return self.fc(F.relu(self.bn(self.block(self.dense3, x))).mean((2, 3)))


def noise(stream, shape):
    """Numbers in [-0.5, 0.5) that look random: a hash of (stream, index in row-major order), the same in the C++ test."""
    count = torch.Size(shape).numel()
    h = (torch.arange(count) * 2654435761 + stream * 374761393) & 0xFFFFFFFF
    h = ((h ^ (h >> 15)) * 2246822519) & 0xFFFFFFFF
    h = ((h ^ (h >> 13)) * 3266489917) & 0xFFFFFFFF
    return ((h ^ (h >> 16)).double() / 2**32 - 0.5).reshape(shape)


def fill(model):
    with torch.no_grad():
        for stream, p in enumerate(model.parameters()):
            if p.dim() == 1:  # biases and BatchNorm's weights
                p.copy_(0.75 + noise(stream, p.shape))
            else:
                p.copy_(noise(stream, p.shape) * (24 / p[0].numel()) ** 0.5)
        for stream, b in enumerate(model.buffers()):
            if b.dim() == 1:  # running means and variances
                b.copy_(0.75 + noise(500 + stream, b.shape))


def reference(name, make, channels, size, classes):
    model = make(channels, classes).double()
    fill(model)
    images, labels = 2 * noise(1000, (4, channels, size, size)), torch.arange(4) * 7 % classes
    with torch.no_grad():
        logits = model.eval()(images)
    loss = F.cross_entropy(model.train()(images), labels)
    loss.backward()
    gradients = [p.grad for p in model.parameters()]
    numbers = [logits[0, 0], logits[3, 1], logits.norm(), loss.detach(), gradients[0].norm(),
               torch.cat([g.flatten() for g in gradients]).norm(), torch.cat([b.flatten().double() for b in model.buffers()]).norm()]
    print(f'    {{"{name}", {channels}, {size}, {classes}, {{' + ", ".join(f"{float(n):.12g}" for n in numbers) + "}},")


if __name__ == "__main__":
    reference("resnet20", lambda *a: ResNet(20, *a), 3, 32, 100)
    reference("resnet20", lambda *a: ResNet(20, *a), 1, 28, 10)
    reference("resnet56", lambda *a: ResNet(56, *a), 3, 32, 100)
    reference("vgg16-bn", lambda *a: Vgg(16, *a), 1, 28, 10)
    reference("vgg19-bn", lambda *a: Vgg(19, *a), 3, 32, 100)
    reference("vgg19-bn", lambda *a: Vgg(19, *a), 3, 64, 10)
    reference("vgg11-bn-narrow", lambda *a: Vgg(11, *a), 3, 32, 100)
    reference("resnet56", lambda *a: ResNet(56, *a), 3, 64, 200)
    reference("vgg16-bn", lambda *a: Vgg(16, *a), 3, 64, 200)
    reference("wrn-16-8", lambda *a: WideResNet(16, 8, *a), 3, 32, 100)
    reference("wrn-16-8", lambda *a: WideResNet(16, 8, *a), 1, 28, 10)
    reference("wrn-28-10", lambda *a: WideResNet(28, 10, *a), 3, 16, 100)
    reference("densenet-40-12", lambda *a: DenseNet(40, 12, *a), 3, 32, 100)
    reference("densenet-40-12", lambda *a: DenseNet(40, 12, *a), 1, 28, 10)
