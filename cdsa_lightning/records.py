r"""A report on disk, written and read back whole.

    report.json       all numbers, with what made them; sealed (`files`), and the digests of the other two
    episodes.parquet  one row an episode
    traces.npz        the recorded episodes; for the i-th arm of report.json: i/lengths, i/seed, i/episode [K], and the
                      episodes one after the other: i/obs [sum(T + 1), S], i/action, i/base_action [sum(T), A], i/reward

Every file appears whole or not at all: it is written beside its place and moved there, report.json last. Reading
executes nothing.
"""

from __future__ import annotations

import importlib.metadata
import json
import math
import platform
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from cdsa_lightning.errors import InputError
from cdsa_lightning.evaluation import Report
from cdsa_lightning.files import UNSEALED, digest_of, intact, seal, whole_file
from cdsa_lightning.rollout import Episodes, Trace
from cdsa_lightning.tables import read_parquet
from cdsa_lightning.tasks import get_task
from cdsa_lightning.untrusted import parse_json, read_bytes, read_npz

if TYPE_CHECKING:
    from matplotlib.figure import Figure

__all__ = ["episode_table", "load", "load_about", "save", "save_figures", "versions", "write_figure"]

_PACKAGES = ("cdsa-lightning", "torch", "lightning", "numpy", "gymnasium", "mujoco")
_COLUMNS = ("arm", "seed", "episode", "return", "normalized", "length", "terminated", "shift", "clip_fraction")
_JSON, _PARQUET, _TRACES = "report.json", "episodes.parquet", "traces.npz"


def episode_table(report: Report) -> pa.Table:
    """One row an episode: arm, seed, episode, return, normalized, length, terminated, shift, clip_fraction, infos."""
    keys = sorted({key for episodes in report.arms.values() for key in episodes.info})
    parts = []
    for name, episodes in report.arms.items():
        seeds, count = episodes.returns.shape
        columns: dict[str, Any] = {
            "arm": [name] * (seeds * count),
            "seed": np.repeat(np.arange(seeds), count),
            "episode": np.tile(np.arange(count), seeds),
            "return": episodes.returns.reshape(-1),
            "normalized": report.scores[name].reshape(-1),
            "length": episodes.lengths.reshape(-1),
            "terminated": episodes.terminated.reshape(-1),
            "shift": episodes.shift.reshape(-1),
            "clip_fraction": episodes.clip_fraction.reshape(-1),
        }
        columns |= {key: np.asarray(episodes.info[key]).reshape(-1) for key in keys if key in episodes.info}
        parts.append(pa.table(columns))
    return pa.concat_tables(parts, promote_options="permissive")


def save(report: Report, directory: Path | str, about: dict[str, Any] | None = None) -> list[Path]:
    """Write report.json, episodes.parquet and traces.npz into `directory`.

    Args:
        report: What to keep.
        directory: Made where it does not exist.
        about: Plain values that say what made the report: checkpoints, coefficients, the corrector's header.

    Returns:
        The files, in that order.

    Raises:
        InputError: the directory cannot be written, or `about` holds something that is no plain value.
    """
    directory = Path(directory)
    said = {**UNSEALED, **report.to_json(), "about": about or {}, "versions": versions()}
    try:
        json.dumps(said, allow_nan=False)
    except (TypeError, ValueError) as error:
        raise InputError(f"`about` may hold plain, finite values only: {error}.") from None
    arrays = {
        f"{index}/{key}": array
        for index, episodes in enumerate(report.arms.values())
        for key, array in _pack(episodes.traces).items()
    }

    def write_traces(path: Path) -> None:
        with path.open("wb") as file:  # given a name, numpy would append a suffix of its own
            np.savez_compressed(file, **arrays)  # type: ignore[arg-type]

    paths = [
        _write(directory / _PARQUET, lambda path: pq.write_table(episode_table(report), path)),
        _write(directory / _TRACES, write_traces),
    ]
    text = json.dumps(said | {"files": {path.name: digest_of(path) for path in paths}}, indent=2) + "\n"
    return [_write(directory / _JSON, lambda path: path.write_bytes(seal(text.encode()))), *paths]


def save_figures(figures: Mapping[str, Figure], directory: Path | str) -> list[Path]:
    """Write every figure as NAME.png and NAME.svg; returns the paths."""
    kinds = [(name, figure, kind) for name, figure in figures.items() for kind in ("png", "svg")]
    return [write_figure(figure, Path(directory) / f"{name}.{kind}") for name, figure, kind in kinds]


def write_figure(figure: Figure, path: Path) -> Path:
    """Save `figure` in the format of `path`'s suffix, whole or not at all; returns `path`."""
    return _write(path, lambda place: figure.savefig(place, format=path.suffix[1:], dpi=150))


def load(directory: Path | str) -> Report:
    """The report that `save` wrote.

    Raises:
        InputError: a file is missing or damaged, the files belong to different reports, or the task is unknown.
    """
    directory = Path(directory)
    said = _read_json(directory)
    _verify(directory, said)  # first: what is damaged can bring the library down that parses it
    table = _read(directory / _PARQUET, read_parquet, (pa.ArrowException, ValueError))
    arrays = _read(directory / _TRACES, read_npz, (ValueError,))
    try:
        arms = {
            name: _episodes(table, name, said["arms"][name], arrays, index) for index, name in enumerate(said["arms"])
        }
        if table.num_rows != sum(episodes.returns.size for episodes in arms.values()):
            raise ValueError("episodes.parquet holds arms that report.json does not know")
        task = get_task(said["task"])
        return Report(task, arms, said["seed"], said["env_kwargs"] or None)
    except InputError:
        raise
    except (LookupError, TypeError, ValueError, AttributeError, OverflowError, pa.ArrowException) as error:
        reason = f"there is no {error}" if isinstance(error, KeyError) else error
        raise InputError(
            f"{directory} is no whole report: {reason}. Its files do not fit each other, as after an evaluation that "
            "was stopped while it wrote; evaluate again."
        ) from None


