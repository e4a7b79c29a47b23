r"""The three losses of Algorithm 1, Eq. 6, 8 and 9 of the CDSA paper (arXiv 2406.07541).

    L_score = 1/2 E || score(x + sigma z) + z / sigma ||^2,    z ~ N(0, I)        Eq. 6 (action) and 8 (state)
    L_I     = E || I(s, s') - a ||^2                                              Eq. 9

Its minimiser is the score of the smoothed density, grad log (p * N(0, sigma^2 I)). Where a network predicts the noise
instead, score = -eps / sigma, and sigma^2 L_score = 1/2 E || eps - z ||^2 is what is minimised: the same minimiser,
with targets of unit size at every sigma. Noise is an argument throughout; each function returns one loss per network.
"""

from __future__ import annotations

from jaxtyping import Float
from torch import Tensor

__all__ = ["denoising_score_loss", "inverse_dynamics_loss", "noise_prediction_loss"]


def denoising_score_loss(
    score: Float[Tensor, "*nets B D"], noise: Float[Tensor, "*nets B D"], sigma: float | Float[Tensor, "*#nets 1 1"]
) -> Float[Tensor, "*nets"]:
    """Eq. 6 or 8 from the score predicted at the perturbed points.

    Args:
        score: Network output at x + sigma * noise.
        noise: The standard normal z that perturbed the data.
        sigma: Standard deviation of the perturbation, in the units of x.
    """
    return 0.5 * _batch_mean(score + noise / sigma)


def noise_prediction_loss(
    predicted: Float[Tensor, "*nets B D"], noise: Float[Tensor, "*nets B D"]
) -> Float[Tensor, "*nets"]:
    """sigma^2 times `denoising_score_loss` for score = -predicted / sigma."""
    return 0.5 * _batch_mean(predicted - noise)


def inverse_dynamics_loss(
    predicted: Float[Tensor, "*nets B A"], action: Float[Tensor, "*nets B A"]
) -> Float[Tensor, "*nets"]:
    """Eq. 9: the squared error of the action that leads from s to s', summed over entries, averaged over the batch."""
    return _batch_mean(predicted - action)


def _batch_mean(error: Tensor) -> Tensor:
    """Squared length of each row, averaged over the batch: one reduction, not a sum and then a mean."""
    return error.square().sum((-2, -1)) / error.shape[-2]
