r"""The file that users deploy: a safetensors file whose header says, as JSON, everything but the weights.

    8 bytes: length n (little endian) | n bytes: JSON, with "__metadata__": {"cdsa": "<JSON header>"} | tensors

The header starts with the digest of all bytes (`files.intact`); files of earlier versions have none. Nothing in it can
execute. A policy that the corrector is fused with stands beside it (`runtime.operations`), and is passed over here.
`read_header` and `read_content` need the standard library alone.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError
from cdsa_lightning.files import UNSEALED, intact, seal, whole_file
from cdsa_lightning.untrusted import parse_json, read_bytes, regular_file

FORMAT = 1
POLICY = "policy"
"""Key of a fused policy in the header and, with a dot, the beginning of its tensors' names."""
_MAX_HEADER = 32 * 2**20  # bytes; the format allows more, which would become gigabytes of objects
_MAX_FILE = 2**31
_DAMAGE = (OSError, AttributeError, LookupError, TypeError, ValueError, ArithmeticError, RuntimeError)

__all__ = ["POLICY", "load_corrector", "read_content", "read_header", "save_corrector"]


def save_corrector(corrector: Any, path: str | Path, policy: tuple[list[Any], dict[str, Any]] | None = None) -> Path:
    """Write a `Corrector`, atomically: the file is whole or absent.

    Args:
        corrector: What `load_corrector` shall return.
        path: The file, by convention ``corrector.safetensors``.
        policy: Operations and tensors of a policy that it is fused with; None for the corrector alone.

    Raises:
        InputError: the file cannot be written, for instance on a full disk; one that was there before is still whole.
    """
    from safetensors.torch import save

    path = Path(path)
    nets = corrector.networks
    header = {
        **UNSEALED,
        **{key: value for key, value in corrector.info.items() if key not in UNSEALED},
        "format": FORMAT,
        "obs_dim": corrector.obs_dim,
        "action_dim": corrector.action_dim,
        "num_seeds": corrector.num_seeds,
        **({"ensemble": True} if nets.ensemble else {}),
        "state_index": nets.state_index,
        "low": corrector.low.tolist(),
        "high": corrector.high.tolist(),
        "networks": nets.settings.to_dict(),
        "coefficients": corrector.coefficients.to_dict(),
        **({POLICY: policy[0]} if policy else {}),
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in corrector.state_dict().items()}
    tensors |= policy[1] if policy else {}
    content = save(tensors, {"cdsa": json.dumps(header)})
    with whole_file(path, "the corrector") as place:
        place.write_bytes(seal(content))
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a corrector file, without torch.

    Raises:
        InputError: the file is missing, truncated, or no corrector.
    """
    path = Path(path)
    wrong = f"{path} is not a corrector written by 'cdsa fit'"
    try:
        with regular_file(path) as file:
            size = os.fstat(file.fileno()).st_size
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER):
                raise InputError(
                    f"{wrong}: its header asks for {length} bytes of {size}; it is truncated or another kind of file."
                )
            header = parse_json(parse_json(file.read(length))["__metadata__"]["cdsa"])
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            f"There is no corrector file {path}. Make one with 'cdsa fit --config configs/<task>.yaml'."
        ) from None
    except OSError as error:
        raise InputError(f"Cannot read the corrector {path}: {error.strerror or error}.") from None
    except InputError:
        raise
    except (struct.error, ValueError, KeyError, TypeError) as error:
        raise InputError(f"{wrong}: its header cannot be read ({error or type(error).__name__}).") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise InputError(f"{wrong} of format {FORMAT}: found {found!r}. Fit it again with this version.")
    return {key: value for key, value in header.items() if key not in UNSEALED}


def read_content(path: str | Path) -> bytes:
    """All bytes of a corrector file, seen to be those that were written.

    Raises:
        InputError: the file is missing, truncated, no corrector, or changed since it was written.
    """
    read_header(path)  # says best what is missing, or is another kind of file
    try:
        content = read_bytes(path, _MAX_FILE)
    except OSError as error:
        raise InputError(f"Cannot read the corrector {path}: {error.strerror or error}.") from None
    except ValueError as error:
        raise InputError(f"{path} is not a corrector written by 'cdsa fit': {error}.") from None
    if not intact(content):
        raise InputError(f"{path} is damaged: its digest is not that of its bytes. Fit it again, or copy it again.")
    return content


def _check_dims(header: dict[str, Any], tensors: dict[str, Any]) -> None:
    # Before anything is built: a damaged number must not ask for all of the memory.
    levels, seeds, _ = tensors["noise_quantiles"].shape
    members = _members(tensors)
    ensemble = header.get("ensemble", False)
    state_dim, action_dim = len(tensors["networks.obs_mean"]), len(tensors["networks.action_mean"])
    index = header["state_index"]
    _check_first_layers(header, tensors, levels, members, (state_dim, action_dim))
    found = {
        "ensemble": (ensemble, bool(ensemble)),
        "num_seeds": (header["num_seeds"], seeds),
        "members": (seeds if not ensemble else members, members),
        "action_dim": (header["action_dim"], action_dim),
        "number of action_sigmas": (len(header["networks"]["action_sigmas"]), levels),
        "state entries": (header["obs_dim"] if index is None else len(index), state_dim),
        "low": (len(header["low"]), action_dim),
        "high": (len(header["high"]), action_dim),
    }
    for name, (said, is_) in found.items():
        if said != is_:
            raise InputError(f"its header says {said!r} for {name}, its tensors {is_}")


def _check_first_layers(
    header: dict[str, Any], tensors: dict[str, Any], levels: int, members: int, dims: tuple[int, int]
) -> None:
    # A tensor without entries may have any shape, and two long vectors ask for the matrix between them.
    hollow = [name for name, tensor in tensors.items() if not tensor.numel()]
    if hollow:
        raise InputError(f"{hollow[0]} has no entries, in the shape {list(tensors[hollow[0]].shape)}")
    alone = header["networks"].get("state_score_input") == "state"
    wanted = {
        "action_score": (levels * members, sum(dims)),
        "state_score": (members, dims[0] if alone else sum(dims)),
        "inverse_dynamics": (members, 2 * dims[0]),
    }
    for name, shape in wanted.items():
        found = tuple(tensors[f"networks.{name}.layers.0.weight"].shape)
        if found[:2] != shape:
            raise InputError(f"its {name} has weights of shape {found}, expected {shape} and its width")


def _members(tensors: dict[str, Any]) -> int:
    """How many training seeds the networks hold, whether they answer one by one or on average."""
    return tensors["networks.inverse_dynamics.layers.0.bias"].shape[0]


def load_corrector(path: str | Path) -> Any:
    """The `Corrector` in a file, on the CPU and in eval().

    Raises:
        InputError: the file is missing, corrupted, or its tensors do not fit its header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load

    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.core.corrector import Corrector
    from cdsa_lightning.core.networks import Networks, NetworkSettings
    from cdsa_lightning.core.seeds import init_generators

    header, content = read_header(path), read_content(path)
    try:
        tensors = {name: tensor for name, tensor in load(content).items() if not name.startswith(f"{POLICY}.")}
        _check_dims(header, tensors)
        networks = Networks(
            header["obs_dim"],
            header["action_dim"],
            NetworkSettings(**header["networks"]),
            init_generators(range(_members(tensors))),
            header["state_index"],
            header.get("ensemble", False),
        )
        coefficients = Coefficients.from_dict(header["coefficients"])
        corrector = Corrector(networks, header["low"], header["high"], header["obs_dim"], coefficients)
        tensors.setdefault("mean_noise_quantiles", corrector.mean_noise_quantiles)  # earlier files lack it
        corrector.load_state_dict(tensors)
    except (SafetensorError, *_DAMAGE) as error:
        reason = (str(error).splitlines() or [type(error).__name__])[0].rstrip(".:")
        reason = f"it lacks {reason}" if isinstance(error, KeyError) else reason
        raise InputError(f"{path} is damaged: {reason}. Fit it again, or copy it again.") from None
    weights = {name: tensor for name, tensor in tensors.items() if name not in ("low", "high")}
    broken = [name for name, tensor in weights.items() if not bool(tensor.isfinite().all())]
    if broken:
        raise InputError(f"{path} holds values that are not finite ({broken[0]}): its training diverged. Fit it again.")
    sizes = ("obs_dim", "action_dim", "num_seeds", "ensemble", "state_index")
    own = ("format", *sizes, "low", "high", "networks", "coefficients", POLICY)
    corrector.info = {key: value for key, value in header.items() if key not in own}
    return corrector.eval().requires_grad_(False)
