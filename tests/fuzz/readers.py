"""Every reader of a file in the project: how a small valid input is made, what reads it, and which attacks it meets.

A reader's files lie in one folder; `path` is what it is given. Whoever adds a reader adds a line to `READERS` and a row
to docs/security.md; `test_security_page.py` sees to both.
"""

import functools
import importlib
from dataclasses import dataclass, field

import torch

from fuzz import made, made_more
from fuzz.attacks_archives import NPY, NPZ, SAFETENSORS
from fuzz.attacks_lists import FUSED
from fuzz.attacks_programs import EXPORTED, ONNX, SCRIPT
from fuzz.attacks_tables import ARROW, HDF5, SQLITE
from fuzz.attacks_text import CSV, FILE, JSON, TEXT, YAML
from fuzz.attacks_torch import BARE, TORCH

torch.set_num_threads(1)
ASKS = "memory allocation failed for"


@dataclass(frozen=True)
class Reader:
    """One reader.

    Args:
        name: Of the row.
        make: Writes a valid input into a folder.
        main: The path below the folder that is read, "" for the folder itself.
        read: Reads it.
        kinds: Pattern of a file's name -> the attacks on it.
        asks: What its native library says when the system refuses it memory; before it looks, it asks for what it is
            told, and touches none. That may end in an InputError, and in nothing else.
    """

    name: str
    make: object
    main: str
    read: object
    kinds: dict = field(default_factory=dict)
    asks: str = "\0"

    def path(self, folder):
        return folder / self.main if self.main else folder

    def files(self, folder):
        """Names below `folder` of what is damaged."""
        found = sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())
        return [name for name in found if not name.endswith("namespace_metadata.json")]

    def attack_list(self):
        """(column, function of the folder and the path) of every attack."""
        return [(column, _on(attack, target)) for target, group in self.kinds.items() for column, attack in group]


def _on(attack, target):
    """`attack` on one file of the folder."""

    @functools.wraps(attack)
    def on(folder, _):
        return attack(folder, next(path for path in sorted(folder.rglob(target)) if path.is_file()))

    return on


def _baseline(name, module, main, kinds, make, task=made.task):
    """The reader of one baseline: its `inspect`, its `load`, and one action."""

    def read(path):
        from cdsa_lightning.errors import InputError

        place, _, attribute = module.partition(":")
        reader = importlib.import_module(f"cdsa_baselines.{place}")
        reader = getattr(reader, attribute) if attribute else reader
        refused = None
        try:
            reader.inspect(path)
        except InputError as error:
            refused = error
        policy = reader.load(path, task())
        policy(torch.zeros(*([policy.num_seeds] if policy.num_seeds > 1 else []), 2, task().obs_dim))
        if refused:
            raise refused

    return Reader(name, make, main, read, kinds)


