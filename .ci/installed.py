"""What an installed wheel must hold and must not, seen from its environment: installed.py WHEEL TREE."""

import importlib.metadata
import sys
import zipfile
from pathlib import Path

import cdsa_baselines
import cdsa_lightning

wheel, tree = Path(sys.argv[1]), Path(sys.argv[2])
for package in (cdsa_lightning, cdsa_baselines):
    (home,) = package.__path__
    if "site-packages" not in home or Path(home).is_relative_to(tree):
        sys.exit(f"{package.__name__} is imported from {home}, not from the wheel.")

held = set(zipfile.ZipFile(wheel).namelist())
strangers = [name for name in held if not name.startswith(("cdsa_lightning", "cdsa_baselines"))]
if strangers or any("test" in Path(name).parts[0] for name in held):
    sys.exit(f"The wheel holds what is no part of the packages: {strangers[:5]}.")

sources = {"cdsa_lightning": tree, "cdsa_baselines": tree / "baselines"}
for package, folder in sources.items():
    files = (path for path in (folder / package).rglob("*") if path.is_file() and path.suffix != ".pyc")
    missing = {path.relative_to(folder).as_posix() for path in files} - held
    if missing:
        sys.exit(f"The wheel lacks {sorted(missing)}.")

points = importlib.metadata.entry_points(group="cdsa.baselines")
loaded = [point.load() for point in points if point.dist.name == "cdsa-lightning"]
if not loaded or not all(map(callable, loaded)):
    sys.exit("An entry point of cdsa.baselines is missing or cannot be called.")
print(f"{len(held)} files, {len(loaded)} baselines, all from {Path(cdsa_lightning.__path__[0]).parent}")
