"""`cdsa.fit` and `cdsa.evaluate`: the weights and numbers of the commands, any data, every mistake in a sentence."""

import json
from pathlib import Path

import gymnasium
import numpy as np
import pytest
import torch
import yaml

import cdsa_lightning as cdsa
from cdsa_lightning import cli
from cdsa_lightning.core.artifact import load_corrector
from cdsa_lightning.errors import InputError
from cdsa_lightning.sources import load_transitions
from evaluation_files import TASK, leave, write_corrector
from training_data import write_npz

FAST = {"batch_size": 32, "action_sigmas": [0.7], "accelerator": "cpu", "quiet": True}


@pytest.fixture(scope="module")
def npz(tmp_path_factory) -> Path:
    return write_npz(tmp_path_factory.mktemp("data") / "data.npz")


@pytest.fixture(scope="module")
def arrays(npz):
    return dict(np.load(npz))


@pytest.fixture(autouse=True)
def in_an_empty_folder(tmp_path, monkeypatch):
    leave(tmp_path, monkeypatch)


def weights(corrector) -> bytes:
    return b"".join(value.numpy().tobytes() for value in corrector.state_dict().values())


def test_a_call_and_the_command_leave_the_same_weights(npz, tmp_path):
    made = cdsa.fit(npz, TASK, seeds=(3, 0), steps=130, **FAST)
    run = Path(made.info["run"])
    assert run.parent == Path("runs") / TASK / "cdsa"
    assert {"last.ckpt", "corrector.safetensors", "metrics.csv", "config.yaml"} <= {path.name for path in run.iterdir()}
    words = f"fit --data.task {TASK} --data.source npz:{npz} --data.batch_size 32 --trainer.max_steps 130 --wandb off"
    model = "--model.preset robust --model.action_sigmas [0.7] --model.seeds [3,0] --trainer.accelerator cpu --runs by"
    assert cli.main([*words.split(), *model.split()]) == 0
    (command,) = Path("by").glob("*/cdsa/*/corrector.safetensors")
    assert weights(load_corrector(command)) == weights(made)
    assert command.read_bytes() == (run / "corrector.safetensors").read_bytes()
    # What the call wrote down is the same fit.
    assert cli.main(["fit", "--config", str(run / "config.yaml"), "--runs", "again", "--wandb", "off"]) == 0
    (again,) = Path("again").glob("*/cdsa/*/corrector.safetensors")
    assert again.read_bytes() == command.read_bytes()


def test_a_configuration_means_what_it_means_to_the_command(npz, tmp_path):
    data = {"task": TASK, "source": f"npz:{npz}", "batch_size": 32}
    content = {"model": {"init_args": {"seeds": [1]}}, "data": data, "trainer": {"max_steps": 40, "accelerator": "cpu"}}
    Path("mine.yaml").write_text(yaml.safe_dump(content))
    assert cli.main(["fit", "--config", "mine.yaml", "--wandb", "off"]) == 0
    (command,) = Path("runs").glob("*/cdsa/*/corrector.safetensors")
    for config in ("mine.yaml", content):
        made = cdsa.fit(config=config, runs=None, quiet=True)
        assert made.info["preset"] == "paper"
        assert weights(made) == weights(load_corrector(command))
    assert cdsa.fit(config=content, preset="robust", runs=None, quiet=True).info["preset"] == "robust"


def test_every_way_to_hand_over_data_is_the_same_fit(npz, arrays):
    held = {name: arrays[name].tolist() if name == "rewards" else arrays[name] for name in arrays}
    given = [npz, str(npz), f"npz:{npz}", held, load_transitions(f"npz:{npz}")]
    made = [weights(cdsa.fit(data, TASK, steps=20, runs=None, **FAST)) for data in given]
    assert len(set(made)) == 1
    assert not Path("runs").exists()


def test_data_of_no_task_need_bounds_alone(npz, arrays):
    made = cdsa.fit(arrays, low=-0.1, high=[0.1, 0.2], steps=20, **FAST)
    assert made.low.tolist() == pytest.approx([-0.1, -0.1]) and made.high.tolist() == pytest.approx([0.1, 0.2])
    assert Path(made.info["run"]).parent == Path("runs/logged/cdsa")
    named = cdsa.fit(npz, "my-robot", low=np.array([-0.1, -0.1]), high=(0.1, 0.2), steps=20, **FAST)
    assert weights(named) == weights(made) and named.info["task"] == "my-robot"
    again = ["fit", "--config", f"{named.info['run']}/config.yaml", "--runs", "again", "--wandb", "off"]
    assert cli.main(again) == 0  # the command knows logged data too
    (command,) = Path("again").glob("my-robot/cdsa/*/corrector.safetensors")
    assert weights(load_corrector(command)) == weights(named)


