r"""The file that users deploy: a safetensors file whose header says, as JSON, everything but the weights.

    8 bytes: length n (little endian) | n bytes: JSON, with "__metadata__": {"cdsa": "<JSON header>"} | tensors

Nothing in it can execute. `read_header` needs the standard library alone.
"""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path
from typing import Any

from cdsa_lightning.errors import InputError

FORMAT = 1
_MAX_HEADER = 100 * 2**20  # the format's own limit

__all__ = ["load_corrector", "read_header", "save_corrector"]


def save_corrector(corrector: Any, path: str | Path) -> Path:
    """Write a `Corrector`, atomically: the file is whole or absent.

    Args:
        corrector: What `load_corrector` shall return.
        path: The file, by convention ``corrector.safetensors``.
    """
    from safetensors.torch import save

    path = Path(path)
    nets = corrector.networks
    header = {
        "format": FORMAT,
        "obs_dim": corrector.obs_dim,
        "action_dim": corrector.action_dim,
        "num_seeds": corrector.num_seeds,
        "state_index": nets.state_index,
        "low": corrector.low.tolist(),
        "high": corrector.high.tolist(),
        "networks": nets.settings.to_dict(),
        "coefficients": corrector.coefficients.to_dict(),
        **corrector.info,
    }
    tensors = {name: tensor.detach().cpu().contiguous() for name, tensor in corrector.state_dict().items()}
    path.parent.mkdir(parents=True, exist_ok=True)
    partial = path.with_name(path.name + ".partial")
    try:
        partial.write_bytes(save(tensors, {"cdsa": json.dumps(header)}))
        os.replace(partial, path)
    finally:
        partial.unlink(missing_ok=True)
    return path


def read_header(path: str | Path) -> dict[str, Any]:
    """The JSON header of a corrector file, without torch.

    Raises:
        InputError: the file is missing, truncated, or no corrector.
    """
    path = Path(path)
    wrong = f"{path} is not a corrector written by 'cdsa fit'"
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > min(size - 8, _MAX_HEADER):
                raise InputError(
                    f"{wrong}: its header asks for {length} bytes of {size}; it is truncated or another kind of file."
                )
            header = json.loads(json.loads(file.read(length))["__metadata__"]["cdsa"])
    except (FileNotFoundError, IsADirectoryError):
        raise InputError(
            f"There is no corrector file {path}. Make one with 'cdsa fit --config configs/<task>.yaml'."
        ) from None
    except (struct.error, ValueError, KeyError, TypeError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{wrong}: its header cannot be read ({error or type(error).__name__}).") from None
    if not isinstance(header, dict) or header.get("format") != FORMAT:
        found = header.get("format") if isinstance(header, dict) else header
        raise InputError(f"{wrong} of format {FORMAT}: found {found!r}. Fit it again with this version.")
    return header


def load_corrector(path: str | Path) -> Any:
    """The `Corrector` in a file, on the CPU and in eval().

    Raises:
        InputError: the file is missing, corrupted, or its tensors do not fit its header.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    from cdsa_lightning.core.coefficients import Coefficients
    from cdsa_lightning.core.corrector import Corrector
    from cdsa_lightning.core.networks import Networks, NetworkSettings
    from cdsa_lightning.core.seeds import init_generators

    header = read_header(path)
    try:
        tensors = load_file(path)
        networks = Networks(
            header["obs_dim"],
            header["action_dim"],
            NetworkSettings(**header["networks"]),
            init_generators(range(header["num_seeds"])),
            header["state_index"],
        )
        coefficients = Coefficients.from_dict(header["coefficients"])
        corrector = Corrector(networks, header["low"], header["high"], header["obs_dim"], coefficients)
        corrector.load_state_dict(tensors)
    except (SafetensorError, KeyError, TypeError, RuntimeError) as error:
        raise InputError(f"{path} is damaged: {str(error).splitlines()[0]}. Fit it again, or copy it again.") from None
    own = ("format", "obs_dim", "action_dim", "num_seeds", "state_index", "low", "high", "networks", "coefficients")
    corrector.info = {key: value for key, value in header.items() if key not in own}
    return corrector.eval()
