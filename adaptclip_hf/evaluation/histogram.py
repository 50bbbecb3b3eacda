"""A histogram of scores in [0, 1] with tens of millions of bins, of which memory is spent on those in use."""

import numpy as np

# The bits of a float32 in [0, 1] grow with its value: all but the last 5 of them number the bins, so that a score is
# rounded down by less than 2**-18 of itself.
DROPPED_BITS = 5
PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
PAGES = (int(np.float32(1).view(np.int32)) >> DROPPED_BITS >> PAGE_BITS) + 1


def bins_of(scores: np.ndarray) -> np.ndarray:
    """The bin of each score, float32 in [0, 1]."""
    # adding 0 gives minus zero the bits of zero
    return (scores + np.float32(0)).view(np.int32) >> DROPPED_BITS


def lower_edges(bins: np.ndarray) -> np.ndarray:
    """The lowest score of each bin."""
    return (bins << DROPPED_BITS).astype(np.int32).view(np.float32)


class Histogram:
    """Whole numbers in several columns for each bin; whole numbers, so that any order of adding gives the same sums."""

    def __init__(self, columns: int):
        self.columns = columns
        self.page_of = np.full(PAGES, -1, np.int32)
        self.pages = 0
        self.tables = np.zeros((columns, 0), np.int64)
        self._occupied: tuple[np.ndarray, np.ndarray] | None = None

    def places(self, bins: np.ndarray) -> np.ndarray:
        """Where the bins lie in the tables; makes the pages that are not there."""
        numbers = bins >> PAGE_BITS
        used = np.zeros(PAGES, bool)
        used[numbers] = True
        new = np.flatnonzero(used & (self.page_of < 0))
        if len(new):
            self._add_pages(new)
        return (self.page_of[numbers] << PAGE_BITS) | (bins & (PAGE - 1))

    def _add_pages(self, numbers: np.ndarray):
        self.page_of[numbers] = np.arange(self.pages, self.pages + len(numbers))
        self.pages += len(numbers)
        room = self.tables.shape[1] >> PAGE_BITS
        if self.pages > room:
            # doubled, so that what is there is seldom copied
            self.tables = np.pad(self.tables, ((0, 0), (0, max(self.pages - room, room) << PAGE_BITS)))

    def add(self, column: int, places: np.ndarray, amounts: np.ndarray | int):
        np.add.at(self.tables[column], places, amounts)
        self._occupied = None

    def occupied(self) -> tuple[np.ndarray, np.ndarray]:
        """The bins (n,) whose first column is not zero, rising, and all columns of them (columns, n)."""
        if self._occupied is None:
            self._occupied = self._find_occupied()
        return self._occupied

    def _find_occupied(self) -> tuple[np.ndarray, np.ndarray]:
        pages = np.flatnonzero(self.page_of >= 0)
        bins = (pages[:, None] * PAGE + np.arange(PAGE)).ravel()
        places = (self.page_of[pages, None] * PAGE + np.arange(PAGE)).ravel()
        kept = self.tables[0, places] != 0
        return bins[kept], self.tables[:, places[kept]]
