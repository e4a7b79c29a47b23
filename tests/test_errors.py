"""What an error says: the value, the alternatives, the remedy."""

import pytest

from cdsa_lightning.errors import InputError, UnknownNameError, unknown_name


def test_an_unknown_name_is_answered_with_the_nearest_known_one():
    error = unknown_name("baseline", "pro", ["iql", "por", "cql"])
    assert str(error) == "Unknown baseline 'pro'. Did you mean 'por'? Known: cql, iql, por."


def test_a_name_unlike_all_others_gets_the_alternatives_without_a_guess():
    text = str(unknown_name("task", "zzzz", ["hopper-medium"]))
    assert "Did you mean" not in text
    assert "Known: hopper-medium." in text


def test_the_remedy_ends_the_text():
    assert str(unknown_name("preset", "x", ["paper"], "Add a row.")).endswith("Known: paper. Add a row.")


def test_an_empty_table_is_called_empty():
    assert "Known: none." in str(unknown_name("run", "a", []))


def test_alternatives_may_come_from_an_iterator():
    assert str(unknown_name("metric", "var", iter(["cvar", "var_10"]))).endswith("Known: cvar, var_10.")


@pytest.mark.parametrize("kind", [InputError, LookupError, ValueError])
def test_an_unknown_name_is_caught_as(kind):
    with pytest.raises(kind):
        raise unknown_name("task", "a", ["b"])


def test_an_input_error_is_no_lookup_error():
    assert not issubclass(InputError, LookupError)
    assert issubclass(UnknownNameError, InputError)
