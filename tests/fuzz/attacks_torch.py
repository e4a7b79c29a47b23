"""Attacks on what torch.save writes and on bare pickles: instructions that call, allocate or nest."""

import io
import pickle

import torch

from fuzz.attacks_archives import ZIP, Hostile, members
from fuzz.attacks_text import COMMAND, FILE
from fuzz.mutations import write_zip

REBUILD = b"ctorch._utils\n_rebuild_tensor_v2\n"


def _pickled(name, column, make):
    """The first data.pkl of an archive, or the whole of a bare pickle, becomes `make()`."""

    def attack(folder, path):
        if path.read_bytes()[:2] != b"PK":
            path.write_bytes(make())
            return
        changed = []
        for title, content in members(path):
            if title.endswith("policy.pth"):
                inner = _archive(make())
                content = inner
            changed.append((title, make() if title.endswith("data.pkl") else content))
        path.write_bytes(write_zip(changed))

    attack.__name__ = name
    return column, attack


def _archive(program):
    return write_zip([("archive/data.pkl", program), ("archive/version", b"3\n"), ("archive/data/0", bytes(16))])


def dictionary(value):
    """The pickle of a dictionary whose entries of the usual names are what the instructions `value` leave."""
    names = ("state_dict", "actor", "net.0.weight", "policy", "log_std", "torch", "config", "version", "a")
    items = b"".join(b"X" + len(name).to_bytes(4, "little") + name.encode() + value for name in names)
    return b"\x80\x02}(" + items + b"u."


def storage(entries):
    return (
        b"(X\x07\x00\x00\x00storagectorch\nFloatStorage\nX\x01\x00\x00\x000X\x03\x00\x00\x00cpu" + long(entries) + b"tQ"
    )


def long(number):
    content = number.to_bytes(16, "little", signed=True)
    return b"\x8a\x10" + content


def tensor(sizes, strides, entries=4, offset=0):
    sizes, strides = (b"(" + b"".join(map(long, numbers)) + b"t" for numbers in (sizes, strides))
    return REBUILD + b"(" + storage(entries) + long(offset) + sizes + strides + b"\x89ccollections\nOrderedDict\n)RtR"


def called(name, *numbers):
    return b"c" + name.encode() + b"\n(" + b"".join(map(long, numbers)) + b"tR"


def laughs():
    """A tuple of the same tuple twice, forty times: 2^40 entries for whoever walks it."""
    return b"(K\x01K\x02t" + b"".join(b"q" + bytes([n]) + b"h" + bytes([n]) + b"\x86" for n in range(60))


def contained():
    """A list that holds itself."""
    return b"]q\x00h\x00a"


def legacy():
    buffer = io.BytesIO()
    torch.save({"a": torch.ones(3)}, buffer, _use_new_zipfile_serialization=False)
    return buffer.getvalue()


PICKLE = [
    _pickled("os_system", "code", lambda: pickle.dumps(Hostile(), 2)),
    _pickled("os_system_inside", "code", lambda: pickle.dumps({"actor": Hostile(), "torch": Hostile()}, 2)),
    _pickled("text_protocol", "code", lambda: f"cos\nsystem\n(S'{COMMAND}'\ntR.".encode()),
    _pickled("stack_global", "code", lambda: pickle.dumps(Hostile(), 4)),
    _pickled("instance", "code", lambda: f"(S'{COMMAND}'\nios\nsystem\n.".encode()),
    _pickled("a_new_class", "code", lambda: b"\x80\x02cbuiltins\nobject\n)\x81}b."),
    _pickled("bytearray_of_a_terabyte", "bombs", lambda: dictionary(called("builtins\nbytearray", 10**12))),
    _pickled("tensor_of_a_terabyte", "bombs", lambda: dictionary(called("torch\nFloatTensor", 10**6, 10**6))),
    _pickled("tensor_beyond_its_storage", "bombs", lambda: dictionary(tensor([10**6, 10**5], [10**5, 1]))),
    _pickled("tensor_of_zero_strides", "bombs", lambda: dictionary(tensor([10**6, 10**6], [0, 0]))),
    _pickled("storage_of_a_terabyte", "bombs", lambda: dictionary(tensor([2], [1], entries=10**12))),
    _pickled("overflowing_sizes", "bombs", lambda: dictionary(tensor([2**62, 2**62, 0], [1, 1, 1]))),
    _pickled("negative_view", "values", lambda: dictionary(tensor([-1], [-1], offset=-5))),
    _pickled("tuples_of_tuples", "nesting", lambda: dictionary(laughs())),
    _pickled("a_list_in_itself", "nesting", lambda: dictionary(contained())),
    _pickled("deep_tuples", "nesting", lambda: dictionary(b")" + b"\x85" * 200_000)),
    _pickled("no_end", "damaged", lambda: b"\x80\x02}" * 1000),
    _pickled("numbers_for_names", "values", lambda: pickle.dumps({1: {2: 3}, "actor": {3: 4}}, 2)),
    _pickled("old_format", "values", legacy),
    _pickled("long_text", "bombs", lambda: b"\x80\x04\x8d" + (10**15).to_bytes(8, "little") + b"x."),
    _pickled("far_memo", "bombs", lambda: b"\x80\x02}r\xff\xff\xff\x7f."),
]
TORCH = [*ZIP, *PICKLE]
BARE = [*FILE, *PICKLE]
