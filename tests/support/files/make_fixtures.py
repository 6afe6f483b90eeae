"""Makes the files in ../data/ with the real PyTorch and safetensors, once; the tests need neither Python nor PyTorch.

    python3 -m venv venv && venv/bin/pip install torch==2.11.0 safetensors numpy
    venv/bin/python make_fixtures.py ../data

Element number i of a tensor with the salt s is ((7 * i + s) % 64 - 32) / 16: exact in every floating type.
"""

import argparse
import collections
import datetime
import decimal
import fractions
import functools
import pathlib
import sys
import types

import numpy
import safetensors.torch
import torch


def fill(shape, salt, dtype=torch.float32):
    count = torch.Size(shape).numel()
    index = torch.arange(count)
    return (((7 * index + salt) % 64 - 32) / 16).reshape(shape).to(dtype)


def integers(shape, salt, dtype):
    return ((7 * torch.arange(torch.Size(shape).numel()) + salt) % 64).reshape(shape).to(dtype)


class Net(torch.nn.Sequential):
    def __init__(self):
        super().__init__(
            collections.OrderedDict(
                conv=torch.nn.Conv2d(2, 4, 3, bias=False), bn=torch.nn.BatchNorm2d(4), fc=torch.nn.Linear(4, 3)
            )
        )
        with torch.no_grad():
            for salt, tensor in enumerate(self.state_dict().values()):
                tensor.copy_(fill(tensor.shape, salt) if tensor.is_floating_point() else torch.tensor(5))


def nested_checkpoint():
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    sum(parameter.sum() for parameter in model.parameters()).backward()
    weights = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    optimizer.step()
    return {
        "epoch": 12,
        "arch": "net",
        "best": 71.25,
        "best_numpy": numpy.float64(0.5),
        "big": 2**70,
        "none": None,
        "flags": {True, False},
        "args": argparse.Namespace(lr=0.1, milestones=[81, 122]),
        "optimizer": optimizer.state_dict(),
        "size": torch.Size([2, 3]),
        "state_dict": weights,
    }


def views():
    base = fill((6, 4), 3)
    return {
        "transposed": base.t(),
        "rows": base[2:4],
        "columns": base[:, 1:3],
        "every_other": base[::2],
        "scalar": base[5, 3],
        "expanded": fill((1, 3), 9).expand(4, 3),
        "channels_last": fill((2, 3, 2, 2), 5).contiguous(memory_format=torch.channels_last),
        "parameter": torch.nn.Parameter(fill((2, 2), 6)),
        "empty": torch.zeros(0, 5),
    }


def every_type():
    tensors = {str(t).split(".")[1]: fill((3, 5), 1, t) for t in (torch.float64, torch.float32, torch.float16, torch.bfloat16)}
    for dtype in (torch.int64, torch.int32, torch.int16, torch.int8, torch.uint8):
        tensors[str(dtype).split(".")[1]] = integers((3, 5), 1, dtype)
    tensors["bool"] = integers((3, 5), 1, torch.int64) % 2 == 1
    tensors["scalar"] = torch.tensor(2.5)
    tensors["empty"] = torch.zeros(0, 5)
    return tensors


def everything_beside():
    """What training scripts put beside the weights; all that matters is that it costs nothing."""
    model = Net()
    optimizer = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.MultiStepLR(optimizer, [81, 122])
    return {
        "when": datetime.datetime(2020, 2, 29, tzinfo=datetime.timezone.utc),
        "where": pathlib.PurePosixPath("/runs/1"),
        "args": types.SimpleNamespace(lr=0.1),
        "counts": collections.Counter("abca"),
        "tree": collections.defaultdict(list, a=[1]),
        "queue": collections.deque([1, 2], maxlen=3),
        "array": numpy.arange(6.0).reshape(2, 3),
        "number": numpy.float32(0.5),
        "random": numpy.random.RandomState(0).get_state(),
        "dtype": torch.bfloat16,
        "device": torch.device("cpu"),
        "layout": torch.strided,
        "generator": torch.random.get_rng_state(),
        "exact": fractions.Fraction(1, 3),
        "decimal": decimal.Decimal("0.1"),
        "part": functools.partial(sorted, reverse=True),
        "frozen": frozenset({1}),
        "complex": 1 + 2j,
        "range": range(5),
        "slice": slice(1, 2),
        "bytes": bytearray(b"abc"),
        "big": -(2**80),
        "schedule": schedule.state_dict(),
        "optimizer": optimizer.state_dict(),
        "deep": {"under": [{"weights": model.state_dict()}]},
    }


