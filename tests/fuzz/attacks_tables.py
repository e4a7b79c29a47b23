"""Attacks on HDF5, Arrow, Parquet and SQLite: announced sizes, links out of the file, filters, types."""

from pathlib import Path

import h5py
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from fuzz.attacks_text import FILE

SECRET = "/etc/passwd"


def _datasets(file):
    found = []
    file.visititems(lambda name, item: found.append(name) if isinstance(item, h5py.Dataset) else None)
    return found


def _hdf5(name, column, change):
    """`change(file, dataset's name, its array)` for every dataset, after it was deleted."""

    def attack(folder, path):
        with h5py.File(path, "r+") as file:
            for title in _datasets(file):
                array = file[title][()]
                del file[title]
                change(file, title, array)

    attack.__name__ = name
    return column, attack


def _external_bytes(file, title, array):
    """The numbers are those of another file, byte for byte."""
    space, kind = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype, logical=True)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_external(SECRET.encode(), 0, max(1, array.nbytes))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    h5py.h5d.create(file.id, title.encode(), kind, space, settings, lcpl=links)


def _external_link(file, title, array):
    file[title] = h5py.ExternalLink(_other(file.filename, array), "x")


def _other(filename, array):
    """A valid file beside it, which holds what is wanted: only the link is wrong."""
    number = len(list(Path(filename).parent.glob("other-*.h5")))
    place = Path(filename).parent / f"other-{number}.h5"
    with h5py.File(place, "w") as file:
        file["x"] = array
    return place.name


def _virtual(file, title, array):
    layout = h5py.VirtualLayout(array.shape, array.dtype)
    layout[...] = h5py.VirtualSource(_other(file.filename, array), "x", array.shape)
    file.create_virtual_dataset(title, layout)


def _hollow(file, title, array):
    """Announced, never written: the numbers would all be made here."""
    file.create_dataset(title, (10**11, *array.shape[1:]), array.dtype, chunks=(1000, *array.shape[1:]))


def _hollow_wide(file, title, array):
    file.create_dataset(title, (len(array), 10**10) if array.ndim > 1 else array.shape, array.dtype, chunks=True)


def _deflated(file, title, array):
    shape = (40_000_000, *array.shape[1:])
    chunks = (4_000_000, *array.shape[1:])
    data = file.create_dataset(title, shape, array.dtype, chunks=chunks, compression="gzip", compression_opts=1)
    data[: chunks[0]] = 0


