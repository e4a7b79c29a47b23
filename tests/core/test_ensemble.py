"""The mean over training seeds as one corrector: against networks whose means are known, and through its file."""

import json

import pytest
import torch
from safetensors.torch import load_file, save_file

from cdsa_lightning.core.artifact import load_corrector, read_header, save_corrector
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, affine, gaussian_corrector, random_corrector

EVERYTHING = Coefficients(k1=0.5, k2=0.7, units="sigma2", a2="residual", num_steps=2, clip="every_step", max_shift=0.3)
PRESETS = [{}, {"predict": "noise", "action_sigmas": (0.4, 0.1), "standardize": True, "state_score_input": "state"}]


def rows(seeds=1, size=6):
    rng = torch.Generator().manual_seed(0)
    return torch.randn(seeds, size, OBS, generator=rng), torch.randn(seeds, size, ACTION, generator=rng)


def two_opinions() -> Corrector:
    """Two seeds: actions around .2 and .6, h = -s and -3 s, I(s, s') = (s' - s)[:A] and twice that."""
    corrector = gaussian_corrector(0.0, 0.6, (0.3,), seeds=2)
    nets = corrector.networks
    slope = nets.action_score.layers[0].weight[0, OBS, 0].item()
    for row, mean in enumerate((0.2, 0.6)):
        nets.action_score.layers[0].bias.data[row] = -slope * mean
    factors = torch.tensor([-1.0, -3.0]).view(2, 1, 1)
    nets.state_score = affine(factors * torch.eye(OBS + ACTION, OBS), torch.zeros(2, OBS))
    nets.inverse_dynamics.layers[0].weight.data[1] *= 2
    return corrector


class Held(Policy):
    """Seed e of E does e / 10."""

    def __init__(self, seeds):
        super().__init__([-1.0] * ACTION, [1.0] * ACTION)
        self.num_seeds = seeds

    def forward(self, obs):
        action = torch.zeros(*obs.shape[:-1], ACTION)
        return action + torch.arange(self.num_seeds).view(-1, 1, 1) / 10 if obs.ndim == 3 else action


def test_the_action_score_is_the_mean_of_the_scores():
    corrector, (obs, action) = two_opinions().ensemble(), rows()
    expected = (0.6**2 * action + 0.3**2 * 0.4) / (0.6**2 + 0.3**2)  # one denoising step towards the mean of the means
    torch.testing.assert_close(corrector(obs, action, Coefficients(k1=1.0, units="sigma2")), expected)


def test_the_inverse_dynamics_are_averaged_at_the_averaged_target():
    corrector, (obs, action) = two_opinions().ensemble(), rows()
    got = corrector.explain(obs, action, Coefficients(k2=0.5)).a2
    # h = -2 s on average, I = 1.5 (s' - s): -3 s. The mean over the seeds' own answers would be -3.5 s.
    torch.testing.assert_close(got, 0.5 * -3 * obs[..., :ACTION])


@pytest.mark.parametrize("settings", PRESETS)
def test_the_ensemble_of_one_seed_is_that_seed(settings):
    corrector, (obs, action) = random_corrector(**settings), rows()
    corrector.measure_noise(*rows(size=300)[0], rows(size=300)[1][0])
    for c in (EVERYTHING, Coefficients(k1=1.0, k2=1.0, gate=0.4)):
        assert torch.equal(corrector.ensemble()(obs, action, c), corrector(obs, action, c))


@pytest.mark.parametrize("settings", PRESETS)
def test_the_ensemble_of_equal_seeds_is_any_of_them(settings):
    corrector, (obs, action) = random_corrector(3, **settings), rows()
    for parameter in corrector.networks.parameters():
        parameter.data = parameter.data[::3].repeat_interleave(3, 0)  # level-major: each level's first seed
    torch.testing.assert_close(
        corrector.ensemble()(obs, action, EVERYTHING), corrector.select(1)(obs, action, EVERYTHING)
    )


def test_the_corrector_that_it_was_made_of_stays_as_it_was():
    corrector, (obs, action) = random_corrector(2), rows(2)
    before = corrector(obs, action, EVERYTHING)
    mean = corrector.ensemble()
    mean.networks.action_score.layers[0].weight.data.zero_()
    assert (corrector.num_seeds, mean.num_seeds, mean.networks.members) == (2, 1, 2)
    assert torch.equal(corrector(obs, action, EVERYTHING), before)


