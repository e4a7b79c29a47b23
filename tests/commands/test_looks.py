"""What unknown files look like."""

import json
import pickle
import zipfile

import h5py
import numpy as np
import pytest
import torch

from cdsa_lightning.commands.looks import looks, safetensors_header


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Files of many kinds."""
    folder = tmp_path_factory.mktemp("kinds")
    with zipfile.ZipFile(folder / "a.zip", "w") as archive:
        for name in "abcdefgh":
            archive.writestr(name, b"x" * 50)
    whole = (folder / "a.zip").read_bytes()
    np.savez(folder / "b.npz", first=np.ones(2), second=np.ones(1))
    torch.save({"l1.weight": torch.ones(2, 3), "step": 4}, folder / "c.pt")
    torch.save({"net": np.float64}, folder / "d.pt")
    torch.save(torch.ones(2), folder / "e.pt")
    torch.save({}, folder / "f.pt", _use_new_zipfile_serialization=False)
    torch.jit.script(torch.nn.ReLU()).save(folder / "g.pt")
    with h5py.File(folder / "h", "w"):
        pass
    header = json.dumps({"w": {"dtype": "F32", "shape": [1], "data_offsets": [0, 4]}}).encode()
    plain = {
        "i": len(header).to_bytes(8, "little") + header + bytes(4),
        "j": pickle.dumps([1]),
        "k": b"",
        "l": whole[:200],
        "m": "Ünicode".encode(),
        "n": bytes([1, 200, 3, 4, 5, 6, 7, 8, 9]),
        "o": b"\x80",
    }
    for name, content in plain.items():
        (folder / name).write_bytes(content)
    (folder / "p").mkdir()
    return folder


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("a.zip", "a zip archive with a, b, c, d, e, f and 2 more"),
        ("b.npz", "an .npz with the arrays first, second"),
        ("c.pt", "what torch.save wrote, with l1.weight [2, 3], step (int)"),
        ("d.pt", "what torch.save wrote, damaged or with more than plain values, which are never loaded"),
        ("e.pt", "a Tensor that torch.save wrote"),
        ("f.pt", "what torch.save of PyTorch before 1.6 wrote"),
        ("g.pt", "a TorchScript program"),
        ("h", "an HDF5 file"),
        ("i", "safetensors with the tensors w"),
        ("j", "a pickle, which may run any code and is never opened"),
        ("k", "an empty file"),
        ("l", "a zip archive whose end is missing or damaged"),
        ("m", "text that begins with 'Ünicode'"),
        ("n", "binary data that begin with 01 c8 03 04 05 06 07 08"),
        ("o", "binary data that begin with 80"),
        ("p", "an empty folder"),
        ("", "a folder with a.zip, b.npz, c.pt, d.pt, e.pt, f.pt and 10 more"),
    ],
)
def test_any_file_is_described_by_its_content(folder, name, text):
    assert looks(folder / name).startswith(text)


def test_a_header_is_read_of_safetensors_alone(folder):
    assert list(safetensors_header(folder / "i")) == ["w"]
    assert [safetensors_header(folder / name) for name in ("a.zip", "k", "m", "n", "p", "absent")] == [None] * 6