_ALL = [
    Reader("corrector", made._corrector, "corrector.safetensors", made._read_corrector, {"*.safetensors": SAFETENSORS}),
    Reader("runtime", made._corrector, "corrector.safetensors", made._run_numpy, {"*.safetensors": SAFETENSORS}),
    Reader("fused", made_more._fused, "policy.safetensors", made_more._run_fused, {"*.safetensors": FUSED}),
    _baseline("checkpoint", "iql:IQL", "last.ckpt", {"*.ckpt": TORCH}, made._iql, made.known_task),
    Reader("npz data", made._npz, "data.npz", made._source("npz"), {"*.npz": NPZ}),
    Reader("D4RL HDF5", made._d4rl, "data.hdf5", made._source("d4rl"), {"*.hdf5": HDF5}, ASKS),
    Reader("Minari HDF5", made._minari("hdf5"), "", made._read_minari,
           {"main_data.hdf5": HDF5, "metadata.json": JSON}, ASKS),
    Reader("Minari Arrow", made._minari("arrow"), "", made._read_minari, {"part-*": ARROW}),
    Reader("Minari Parquet", made._minari("parquet"), "", made._read_minari, {"part-*": ARROW}),
    _baseline("sb3", "foreign.sb3", "agent.zip", {"agent.zip": TORCH, "agent.json": JSON, "*.npz": NPZ}, made_more._sb3),  # noqa: E501
    _baseline("d3rlpy .d3", "foreign.d3rlpy", "model.d3", {"*.d3": BARE}, made._made("d3rlpy")),
    _baseline("d3rlpy .pt", "foreign.d3rlpy", "model.pt", {"*.pt": TORCH, "*.json": JSON}, made_more._d3rlpy_pt),
    _baseline("corl", "foreign.corl", "checkpoint_9.pt", {"*.pt": TORCH, "*.yaml": YAML, "*.npz": NPZ}, made_more._corl),  # noqa: E501
    _baseline("por_authors", "foreign.por", "por_r-policy_network", {"por_r-policy_network": TORCH},
              made._made("por_authors")),
    _baseline("torchscript", "foreign.torchscript", "net.pt", {"*.pt": SCRIPT, "*.json": JSON}, made_more._script),
    _baseline("torch_export", "foreign.torch_export", "net.pt2", {"*.pt2": EXPORTED}, made._made("torch_export")),
    _baseline("onnx", "foreign.onnx", "net.onnx", {"*.onnx": ONNX}, made._made("onnx")),
    _baseline("onnx beside", "foreign.onnx", "net.onnx", {"net.onnx.data": FILE}, made_more._onnx_beside),
    _baseline("mlp .npz", "mlp", "clone.npz", {"*.npz": NPZ, "*.json": JSON}, made._made("mlp")),
    _baseline("mlp .safetensors", "mlp", "clone.safetensors", {"*.safetensors": SAFETENSORS}, made_more._mlp_safetensors),  # noqa: E501
    Reader("any file", made_more._unknown, "unknown.bin", made_more._read_unknown, {"*.bin": [*TORCH, *SAFETENSORS]}),
    Reader("coefficients", made._coefficients, "coefficients.json", made._read_coefficients, {"*.json": JSON}),
    Reader("returns .json", made._returns("json"), "returns.json", made._read_returns, {"*.json": JSON}),
    Reader("returns .npz", made._returns("npz"), "returns.npz", made._read_returns, {"*.npz": NPZ}),
    Reader("returns .txt", made._returns("txt"), "returns.txt", made._read_returns, {"*.txt": TEXT}),
    Reader("report", made._report, "", made._read_report,
           {"report.json": JSON, "episodes.parquet": ARROW, "traces.npz": NPZ}),
    Reader("dashboard evaluation", made._report, "", made_more._read_page,
           {"report.json": JSON, "episodes.parquet": ARROW, "*.png": FILE}),
    Reader("dashboard curves", made._fit, f"{made.TASK}/cdsa/1", made._read_fit, {"metrics.csv": CSV}),
    Reader("specification", made._specification, "specification.json", made._read_specification, {"*.json": JSON}),
    Reader("grid", made_more._grid, "grid.yaml", made_more._read_grid, {"grid.yaml": YAML, "own.yaml": YAML}),
    Reader("configuration", made_more._config, "config.yaml", made_more._read_config, {"*.yaml": YAML}),
    Reader("cell record", made_more._record, "cell", made_more._read_record, {"*.parquet": ARROW, "done.json": JSON}),
    Reader("fingerprints", made_more._facts, "fingerprints.json", made_more._read_facts, {"*.json": JSON}),
    Reader("replay journal", made_more._journal, "", made_more._read_journal, {"rows-*.npy": NPY}),
    Reader("shards", made_more._shards, "", made_more._read_shards, {"shard-*.npz": NPZ, "settings.json": JSON}),
    Reader("newest evaluation", made_more._run_folder, "", made_more._read_run_folder, {"report.json": JSON}),
    Reader("Optuna storage", made_more._storage, "trials.db", made_more._read_storage, {"*.db": SQLITE}),
]  # fmt: skip
READERS = {reader.name: reader for reader in _ALL}
