r"""HDF5 from elsewhere: a dataset is read where its numbers lie in the file itself, and as many as its size allows.

HDF5 follows links into other files, takes bytes of any file for numbers, joins datasets of other files into one, looks
for plugins to undo filters that it does not know, and fills what was never written. None of that has a place in data.
"""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from h5py import h5d, h5g, h5l, h5s

__all__ = ["CHUNK", "open_dataset", "plain_bytes"]

_FILTERS = {1, 2, 3, 4, 5, 6, 32000}  # deflate, shuffle, fletcher32, szip, nbit, scaleoffset, lzf
CHUNK = 256 << 20
"""Bytes of a chunk, which is unpacked whole."""


def open_dataset(group: h5g.GroupID, name: bytes) -> h5d.DatasetID:
    """The dataset `name` of `group`, a path whose every part is in the file itself.

    Raises:
        KeyError: there is none.
        ValueError: a part of the path leads elsewhere.
    """
    parts = name.split(b"/")
    for end in range(1, len(parts) + 1):
        part = b"/".join(parts[:end])
        if group.links.get_info(part).type != h5l.TYPE_HARD:
            raise ValueError(f"{part.decode(errors='replace')!r} is a link to another place, which is not followed")
    return h5d.open(group, name)


def plain_bytes(data: Any) -> int:
    """Bytes that the numbers of a dataset take.

    Raises:
        ValueError: they are no numbers, or not in the file itself.
    """
    if not isinstance(data, h5d.DatasetID):
        raise ValueError("it is no dataset")
    if data.get_space().get_simple_extent_type() != h5s.SIMPLE:
        raise ValueError("it is a dataset without rows")
    settings = data.get_create_plist()
    if settings.get_layout() == h5d.VIRTUAL or settings.get_external_count():
        raise ValueError("its numbers lie in another file, which is not opened")
    filters = [settings.get_filter(number)[0] for number in range(settings.get_nfilters())]
    if set(filters) - _FILTERS:
        raise ValueError(f"it was written with the filter {max(set(filters) - _FILTERS)}, which is not known here")
    kind: np.dtype = data.dtype
    if kind.kind not in "fiub":
        raise ValueError(f"it holds {kind}, not numbers")
    if settings.get_layout() == h5d.CHUNKED and math.prod(settings.get_chunk()) * kind.itemsize > CHUNK:
        raise ValueError(f"its chunks {settings.get_chunk()} are too large")
    return math.prod(data.shape) * max(kind.itemsize, 4)
