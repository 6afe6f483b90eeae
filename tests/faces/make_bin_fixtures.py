"""Makes the .bin files in data/, once, as insightface and others write them; the tests need no Python.

    python3 -m venv venv && venv/bin/pip install numpy pillow
    venv/bin/python make_bin_fixtures.py data

Each holds 4 pairs of 6 distinct images of 8 x 8 grey pixels as PNG; pixel i of image k is (41 k + 7 i) % 256.
"""

import io
import os
import pathlib
import pickle
import sys

import numpy
from PIL import Image

ORDER = [0, 1, 2, 3, 0, 2, 4, 5]
SAME = [True, False, False, True]


def image(k):
    pixels = ((41 * k + 7 * numpy.arange(64)) % 256).astype(numpy.uint8).reshape(8, 8)
    stream = io.BytesIO()
    Image.fromarray(pixels).save(stream, "PNG", optimize=True)
    return stream.getvalue()


def python2(images, same):
    """What Python 2's cPickle writes by protocol 2: str as BINSTRING, each remembered."""
    memo = iter(range(256))
    remember = lambda: b"q" + bytes([next(memo)])
    text = lambda b: (b"U" + bytes([len(b)]) if len(b) < 256 else b"T" + len(b).to_bytes(4, "little")) + b + remember()
    bools = lambda values: b"".join(b"\x88" if value else b"\x89" for value in values)
    start = b"\x80\x02]" + remember() + b"("
    middle = start + b"".join(text(b) for b in images) + b"e]" + remember() + b"("
    return middle + bools(same) + b"e\x86" + remember() + b"."


class Hostile:
    def __reduce__(self):
        return os.system, ("touch hostile-was-here",)


def main(folder):
    distinct = [image(k) for k in range(6)]
    images = [bytes(bytearray(distinct[k])) for k in ORDER]  # equal images are other objects, as when read from files
    write = lambda name, data: (folder / (name + ".bin")).write_bytes(data)
    write("python2", python2(images, SAME))
    assert pickle.loads(python2(images, SAME), encoding="bytes") == (images, SAME)
    for protocol in (2, 3, 4, 5):
        write(f"python3_protocol{protocol}", pickle.dumps((images, SAME), protocol))
    scalars = [numpy.bool_(value) for value in SAME]
    arrays = [numpy.frombuffer(data, dtype=numpy.uint8).copy() for data in images]
    for protocol in (2, 4, 5):
        write(f"numpy_protocol{protocol}", pickle.dumps([images, scalars], protocol))
        write(f"arrays_protocol{protocol}", pickle.dumps((arrays, numpy.array(SAME)), protocol))
    before_numpy_2 = pickle.dumps((arrays, scalars), 2).replace(b"cnumpy._core.", b"cnumpy.core.")
    write("numpy1", before_numpy_2)
    write("integers", pickle.dumps((images, [int(value) for value in SAME]), 4))

    for protocol in (2, 4):
        write(f"hostile_protocol{protocol}", pickle.dumps((images, [Hostile()] * 4), protocol))
    write("not_images", pickle.dumps((images[:3] + [b"no image"] + images[4:], SAME), 4))
    write("truncated_image", pickle.dumps((images[:3] + [images[3][:40]] + images[4:], SAME), 4))


if __name__ == "__main__":
    main(pathlib.Path(sys.argv[1]))
