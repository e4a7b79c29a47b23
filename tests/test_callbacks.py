"""Evaluation during a fit: at the right steps, through the loggers, and without a trace in the training."""

import random

import numpy as np
import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.loggers import Logger

from cdsa_lightning.callbacks import EvaluationCallback
from cdsa_lightning.core.coefficients import Coefficients
from cdsa_lightning.core.corrector import Corrector
from cdsa_lightning.core.networks import Networks, NetworkSettings
from cdsa_lightning.core.policy import Policy
from cdsa_lightning.core.seeds import init_generators
from cdsa_lightning.errors import InputError
from cdsa_lightning.tasks import get_task

TASK = get_task("risky-pointmass")


class Memory(Logger):
    """Keeps what is logged."""

    name, version = "memory", "0"

    def __init__(self):
        super().__init__()
        self.seen = []

    def log_hyperparams(self, *args, **kwargs):
        pass

    def log_metrics(self, metrics, step=None):
        if any(key.startswith("eval/") for key in metrics):
            self.seen.append((step, dict(metrics)))


class Straight(Policy):
    """To the goal with a learned speed; draws from the global generator as a careless policy would."""

    def __init__(self, net):
        super().__init__(TASK.low, TASK.high)
        self.net = net

    def forward(self, obs):
        torch.rand(1)
        return self.clip((obs[:, 2:] - obs[:, :2]) * self.net.weight.mean().abs().clamp(0.5, 1.0))


class Tiny(LightningModule):
    """Three gradient steps a training step, with noise from the global generator and a dropout."""

    def __init__(self):
        super().__init__()
        self.automatic_optimization = False
        self.net, self.drop, self.frozen = torch.nn.Linear(2, 2), torch.nn.Dropout(0.5), torch.nn.Dropout(0.5).eval()

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), lr=0.01)

    def training_step(self, batch, batch_idx):
        optimizer = self.optimizers()
        for _ in range(3):
            optimizer.zero_grad()
            loss = (self.net(self.drop(torch.randn(4, 2))) ** 2).mean() * random.random() * np.random.rand()
            self.manual_backward(loss)
            optimizer.step()

    def train_dataloader(self):
        return torch.utils.data.DataLoader(torch.zeros(100, 1), batch_size=1)


class TinyBaseline(Tiny):
    def policy(self):
        return Straight(self.net)


class TinyCorrector(Tiny):
    def corrector(self):
        networks = Networks(4, 2, NetworkSettings(), init_generators(range(2)))
        return Corrector(networks, TASK.low, TASK.high, 4, Coefficients(k1=0.01))


def fit(module, tmp_path, callback=None, steps=24, ckpt_path=None):
    random.seed(0), np.random.seed(0), torch.manual_seed(0)
    torch.nn.init.constant_(module.net.weight, 0.7)
    torch.nn.init.zeros_(module.net.bias)
    memory = Memory()
    trainer = Trainer(
        max_steps=steps,
        accelerator="cpu",
        logger=[memory],
        callbacks=[callback] if callback else [],
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        default_root_dir=tmp_path,
    )
    trainer.fit(module, ckpt_path=ckpt_path)
    return memory.seen


def callback(**kwargs):
    return EvaluationCallback(**{"task": "risky-pointmass", "every_n_steps": 10, "episodes": 2, **kwargs})


def test_evaluates_past_each_multiple_and_at_the_end(tmp_path):
    seen = fit(TinyBaseline(), tmp_path, callback())
    # Training steps end at 3, 6, ..., 24: 12 and 21 are the first past 10 and 20, 24 is the end.
    assert [step for step, _ in seen] == [12, 21, 24]
    assert {"eval/tinybaseline/return", "eval/tinybaseline/var_10", "eval/tinybaseline/violation_rate"} <= set(
        seen[0][1]
    )


def test_the_end_is_not_evaluated_twice(tmp_path):
    assert [step for step, _ in fit(TinyBaseline(), tmp_path, callback(every_n_steps=24))] == [24]


def test_one_training_step_over_several_multiples_is_one_evaluation(tmp_path):
    assert [step for step, _ in fit(TinyBaseline(), tmp_path, callback(every_n_steps=1), steps=6)] == [3, 6]


def test_a_resumed_fit_evaluates_from_where_it_resumes(tmp_path):
    module = TinyBaseline()
    trainer = Trainer(
        max_steps=12, accelerator="cpu", logger=False, enable_progress_bar=False, default_root_dir=tmp_path
    )
    trainer.fit(module)
    trainer.save_checkpoint(tmp_path / "at12.ckpt")
    seen = fit(TinyBaseline(), tmp_path, callback(), ckpt_path=tmp_path / "at12.ckpt")
    assert [step for step, _ in seen] == [21, 24]


def test_training_with_evaluation_is_training_without(tmp_path):
    with_evaluation, without = TinyBaseline(), TinyBaseline()
    assert len(fit(with_evaluation, tmp_path, callback())) == 3
    fit(without, tmp_path)
    for first, second in zip(with_evaluation.parameters(), without.parameters(), strict=True):
        assert torch.equal(first, second)


def test_modes_return_to_what_they_were(tmp_path):
    modes = []

    class Watching(TinyBaseline):
        def on_train_batch_end(self, *args):
            modes.append((self.training, self.drop.training, self.frozen.training))

    fit(Watching(), tmp_path, callback(every_n_steps=1))
    assert len(modes) == 8
    assert len(set(modes)) == 1


def test_a_corrector_is_evaluated_beside_its_baseline(tmp_path):
    evaluation = callback(baseline="shortest_path")
    step, scalars = fit(TinyCorrector(), tmp_path, evaluation, steps=3)[0]
    assert step == 3
    assert "eval/shortest_path/return" in scalars
    assert "eval/cdsa(shortest_path)/difference_low" in scalars
    assert scalars["eval/cdsa(shortest_path)/shift"] > 0
    assert evaluation.report.arms["cdsa(shortest_path)"].returns.shape == (2, 2)


def test_a_corrector_without_a_baseline_is_refused_before_the_training(tmp_path):
    with pytest.raises(InputError, match="needs the baseline to correct"):
        fit(TinyCorrector(), tmp_path, callback())


def test_a_module_that_offers_nothing_is_refused(tmp_path):
    with pytest.raises(InputError, match=r"Tiny: it has neither policy\(\) nor corrector\(\)"):
        fit(Tiny(), tmp_path, callback())


def test_an_unknown_task_or_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="risky-pointmass"):
        fit(TinyBaseline(), tmp_path, callback(task="risky-pointmas"))
    with pytest.raises(InputError, match="does not know the task"):
        fit(TinyBaseline(), tmp_path, callback(task=None))
    with pytest.raises(InputError, match="every_n_steps must be at least 1, got 0"):
        callback(every_n_steps=0)
