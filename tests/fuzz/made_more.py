"""Small valid inputs of the readers of grids, runs and storages, and what reads them; `made` has the others."""

import json
import re

import numpy as np
import torch

from baselines import checkpoints, programs
from baselines.d3rlpy_files import actor_state, d3rlpy_config, d3rlpy_states
from fuzz.made import TASK, task
from grid_files import write_grid, write_record
from known_networks import ACTION, OBS
from measured_correctors import measured_corrector


def _read_page(path):
    from cdsa_lightning.dashboard.evaluations import read_evaluation
    from cdsa_lightning.dashboard.local import Local
    from cdsa_lightning.dashboard.page import page, page_data

    page(page_data(Local([read_evaluation(path)], [], [], [], []), "title"))


def _grid(folder):
    write_grid(folder)
    (folder / "data.npz").unlink()
    (folder / "own.yaml").write_text("model: {lr: 0.001}\ntrainer: {max_steps: 10}\n")
    text = (folder / "grid.yaml").read_text()
    (folder / "grid.yaml").write_text(re.sub(r"/\S*\.yaml", "own.yaml", text))


def _read_grid(path):
    from cdsa_lightning.grid.facts import DataFacts
    from cdsa_lightning.grid.nodes import expand
    from cdsa_lightning.grid.settings import read_grid

    expand(read_grid(path), lambda task: DataFacts("npz:x", "npz", "f"))


def _config(folder):
    text = "model:\n  lr: 0.001\n  seeds: [0, 1]\ndata:\n  task: risky-pointmass\ntrainer:\n  max_steps: 10\n"
    (folder / "config.yaml").write_text(text)


def _read_config(path):
    from cdsa_lightning.commands.explain import check_config

    check_config(str(path))


def _record(folder):
    write_record(folder / "cell", TASK, "iql", {"base": [[1.0, 2.0], [0.5, 3.0]], "cdsa": [[2.0, 3.0], [4.0, 5.0]]})
    (folder / "cell" / "done.json").write_text(json.dumps({"path": "cell", "settings": {"seeds": [0, 1]}}))


def _read_record(path):
    from cdsa_lightning.grid.cells import read_record
    from cdsa_lightning.grid.nodes import done_record

    done_record(path.parent, "cell")
    read_record(path / "record.parquet")


def _facts(folder):
    entry = {"stamp": ["x", 1, 2, 3], "facts": {"source": "npz:x", "provenance": "npz", "fingerprint": "f"}}
    (folder / "fingerprints.json").write_text(json.dumps({"npz:x": entry}))


def _read_facts(path):
    from cdsa_lightning.grid.facts import Facts

    Facts({TASK: "npz:x"}, path)(TASK)


def _journal(folder):
    from cdsa_lightning.journal import Journal

    log = Journal(folder, 2, 3, 100, torch.device("cpu"))
    for _ in range(2):
        log.append(np.ones((2, 4, 3), np.float32))
        log.save()


def _read_journal(path):
    from cdsa_lightning.journal import Journal

    Journal(path, 2, 3, 100, torch.device("cpu")).load(8)


def _shards(folder):
    from cdsa_lightning import shards
    from cdsa_lightning.shards import Piece
    from cdsa_lightning.sources.transitions import Episode

    row = np.ones((4, 3), np.float32)
    pieces = [Piece(Episode(row, row[:3, :2], row[:3, 0], True, False), False)] * 2
    shards._save(folder, 0, pieces, lambda count: None)
    (folder / "settings.json").write_text(json.dumps({"task": "x"}))


def _read_shards(path):
    from cdsa_lightning import shards

    shards._agree(path, {"task": "x"}, overwrite=False)
    shards._summary(path, 1), list(shards._episodes(path, 1))


def _run_folder(folder):
    place = folder / TASK / "evaluate" / "1"
    place.mkdir(parents=True)
    (place / "report.json").write_text(json.dumps({"about": {"options": {"baseline": "iql"}, "corrector": "c"}}))


def _read_run_folder(path):
    from cdsa_lightning.runs import newest_evaluation

    newest_evaluation(TASK, "iql", path, corrected=True)


