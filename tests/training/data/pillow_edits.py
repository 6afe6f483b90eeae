#!/usr/bin/env python3
"""What Pillow makes of images by AutoAugment's operations: writes the file that autoaugment_test.cpp compares with.

    pip install pillow && python pillow_edits.py synthetic pillow_edits.bin.gz     (the committed file)
    pillow_edits.py cifar100 OUT.gz TRAIN.BIN [COUNT]                              (real images; the test does it itself)

The file, packed by gzip: the line "COUNT CHANNELS HEIGHT WIDTH", the images, then for each operation and value a line
"OPERATION VALUE" and the edited images; images are bytes in the order of [COUNT, CHANNELS, HEIGHT, WIDTH].
"""
import gzip, math, sys

from PIL import Image, ImageEnhance, ImageOps

FILL = (129, 124, 112)
CASES = {
    "ShearX": [0.3, -0.2333333333333333], "ShearY": [0.2666666666666667, -0.3],
    "TranslateX": [9, -14], "TranslateY": [4, -14],
    "Rotate": [30, -6.666666666666667, 16.666666666666668],
    "AutoContrast": [0], "Invert": [0], "Equalize": [0],
    "Solarize": [256, 113.77777777777777, 28.444444444444457, 0], "Posterize": [8, 6, 4],
    "Contrast": [1.9, 0.30000000000000004, 1.6], "Color": [1.9, 0.1, 0.7],
    "Brightness": [1.7, 0.30000000000000004], "Sharpness": [1.9, 0.09999999999999998, 1.3],
}


def edited(image, operation, value):
    fill = FILL if image.mode == "RGB" else FILL[0]
    affine = {"ShearX": (1, value, 0, 0, 1, 0), "ShearY": (1, 0, 0, value, 1, 0),
              "TranslateX": (1, 0, value, 0, 1, 0), "TranslateY": (1, 0, 0, 0, 1, value)}
    if operation in affine:
        return image.transform(image.size, Image.Transform.AFFINE, affine[operation],
                               Image.Resampling.NEAREST, fillcolor=fill)
    return {
        "Rotate": lambda: image.rotate(value, Image.Resampling.NEAREST, fillcolor=fill),
        "AutoContrast": lambda: ImageOps.autocontrast(image),
        "Invert": lambda: ImageOps.invert(image),
        "Equalize": lambda: ImageOps.equalize(image),
        "Solarize": lambda: ImageOps.solarize(image, value),
        "Posterize": lambda: ImageOps.posterize(image, value),
        "Contrast": lambda: ImageEnhance.Contrast(image).enhance(value),
        "Color": lambda: ImageEnhance.Color(image).enhance(value),
        "Brightness": lambda: ImageEnhance.Brightness(image).enhance(value),
        "Sharpness": lambda: ImageEnhance.Sharpness(image).enhance(value),
    }[operation]()


def scene(number, height, width):
    """A lit ball on a gradient, with texture: smooth areas, edges, unlike colours in each image."""
    image = Image.new("RGB", (width, height))
    for y in range(height):
        for x in range(width):
            texture = 14 * math.sin(1.7 * x + number) * math.cos(2.3 * y - 0.4 * x)
            inside = (x - 0.4 * width - number) ** 2 + (y - 0.55 * height) ** 2 < (0.3 * height) ** 2
            light = 40 + 5.5 * x - 2.1 * y + texture if inside else 150 - 3.2 * y + 1.3 * x + 0.4 * texture
            tint = (1.0, 0.75, 0.45) if inside else (0.55 + 0.2 * number, 0.8, 1.1 - 0.2 * number)
            image.putpixel((x, y), tuple(max(0, min(255, round(light * t))) for t in tint))
    return image


def flat(height, width):
    """One shade in one channel, two in another: where the histograms' special cases are."""
    image = Image.new("RGB", (width, height), (77, 10, 200))
    image.putpixel((3, 2), (77, 240, 201))
    return image


def planes(image):
    return b"".join(band.tobytes() for band in image.split())


def cifar_images(path, count):
    with open(path, "rb") as file:
        for _ in range(count):
            record = file.read(3074)
            yield Image.merge("RGB", [Image.frombytes("L", (32, 32), record[2 + 1024 * c:1026 + 1024 * c])
                                      for c in range(3)])


def main(kind, out, path=None, count=200):
    images = list(cifar_images(path, int(count))) if kind == "cifar100" else [scene(0, 20, 24), scene(1, 20, 24),
                                                                             flat(20, 24)]
    # No time in the header: the same file each time.
    with open(out, "wb") as file, gzip.GzipFile("", "wb", 9, file, 0) as packed:
        packed.write(f"{len(images)} 3 {images[0].height} {images[0].width}\n".encode())
        packed.write(b"".join(planes(image) for image in images))
        for operation, values in CASES.items():
            for value in values:
                packed.write(f"{operation} {value!r}\n".encode())
                packed.write(b"".join(planes(edited(image, operation, value)) for image in images))


main(*sys.argv[1:])
