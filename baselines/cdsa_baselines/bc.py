r"""Behaviour cloning, of all the data (BC) and of its best trajectories (10%BC).

    L_pi = E (pi(s) - a)^2,     pi(s) = tanh f((s - mean) / (std + 1e-3)),     a in [-1, 1]

The CDSA paper (arXiv 2406.07541) takes both rows of its table from IQL's (arXiv 2110.06169), whose 10%BC is Decision
Transformer's %BC (arXiv 2106.01345): cloning of what has the highest returns, a share of the time steps there, of the
trajectories here. Network, rate and standardisation are those of CORL's any-percent BC (arXiv 2210.07105). Which
trajectories are cloned is a matter of the data, `--data.top_fraction`; `BC10` is BC whose runs have their own folder.
"""

from __future__ import annotations

from collections.abc import Iterable

from torch import Tensor, nn

from cdsa_baselines._nets import ActionBox, Standardizer
from cdsa_lightning.core.nets import stacked_mlp
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.data import Batch, DataInfo
from cdsa_lightning.errors import InputError
from cdsa_lightning.stepping import Baseline, ParameterGroup

__all__ = ["BC", "BC10"]


class BC(Baseline):
    """Trains a deterministic policy to answer as the data do.

    Args:
        lr: Learning rate.
        hidden: Width of the two hidden layers.
        seeds: Training seeds, stacked.
        inner_steps: Gradient steps per Lightning step.
        compile: Compile the update.
    """

    run_name = "bc"
    standardised = True

    def __init__(
        self,
        lr: float = 3e-4,
        hidden: int = 256,
        seeds: Iterable[int] = (0, 1, 2, 3, 4),
        inner_steps: int = 10,
        compile: bool = False,  # noqa: A002
    ) -> None:
        super().__init__(seeds, inner_steps, compile)
        self.save_hyperparameters()
        self.lr, self.hidden = lr, hidden

    def build(self, info: DataInfo) -> None:
        widths = (info.obs_dim, self.hidden, self.hidden, info.action_dim)
        self.standardize, self.box = Standardizer(info), ActionBox(info)
        self.actor = stacked_mlp(widths, nn.ReLU(), init_generators(self.seeds))

    def parameter_groups(self) -> list[ParameterGroup]:
        return [ParameterGroup("actor", list(self.actor.parameters()), self.lr)]

    def losses(self, batch: Batch, noise: Tensor) -> dict[str, Tensor]:
        own = self.actor(self.standardize(batch.obs)).tanh()
        return {"actor_loss": (own - self.box.to_unit(batch.action)).square().mean((-2, -1))}

    def policy(self) -> Policy:
        """The actor of every seed, in the environment's units."""
        return self.acting(nn.Sequential(self.actor, nn.Tanh()))


class BC10(BC):
    """BC of the best tenth of the trajectories: `configs/baselines/bc10.yaml` sets ``data.top_fraction`` to .1."""

    run_name = "bc10"

    def on_fit_start(self) -> None:
        super().on_fit_start()
        if self.data_info.top_fraction == 1:
            raise InputError(
                "10%BC clones the best trajectories, and these are all of them. Choose the tenth with "
                "--data.top_fraction 0.1, or train BC."
            )
