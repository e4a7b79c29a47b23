"""POR: settings of tasks, published behaviour goal networks, what it keeps, tells and refuses."""

from __future__ import annotations

import re

import pytest
import torch

from cdsa_baselines._tables import boolean, task_settings
from cdsa_baselines.por import POR
from cdsa_lightning.checkpoints import read_checkpoint
from cdsa_lightning.core.policy import act
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task, task_names
from training_data import TASK, train, write_npz

from .checkpoints import run_checkpoint
from .plain import plain_mlp

SMALL = {"hidden": 16, "action_hidden": 24}
CLIMBING = {"variant": "por_q", "reward": "raw", **SMALL}


@pytest.fixture
def npz(tmp_path):
    return write_npz(tmp_path / "data.npz")


def settled(tmp_path, task, **given):
    """The settings with which POR would train on a task, as its checkpoint keeps them."""
    path = run_checkpoint(POR, **SMALL, **given)(tmp_path, get_task(task))
    return read_checkpoint(path)["hyper_parameters"]


PUBLISHED = {
    "hopper-medium": ("por_q", 0.7, 50.0, False, 1e-3, "scaled"),
    "hopper-medium-expert": ("por_q", 0.7, 5.0, True, 1e-3, "scaled"),
    "halfcheetah-medium": ("por_r", 0.5, 3.0, True, 1e-3, "scaled"),
    "walker2d-medium-expert": ("por_r", 0.5, 3.0, True, 1e-3, "scaled"),
    "hopper-random": ("por_r", 0.5, 3.0, True, 1e-3, "scaled"),
    "antmaze-umaze-diverse": ("por_r", 0.9, 10.0, False, 1e-3, "minus_one"),
    "antmaze-large-play": ("por_r", 0.9, 10.0, False, 1e-4, "minus_one"),
}


@pytest.mark.parametrize("task", PUBLISHED)
def test_a_task_has_the_settings_of_its_authors_and_the_checkpoint_keeps_them(tmp_path, task):
    kept = settled(tmp_path, task)
    names = ("variant", "expectile", "alpha", "layer_norm", "policy_lr", "reward")
    assert tuple(kept[name] for name in names) == PUBLISHED[task]


def test_every_task_has_settings(tmp_path):
    assert all(settled(tmp_path, task)["variant"] in ("por_r", "por_q") for task in task_names())


def test_what_is_given_comes_before_the_table(tmp_path):
    kept = settled(tmp_path, "hopper-medium", alpha=7.0, layer_norm=True)
    assert (kept["variant"], kept["alpha"], kept["layer_norm"], kept["expectile"]) == ("por_q", 7.0, True, 0.7)


def test_another_variant_brings_the_settings_of_that_variant(tmp_path):
    assert settled(tmp_path, "hopper-medium", variant="por_r")["alpha"] == 3.0  # 50 is the weight of V in por_q
    maze = settled(tmp_path, "antmaze-umaze", variant="por_q")
    assert (maze["alpha"], maze["reward"]) == (50.0, "minus_one")


def test_a_run_tells_its_settings_and_whose_they_are(npz, tmp_path, capsys):
    train(POR(alpha=2.0, **SMALL), npz, 1, tmp_path / "run")
    text = "POR on risky-pointmass with settings of our own, but your alpha: variant por_r, expectile 0.5, alpha 2.0, "
    assert text + "layer_norm True, policy_lr 0.001, reward scaled." in capsys.readouterr().out


def test_the_first_phase_moves_the_behaviour_goal_network_alone_and_the_second_all_but_it(npz, tmp_path):
    module = POR(seeds=(0,), pretrain_steps=5, inner_steps=1, **CLIMBING)
    trace = []
    module.after_step = lambda step: (POR.after_step(module, step), trace.append({**copies(module)}))
    train(module, npz, 8, tmp_path / "run")
    for number, (before, after) in enumerate(zip(trace, trace[1:], strict=False), 1):
        moved = {name.split(".")[0] for name, value in after.items() if not torch.equal(value, before[name])}
        assert moved == ({"behavior"} if number < 5 else {"value", "goal", "action", "target"})


def copies(module):
    return {name: value.clone() for name, value in module.state_dict().items()}


def test_a_run_too_short_for_its_second_phase_is_refused(npz, tmp_path):
    text = "pretrain_steps = 30 steps, which leaves nothing of max_steps = 30 .*max_steps 1000030.*behavior_goal PATH"
    with pytest.raises(InputError, match=text):
        train(POR(pretrain_steps=30, **CLIMBING), npz, 30, tmp_path / "run")


