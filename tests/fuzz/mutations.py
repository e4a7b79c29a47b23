"""Damage of every kind, drawn from a `random.Random`: bytes, JSON values, members of archives, headers of arrays."""

import copy
import io
import json
import random
import struct
import zipfile

from cdsa_lightning.files import seal

LENGTHS = (0, 1, 127, 255, 2**15, 2**16 - 1, 2**31 - 1, 2**31, 2**32 - 1, 2**40, 2**53, 2**63 - 1, 2**64 - 1)
NUMBERS = (0, -1, 1, 2**31, 2**63, 10**12, 10**30, -(10**12), 1e308, -0.0, 0.5, float("inf"), float("nan"))
VALUES = (None, True, False, "", "x", "../../etc/passwd", "\x00", "\ud800", [], {}, [[]], {"": None}, [None])
PLAIN = (
    "",
    "'",
    '"',
    "{",
    "[",
    "&a",
    "*a",
    "!!python/object/apply:os.system ['true']",
    "\x00",
    "é",
    "1e999",
    "-",
    ": ",
)


def flip(data, rng, _):
    """Some bits."""
    changed = bytearray(data)
    for _ in range(rng.choice((1, 1, 2, 8))):
        changed[rng.randrange(len(changed))] ^= 1 << rng.randrange(8)
    return bytes(changed)


def put_length(data, rng, _):
    """A number that could be a length, in either byte order."""
    form = rng.choice(("<H", ">H", "<I", ">I", "<Q", ">Q", "<i", "<q"))
    value = rng.choice(LENGTHS) % (1 << (8 * struct.calcsize(form) - (form[1] in "iq")))
    at = rng.randrange(len(data))
    written = struct.pack(form, value)
    return data[:at] + written + data[at + len(written) :]


def insert(data, rng, _):
    at = rng.randrange(len(data) + 1)
    new = rng.choice((rng.randbytes(rng.randrange(1, 17)), bytes(rng.randrange(1, 300)), rng.choice(PLAIN).encode()))
    return data[:at] + new + data[at:]


def delete(data, rng, _):
    at = rng.randrange(len(data))
    return data[:at] + data[at + rng.randrange(1, 65) :]


def truncate(data, rng, _):
    return data[: rng.randrange(len(data))]


def splice(data, rng, other):
    """The beginning of one valid file and the end of another."""
    other = other or data
    return data[: rng.randrange(len(data))] + other[rng.randrange(len(other)) :]


def repeat(data, rng, _):
    """A part of it again and again."""
    at = rng.randrange(len(data))
    return data[:at] + data[at : at + rng.randrange(1, 65)] * rng.choice((2, 10, 500)) + data[at:]


BYTES = (flip, flip, put_length, put_length, insert, delete, truncate, splice, repeat)


def mutate_bytes(data, rng, other=b""):
    """`data` with one to three kinds of damage."""
    for _ in range(rng.choice((1, 1, 1, 2, 3))):
        data = rng.choice(BYTES)(data or b"\x00", rng, other)
    return data


def places(value, found=None):
    """Every container in a JSON value with each of its keys."""
    found = [] if found is None else found
    for key, item in value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ():
        found.append((value, key))
        places(item, found)
    return found


def mutate_value(value, rng):
    """A JSON value with some entries replaced, removed, doubled, renamed or swapped; may hold NaN and infinities."""
    value = copy.deepcopy(value)
    for _ in range(rng.choice((1, 1, 2, 4))):
        spots = places(value)
        if not spots:
            return rng.choice(VALUES + NUMBERS)
        holder, key = rng.choice(spots)
        kind = rng.randrange(6)
        if kind == 0:
            del holder[key]
        elif kind == 1 and isinstance(holder, dict):
            holder[rng.choice(("", "x", "__class__", "k1", str(key).upper()))] = holder.pop(key)
        elif kind == 2:
            other, at = rng.choice(spots)
            holder[key] = copy.deepcopy(other[at]) if _has(other, at) else None
        elif kind == 3:
            holder[key] = [holder[key]] * rng.choice((1, 2, 1000))
        else:
            holder[key] = copy.deepcopy(rng.choice(VALUES + NUMBERS))
    return value


