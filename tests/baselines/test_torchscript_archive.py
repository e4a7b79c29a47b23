"""TorchScript's archives: attributes, weights and members are read as data, whatever they ask for."""

import re
import zipfile

import pytest
from torch import nn

from cdsa_baselines.foreign.torchscript import inspect, load
from cdsa_lightning.errors import InputError

from .programs import A, S, members, program_task, rewrite, scripted, write_script


@pytest.fixture(scope="module")
def task():
    return program_task()


LINEAR = rb"c__torch__\.torch\.nn\.modules\.linear[^\n]*\nLinear\n"


@pytest.mark.parametrize(
    ("old", "new", "text"),
    [
        (
            b"ctorch._utils\n_rebuild_tensor_v2\n",
            b"cos\nsystem\n",
            "asks for a call of 'os.system'.*Nothing in it was exec",
        ),
        (LINEAR, b"c__torch__.torch.classes.a\nB\n", "native class"),
        (LINEAR, b"cposix\nsystem\n", "damaged: .*an object of"),
        (b"ctorch\nFloatStorage\n", b"ctorch\nQInt8Storage\n", "numbers of type QInt8 are not supported"),
        (b"ctorch\nFloatStorage\n", b"ctorch\nDoubleStorage\n", "damaged or hostile: .* where"),
        (b"X\x01\x00\x00\x000", b"X\x01\x00\x00\x009", "'data.pkl' .* is damaged: .*Storage '9' is missing"),
        (b"\x80\x02", b"\x80\x02\x88\x93", "STACK_GLOBAL has no place in a module"),
        (b"\x80\x02", b"\x80\x02ios\nsystem\n", "damaged"),
    ],
)
def test_attributes_beyond_tensors_and_plain_values_are_refused(tmp_path, task, old, new, text):
    path = write_script(tmp_path / "net.pt", nn.Linear(S, A), scripted)
    pickle = next(content for name, content in members(path).items() if name.endswith("/data.pkl"))
    assert re.search(old, pickle)
    rewrite(path, {"/data.pkl": lambda content: re.sub(old, lambda _: new, content, count=1)})
    for reader in (lambda: load(path, task), lambda: inspect(path)):
        with pytest.raises(InputError, match=text):
            reader()


def test_a_tensor_that_reaches_beyond_its_storage_is_refused(tmp_path, task):
    path = write_script(tmp_path / "net.pt", nn.Linear(S, A), scripted)
    cut = {"/data/0": lambda content: content[:-4]}
    with pytest.raises(InputError, match="Storage '0' .*: 10 entries up to number 9 where 9 are stored"):
        load(rewrite(path, cut), task)


def test_members_of_one_name_are_refused(tmp_path, task):
    path = write_script(tmp_path / "net.pt", nn.Linear(S, A))
    with pytest.warns(UserWarning, match="Duplicate name"), zipfile.ZipFile(path, "a") as archive:
        archive.writestr(
            next(name for name in archive.namelist() if name.endswith(".py")), "class A(Module):\n  pass\n"
        )
    with pytest.raises(InputError, match="two members of one name"):
        load(path, task)


def test_an_archive_that_unpacks_to_too_much_is_refused(tmp_path, task):
    path = write_script(tmp_path / "net.pt", nn.Linear(S, A))
    with zipfile.ZipFile(path, "a", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("net/bomb", bytes(80_000_000))  # 78 kB of it in the file
    with pytest.raises(InputError, match="would unpack to 80,0.*more than the limit of"):
        load(path, task)


def test_weights_that_are_no_numbers_are_told_by_name(tmp_path, task):
    net = nn.Sequential(nn.Linear(S, A))
    net[0].bias.data[1] = float("nan")
    with pytest.raises(InputError, match="1 of 2 numbers of '0.bias' are NaN"):
        load(write_script(tmp_path / "net.pt", net), task)