@pytest.mark.parametrize("seeds", [(0, 1), (4,)])
def test_the_policy_is_the_clipped_mean_of_pi_at_the_mean_of_g(npz, tmp_path, seeds):
    module = POR(seeds=seeds, **SMALL)
    train(module, npz, 20, tmp_path / "run")
    with torch.no_grad():
        module.action.net.layers[-1].weight.mul_(20)  # so that some actions leave the box and many do not
    policy, obs = module.policy(), torch.rand(len(seeds), 60, 4)
    found = act(policy, obs)
    for row in range(len(seeds)):
        goal, action = (plain_mlp(actor.net, row).float() for actor in (module.goal, module.action))
        wanted = 0.1 * action(torch.cat((obs[row], goal(obs[row])), -1))  # the box is [-.1, .1]
        inside = float((wanted.abs() < 0.1).float().mean())
        assert 0.05 < inside < 0.95
        torch.testing.assert_close(found[row], wanted.clamp(-0.1, 0.1), atol=1e-6, rtol=0)


def goal_network(path, *widths, **extra):
    """A state dict as POR's authors publish it."""
    generator, state = torch.Generator().manual_seed(0), {"log_std": torch.linspace(-4, -1, widths[-1])}
    for number, (inputs, outputs) in enumerate(zip(widths, widths[1:], strict=False)):
        state[f"net.{2 * number}.weight"] = torch.randn(outputs, inputs, generator=generator) / inputs**0.5
        state[f"net.{2 * number}.bias"] = torch.randn(outputs, generator=generator)
    torch.save(state | extra, path)
    return path


def test_a_published_network_takes_the_place_of_the_first_phase(npz, tmp_path):
    path = goal_network(tmp_path / "goal.pt", 4, 16, 16, 4)
    state, obs = torch.load(path, weights_only=True), torch.rand(2, 30, 4)
    module = POR(seeds=(0, 1), behavior_goal=str(path), **CLIMBING)
    train(module, npz, 20, tmp_path / "run")
    assert "behavior" not in [group.name for group in module.updates.groups]
    assert module.updates.groups[0].start == 0
    for row in range(2):
        x = obs[row]
        for number in (0, 2, 4):
            x = (x.clamp(min=0) if number else x) @ state[f"net.{number}.weight"].T + state[f"net.{number}.bias"]
        torch.testing.assert_close(module.behavior(obs)[row], x, atol=1e-5, rtol=0)
        assert torch.equal(module.behavior.log_std[row, 0], state["log_std"])


def test_a_checkpoint_does_without_the_published_file_it_was_trained_with(npz, tmp_path):
    path = goal_network(tmp_path / "goal.pt", 4, 16, 16, 4)
    train(POR(seeds=(0, 1), behavior_goal=str(path), **CLIMBING), npz, 20, tmp_path / "run")
    path.unlink()
    assert POR.load(tmp_path / "run" / "last.ckpt", get_task(TASK))(torch.rand(2, 3, 4)).shape == (2, 3, 2)


class Attack:
    """Unpickled, it leaves a file behind."""

    def __init__(self, target):
        self.target = target

    def __reduce__(self):
        return open, (str(self.target), "w")


@pytest.mark.parametrize(
    ("widths", "extra", "text"),
    [
        ((11, 16, 16, 11), {}, "widths 11 - 16 - 16 - 11 and 11 deviations, expected 4 - 16 - 16 - 4 and 4"),
        ((4, 32, 32, 4), {}, "4 - 32 - 32 - 4 .* or `hidden` differs"),
        ((4, 16, 4), {}, "4 - 16 - 4 "),
        ((4, 16, 16, 4), {"log_std": torch.zeros(3)}, "and 3 deviations, expected"),
        ((4, 16, 16, 4), {"log_std": torch.full((4,), torch.nan)}, "log_std holds numbers that are not finite"),
        ((4, 16, 16, 4), {"net.2.bias": torch.full((16,), torch.inf)}, "net.2.bias are NaN or infinite"),
        ((4,), {}, "no goal network of POR's authors .* it holds nothing else"),
    ],
)
def test_a_network_that_does_not_fit_is_refused(npz, tmp_path, widths, extra, text):
    path = goal_network(tmp_path / "goal.pt", *widths, **extra)
    with pytest.raises(InputError, match=text):
        train(POR(behavior_goal=str(path), **CLIMBING), npz, 5, tmp_path / "run")


