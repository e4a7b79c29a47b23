"""What offline W&B runs hold: their .wandb files are logs of 32 KiB blocks, with a protocol buffer a record."""

import json
import struct
import time

from wandb.proto import wandb_internal_pb2

_FILE_HEADER, _BLOCK, _HEADER = 7, 32768, struct.Struct("<IHB")  # crc, length, type
_FULL, _FIRST, _MIDDLE, _LAST = range(1, 5)


def records(path):
    """Every record of a .wandb file."""
    content, at, parts = path.read_bytes(), _FILE_HEADER, b""
    while at + _HEADER.size <= len(content):
        left = _BLOCK - at % _BLOCK
        if left < _HEADER.size:  # the end of a block is filled with zeros
            at += left
            continue
        _, length, kind = _HEADER.unpack_from(content, at)
        at += _HEADER.size
        if at + length > len(content):  # it is being written
            return
        parts = content[at : at + length] if kind in (_FULL, _FIRST) else parts + content[at : at + length]
        at += length
        if kind in (_FULL, _LAST):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(parts)
            yield record


def finished(path, patience=120):
    """The records of a run that has ended: another process writes them, shortly after the end."""
    deadline = time.monotonic() + patience
    while time.monotonic() < deadline:
        found = list(records(path))
        if any(record.HasField("exit") for record in found):
            return found
        time.sleep(0.05)
    raise AssertionError(f"{path} was not written to its end within {patience} seconds.")


def logged(path):
    """The keys that a run logged, and its configuration."""
    keys, config = set(), {}
    for record in finished(path):
        for item in record.history.item:
            keys.add(item.key or item.nested_key[0])  # a picture is kept as the parts of its key
        for item in (*record.run.config.update, *record.config.update):
            config[item.key or ".".join(item.nested_key)] = json.loads(item.value_json)
    return keys, config
