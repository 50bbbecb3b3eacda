"""What is to be done, as files beside the results: the images that have no row yet, in chunks; nothing of it is held in
memory."""

import io
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import count, islice

import pyarrow as pa
from pyarrow import parquet

from .places import Place

PLAN = "_plan"
CHUNK = 128  # images that are read and scored as one piece of work
SHARD = 256 * CHUNK  # images a file of the plan
PARTS = "part-*.parquet"


@dataclass(frozen=True)
class Plan:
    """Chunks of images that wait.

    Attributes:
        output: where the results lie.
        images: how many wait.
        before: how many have a row already.
    """

    output: str
    images: int
    before: int

    @property
    def chunks(self) -> int:
        return -(-self.images // CHUNK)

    def paths(self, number: int) -> list[str]:
        """The images of a chunk."""
        shard, group = divmod(number, SHARD // CHUNK)
        content = Place(self.output).file(PLAN).file(f"{shard:06}.parquet").read()
        return parquet.ParquetFile(io.BytesIO(content)).read_row_group(group)["path"].to_pylist()


def make_plan(inputs: list[str], output: str) -> Plan:
    """Lists the inputs, leaves out what has a row, and writes the rest into `output/_plan`.

    Raises:
        FileNotFoundError, ValueError: an input that is not there, or holds no image.
    """
    place = Place(output)
    folder = place.file(PLAN)
    folder.remove()
    known = sqlite3.connect("", isolation_level=None)
    known.executescript(
        "pragma journal_mode = off; pragma synchronous = off; create table path (path text primary key) without rowid;"
    )
    before = note_done(place, known)

    def waiting() -> Iterator[str]:
        for address in inputs:
            listed = False
            for path in Place(address).images():
                listed = True
                if known.execute("insert or ignore into path values (?)", (path,)).rowcount:
                    yield path
            if not listed:
                raise ValueError(f"{address} holds no image file.")

    images, paths = 0, waiting()
    for shard in count():
        some = list(islice(paths, SHARD))
        if not some:
            break
        folder.file(f"{shard:06}.parquet").write(as_parquet(pa.table({"path": some}), row_group_size=CHUNK))
        images += len(some)
    known.close()
    return Plan(output, images, before)


def note_done(output: Place, known: sqlite3.Connection) -> int:
    """Notes the paths that have a row; a second row of one, of a worker that outlived its run, is taken out."""
    done = 0
    for name in output.names(PARTS):
        part = output.file(name)
        table = parquet.read_table(io.BytesIO(part.read()))
        new = [
            known.execute("insert or ignore into path values (?)", (path,)).rowcount == 1
            for path in table["path"].to_pylist()
        ]
        done += sum(new)
        if not all(new):
            rewrite(part, table.filter(pa.array(new)))
    return done


def rewrite(part: Place, table: pa.Table):
    if len(table):
        part.write(as_parquet(table))
    else:
        part.remove()


def as_parquet(table: pa.Table, **options) -> bytes:
    sink = io.BytesIO()
    parquet.write_table(table, sink, compression="zstd", **options)
    return sink.getvalue()
