"""Files of returns and of coefficients: what is read, and what is refused."""

import json

import numpy as np
import pytest

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.errors import InputError
from cdsa_lightning.tuning import Choice, read_choice, read_returns


def test_returns_are_read_in_every_form(tmp_path):
    wanted = [1.5, -2.0, 3.0]
    (tmp_path / "list.json").write_text(json.dumps(wanted))
    (tmp_path / "named.json").write_text(json.dumps({"returns": wanted, "seed": 0}))
    (tmp_path / "lines.txt").write_text("1.5\n-2\n3e0\n")
    (tmp_path / "commas.csv").write_text("1.5, -2, 3")
    np.savez(tmp_path / "one.npz", mine=np.array(wanted))
    np.savez(tmp_path / "many.npz", returns=np.array([wanted]), other=np.zeros(1))
    for path in tmp_path.iterdir():
        assert read_returns(path).tolist() == wanted, path


@pytest.mark.parametrize(
    "name, text, said",
    [
        ("a.json", "[1, NaN, Infinity]", "2 of 3 returns are NaN or infinite, first number 1"),
        ("a.txt", "1 nan", "1 of 2 returns are NaN or infinite"),
        ("a.txt", "1 two", "could not convert string to float"),
        ("a.txt", "", "it is empty"),
        ("a.json", "[]", "it is empty"),
        ("a.json", '{"return": [1]}', "holds no returns: 'returns'"),
        ("a.json", '[1, "b"]', "holds no returns"),
        ("a.json", "[1", "holds no returns"),
        ("a.json", "[[1], [2, 3]]", "holds no returns"),
        ("a.npz", "PK no archive", "holds no returns"),
    ],
)
def test_a_malformed_file_of_returns_is_refused(tmp_path, name, text, said):
    (tmp_path / name).write_text(text)
    with pytest.raises(InputError, match=said):
        read_returns(tmp_path / name)


def test_a_missing_file_of_returns_is_refused(tmp_path):
    with pytest.raises(InputError, match="Cannot read the returns in .*gone.json: No such file"):
        read_returns(tmp_path / "gone.json")


def test_pickled_returns_are_not_loaded(tmp_path):
    np.savez(tmp_path / "a.npz", returns=np.array([{}], dtype=object))
    with pytest.raises(InputError, match="holds no returns"):
        read_returns(tmp_path / "a.npz")


def test_a_choice_survives_its_file(tmp_path):
    coefficients = Coefficients(k1=1.0, schedule=(0.4, 0.1), units="sigma2", gate=0.9, a2="off")
    choice = Choice(coefficients, "gate90", "data", "Because.", "hopper-medium", "iql")
    (tmp_path / "c.json").write_text(json.dumps({**choice.to_json(), "measures": {}}))
    assert read_choice(tmp_path / "c.json") == choice
    assert choice.origin == "gate90, chosen by data for iql on hopper-medium"


def test_coefficients_can_be_written_by_hand(tmp_path):
    (tmp_path / "c.json").write_text('{"k1": 0.5}')
    assert read_choice(tmp_path / "c.json") == Choice(Coefficients(k1=0.5))
    assert read_choice(tmp_path / "c.json").origin == ""


@pytest.mark.parametrize(
    "text, said",
    [
        ("{", "are not JSON"),
        ("[1]", "must hold a mapping of coefficients, got \\[1\\]"),
        ('{"coefficients": 3}', "must hold a mapping of coefficients, got 3"),
        ('{"k3": 1}', "Unknown coefficient 'k3'. Did you mean 'k2'"),
        ('{"coefficients": {"k1": "strong"}}', "cannot be used"),
        ('{"k1": null}', "cannot be used"),
        ('{"schedule": 0.4}', "cannot be used"),
        ('{"schedule": ["x"]}', "cannot be used"),
        ('{"gate": 2}', "gate is a quantile between 0 and 1, got 2"),
        ('{"num_steps": "1"}', "cannot be used"),
        ('{"units": ["raw"]}', "cannot be used"),
    ],
)
def test_malformed_coefficients_are_refused(tmp_path, text, said):
    (tmp_path / "c.json").write_text(text)
    with pytest.raises(InputError, match=said):
        read_choice(tmp_path / "c.json")


def test_a_missing_file_of_coefficients_is_refused(tmp_path):
    with pytest.raises(InputError, match="Cannot read the coefficients in .*gone.json: No such file"):
        read_choice(tmp_path / "gone.json")