def _has(holder, key):
    return key in holder if isinstance(holder, dict) else key < len(holder)


def dump(value):
    return json.dumps(value).encode(errors="surrogatepass")


def mutate_json(data, rng, other=b""):
    if rng.random() < 0.25:
        return mutate_bytes(data, rng, other)
    return seal(dump(mutate_value(json.loads(data), rng)))


def mutate_safetensors(data, rng, other=b""):
    """The JSON header, with a length that fits again most of the time."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng, other)
    size = struct.unpack("<Q", data[:8])[0]
    header = json.loads(data[8 : 8 + size])
    marks = header.get("__metadata__", {})
    if "cdsa" in marks and rng.random() < 0.6:
        marks["cdsa"] = json.dumps(mutate_value(json.loads(marks["cdsa"]), rng))
    else:
        header = mutate_value(header, rng)
    text = dump(header)
    said = len(text) if rng.random() < 0.9 else rng.choice(LENGTHS)
    return seal(struct.pack("<Q", said) + text + data[8 + size :])  # who forges a file forges its digest too


def mutate_zip(data, rng, other=b""):
    """A member's content, name, or compression; the archive around it is whole."""
    if rng.random() < 0.3:
        return mutate_bytes(data, rng, other)
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    at = rng.randrange(len(members))
    name, content = members[at]
    kind = rng.randrange(8)
    if kind == 0:
        del members[at]
    elif kind == 1:
        name = rng.choice(("../x", "/etc/passwd", "", "a" * 300, name + "x", members[0][0]))
        members[at] = name, content
    elif kind == 2:
        members[at] = name, members[rng.randrange(len(members))][1]
    elif name.endswith(".json") or content[:1] == b"{":
        members[at] = name, mutate_json(content, rng)
    else:
        members[at] = name, mutate_bytes(content, rng)
    method = rng.choice((zipfile.ZIP_STORED,) * 4 + (zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA))
    return write_zip(members, method)


def write_zip(members, method=zipfile.ZIP_STORED):
    """The bytes of an archive; names may come twice."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", method) as archive:
        for name, content in members:
            info = zipfile.ZipInfo(name or "_")
            info.compress_type = method
            if name in archive.NameToInfo:
                del archive.NameToInfo[name]  # without the warning
            archive.writestr(info, content)
    return buffer.getvalue()


def mutate_text(data, rng, other=b""):
    """Lines and words moved, doubled, replaced; for YAML, CSV and plain numbers."""
    if rng.random() < 0.4:
        return mutate_bytes(data, rng, other)
    lines = data.decode(errors="replace").split("\n")
    for _ in range(rng.choice((1, 2, 5))):
        at, kind = rng.randrange(len(lines)), rng.randrange(4)
        if kind == 0:
            lines.insert(at, rng.choice(lines))
        elif kind == 1:
            lines[at] = rng.choice(("  ", "", "- ")) + lines[at]
        elif kind == 2:
            words = lines[at].split(" ")
            words[rng.randrange(len(words))] = str(rng.choice(NUMBERS + VALUES + PLAIN))
            lines[at] = " ".join(words)
        else:
            lines[at] += rng.choice(PLAIN) * rng.choice((1, 3))
    return "\n".join(lines).encode(errors="surrogatepass")


MUTATORS = {
    **dict.fromkeys((".zip", ".npz", ".pt", ".ckpt", ".pt2", ".pth"), mutate_zip),
    **dict.fromkeys((".yaml", ".csv", ".txt"), mutate_text),
    ".json": mutate_json,
    ".safetensors": mutate_safetensors,
}
"""Suffix of a file -> how it is damaged; `mutate_bytes` for every other one."""


def mutated(name, data, rng, other=b""):
    """Damage that fits the file `name`."""
    mutate = MUTATORS.get("." + name.rpartition(".")[2], mutate_bytes)
    if data[:2] == b"PK":
        mutate = mutate_zip
    return mutate(data, rng, other) if data else rng.randbytes(20)


def generator(*parts):
    """Draws that are the same in every run."""
    return random.Random("/".join(map(str, parts)))
