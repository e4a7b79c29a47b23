"""What `cdsa evaluate` finds under runs/ when it is not told."""

import pytest

from cdsa_lightning.commands.arms import find_subject, make_arms
from cdsa_lightning.commands.options import Options
from cdsa_lightning.core.artifact import load_corrector, save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy
from cdsa_lightning.errors import InputError
from cdsa_lightning.rollout import NoisyPolicy
from evaluation_files import OWN, TASK, checkpoint, install_strangers, kept, leave


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


@pytest.fixture
def stranger(monkeypatch):
    return install_strangers(monkeypatch)


def arms(**values):
    options = Options(**values)
    subject = find_subject(options)
    made, about = make_arms(options, subject)
    return made, about, "\n".join(subject.notes)


def test_the_newest_checkpoint_names_the_task_and_the_newest_corrector_follows(stranger):
    checkpoint("iql", "1", "hopper-random")
    newest = checkpoint("iql", "2")
    kept("1")
    made, about, notes = arms(baseline="iql")
    assert stranger == [str(newest)]
    assert list(made) == ["iql", "cdsa(iql)"]
    assert isinstance(made["cdsa(iql)"], CorrectedPolicy)
    assert f"baseline      iql from {newest} (the newest)" in notes
    assert about["checkpoint"] == str(newest)


def test_a_named_task_wants_a_checkpoint_of_that_task(stranger):
    older = checkpoint("iql", "1")
    checkpoint("iql", "2", "hopper-random")
    kept("1")
    arms(baseline="iql", task=TASK)
    assert stranger == [str(older)]


def test_a_named_checkpoint_in_a_run_says_its_task(stranger):
    older = checkpoint("iql", "1")
    checkpoint("iql", "2", "hopper-random")
    kept("1")
    _, _, notes = arms(baseline="iql", checkpoint=str(older))
    assert f"task          {TASK}" in notes
    assert f"iql from {older}\n" in notes


def test_one_seed_of_the_corrector_can_serve_every_seed_of_the_baseline(stranger):
    checkpoint("iql", "1")
    kept("1")
    made, _, notes = arms(baseline="iql", corrector_seed=0)
    assert made["cdsa(iql)"].corrector.num_seeds == 1
    assert "seed 0 of" in notes
    with pytest.raises(InputError, match="There is no seed 99"):
        arms(baseline="iql", corrector_seed=99)


def test_the_mean_of_the_correctors_seeds_can_serve_every_seed_of_the_baseline(tmp_path):
    path = kept("1")
    mean = save_corrector(load_corrector(path).ensemble(), tmp_path / "mean.safetensors")
    for named in ({"ensemble": True}, {"corrector": str(mean)}, {"corrector": str(mean), "ensemble": True}):
        made, about, notes = arms(baseline="shortest_path", **named)
        corrector = made["cdsa(shortest_path)"].corrector
        assert (corrector.num_seeds, corrector.networks.members, about["ensemble"]) == (1, 2, True)
        assert "the mean of 2 seeds" in notes
    assert arms(baseline="shortest_path")[1]["ensemble"] is False
    with pytest.raises(InputError, match="--corrector_seed one of them: give one of the two"):
        arms(baseline="shortest_path", ensemble=True, corrector_seed=0)
    with pytest.raises(InputError, match="the mean of 2 seeds, of which none"):
        arms(baseline="shortest_path", corrector=str(mean), corrector_seed=0)


def test_the_corrector_of_the_wanted_preset_is_taken():
    robust = kept("1")
    kept("2", preset="paper")
    _, about, _ = arms(baseline="shortest_path", preset="robust")
    assert about["corrector"] == str(robust)


def test_how_long_the_corrector_was_trained_is_told():
    path = kept("1", steps=10_000)
    assert f"{path} (the newest; preset robust, 2 seeds, 10000 steps)" in arms(baseline="shortest_path")[2]
    kept("2", steps=1)  # what a trial leaves behind is the newest now, and says so
    notes = arms(baseline="shortest_path")[2]
    assert "(the newest; preset robust, 2 seeds, 1 step)" in notes
    notes = arms(baseline="shortest_path", corrector=str(path), corrector_seed=0)[2]
    assert f"{path} (preset robust, seed 0 of 2 seeds, 10000 steps)" in notes


def test_recommended_coefficients_are_taken_and_single_ones_replaced():
    kept("1")
    _, about, notes = arms(baseline="shortest_path")
    assert about["coefficients"]["num_steps"] == 5  # reference/coefficients.csv
    assert "recommended for shortest_path on risky-pointmass with preset robust" in notes
    _, about, notes = arms(baseline="shortest_path", k1=0.5, num_steps=2, schedule=[0.7, 0.7])
    assert about["coefficients"]["k1"] == 0.5
    assert about["coefficients"]["k2"] == 1
    assert about["coefficients"]["schedule"] == [0.7, 0.7]
    assert "k1, num_steps, schedule as given" in notes


def test_without_a_recommendation_the_correctors_own_coefficients_serve():
    kept("1", preset="paper")
    _, about, notes = arms(baseline="shortest_path")
    assert about["coefficients"] == OWN.to_dict()
    assert "the corrector's own: none are recommended for shortest_path with preset paper" in notes


def test_coefficients_that_change_nothing_are_called_so():
    kept("1", preset="paper", own=Coefficients.none())
    assert "the correction changes nothing: name others with --k1 and --k2" in arms(baseline="shortest_path")[2]


def test_noise_is_part_of_the_baseline_that_is_corrected():
    kept("1")
    made, _, _ = arms(baseline="shortest_path", action_noise=0.3)
    assert list(made) == ["shortest_path+noise(0.3)", "cdsa(shortest_path+noise(0.3))"]
    assert isinstance(made["cdsa(shortest_path+noise(0.3))"].policy, NoisyPolicy)


def test_ablation_leaves_out_either_term_where_both_are_on():
    kept("1")
    made, _, notes = arms(baseline="shortest_path", ablation=True)
    name = "cdsa(shortest_path)"
    assert list(made) == ["shortest_path", name, f"{name} without a1", f"{name} without a2"]
    assert "nothing to leave out" not in notes
    made, _, notes = arms(baseline="shortest_path", ablation=True, k2=0.0)
    assert list(made) == ["shortest_path", name]
    assert "--ablation has nothing to leave out" in notes


def test_one_corrector_serves_every_task_on_its_map():
    made_for_path = kept("1", "risky-transportation", dims=(7, 2), sees=[0, 1], bound=1.0)
    for task in ("risky-transportation", "risky-transportation-goods", "risky-transportation-airport"):
        _, about, notes = arms(baseline="random", task=task)
        assert about["corrector"] == str(made_for_path)
        assert f"recommended for random on {task} with preset robust" in notes


def test_a_missing_shared_corrector_is_fitted_on_the_task_that_it_is_named_after():
    with pytest.raises(InputError, match="no corrector of task 'risky-transportation' ") as error:
        arms(baseline="random", task="risky-transportation-goods")
    assert "configs/risky_transportation.yaml --data.task risky-transportation'" in str(error.value)


def test_a_corrector_that_looks_at_other_observation_entries_is_refused():
    kept("1", "risky-transportation", dims=(7, 2), bound=1.0)
    with pytest.raises(InputError, match=r"entries all, .* is corrected by 0, 1\. Fit it again: 'cdsa fit"):
        arms(baseline="random", task="risky-transportation")
