"""What waits, as files beside the results, so that many processes share it; nothing of it is held in memory."""

import io
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import count, islice

import pyarrow as pa
from pyarrow import parquet

from .folder import Folder
from .index import key_of, path_of
from .sources import Source
from .store_parts import CHUNK, WORK, as_parquet

SHARD = 256 * CHUNK  # images a file
SCHEMA = pa.schema({"path": pa.binary(), "bytes": pa.int64(), "modified": pa.int64()})


@dataclass(frozen=True)
class Worklist:
    """Chunks of images that wait.

    Attributes:
        output: the folder of the results.
        images: how many wait.
    """

    output: str
    images: int

    @property
    def chunks(self) -> int:
        return -(-self.images // CHUNK)

    def chunk(self, number: int) -> Iterator[Source]:
        """The images of a chunk."""
        shard, group = divmod(number, SHARD // CHUNK)
        content = Folder(self.output).read(file_of(shard))
        for row in parquet.ParquetFile(io.BytesIO(content)).read_row_group(group).to_pylist():
            yield Source(path_of(row["path"]), (row["bytes"], row["modified"]))


def write_worklist(waiting: Iterable[Source], output: str) -> Worklist:
    """Writes what waits, in place of what an earlier run left."""
    folder, images, waiting = Folder(output), 0, iter(waiting)
    folder.remove(WORK)
    for shard in count():
        some = [
            dict(zip(SCHEMA.names, (key_of(each.path), *each.listed), strict=True)) for each in islice(waiting, SHARD)
        ]
        if not some:
            break
        table = pa.Table.from_pylist(some, schema=SCHEMA)
        folder.write(file_of(shard), as_parquet(table, row_group_size=CHUNK))
        images += len(some)
    return Worklist(output, images)


def file_of(shard: int) -> str:
    return f"{WORK}/{shard:06}.parquet"
