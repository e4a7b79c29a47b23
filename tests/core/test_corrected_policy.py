"""A corrected policy is a policy: its seeds, its parts, what it refuses."""

import pytest
import torch

from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import CorrectedPolicy, Corrector
from cdsa_lightning.core.policy import FunctionPolicy, Policy
from cdsa_lightning.errors import InputError
from known_networks import ACTION, OBS, gaussian_corrector, random_corrector, random_networks

BOUND = 100.0
STEP = Coefficients(k1=1.0, k2=0.5)


class Affine(Policy):
    """Seed e answers (e + 1) times the first entries of the observation."""

    def __init__(self, num_seeds, bound=BOUND):
        super().__init__([-bound] * ACTION, [bound] * ACTION)
        self.num_seeds = num_seeds

    def forward(self, obs):
        scale = torch.arange(1.0, self.num_seeds + 1)[:, None, None]
        action = obs[..., :ACTION] * scale if self.num_seeds > 1 else obs[..., :ACTION]
        return self.clip(action)


class Drawn(Affine):
    stochastic = True

    def reseed(self, seed):
        self.generator = torch.Generator().manual_seed(seed)

    def forward(self, obs):
        return self.clip(super().forward(obs) + torch.randn(ACTION, generator=self.generator))


def observations(*shape):
    return torch.randn(*shape, OBS, generator=torch.Generator().manual_seed(0))


@pytest.mark.parametrize(("policy_seeds", "corrector_seeds"), [(1, 1), (3, 3), (1, 3), (3, 1)])
def test_zero_coefficients_return_the_baseline_action(policy_seeds, corrector_seeds):
    policy, seeds = Affine(policy_seeds), max(policy_seeds, corrector_seeds)
    corrected = CorrectedPolicy(policy, random_corrector(corrector_seeds), Coefficients.none())
    obs = observations(seeds, 5)
    expected = policy(obs) if policy_seeds > 1 else obs[..., :ACTION]
    assert torch.equal(corrected(obs), expected)


def test_algorithm_2_corrects_the_baselines_own_action():
    corrector, obs = random_corrector(), observations(6)
    corrected = CorrectedPolicy(Affine(1), corrector, STEP)
    torch.testing.assert_close(corrected(obs), corrector(obs[None], obs[None, :, :ACTION], STEP)[0])


