"""Attacks on text: JSON, YAML, CSV. Each takes the folder and the file, and changes the file in place."""

import json
import os

from fuzz.mutations import NUMBERS, places

MARKER = os.environ.get("FUZZ_MARKER", "/nonexistent/marker")
COMMAND = f"touch {MARKER}"


def empty(folder, path):
    path.write_bytes(b"")


def half(folder, path):
    content = path.read_bytes()
    path.write_bytes(content[: len(content) // 2])


def no_text(folder, path):
    path.write_bytes(b"\xff\xfe\x00\x01" * 50)


def endless_device(folder, path):
    """Whoever reads it to its end never ends."""
    path.unlink()
    path.symlink_to("/dev/zero")


def waiting_pipe(folder, path):
    """Whoever opens it waits for a writer."""
    path.unlink()
    os.mkfifo(path)


def a_folder(folder, path):
    path.unlink()
    path.mkdir()


def huge_and_hollow(folder, path):
    """Terabytes of zeros that take no room on the disk."""
    with path.open("ab") as file:
        file.truncate(1 << 40)


def deep_json(folder, path):
    path.write_text("[" * 200_000 + "]" * 200_000)


def deep_json_inside(folder, path):
    value = json.loads(path.read_text())
    holder, key = places(value)[0]
    holder[key] = "DEEP"
    path.write_text(json.dumps(value).replace('"DEEP"', '{"a":' * 100_000 + "1" + "}" * 100_000))


def endless_number(folder, path):
    path.write_text('{"k1": ' + "9" * 100_000 + "}")


def twice_the_same_key(folder, path):
    path.write_text('{"a": 1, ' + path.read_text()[1:-1] + ', "a": [2]}')


def _numbers(value):
    def attack(folder, path):
        said = json.loads(path.read_text())
        for holder, key in places(said):
            if isinstance(holder[key], int | float) and not isinstance(holder[key], bool):
                holder[key] = value
        path.write_text(json.dumps(said))

    attack.__name__ = f"every_number_is_{value}"
    return attack


def _wrong(kind, value):
    def attack(folder, path):
        path.write_text(json.dumps(value))

    attack.__name__ = f"a_{kind}_instead"
    return attack


def laughs(folder, path):
    """Aliases of aliases: a few lines that stand for 10^9 words."""
    lines = ["a: &a [lol, lol, lol, lol, lol, lol, lol, lol, lol, lol]"]
    for one, other in zip("abcdefghi", "bcdefghij", strict=True):
        lines.append(f"{other}: &{other} [{', '.join([f'*{one}'] * 10)}]")
    path.write_text("\n".join([*lines, "tasks: *j", "model: *j", "max_action: *j"]))


def merged_laughs(folder, path):
    lines = ["a: &a {x: 1, y: 2}"]
    for one, other in zip("abcdefghijklmnopqrst", "bcdefghijklmnopqrstu", strict=True):
        lines.append(f"{other}: &{other} {{<<: [{', '.join([f'*{one}'] * 10)}]}}")
    path.write_text("\n".join(lines))


def itself(folder, path):
    path.write_text("tasks: &a [*a]\nmodel: &b {x: *b}\ntrainer: *b\nbaselines: *b\n")


def deep_yaml(folder, path):
    path.write_text("a: " + "[" * 50_000)


def deep_yaml_blocks(folder, path):
    path.write_text("".join(" " * depth + "a:\n" for depth in range(2000)))


def python_tags(folder, path):
    path.write_text(f'tasks: !!python/object/apply:os.system ["{COMMAND}"]\nmodel: {{}}\n')


def impossible_date(folder, path):
    path.write_text("tasks: [2001-99-99]\nmodel: 2001-99-99\nenv: 2001-02-30\n")


def endless_yaml_number(folder, path):
    path.write_text(f"seeds: [{'9' * 50_000}]\nmodel: {'9' * 50_000}\n")


def infinite_step(folder, path):
    path.write_text("step,train/loss\n1e999,1\nnan,2\n")


def long_field(folder, path):
    path.write_text("step,train/loss\n1," + "9" * 300_000 + "\n")


DAMAGED = [("damaged", attack) for attack in (empty, half, no_text)]
PLACES = [("places", attack) for attack in (endless_device, waiting_pipe, a_folder)]
FILE = [*DAMAGED, *PLACES, ("bombs", huge_and_hollow)]
"""What can be done to any file."""

JSON = [
    *FILE,
    *(("nesting", attack) for attack in (deep_json, deep_json_inside)),
    *(("values", attack) for attack in (endless_number, twice_the_same_key)),
    *(("values", _numbers(value)) for value in NUMBERS),
    *(("values", _wrong(kind, value)) for kind, value in {"list": [1], "text": "x", "null": None, "number": 1}.items()),
]
YAML = [
    *FILE,
    *(("nesting", attack) for attack in (laughs, merged_laughs, itself, deep_yaml, deep_yaml_blocks)),
    ("code", python_tags),
    *(("values", attack) for attack in (impossible_date, endless_yaml_number)),
]
CSV = [*FILE, *(("values", attack) for attack in (infinite_step, long_field))]
TEXT = FILE
