"""Which way W&B goes: online with a key, offline without, and never a question."""

from __future__ import annotations

import pytest

from cdsa_lightning.errors import UnknownNameError
from cdsa_lightning.tracking import wandb_mode


@pytest.fixture(autouse=True)
def nobody(monkeypatch, tmp_path):
    """No key, no choice made in the environment."""
    monkeypatch.setenv("HOME", str(tmp_path))
    for name in ("WANDB_API_KEY", "WANDB_MODE"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def test_without_a_key_runs_stay_here():
    assert wandb_mode("auto") == "offline"


def test_with_a_key_runs_go_online(monkeypatch):
    monkeypatch.setenv("WANDB_API_KEY", "k" * 40)
    assert wandb_mode("auto") == "online"


def test_a_key_from_wandb_login_counts(nobody):
    netrc = nobody / ".netrc"
    netrc.write_text("machine api.wandb.ai\n  login user\n  password key\n")
    netrc.chmod(0o600)
    assert wandb_mode("auto") == "online"
    netrc.write_text("machine example.org login a password b\n")
    assert wandb_mode("auto") == "offline"
    netrc.write_text("what is this")
    assert wandb_mode("auto") == "offline"


@pytest.mark.parametrize(("chosen", "mode"), [("online", "online"), ("offline", "offline"), ("disabled", "off")])
def test_the_environment_decides_where_the_user_does_not(monkeypatch, chosen, mode):
    monkeypatch.setenv("WANDB_MODE", chosen)
    assert wandb_mode("auto") == mode
    assert wandb_mode("off") == "off"


@pytest.mark.parametrize("mode", ["online", "offline", "off"])
def test_what_the_user_names_is_taken(mode):
    assert wandb_mode(mode) == mode


def test_an_unknown_mode_is_refused():
    with pytest.raises(UnknownNameError, match="Unknown W&B mode 'ofline'. Did you mean 'offline'"):
        wandb_mode("ofline")
