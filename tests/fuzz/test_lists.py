"""Hostile lists of operations are refused for what is wrong with them."""

import pytest

from cdsa_lightning.errors import InputError
from cdsa_lightning.runtime import NumpyCorrector, NumpyPolicy
from fuzz.attacks_archives import SAFETENSORS
from fuzz.attacks_lists import FUSED
from fuzz.made_more import _fused, _run_fused

REASONS = {
    **dict.fromkeys(("doubled_rows", "rows_that_grow", "endless_tanh", "long_cat"), "asks for more than"),
    "long_slice": "lies outside of 3 entries",
    "a_name_for_each": "claims bytes that belong to another tensor",
    "wide_observation": "asks for more than",
    "numpys_other_functions": r"\['save', 0\], is none of abs, add",
    "numpys_readers": r"\['load', '/etc/passwd'\], is none of abs, add",
    "deep_operations": "nested too deeply",
    **dict.fromkeys(("own_value", "earlier_than_all", "truth_for_a_value"), "takes what is no earlier value"),
    "weights_of_the_corrector": "needs a tensor of 1 axes of the file, got 'networks.obs_mean'",
    "words_of_words": "is none of abs, add",
    "no_operations": "answers 3 entries, expected 2",
    "an_object": "no list of operations",
    "not_a_number": "holds values that are not finite",
    "infinite": "has weights that are not finite",
    "logarithms": None,
    "largest": None,
}
"""Attack -> why it is refused; None where it is read, and acts as badly as it says."""


@pytest.fixture(scope="module")
def valid(tmp_path_factory):
    folder = tmp_path_factory.mktemp("valid")
    _fused(folder)
    return (folder / "policy.safetensors").read_bytes()


def test_every_attack_on_lists_has_its_reason_here():
    assert {attack.__name__ for column, attack in FUSED if (column, attack) not in SAFETENSORS} == set(REASONS)


@pytest.mark.parametrize("name", REASONS)
def test_a_hostile_list_is_refused_for_its_reason(tmp_path, valid, name):
    path = tmp_path / "policy.safetensors"
    path.write_bytes(valid)
    _run_fused(path)
    next(attack for _, attack in FUSED if attack.__name__ == name)(tmp_path, path)
    if REASONS[name] is None:
        return _run_fused(path)
    for read in (NumpyPolicy, NumpyCorrector):
        with pytest.raises(InputError, match=REASONS[name]):
            read(path)
