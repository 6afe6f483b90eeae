"""Writes the npy files beside it, as NumPy does: the bytes that points_file_test.cpp reads."""
from pathlib import Path

import numpy as np

here = Path(__file__).parent
points = np.array([[1, 0.5, -0.25], [0.1, -2, 3e-5], [-1e10, 7, 0]])
np.save(here / "float64.npy", points)
np.save(here / "float32.npy", points.astype(np.float32))
np.save(here / "big_endian.npy", points.astype(">f8"))
np.save(here / "by_columns.npy", np.asfortranarray(points))
