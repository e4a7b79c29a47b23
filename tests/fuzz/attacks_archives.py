"""Attacks on archives: zip, npz, npy, safetensors, pickles and what torch.save writes."""

import io
import json
import os
import struct
import zipfile

import numpy as np

from cdsa_lightning.files import seal
from fuzz.attacks_text import COMMAND, FILE
from fuzz.mutations import write_zip


class Hostile:
    """Runs a command when it is unpickled."""

    def __reduce__(self):
        return os.system, (COMMAND,)


def members(path):
    with zipfile.ZipFile(path) as archive:
        return [(name, archive.read(name)) for name in archive.namelist()]


def _changed(path, change, method=zipfile.ZIP_STORED):
    path.write_bytes(write_zip([(name, change(name, content)) for name, content in members(path)], method))


def deflated_bomb(folder, path):
    """The largest member has 200 MB of zeros behind its own beginning."""
    buffer, first = io.BytesIO(), members(path)
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        largest = max(first, key=lambda member: len(member[1]))[0]
        for name, content in first:
            with archive.open(name, "w", force_zip64=True) as file:
                file.write(content)
                for _ in range(200 if name == largest else 0):
                    file.write(bytes(1 << 20))
    path.write_bytes(buffer.getvalue())


def false_sizes(folder, path):
    """The list of contents announces terabytes."""
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 20 : at + 28] = struct.pack("<II", 0xFFFFFFF0, 0xFFFFFFF0)
        at = content.find(b"PK\x01\x02", at + 4)
    path.write_bytes(bytes(content))


def false_packed_sizes(folder, path):
    """What is packed takes gigabytes, says the list of contents, and what comes out of it little."""
    content = bytearray(path.read_bytes())
    at = content.find(b"PK\x01\x02")
    while at >= 0:
        content[at + 20 : at + 24] = struct.pack("<I", 0x7FFFFFF0)
        at = content.find(b"PK\x01\x02", at + 4)
    path.write_bytes(bytes(content))


def lzma_members(folder, path):
    """A method whose header may ask for gigabytes of dictionary."""
    _changed(path, lambda name, content: content, zipfile.ZIP_LZMA)


def lzma_bomb(folder, path):
    _changed(path, lambda name, content: content, zipfile.ZIP_LZMA)
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x09\x04\x05\x00\x5d\x00\x00\x80\x00", b"\x09\x04\x05\x00\x5d\xff\xff\xff\xff"))


def names_that_climb(folder, path):
    path.write_bytes(write_zip([*members(path), ("../../climbed", b"x"), ("/climbed", b"x")]))