class Own(gymnasium.Env):
    """Somebody's environment: three numbers are seen, two are done."""

    observation_space = gymnasium.spaces.Box(-9, 9, (3,), np.float32)
    action_space = gymnasium.spaces.Box(np.float32([-1, -2]), np.float32([1, 2]))

    def reset(self, *, seed=None, options=None):
        super().reset(seed=seed)
        self.left = 5
        return self.np_random.normal(size=3).astype(np.float32), {}

    def step(self, action):
        self.left -= 1
        return self.np_random.normal(size=3).astype(np.float32), float(action.sum()), self.left == 0, False, {}


def test_an_environment_of_ones_own_from_log_to_verdict():
    gymnasium.register("calls/Own-v0", Own)
    try:
        rng = np.random.default_rng(0)
        log = {"obs": rng.normal(size=(200, 3)), "actions": rng.uniform(-1, 1, (200, 2)), "rewards": np.zeros(200)}
        log |= {"terminals": np.arange(200) % 5 == 4, "episode": np.arange(200) // 5}
        for where in ({"task": "gym:calls/Own-v0"}, {"low": [-1, -2], "high": [1, 2]}):
            corrector = cdsa.fit(log, **where, steps=20, runs=None, quiet=True, accelerator="cpu")
            report = cdsa.evaluate(lambda obs: obs[:, :2], corrector, "gym:calls/Own-v0", episodes=4)
            assert list(report.arms) == ["policy", "cdsa(policy)"]
            assert report.statistics["cdsa(policy)"]["shift"] > 0
    finally:
        del gymnasium.registry["calls/Own-v0"]
    with pytest.raises(InputError, match="Nothing says where the policy shall act"):
        cdsa.evaluate(lambda obs: obs[:, :2], corrector)


def test_a_call_and_the_command_report_the_same_numbers(tmp_path):
    path = write_corrector(tmp_path / "mine.safetensors")
    words = f"evaluate --baseline shortest_path --corrector {path} --episodes 2 --seed 5 --ablation --k1 0.02 --k2 0.02"
    more = "--action_noise 0.01 --env_kwargs.start corner --no-wandb --quiet --output out"
    assert cli.main([*words.split(), *more.split()]) == 0
    kept = json.loads(Path("out/report.json").read_text())
    settings = {
        "seed": 5,
        "ablation": True,
        "k1": 0.02,
        "k2": 0.02,
        "action_noise": 0.01,
        "env_kwargs": {"start": "corner"},
    }
    for corrector in (path, load_corrector(path)):
        report = cdsa.evaluate(("shortest_path", None), corrector, episodes=2, **settings)
        assert json.loads(json.dumps(report.to_json())) == {name: kept[name] for name in report.to_json()}


def test_every_kind_of_policy_gets_the_same_report(tmp_path):
    path = write_corrector(tmp_path / "mine.safetensors")

    def towards(obs):
        return (obs[:, 2:] - obs[:, :2]).clip(-0.1, 0.1)

    class Net(torch.nn.Module):
        def forward(self, obs):
            return towards(obs)

    class Library:
        def predict(self, obs, deterministic=False):
            return towards(obs), None

    low = [-0.1, -0.1]
    kinds = [towards, Net(), Library(), cdsa.FunctionPolicy(towards, low, [0.1, 0.1])]
    reports = [
        cdsa.evaluate(kind, path, TASK, episodes=1, corrector_seed=1, k1=0.02, k2=0.02).to_json() for kind in kinds
    ]
    assert reports[0] == reports[1] == reports[2] == reports[3]
    assert list(reports[0]["arms"]) == ["policy", "cdsa(policy)"]
    assert list(cdsa.evaluate(towards, None, TASK, episodes=1, name="mine").arms) == ["mine"]


def test_coefficients_are_recommended_named_or_the_correctors_own(tmp_path):
    own = cdsa.Coefficients(k1=0.5, units="sigma2", a2="off")
    path = write_corrector(tmp_path / "mine.safetensors", own=own)
    (tmp_path / "file.json").write_text(json.dumps({"coefficients": own.to_dict()}))

    def shift(**values):
        report = cdsa.evaluate(("shortest_path", None), path, episodes=2, **values)
        return report.statistics["cdsa(shortest_path)"]["shift"]

    assert shift(coefficients=own) == shift(coefficients=str(tmp_path / "file.json")) != shift()
    assert shift(coefficients=own, k1=0.0) == 0


@pytest.mark.parametrize(
    "values, text",
    [
        ({}, "action bounds are missing: .* run from .*-0.0999"),
        ({"task": "risky-pointmas"}, "Did you mean 'risky-pointmass'.* Data of no task need their action bounds"),
        ({"low": -0.05, "high": 0.05}, "lie outside the bounds"),
        ({"low": [1, 2, 3], "high": 1}, "low must be one finite number, or one for each of the 2"),
        ({"low": 1, "high": -1}, "must be below its upper bound"),
        ({"low": -1, "high": 1, "task": TASK}, "has bounds of its own"),
        ({"low": -1, "high": 1, "task": "a/b"}, "a name of letters"),
        ({"task": TASK, "preset": "robst"}, "Did you mean 'robust'"),
        ({"task": TASK, "batchsize": 3}, "Did you mean 'batch_size'"),
        ({"task": TASK, "lr_score": "fast"}, "lr_score must be float, got 'fast'"),
        ({"task": TASK, "seeds": 3}, "seeds must be iterable"),
        ({"task": TASK, "seeds": (1, 1)}, "different integers"),
        ({"task": TASK, "steps": 0}, "steps must be a whole number from 1, got 0"),
        ({"task": TASK, "wandb": "onlin"}, "Did you mean 'online'"),
        ({"task": TASK, "accelerator": "abacus"}, "trainer cannot be made"),
        ({"task": TASK, "logger": True}, "sets logger of the trainer itself"),
        ({"task": TASK, "callbacks": ["x"]}, "Callback objects"),
        ({"task": TASK, "checkpoint_every": 0}, "checkpoint_every must be at least 1"),
        ({"task": TASK, "config": {"modle": {}}}, "Did you mean 'model'"),
        ({"task": TASK, "config": {"model": {"sead": 1}}}, "Unknown argument of model 'sead'"),
        ({"task": TASK, "config": {"model": {"class_path": "cdsa_baselines.iql.IQL"}}}, "names cdsa_baselines.iql.IQL"),
        ({"task": "hopper-random"}, "does not fit the task 'hopper-random'"),
    ],
)
def test_a_mistake_in_a_fit_is_told_and_leaves_nothing(npz, arrays, values, text):
    for data in (npz, arrays):
        with pytest.raises(InputError, match=text):
            cdsa.fit(data, quiet=True, **values)
    assert not list(Path().iterdir())


@pytest.mark.parametrize(
    "change, text",
    [
        (lambda a: {k: v[:0] for k, v in a.items()}, "no transitions"),
        (lambda a: a | {"obs": np.where(a["obs"] > 0.999, np.nan, a["obs"])}, "NaN or infinite"),
        (lambda a: a | {"actions": a["actions"][:, 0]}, "must be tables"),
        (lambda a: a | {"rewards": a["rewards"][:5]}, "reward has shape"),
        (lambda a: {k: v for k, v in a.items() if k != "actions"}, "no actions or action"),
        (lambda a: a | {"obs": np.full(a["obs"].shape, "x")}, "not numbers"),
    ],
)
def test_data_that_cannot_be_used_are_told(arrays, change, text):
    with pytest.raises(InputError, match=text):
        cdsa.fit(change(arrays), low=-1, high=1, quiet=True)


def test_a_name_that_is_no_data_is_told():
    with pytest.raises(InputError, match="Did you mean 'hopper-random'.*path of an .npz file"):
        cdsa.fit("hopper-randm")
    with pytest.raises(InputError, match="There are no data"):
        cdsa.fit()
    with pytest.raises(InputError, match="name one"):
        cdsa.fit("hopper-random", TASK)


@pytest.mark.parametrize(
    "policy, values, text",
    [
        (("shortest_pth", None), {}, "Did you mean 'shortest_path'"),
        (("shortest_path",), {}, r"given as \(name, checkpoint\)"),
        (3, {}, "Cannot ask a int"),
        (lambda obs: obs, {}, "expected"),
        (lambda obs: obs[:, :2], {"task": "hopper-random"}, "corrects task 'risky-pointmass'"),
        (lambda obs: obs[:, :2], {"kk1": 1.0}, "Did you mean 'k1'"),
        (lambda obs: obs[:, :2], {"episodes": 0}, "at least one episode"),
        (lambda obs: obs[:, :2], {"corrector_seed": 1, "ensemble": True}, "give one of the two"),
        (lambda obs: obs[:, :2], {"preset": "robus"}, "Did you mean 'robust'"),
    ],
)
def test_a_mistake_in_an_evaluation_is_told(tmp_path, policy, values, text):
    path = write_corrector(tmp_path / "mine.safetensors")
    with pytest.raises(InputError, match=text):
        cdsa.evaluate(policy, path, **{"episodes": 2, **values})


def test_threads_and_warnings_are_afterwards_what_they_were(npz):
    import warnings

    torch.set_num_threads(2)
    before = list(warnings.filters)
    try:
        cdsa.fit(npz, TASK, steps=20, runs=None, **FAST)
        assert torch.get_num_threads() == 2 and list(warnings.filters) == before
    finally:
        torch.set_num_threads(1)
