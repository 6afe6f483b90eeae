"""What Python's own readers find in the files of a run, as lines for a test.

    python_reads.py events FOLDER       tensorboard: "tag<TAB>step<TAB>value<TAB>wall time"
    python_reads.py weights FILE        safetensors: "name<TAB>shape<TAB>type<TAB>sum of the elements"
    python_reads.py torch FILE          the same, read by PyTorch through safetensors.torch
"""

import sys


def events(folder):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(folder, size_guidance={"scalars": 0})
    accumulator.Reload()
    for tag in accumulator.Tags()["scalars"]:
        for event in accumulator.Scalars(tag):
            print(tag, event.step, repr(event.value), event.wall_time, sep="\t")


def line(name, array):
    total = float(array.astype("float64").sum())
    print(name, "x".join(str(size) for size in array.shape), array.dtype, repr(total), sep="\t")


def weights(path):
    from safetensors.numpy import load_file

    for name, array in sorted(load_file(path).items()):
        line(name, array)


def torch(path):
    from safetensors.torch import load_file

    for name, tensor in sorted(load_file(path).items()):
        assert tensor.is_contiguous(), name
        line(name, tensor.numpy())


if __name__ == "__main__":
    {"events": events, "weights": weights, "torch": torch}[sys.argv[1]](sys.argv[2])
