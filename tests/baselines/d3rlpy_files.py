"""Files laid out as d3rlpy writes them, built by hand: no d3rlpy is needed."""

import json
import pickle
from io import BytesIO

import torch

NONE = {"type": "none", "params": {}}
ENCODER = {"activation": "relu", "use_batch_norm": False, "dropout_rate": None}


def standard(mean, std, eps=1e-3):
    return {"type": "standard", "params": {"mean": list(mean), "std": list(std), "eps": eps}}


def min_max(minimum, maximum):
    return {"type": "min_max", "params": {"minimum": list(map(float, minimum)), "maximum": list(map(float, maximum))}}


def d3rlpy_config(algorithm="iql", ends=(3, 2), encoder=None, obs=NONE, actions=NONE, **params):
    """The JSON that lies in a ``.d3`` and in params.json; `encoder` holds options of a vector encoder."""
    units = {"hidden_units": [8, 6]} if encoder is None else encoder
    factory = {"type": "vector", "params": ENCODER | units}
    scalers = {"observation_scaler": obs, "action_scaler": actions, "reward_scaler": NONE}
    place = "encoder_factory" if algorithm.endswith("bc") and "td3" not in algorithm else "actor_encoder_factory"
    learner = {"type": algorithm, "params": {"batch_size": 256, **scalers, place: factory, **params}}
    return {"observation_shape": [ends[0]], "action_size": ends[1], "config": learner}


def actor_state(layers, last="_mu", places=None):
    """The state dict of an actor: hidden layers at `places` of the encoder (default: every other), then `last`."""
    state, places = {}, places or range(0, 2 * len(layers), 2)
    names = [f"_encoder._layers.{place}." for place, _ in zip(places, layers[:-1], strict=False)] + [f"{last}."]
    for name, (weight, bias) in zip(names, layers, strict=True):
        state |= {f"{name}weight": torch.tensor(weight), f"{name}bias": torch.tensor(bias)}
    return state


def d3rlpy_states(actor, name="policy"):
    """What save_model() stores beside an actor: critics, and optimisers with nested plain values."""
    critics = {"0._encoder._layers.0.weight": torch.ones(8, 5), "0._fc.weight": torch.ones(1, 8)}
    optimizer = {
        "optim": {"state": {0: {"step": torch.ones(())}}, "param_groups": [{"lr": 3e-4}]},
        "lr_scheduler": None,
    }
    rest = {"q_funcs": critics, "targ_q_funcs": critics, "actor_optim": optimizer, "critic_optim": optimizer}
    return {name: actor} | (rest if name == "policy" else {"optim": optimizer})


def torch_bytes(value):
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()


def write_d3(path, states, config, version="2.8.1", protocol=4):
    """What save() writes; `states` may be raw bytes, `config` raw text."""
    content = states if isinstance(states, bytes) else torch_bytes(states)
    text = config if isinstance(config, str) else json.dumps(config)
    path.write_bytes(pickle.dumps({"torch": content, "config": text, "version": version}, protocol))
    return path


def write_pt(path, states, config=None, sidecar="params.json"):
    """What save_model() writes, and the configuration beside it."""
    path.write_bytes(torch_bytes(states))
    if config is not None:
        (path.parent / sidecar).write_text(json.dumps(config))
    return path
