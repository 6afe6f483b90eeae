#!/usr/bin/env python3
"""Writes ../data/images/: small pictures of every kind that image_file.hpp reads, and what Pillow makes of them.

    python3 -m venv venv && venv/bin/pip install pillow==13.0.0 numpy && venv/bin/python make_image_fixtures.py

expected.safetensors holds for each picture NAME.rgb and NAME.grey, uint8 [channels, height, width], by Pillow's
convert("RGB") and convert("L"), and some resized by Image.BILINEAR: resized.HEIGHTxWIDTH of colour.png.
"""
import json
import os
import struct
import zlib

import numpy
from PIL import Image

folder = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "data", "images")
width, height = 23, 17


def picture(channels):
    """Smooth enough for JPEG, with an edge, another in each channel."""
    y, x, c = numpy.meshgrid(range(height), range(width), range(channels), indexing="ij")
    values = 120 + 100 * numpy.sin(x / 5 + c) * numpy.cos(y / (4 + c)) + 30 * (x > 14)
    return numpy.clip(values, 0, 255).astype(numpy.uint8)


def adam7(values):
    """A PNG in seven passes, which Pillow reads but does not write. values [height, width, 3]."""
    rows = b""
    for x0, y0, dx, dy in ((0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2)):
        for row in values[y0::dy, x0::dx]:
            if len(row):
                rows += b"\0" + row.tobytes()

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 1)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def write_pictures():
    colour, grey, alpha = Image.fromarray(picture(3)), Image.fromarray(picture(1)[:, :, 0]), picture(4)
    os.makedirs(folder, exist_ok=True)
    place = lambda name: os.path.join(folder, name)
    colour.save(place("colour.jpg"), quality=85)
    colour.save(place("progressive.jpg"), quality=85, progressive=True, subsampling=0)
    grey.save(place("grey.jpg"), quality=85)
    colour.convert("CMYK").save(place("refused_cmyk.jpg"), quality=85)
    colour.save(place("colour.png"))
    grey.save(place("grey.png"))
    Image.fromarray(alpha).save(place("colour_alpha.png"))
    Image.fromarray(alpha[:, :, :2], "LA").save(place("grey_alpha.png"))
    colour.quantize(13).save(place("palette.png"), transparency=3)
    grey.point(lambda v: 255 * (v > 128), "1").save(place("one_bit.png"))
    with open(place("interlaced.png"), "wb") as file:
        file.write(adam7(picture(3)))
    grey.save(place("binary.pgm"))
    values = picture(1)[:, :, 0] // 3
    with open(place("plain.pgm"), "w") as file:
        file.write("P2 # plain\n# by hand\n%d %d # width and height\n85\n" % (width, height))
        file.writelines(" ".join(map(str, row)) + "\n" for row in values)
    with open(place("binary_85.pgm"), "wb") as file:
        file.write(b"P5\n#\n%d\n%d 85\n" % (width, height) + values.tobytes())


def planes(image):
    values = numpy.asarray(image)
    return values[None] if values.ndim == 2 else values.transpose(2, 0, 1)


def expected():
    result = {}
    for name in sorted(os.listdir(folder)):
        if name.startswith("refused") or name.endswith(".safetensors"):
            continue
        with Image.open(os.path.join(folder, name)) as image:
            result[name + ".rgb"] = planes(image.convert("RGB"))
            result[name + ".grey"] = planes(image.convert("L"))
    colour = Image.fromarray(picture(3))
    for h, w in ((7, 9), (17, 40), (50, 11)):
        result["resized.%dx%d" % (h, w)] = planes(colour.resize((w, h), Image.BILINEAR))
    return result


def write_safetensors(path, tensors):
    header, data = {}, b""
    for name, values in tensors.items():
        begin = len(data)
        data += numpy.ascontiguousarray(values).tobytes()
        header[name] = {"dtype": "U8", "shape": list(values.shape), "data_offsets": [begin, len(data)]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)


write_pictures()
write_safetensors(os.path.join(folder, "expected.safetensors"), expected())
