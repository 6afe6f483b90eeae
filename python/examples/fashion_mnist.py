"""MMA in a training loop: a network of torchvision or timm on Fashion-MNIST, as Debian's package has it.

    apt-get install dataset-fashion-mnist
    python fashion_mnist.py                              # a small network of torch alone
    python fashion_mnist.py --model torchvision:resnet18
    python fashion_mnist.py --model timm:resnet18
    python fashion_mnist.py --coefficient 0              # without MMA
"""

import argparse
import gzip
from pathlib import Path

import mma
import numpy
import torch
from torch import nn


def load(folder, split, count):
    with gzip.open(folder / f"{split}-images-idx3-ubyte.gz") as file:
        images = numpy.frombuffer(file.read(), numpy.uint8, offset=16).reshape(-1, 1, 28, 28)[:count]
    with gzip.open(folder / f"{split}-labels-idx1-ubyte.gz") as file:
        labels = numpy.frombuffer(file.read(), numpy.uint8, offset=8)[:count]
    return (torch.tensor(images, dtype=torch.float32) / 255 - 0.286) / 0.353, torch.tensor(labels, dtype=torch.int64)


def make_model(name):
    library, _, name = name.partition(":")
    if library == "timm":
        import timm

        return timm.create_model(name, in_chans=1, num_classes=10)
    if library == "torchvision":
        import torchvision

        model = torchvision.models.get_model(name, num_classes=10)
        model.conv1 = nn.Conv2d(1, 64, 3, padding=1, bias=False)
        return model
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, 2, bias=False), nn.BatchNorm2d(16), nn.ReLU(),
        nn.Conv2d(16, 32, 3, 2, bias=False), nn.BatchNorm2d(32), nn.ReLU(), nn.Flatten(), nn.Linear(32 * 36, 10),
    )  # fmt: skip


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", default="small")
    parser.add_argument("--coefficient", type=float, default=0.07)
    parser.add_argument("--images", type=int, default=10000)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--data", type=Path, default=Path("/usr/share/datasets/fashion-mnist"))
    options = parser.parse_args()

    torch.manual_seed(0)
    images, labels = load(options.data, "train", options.images)
    test_images, test_labels = load(options.data, "t10k", 2000)
    model = make_model(options.model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4)
    attachment = mma.attach(model, optimizer, coefficient=options.coefficient)

    for epoch in range(1, options.epochs + 1):
        model.train()
        for batch in torch.randperm(len(images)).split(64):
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images[batch]), labels[batch])
            loss.backward()
            optimizer.step()
        model.eval()
        with torch.no_grad():
            right = sum(int((model(x).argmax(1) == y).sum()) for x, y in zip(test_images.split(500), test_labels.split(500)))
        print(f"epoch {epoch}  loss {loss:.3f}  MMA {attachment.loss:.4f}  accuracy {100 * right / len(test_labels):.1f} %", flush=True)
    print(attachment.regularizer.report())


if __name__ == "__main__":
    main()