def rare_tensors():
    attributed = fill((2, 3), 1)
    attributed.tag = "x"
    return {
        "plain": fill((2, 3), 0),
        "attributed": attributed,
        "parameter": torch.nn.Parameter(attributed),
        "e4m3": fill((2, 3), 2, torch.float8_e4m3fn),
        "e5m2": fill((2, 3), 3).mul(4).round().div(4).to(torch.float8_e5m2),
        "u16": integers((2, 3), 4, torch.uint16),
        "u32": integers((2, 3), 5, torch.uint32),
        "u64": integers((2, 3), 6, torch.uint64),
        "c64": torch.complex(fill((2, 3), 7), fill((2, 3), 8)),
        "conjugated": torch.complex(fill((2, 3), 7), fill((2, 3), 8)).conj(),
        "quantized": torch.quantize_per_tensor(fill((2, 3), 9), 0.1, 0, torch.qint8),
        "sparse": fill((2, 3), 10).to_sparse(),
        "csr": fill((2, 3), 10).to_sparse_csr(),
        "meta": torch.empty(2, 3, device="meta"),
    }


def reversed_bytes(tensor):
    raw = tensor.reshape(-1).view(torch.uint8).reshape(-1, tensor.element_size())
    return raw.flip(1).reshape(-1).view(tensor.dtype).reshape(tensor.shape)


def save_as_big_endian(tensors, path):
    """torch.save takes the bytes from memory and writes down the machine's byte order: pretend to be such a machine."""
    real = sys.byteorder
    sys.byteorder = "big"
    torch.save({name: reversed_bytes(tensor) for name, tensor in tensors.items()}, path)
    sys.byteorder = real
    for name, tensor in torch.load(path).items():
        assert tensor.equal(tensors[name]), name


def main(folder):
    torch.manual_seed(0)
    torch.save(Net().state_dict(), folder / "state_dict.pt")
    torch.save(Net().state_dict(), folder / "protocol5.pt", pickle_protocol=5)
    torch.save(torch.nn.DataParallel(Net()).state_dict(), folder / "data_parallel.pt")
    torch.save(nested_checkpoint(), folder / "nested.pt")
    torch.save(Net().half().state_dict(), folder / "half.pt")
    torch.save(every_type(), folder / "every_type.pt")
    save_as_big_endian(every_type(), folder / "big_endian.pt")
    torch.save(views(), folder / "views.pt")
    safetensors.torch.save_file(every_type(), folder / "every_type.safetensors", metadata={"format": "pt", "note": "äöü"})
    torch.save(everything_beside(), folder / "everything_beside.pt")
    torch.save(everything_beside(), folder / "legacy_everything_beside.pt", _use_new_zipfile_serialization=False)
    torch.save(rare_tensors(), folder / "rare_tensors.pt")
    torch.save(rare_tensors(), folder / "legacy_rare_tensors.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(Net()).save(folder / "torchscript.pt")
    torch.save(Net().state_dict(), folder / "legacy.pt", _use_new_zipfile_serialization=False)
    torch.save(torch.nn.Linear(2, 2), folder / "refused_module.pt")
    torch.save({"epoch": 3}, folder / "refused_no_tensors.pt")
    torch.jit.script(torch.nn.ReLU()).save(folder / "torchscript_without_tensors.pt")
    torch.save({"a": torch.zeros(2, dtype=torch.complex64)}, folder / "complex.pt")


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