def _storage(folder):
    from cdsa_lightning.tuning.storage import find_optuna

    optuna = find_optuna()
    study = optuna.create_study(storage=f"sqlite:///{folder / 'trials.db'}", study_name="cdsa")
    study.set_user_attr("subject", {"task": "x"})
    study.optimize(lambda trial: trial.suggest_float("k1", 0, 1), n_trials=2)


def _read_storage(path):
    from cdsa_lightning.tuning.storage import find_optuna, open_storage, reached, understood

    with reached(str(path)), understood(str(path)):
        study = find_optuna().create_study(storage=open_storage(str(path)), study_name="cdsa", load_if_exists=True)
        len(study.trials), dict(study.user_attrs)


def _unknown(folder):
    torch.save({"a": torch.ones(3), "b": [1, 2]}, folder / "unknown.bin")


def _read_unknown(path):
    from cdsa_lightning.commands.looks import looks
    from cdsa_lightning.commands.readings import readings
    from cdsa_lightning.registry import inspect_checkpoint

    looks(path)
    for name in ("unknown.pt", "unknown.zip"):  # the other suffixes have readers of their own here
        renamed = path.rename(path.with_name(name))
        readings(renamed, inspect_checkpoint(renamed))
        path = renamed


def _fused(folder):
    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.core.policy import FunctionPolicy
    from cdsa_lightning.export import export, subject

    torch.manual_seed(0)
    layers = torch.nn.Linear(5, 8), torch.nn.LayerNorm(8), torch.nn.GELU(), torch.nn.Linear(8, ACTION)
    net = torch.nn.Sequential(*layers).eval().requires_grad_(False)

    def function(obs):
        way = torch.where(obs > 0, obs, obs.amin(-1, keepdim=True))
        return net(torch.cat((way[:, 1:], torch.sigmoid(obs)), -1)).tanh() / 2

    made = subject(
        measured_corrector(2, action_sigmas=(0.4,)),
        Coefficients(k1=0.5, k2=0.5, units="sigma2", num_steps=2),
        policy=FunctionPolicy(function, [-1.0] * ACTION, [1.0] * ACTION),
    )
    export(made, "safetensors", folder / "policy.safetensors")


def _run_fused(path):
    from cdsa_lightning.runtime import NumpyPolicy

    policy = NumpyPolicy(path)
    for shape in ((3, OBS), (OBS,), (0, OBS)):  # another width than the file's is refused
        policy.act(np.full(shape, -0.5, np.float32))


def _mlp_safetensors(folder):
    layers = checkpoints.random_layers(5, 16, 2)
    checkpoints.save_mlp(folder / "clone.safetensors", layers, obs_mean=np.zeros(5), obs_std=np.ones(5))


def _d3rlpy_pt(folder):
    layers = checkpoints.random_layers(5, 16, 2)
    torch.save(d3rlpy_states(actor_state(layers)), folder / "model.pt")
    (folder / "params.json").write_text(json.dumps(d3rlpy_config("iql", (5, 2), {"hidden_units": [16]})))


def _sb3(folder):
    checkpoints.make_sb3(folder, task())
    (folder / "agent.json").write_text(json.dumps({"hidden_activation": "elu"}))
    np.savez(folder / "agent.vecnormalize.npz", obs_mean=np.zeros(5), obs_var=np.ones(5), clip_obs=10, epsilon=1e-8)


def _corl(folder):
    checkpoints.make_corl(folder, task())
    (folder / "config.yaml").write_text("env: hopper-medium-v2\nmax_action: 1.0\nnormalize: true\n")


def _onnx_beside(folder):
    import onnx

    path = checkpoints.make_onnx(folder, task())
    onnx.save(onnx.load(path), path, save_as_external_data=True, location="net.onnx.data", size_threshold=0)


def _script(folder):
    programs.write_script(folder / "net.pt", programs.network("gaussian"), programs.scripted)
    (folder / "net.json").write_text(json.dumps({"output": "mean", "info": "x"}))