def test_a_file_that_would_run_code_is_refused_and_runs_none(npz, tmp_path):
    path = goal_network(tmp_path / "goal.pt", 4, 16, 16, 4, attack=Attack(tmp_path / "was-here"))
    with pytest.raises(InputError, match="refused.*Nothing in it was executed"):
        train(POR(behavior_goal=str(path), **CLIMBING), npz, 5, tmp_path / "run")
    assert not (tmp_path / "was-here").exists()


def test_an_absent_network_and_one_without_use_are_refused(npz, tmp_path):
    with pytest.raises(InputError, match="There is no behaviour goal network 'goal.pt'; leave behavior_goal out"):
        train(POR(behavior_goal="goal.pt", **CLIMBING), npz, 5, tmp_path / "run")
    with pytest.raises(InputError, match="behavior_goal is for por_q; on 'risky-pointmass' this would train por_r"):
        train(POR(behavior_goal="goal.pt", **SMALL), npz, 5, tmp_path / "run")


@pytest.mark.parametrize(
    ("task", "command"),
    [
        ("hopper-medium", "configs/baselines/por.yaml --data.task hopper-medium --trainer.max_steps 2000000'"),
        ("walker2d-medium", "configs/baselines/por.yaml --data.task walker2d-medium'"),
    ],
)
def test_a_missing_checkpoint_names_the_command_that_makes_one(task, command):
    with pytest.raises(InputError, match=re.escape(f"cdsa fit --config {command}")):
        POR.load(None, get_task(task))


def test_inspect_tells_the_settings_that_were_in_force(tmp_path):
    found = POR.inspect(run_checkpoint(POR, **SMALL)(tmp_path, get_task("hopper-medium-expert")))
    assert (found.obs_dim, found.action_dim, found.num_seeds) == (11, 3, 2)
    assert "variant por_q, expectile 0.7, alpha 5.0, layer_norm True" in found.details["settings"]


@pytest.mark.parametrize(
    ("settings", "text"),
    [
        ({"variant": "por"}, "Unknown variant of POR 'por'. Did you mean 'por_"),
        ({"expectile": 1.0}, "expectile must lie between 0 and 1, got 1.0"),
        ({"alpha": 0.0}, "alpha must be positive, got 0.0"),
        ({"reward": "scald"}, "Did you mean 'scaled'"),
        ({"pretrain_steps": 0}, "pretrain_steps must be at least 1, got 0. To do without, give behavior_goal"),
    ],
)
def test_settings_out_of_range_are_refused(settings, text):
    with pytest.raises(InputError, match=text):
        POR(**settings)


TABLE = "task,rate,norm\nhop-*,1,true\nhop-a,2,false\n*,3,false\n"


FITTING = [("hop-a", {}, 1), ("walk", {}, 3), ("hop-a", {"norm": False}, 2), ("hop-b", {"rate": None}, 1)]


@pytest.mark.parametrize(("task", "wanted", "rate"), FITTING)
def test_the_first_row_that_fits_counts(monkeypatch, tmp_path, task, wanted, rate):
    assert read(monkeypatch, tmp_path, TABLE, task, **wanted)["rate"] == rate


@pytest.mark.parametrize(
    ("table", "text"),
    [
        ("task,rate\n*,1\n", "the columns are .'task', 'rate'., expected .'task', 'rate', 'norm'."),
        ("task,rate,norm\n*,fast,true\n", "line 2: rate is 'fast': could not convert"),
        ("task,rate,norm\n*,1,yes\n", "norm is 'yes': expected true or false"),
        ("task,rate,norm\n*,1\n", "line 2: norm is None"),
        ("task,rate,norm\nhop-a,1,true\n", "no settings for task 'walk': give rate, norm yourself"),
    ],
)
def test_a_slip_in_a_table_is_one_sentence(monkeypatch, tmp_path, table, text):
    with pytest.raises(InputError, match=text):
        read(monkeypatch, tmp_path, table, "walk")


def read(monkeypatch, tmp_path, table, task, **wanted):
    (tmp_path / "t.csv").write_text(table)
    monkeypatch.setattr("cdsa_baselines._tables.resources.files", lambda package: tmp_path)
    return task_settings("t.csv", {"rate": float, "norm": boolean}, task, **wanted)