def _giant_chunk(file, title, array):
    chunks = (500_000_000 // max(1, array.itemsize), *((1,) * (array.ndim - 1)))
    file.create_dataset(title, array.shape, array.dtype, chunks=chunks, maxshape=(None,) * array.ndim)[...] = array


def _unknown_filter(file, title, array):
    space, kind = h5py.h5s.create_simple(array.shape), h5py.h5t.py_create(array.dtype, logical=True)
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk(array.shape)
    settings.set_filter(32099, h5py.h5z.FLAG_OPTIONAL, (1, 2, 3))
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    h5py.h5d.create(file.id, title.encode(), kind, space, settings, lcpl=links).write(
        h5py.h5s.ALL, h5py.h5s.ALL, np.ascontiguousarray(array)
    )


def _typed(make):
    def change(file, title, array):
        file[title] = make(array)

    return change


def _references(file, title, array):
    data = file.create_dataset(title, array.shape, dtype=h5py.ref_dtype)
    data[(0,) * array.ndim] = file.ref


def _texts(file, title, array):
    file.create_dataset(title, array.shape, dtype=h5py.string_dtype())[...] = "x" * 10


def _soft_loop(file, title, array):
    file[title] = h5py.SoftLink("/" + title)


def _scalar(file, title, array):
    file[title] = 1.0


def _empty(file, title, array):
    file[title] = h5py.Empty(array.dtype)


def _group(file, title, array):
    file.create_group(title)


HDF5 = [
    *FILE,
    *(("places", _hdf5(name, "", change)[1]) for name, change in
      {"bytes_of_another_file": _external_bytes, "link_to_another_file": _external_link,
       "virtual_dataset": _virtual}.items()),
    *(("bombs", _hdf5(name, "", change)[1]) for name, change in
      {"never_written": _hollow, "never_written_wide": _hollow_wide, "deflated": _deflated,
       "giant_chunk": _giant_chunk}.items()),
    *(("values", _hdf5(name, "", change)[1]) for name, change in
      {"unknown_filter": _unknown_filter, "references": _references, "texts": _texts, "scalars": _scalar,
       "empty": _empty, "groups": _group, "complex": _typed(lambda array: array.astype(np.complex64)),
       "three_axes": _typed(lambda array: np.zeros((4, *array.shape))),
       "no_rows": _typed(lambda array: array[:0]), "not_finite": _typed(lambda array: array * np.nan),
       "integers": _typed(lambda array: np.full(array.shape, 2**62))}.items()),
    ("nesting", _hdf5("links_in_a_circle", "", _soft_loop)[1]),
]  # fmt: skip


# ---- Arrow and Parquet ---------------------------------------------------------------------------------------------


def _table(path):
    return pq.read_table(path) if path.suffix == ".parquet" else pa.ipc.open_file(path.read_bytes()).read_all()


def _write(table, path, **options):
    if path.suffix == ".parquet":
        pq.write_table(table, path, **options)
        return
    with pa.OSFile(str(path), "wb") as file, pa.ipc.new_file(file, table.schema, **options) as writer:
        writer.write_table(table)


def _columns(name, column, make):
    """Every column becomes `make(number of rows, its old values)`."""

    def attack(folder, path):
        table = _table(path)
        _write(pa.table({title: make(len(table), table[title]) for title in table.column_names}), path)

    attack.__name__ = name
    return column, attack


def compressed(folder, path):
    table = _table(path)
    options = pa.ipc.IpcWriteOptions(compression="zstd")
    _write(table, path, **({} if path.suffix == ".parquet" else {"options": options}))


def repeated_rows(folder, path):
    """Millions of equal rows in a few kilobytes, where the format compresses them."""
    table = _table(path)
    rows = pa.concat_tables([table.slice(0, 1)] * 2_000).combine_chunks()
    many = pa.concat_tables([rows] * 10_000)
    if path.suffix == ".parquet":
        pq.write_table(many, path, compression="zstd", write_batch_size=1 << 16)
    else:
        with pa.OSFile(str(path), "wb") as file:
            options = pa.ipc.IpcWriteOptions(compression="zstd")
            with pa.ipc.new_file(file, table.schema, options=options) as writer:
                writer.write_table(rows)
                for _ in range(200):
                    writer.write_table(pa.concat_tables([rows] * 100).combine_chunks())


def _no_columns(folder, path):
    _write(pa.table({}), path)


def _one_column(folder, path):
    table = _table(path)
    _write(table.select(table.column_names[:1]), path)


COLUMNS = {
    "texts": lambda n, _: pa.array(["x"] * n),
    "nothing": lambda n, _: pa.nulls(n),
    "lists": lambda n, _: pa.array([[1.0] * (i % 3) for i in range(n)]),
    "nested": lambda n, _: pa.array([{"a": {"b": [{"c": 1}]}}] * n),
    "binary": lambda n, _: pa.array([b"\xff"] * n),
    "long_integers": lambda n, _: pa.array([2**62] * n),
    "negative_integers": lambda n, _: pa.array([-(2**62)] * n),
    "not_finite": lambda n, _: pa.array([float("nan")] * n),
    "dictionary": lambda n, _: pa.array(["x"] * n).dictionary_encode(),
    "dates": lambda n, _: pa.array([0] * n, pa.timestamp("ns")),
    "with_holes": lambda n, old: pa.array([None, *old.to_pylist()[1:]], old.type),
    "no_rows": lambda n, old: old.slice(0, 0),
}
ARROW = [
    *FILE,
    *(_columns(name, "nesting" if name == "nested" else "values", make) for name, make in COLUMNS.items()),
    *(("bombs", attack) for attack in (compressed, repeated_rows)),
    *(("values", attack) for attack in (_no_columns, _one_column)),
]


# ---- SQLite --------------------------------------------------------------------------------------------------------


def _statement(name, column, *statements):
    def attack(folder, path):
        import sqlite3

        with sqlite3.connect(path) as base:
            for statement in statements:
                base.execute(statement)
        base.close()

    attack.__name__ = name
    return column, attack


SQLITE = [
    *FILE,
    _statement("no_json", "values", "UPDATE study_user_attributes SET value_json = '{'"),
    _statement("deep_json", "nesting", f"UPDATE study_user_attributes SET value_json = '{'[' * 100_000}'"),
    _statement("wrong_distribution", "values", "UPDATE trial_params SET distribution_json = '{\"name\": \"x\"}'"),
    _statement("no_version", "values", "UPDATE version_info SET schema_version = 99"),
    _statement("no_table", "damaged", "DROP TABLE trials"),
    _statement("text_for_numbers", "values", "UPDATE trial_params SET param_value = 'x'"),
    _statement("unknown_state", "values", "UPDATE trials SET state = 'HACKED'"),
    _statement("a_view_for_a_table", "code", "ALTER TABLE studies RENAME TO s", "CREATE VIEW studies AS SELECT * FROM s"),  # noqa: E501
    _statement("endless_view", "bombs", "ALTER TABLE trials RENAME TO t", "CREATE VIEW trials AS WITH RECURSIVE c(trial_id)"  # noqa: E501
               " AS (SELECT 1 UNION ALL SELECT trial_id + 1 FROM c) SELECT c.trial_id, 0 number, 1 study_id, 'COMPLETE'"
               " state, NULL datetime_start, NULL datetime_complete FROM c"),
]  # fmt: skip