@pytest.mark.parametrize("seeds", [1, 2, 3])
def test_a_policy_of_any_number_of_seeds_is_corrected_by_it(seeds):
    corrector = random_corrector(5, bound=1.0)
    policy = CorrectedPolicy(Held(seeds), corrector.ensemble(), EVERYTHING)
    obs, _ = rows(seeds)
    got = policy(obs)
    assert policy.num_seeds == seeds
    for seed in range(seeds):
        alone = corrector.ensemble()(obs[seed : seed + 1], torch.full((1, 6, ACTION), seed / 10), EVERYTHING)
        torch.testing.assert_close(got[seed], alone[0])


def test_its_gate_knows_the_length_of_the_mean_not_the_mean_of_the_lengths():
    corrector = two_opinions()
    data = torch.linspace(-2, 2, 4001)[:, None].expand(-1, ACTION)
    corrector.measure_noise(torch.zeros(len(data), OBS), data)
    # |eps| of the mean grows with |a - .4|: half of the data lie within 1 of .4 but for the edge: [-.6, 1.4].
    action = torch.tensor([-0.59, -0.61, 1.39, 1.41]).view(1, -1, 1).expand(1, -1, ACTION)
    obs, c = torch.zeros(1, 4, OBS), Coefficients(k1=1.0, gate=0.5)
    again = corrector.ensemble()
    again.measure_noise(torch.zeros(len(data), OBS), data)
    for mean in (corrector.ensemble(), again):
        assert (mean(obs, action, c) != action).any(-1).tolist() == [[False, True, False, True]]


@pytest.mark.parametrize("settings", PRESETS)
def test_it_survives_its_file(tmp_path, settings):
    corrector, (obs, action) = random_corrector(3, **settings), rows()
    corrector.measure_noise(*rows(size=300)[0], rows(size=300)[1][0])
    corrector.info = {"task": "hopper-medium", "seeds": [0, 1, 2]}
    before = corrector.ensemble()
    path = save_corrector(before, tmp_path / "mean.safetensors")
    assert (read_header(path)["ensemble"], read_header(path)["num_seeds"]) == (True, 1)
    after = load_corrector(path)
    assert (after.num_seeds, after.networks.members, after.info) == (1, 3, corrector.info)
    for c in (EVERYTHING, Coefficients(k1=1.0, gate=0.4)):
        assert torch.equal(after(obs, action, c), before(obs, action, c))
    assert "ensemble" not in read_header(save_corrector(corrector, path))


def rewrite(path, change, without=()):
    header, tensors = read_header(path) | change, load_file(path)
    save_file({k: v for k, v in tensors.items() if k not in without}, path, {"cdsa": json.dumps(header)})


@pytest.mark.parametrize("change", [{"ensemble": False}, {"ensemble": "yes"}, {"num_seeds": 3}, {"ensemble": None}])
def test_a_header_that_contradicts_the_members_is_refused(tmp_path, change):
    path = save_corrector(random_corrector(3).ensemble(), tmp_path / "mean.safetensors")
    rewrite(path, change)
    with pytest.raises(InputError, match="is damaged: .*Fit it again"):
        load_corrector(path)


def test_a_file_from_before_there_were_ensembles_makes_one_but_for_its_gate(tmp_path):
    corrector, (obs, action) = random_corrector(2, bound=1.0), rows()
    corrector.measure_noise(*rows(size=300)[0], rows(size=300)[1][0])
    path = save_corrector(corrector, tmp_path / "old.safetensors")
    rewrite(path, {}, without=("mean_noise_quantiles",))
    old, policy = load_corrector(path), FunctionPolicy(lambda obs: obs[:, :ACTION], [-1.0] * ACTION, [1.0] * ACTION)
    c = Coefficients(k1=1.0, gate=0.5)
    assert torch.equal(old.ensemble()(obs, action, EVERYTHING), corrector.ensemble()(obs, action, EVERYTHING))
    assert torch.equal(
        CorrectedPolicy(policy, old.select(1), c)(obs), CorrectedPolicy(policy, corrector.select(1), c)(obs)
    )
    with pytest.raises(InputError, match="not measured: call corrector.measure_noise"):
        CorrectedPolicy(policy, old.ensemble(), c)


def test_no_seed_can_be_taken_out_of_an_ensemble():
    with pytest.raises(InputError, match="the mean of 3 seeds, of which none can be taken out again"):
        random_corrector(3).ensemble().select(0)