def _verify(directory: Path, said: Mapping[str, Any]) -> None:
    """See that the other files are those that the report was written with; earlier reports do not say."""
    wanted = said.get("files")
    if not isinstance(wanted, dict):
        return
    for name in (_PARQUET, _TRACES):
        if _read(directory / name, digest_of, ()) != wanted.get(name):
            raise InputError(f"{directory / name} is damaged: {_JSON} was written with another one. Evaluate again.")


def load_about(directory: Path | str) -> dict[str, Any]:
    """What `save` was told about the making of the report, with its `task`.

    Raises:
        InputError: report.json is missing or damaged.
    """
    said = _read_json(Path(directory))
    about = said.get("about")
    return {"task": said.get("task"), **(about if isinstance(about, dict) else {})}


def versions() -> dict[str, str]:
    """Versions of Python and of the packages that decide the numbers."""
    found = {"python": platform.python_version()}
    for name in _PACKAGES:
        try:
            found[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue  # run from a checkout that is not installed
    return found


def _pack(traces: list[Trace]) -> dict[str, np.ndarray]:
    """Traces one after the other; without any, only that there are none."""
    plain = {
        "lengths": np.array([len(trace.action) for trace in traces], dtype=np.int64),
        "seed": np.array([trace.seed for trace in traces], dtype=np.int64),
        "episode": np.array([trace.episode for trace in traces], dtype=np.int64),
    }
    names = ("obs", "action", "base_action", "reward") if traces else ()
    return plain | {name: np.concatenate([getattr(trace, name) for trace in traces]) for name in names}


def _unpack(arrays: Mapping[str, np.ndarray], index: int) -> list[Trace]:
    lengths, seeds, episodes = (arrays[f"{index}/{name}"].tolist() for name in ("lengths", "seed", "episode"))
    if not lengths:
        return []
    columns = {name: arrays[f"{index}/{name}"] for name in ("obs", "action", "base_action", "reward")}
    rows = {"obs": sum(lengths) + len(lengths)}
    if any(len(column) != rows.get(name, sum(lengths)) for name, column in columns.items()):
        raise ValueError(f"the traces of arm {index} in {_TRACES} have other lengths than they say")
    starts = np.concatenate(([0], np.cumsum(lengths)))
    return [
        Trace(
            seed,
            episode,
            columns["obs"][start + k : start + k + length + 1],
            *(columns[name][start : start + length] for name in ("action", "base_action", "reward")),
        )
        for k, (seed, episode, length, start) in enumerate(zip(seeds, episodes, lengths, starts[:-1], strict=True))
    ]


def _episodes(
    table: pa.Table, name: str, said: Mapping[str, Any], arrays: Mapping[str, np.ndarray], index: int
) -> Episodes:
    """One arm out of the table's rows; `said` is what report.json holds about it."""
    rows = table.filter(pc.equal(table["arm"], name))
    shape = (int(said["seeds"]), rows.num_rows // max(1, int(said["seeds"])))
    columns = {key: rows[key] for key in rows.column_names if rows[key].null_count < max(1, rows.num_rows)}
    arms = {key: np.array(column.to_numpy()).reshape(shape) for key, column in columns.items() if key != "arm"}
    if not math.isclose(float(arms["return"].mean()), said["return"], rel_tol=1e-9, abs_tol=1e-9):
        raise ValueError(f"the returns of {name!r} in {_PARQUET} are not those of {_JSON}")
    return Episodes(
        returns=arms["return"],
        lengths=arms["length"],
        terminated=arms["terminated"],
        shift=arms["shift"],
        clip_fraction=arms["clip_fraction"],
        info={key: array for key, array in arms.items() if key not in _COLUMNS},
        traces=_unpack(arrays, index),
    )


def _read_json(directory: Path) -> dict[str, Any]:
    said = _read(directory / _JSON, _parse, (ValueError,))
    if not isinstance(said, dict) or not isinstance(said.get("arms"), dict):
        raise InputError(f"{directory / _JSON} is no report of 'cdsa evaluate': it names no arms.")
    return said


def _parse(path: Path) -> Any:
    content = read_bytes(path)
    if not intact(content):
        raise ValueError("its digest is not that of its text")
    return parse_json(content)


def _read(path: Path, read: Callable[[Path], Any], damage: tuple[type[Exception], ...]) -> Any:
    try:
        return read(path)
    except FileNotFoundError:
        raise InputError(f"There is no {path}: a report is what 'cdsa evaluate' writes into --output.") from None
    except damage as error:
        raise InputError(f"{path} is damaged: {' '.join(str(error).split())[:200]}. Evaluate again.") from None
    except OSError as error:
        raise InputError(f"Cannot read {path}: {error.strerror or error}.") from None


def _write(path: Path, write: Callable[[Path], Any]) -> Path:
    with whole_file(path, remedy="Choose another --output.") as place:
        write(place)
    return path