def names_twice(folder, path):
    first = members(path)
    path.write_bytes(write_zip([*first, *((name, content[: len(content) // 2]) for name, content in first)]))


def many_members(folder, path):
    path.write_bytes(write_zip([*members(path), *((f"m{number}", b"") for number in range(20_000))]))


ZIP = [
    *FILE,
    *(
        ("bombs", attack)
        for attack in (deflated_bomb, false_sizes, false_packed_sizes, lzma_members, lzma_bomb, many_members)
    ),
    *(("places", attack) for attack in (names_that_climb, names_twice)),
]


# ---- npz and npy ---------------------------------------------------------------------------------------------------


def npy(descr, shape, content=b"", fortran=False):
    header = repr({"descr": descr, "fortran_order": fortran, "shape": shape}).encode()
    header += b" " * (63 - (10 + len(header)) % 64) + b"\n"
    return b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header + content


def _arrays(name, column, make):
    """Every array of an .npz, or the one of an .npy, becomes `make()`."""

    def attack(folder, path):
        if path.suffix == ".npy":
            path.write_bytes(make())
        else:
            _changed(path, lambda *_: make())

    attack.__name__ = name
    return column, attack


def pickled_array():
    buffer = io.BytesIO()
    np.save(buffer, np.array([Hostile()], dtype=object), allow_pickle=True)
    return buffer.getvalue()


NPY = [
    *FILE,
    _arrays("pickled_objects", "code", pickled_array),
    _arrays("a_trillion_announced", "bombs", lambda: npy("<f8", (10**12,), bytes(8))),
    _arrays("a_trillion_of_nothing", "bombs", lambda: npy("|S0", (10**12,))),
    _arrays("gigantic_entries", "bombs", lambda: npy("|V2000000000", (10**6,))),
    _arrays("rows_of_nothing", "bombs", lambda: npy("<f4", (10**15, 0))),
    _arrays("negative_shape", "values", lambda: npy("<f4", (-5, -2), bytes(40))),
    _arrays("deep_header", "nesting", lambda: npy("(" * 5000, (1,))),
    _arrays("records", "values", lambda: npy([("a", "<f4"), ("b", "|O")], (2,), bytes(40))),
    _arrays("text", "values", lambda: npy("<U5", (2,), bytes(40))),
    _arrays("not_finite", "values", lambda: npy("<f4", (10,), struct.pack("<f", float("nan")) * 10)),
    _arrays("complex", "values", lambda: npy("<c8", (5,), bytes(40))),
    _arrays("times", "values", lambda: npy("<M8[s]", (5,), bytes(40))),
    _arrays("scalar", "values", lambda: npy("<f8", (), bytes(8))),
    _arrays("many_axes", "values", lambda: npy("<f8", (1,) * 40, bytes(8))),
    _arrays("huge_integers", "values", lambda: npy("<i8", (4,), struct.pack("<q", 2**62) * 4)),
    _arrays("negative_integers", "values", lambda: npy("<i8", (4,), struct.pack("<q", -(2**62)) * 4)),
]
NPZ = [*NPY, *(entry for entry in ZIP if entry not in FILE)]


# ---- safetensors ---------------------------------------------------------------------------------------------------


def header_of(path):
    content = path.read_bytes()
    size = struct.unpack("<Q", content[:8])[0]
    if size > len(content):
        return {}, content  # a file of another kind
    return json.loads(content[8 : 8 + size]), content[8 + size :]


def rewritten(name, column, change):
    def attack(folder, path):
        header, content = header_of(path)
        text, content = change(header, content)
        text = text if isinstance(text, bytes) else json.dumps(text).encode()
        path.write_bytes(seal(struct.pack("<Q", len(text)) + text + content))

    attack.__name__ = name
    return column, attack


def _hollow(header, content):
    """Every tensor has no entries, along an axis of 10^9."""
    entry = {"dtype": "F32", "shape": [10**9, 10**9, 0], "data_offsets": [0, 0]}
    return {name: entry if name != "__metadata__" else said for name, said in header.items()}, b""


def _dims(number):
    def change(header, content):
        marks = header.get("__metadata__", {})
        if "cdsa" in marks:
            said = json.loads(marks["cdsa"])
            said |= {"obs_dim": number, "action_dim": number, "num_seeds": number}
            marks["cdsa"] = json.dumps(said)
        return header, content

    return change


def _long_vectors(header, content):
    """Statistics of 10^5 entries: networks between them would take 10^10."""
    said = json.loads(header["__metadata__"]["cdsa"]) if "cdsa" in header.get("__metadata__", {}) else {}
    wide = 300_000
    said |= {"obs_dim": wide, "action_dim": wide, "low": [-1.0] * wide, "high": [1.0] * wide, "state_index": None}
    header["__metadata__"] = {"cdsa": json.dumps(said)}
    vectors = ("networks.obs_mean", "networks.obs_std", "networks.action_mean", "networks.action_std", "low", "high")
    parts, at = [], 0
    for name, entry in header.items():
        if name != "__metadata__":
            start, stop = entry["data_offsets"]
            part = bytes(4 * wide) if name in vectors else content[start:stop]
            entry |= {"data_offsets": [at, at + len(part)]} | ({"shape": [wide]} if name in vectors else {})
            parts.append(part)
            at += len(part)
    return header, b"".join(parts)


SAFETENSORS = [
    *FILE,
    rewritten("hollow_tensors", "bombs", _hollow),
    rewritten("long_vectors", "bombs", _long_vectors),
    rewritten("billions_of_entries", "bombs", _dims(10**9)),
    rewritten("negative_dimensions", "values", _dims(-1)),
    rewritten("deep_header", "nesting", lambda header, content: (b'{"a":' * 100_000, content)),
    rewritten("no_object", "values", lambda header, content: ([1], content)),
]
