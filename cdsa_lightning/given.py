r"""What `cdsa.fit` is given, as the objects that a fit needs: a model, data, and arguments of the trainer.

    defaults of the classes  <  sections of a configuration  <  keywords

A keyword goes to the one of CDSAModule, the data and the Trainer that has an argument of that name.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from jsonargparse import ArgumentError, ArgumentParser
from lightning import Trainer

from cdsa_lightning.commands.explain import STRICT, check_config, explain
from cdsa_lightning.data import TransitionData
from cdsa_lightning.errors import InputError, UnknownNameError, unknown_name
from cdsa_lightning.logged import LoggedData
from cdsa_lightning.sources import SCHEMES, Transitions
from cdsa_lightning.sources.npz import named_rows
from cdsa_lightning.sources.rows import from_rows
from cdsa_lightning.tasks import get_task, task_names
from cdsa_lightning.training import CDSAModule

__all__ = ["Dataset", "make_data", "make_model", "sections"]

Dataset = str | Path | Transitions | Mapping[str, Any] | None
_SECTIONS = {"model": (CDSAModule,), "data": (TransitionData, LoggedData), "trainer": (Trainer,)}
_ELSEWHERE = {"wandb", "runs", "checkpoint_every", "num_threads", "ckpt_path", "seed_everything"}
"""Keys of a configuration of `cdsa fit` that say how a fit is run and not what: here they are arguments."""


def sections(config: str | Path | Mapping[str, Any] | None, keywords: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """Arguments of the model, the data and the trainer: those of the configuration, and keywords over them.

    Args:
        config: A file for `cdsa fit`, or what it would hold.
        keywords: Values by the name of an argument; None for what is not given.

    Raises:
        InputError: a file that cannot be read, another model or other data than CDSA's, or an unknown name.
    """
    read = check_config(str(config)) if isinstance(config, str | Path) else dict(config or {})
    for key in read:
        if key not in (*_SECTIONS, *_ELSEWHERE, "compile"):
            raise unknown_name("key of the configuration", key, (*_SECTIONS, *_ELSEWHERE, "compile"))
    made = {section: _arguments(section, read.get(section) or {}) for section in _SECTIONS}
    if read.get("compile"):
        made["model"]["compile"] = True
    known = {section: set().union(*map(_names, kinds)) for section, kinds in _SECTIONS.items()}
    for name, value in keywords.items():
        section = next((section for section, names in known.items() if name in names), None)
        if section is None:
            raise unknown_name("option of cdsa.fit", name, set().union(*known.values()))
        if value is not None:
            made[section][name] = value
    return made


def _names(kind: type) -> set[str]:
    return set(inspect.signature(kind).parameters)


def _arguments(section: str, read: Any) -> dict[str, Any]:
    """The arguments in one section of a configuration, with or without a class_path; nulls are left out."""
    kinds = _SECTIONS[section]
    class_path = read if isinstance(read, str) else str(read.get("class_path", kinds[0].__name__))
    if class_path.rpartition(".")[2] not in {kind.__name__ for kind in kinds}:
        raise InputError(
            f"cdsa.fit makes correctors, out of transitions; the configuration names {class_path} as its {section}. "
            "Train it with the command 'cdsa fit'."
        )
    values = {} if isinstance(read, str) else read.get("init_args", read)
    names = set().union(*map(_names, kinds))
    for name in values:
        if name not in names | {"class_path"}:
            raise unknown_name(f"argument of {section}", name, names)
    return {name: value for name, value in values.items() if value is not None and name != "class_path"}


def make_model(values: Mapping[str, Any]) -> CDSAModule:
    """The module that is trained.

    Raises:
        InputError: values that it cannot be made of.
    """
    return CDSAModule(**_typed(CDSAModule, values))


def _typed(kind: type, values: Mapping[str, Any]) -> dict[str, Any]:
    """`values` as the command line would hand them to `kind`.

    Raises:
        InputError: one is of another type than the argument.
    """
    parser = ArgumentParser(prog="cdsa.fit", **STRICT)
    parser.add_class_arguments(kind, as_group=False)
    plain = {name: value.tolist() if isinstance(value, np.ndarray) else value for name, value in values.items()}
    try:
        return dict(parser.parse_object(plain).as_dict())
    except ArgumentError as error:
        raise explain(str(error), parser.get_defaults().keys(), "cdsa.fit") from None


def make_data(dataset: Dataset, values: dict[str, Any]) -> TransitionData:
    """The data, read and seen to fit their task.

    Args:
        dataset: What `cdsa.fit` takes.
        values: Arguments of `TransitionData`, or of `LoggedData` where one of low and high is among them; those that
            `dataset` says are written into it.

    Raises:
        InputError: data that are not there, are damaged or empty, or do not fit; no task, and no bounds.
    """
    held = _held(dataset)
    if held is None and dataset is not None:
        _name(str(dataset), values)
    elif held is not None:
        values.pop("source", None)
    if dataset is None and values.get("task") is None and values.get("source") is None:
        raise InputError("There are no data: name a task, a source such as npz:log.npz, or give arrays.")
    data = _data(values)
    if held is not None:
        data.transitions = data.task.accept(held, held.source or "the data")
    data.load()
    return data


def _data(values: dict[str, Any]) -> TransitionData:
    """Data of a task where one is named, else of their own bounds."""
    if "low" in values or "high" in values or "task" not in values:
        return LoggedData(**_typed(LoggedData, values))
    try:
        return TransitionData(**_typed(TransitionData, values))
    except UnknownNameError as error:
        raise InputError(f"{error} Data of no task need their action bounds, low and high.") from None


def _held(dataset: Dataset) -> Transitions | None:
    """Data that are in memory already."""
    if isinstance(dataset, Transitions):
        return dataset.validate()
    if isinstance(dataset, Mapping):
        arrays = {name: np.asarray(array) for name, array in dataset.items()}
        return from_rows(**named_rows(arrays, "the arrays"), source="arrays", provenance="arrays")
    return None


def _name(dataset: str, values: dict[str, Any]) -> None:
    """Write into `values` what the name of a data set says: its source, and the task whose own it is."""
    if dataset in task_names():
        values.setdefault("task", dataset)
        if values["task"] != dataset:
            raise InputError(f"The data of task {dataset!r} were asked for, and task={values['task']!r}: name one.")
        return
    source = _source(dataset)
    values["source"] = source
    if "task" not in values and "low" not in values and "high" not in values:
        owners = (name for name in task_names() if source in get_task(name).sources)
        found = next((name for name in owners if get_task(name).corrected_by == name), None)
        if found:
            values["task"] = found


def _source(dataset: str) -> str:
    """``scheme:name`` for what may be written without its scheme: a path of an npz file, or an id of Minari's."""
    if dataset.partition(":")[0] in SCHEMES:
        return dataset
    if dataset.endswith(".npz"):
        return f"npz:{dataset}"
    if "/" in dataset and ":" not in dataset:
        return f"minari:{dataset}"
    remedy = f"Or name a source ({', '.join(f'{scheme}:NAME' for scheme in SCHEMES)}), or the path of an .npz file."
    raise unknown_name("task", dataset, task_names(), remedy)