@pytest.mark.parametrize(("policy_seeds", "corrector_seeds"), [(3, 3), (1, 3), (3, 1)])
def test_seed_e_of_the_policy_meets_seed_e_of_the_corrector(policy_seeds, corrector_seeds):
    corrector, obs = random_corrector(corrector_seeds, action_sigmas=(0.5, 0.2)), observations(3, 5)
    corrected = CorrectedPolicy(Affine(policy_seeds), corrector, STEP)
    assert corrected.num_seeds == 3
    whole = corrected(obs)
    for seed in range(3):
        base = obs[seed, :, :ACTION] * (seed + 1 if policy_seeds > 1 else 1)
        given = base.expand(corrector_seeds, -1, -1), obs[seed].expand(corrector_seeds, -1, -1)
        own = corrector(given[1], given[0], STEP)[seed if corrector_seeds > 1 else 0]
        torch.testing.assert_close(whole[seed], own, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("shape", [(5,), (1, 5)])
def test_one_seed_works_with_and_without_a_seed_axis(shape):
    corrected = CorrectedPolicy(Affine(1), random_corrector(), STEP)
    parts = corrected.explain(observations(*shape))
    assert [part.shape for part in parts] == [(*shape, ACTION)] * 4 + [shape]
    torch.testing.assert_close(corrected(observations(*shape)).view(5, ACTION), corrected(observations(5)))


def test_explain_tells_the_parts_of_what_forward_does():
    corrected = CorrectedPolicy(Affine(3), random_corrector(1), STEP)
    obs = observations(3, 7)
    parts = corrected.explain(obs)
    assert torch.equal(parts.action, corrected(obs))
    assert torch.equal(parts.base_action, Affine(3)(obs))
    torch.testing.assert_close(parts.action, parts.base_action + parts.a1 + parts.a2)
    assert not parts.clipped.any()


def test_the_correctors_own_coefficients_serve_where_none_are_named():
    corrector = gaussian_corrector(0.0, 1.0, (1.0,))
    corrector.coefficients = Coefficients(k1=1.0)
    obs = observations(4)
    torch.testing.assert_close(CorrectedPolicy(Affine(1), corrector)(obs), obs[:, :ACTION] / 2)
    torch.testing.assert_close(CorrectedPolicy(Affine(1), corrector, Coefficients(k1=2.0))(obs), 0 * obs[:, :ACTION])


def test_a_corrected_policy_can_be_corrected_again():
    half = CorrectedPolicy(Affine(1), gaussian_corrector(0.0, 1.0, (1.0,)), Coefficients(k1=1.0))
    obs = observations(4)
    quarter = CorrectedPolicy(half, gaussian_corrector(0.0, 1.0, (1.0,)), Coefficients(k1=1.0))
    torch.testing.assert_close(quarter(obs), obs[:, :ACTION] / 4)


def test_actions_stay_within_the_bounds():
    corrected = CorrectedPolicy(Affine(1, 0.5), random_corrector(bound=0.5), Coefficients(k1=50.0, k2=50.0))
    action = corrected(10 * observations(500))
    assert (action.abs() <= 0.5).all()
    assert (action.abs() == 0.5).any()


def test_a_stochastic_baseline_is_repeatable_through_its_correction():
    policy = Drawn(1)
    corrected = CorrectedPolicy(policy, random_corrector(), STEP)
    assert corrected.stochastic
    corrected.reseed(3)
    first, second = corrected(observations(4)), corrected(observations(4))
    corrected.reseed(3)
    assert torch.equal(corrected(observations(4)), first)
    assert not torch.equal(first, second)


def test_any_function_can_be_corrected():
    policy = FunctionPolicy(lambda obs: obs[:, :ACTION], [-BOUND] * ACTION, [BOUND] * ACTION, numpy=True)
    corrected = CorrectedPolicy(policy, random_corrector(3), STEP)
    torch.testing.assert_close(
        corrected(observations(3, 4)), CorrectedPolicy(Affine(1), random_corrector(3), STEP)(observations(3, 4))
    )


@pytest.mark.parametrize(
    ("policy", "corrector", "coefficients", "text"),
    [
        (Affine(2), random_corrector(3), STEP, "policy holds 2 seeds and the corrector 3"),
        (FunctionPolicy(len, [-1.0], [1.0]), random_corrector(), STEP, "policy has 1 action entries, the corrector 2"),
        (Affine(1, 1.0), random_corrector(), STEP, r"acts in \[-1.0, -1.0\] to .* corrector in \[-100.0"),
        (Affine(1), random_corrector(), Coefficients(k1=1.0, schedule=(0.3,)), r"sigma 0.3; trained: \[1.0\]"),
        (Affine(1), random_corrector(), Coefficients(k1=1.0, gate=0.9), "not measured"),
    ],
)
def test_what_does_not_fit_together_is_refused(policy, corrector, coefficients, text):
    with pytest.raises(InputError, match=text):
        CorrectedPolicy(policy, corrector, coefficients)


def test_observations_of_another_width_are_refused():
    corrected = CorrectedPolicy(Affine(1), random_corrector(), STEP)
    with pytest.raises(InputError, match="takes 3 observation and 2 action entries, got 4 and 2"):
        corrected(torch.zeros(5, OBS + 1))


@pytest.mark.parametrize(("policy_seeds", "corrector_seeds"), [(3, 3), (1, 3)])
@pytest.mark.parametrize("shape", [(5,), (2, 5)])
def test_observations_of_another_number_of_seeds_are_refused(policy_seeds, corrector_seeds, shape):
    corrected = CorrectedPolicy(Affine(policy_seeds), random_corrector(corrector_seeds), STEP)
    with pytest.raises(InputError, match="holds 3 seeds, the observations [12]"):
        corrected(observations(*shape))


def test_a_corrector_that_sees_a_part_of_the_state_serves_the_whole_observation():
    corrector = Corrector(random_networks(state_index=[0, 2]), [-BOUND] * ACTION, [BOUND] * ACTION, OBS)
    corrected, obs = CorrectedPolicy(Affine(1), corrector, STEP), observations(4)
    other = obs.clone()
    other[:, 1] += 1.0  # seen by the policy alone
    change = corrected.explain(other).action - corrected.explain(other).base_action
    same_base = corrector(other[None], obs[None, :, :ACTION], STEP)
    torch.testing.assert_close(same_base[0], corrected(obs))
    assert change.abs().max() > 0


def test_a_single_observation_is_refused_with_the_remedy_and_doubles_are_taken():
    safe = CorrectedPolicy(Affine(1), random_corrector(1))
    assert not safe.training
    with pytest.raises(InputError, match=r"Observations are a tensor \[B, S\].*got shape"):
        safe.explain(observations())
    assert torch.equal(safe(observations(4).double()), safe(observations(4)))
