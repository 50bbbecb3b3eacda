"""A histogram of scores in [0, 1] with tens of millions of bins; only those in use take memory."""

import numpy as np

# Floats in [0, 1] are ordered as their bits are, read as whole numbers. All but the last 5 bits number the bins, which
# rounds a score down by less than 2**-18 of itself.
DROPPED_BITS = 5
PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
PAGES = (int(np.float32(1).view(np.int32)) >> DROPPED_BITS >> PAGE_BITS) + 1


def bins_of(scores: np.ndarray) -> np.ndarray:
    """The bin of each score, float32 in [0, 1]."""
    # adding 0 turns minus zero into zero
    return (scores + np.float32(0)).view(np.int32) >> DROPPED_BITS


def lower_edges(bins: np.ndarray) -> np.ndarray:
    """The lowest score of each bin."""
    return (bins << DROPPED_BITS).astype(np.int32).view(np.float32)


class ScoreHistogram:
    """Several columns of counts for each bin; counts are whole numbers, so their sums do not depend on the order."""

    def __init__(self, columns: int):
        self.columns = columns
        self.page_of = np.full(PAGES, -1, np.int32)
        self.pages = 0
        self.tables = np.zeros((columns, 0), np.int64)
        self._occupied: tuple[np.ndarray, np.ndarray] | None = None

    def slots(self, bins: np.ndarray) -> np.ndarray:
        """The positions of the bins in the tables; adds the pages that are missing."""
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
            # doubled, so that the tables are seldom copied
            self.tables = np.pad(self.tables, ((0, 0), (0, max(self.pages - room, room) << PAGE_BITS)))

    def add(self, column: int, slots: np.ndarray, amounts: np.ndarray | int):
        np.add.at(self.tables[column], slots, amounts)
        self._occupied = None

    def occupied(self) -> tuple[np.ndarray, np.ndarray]:
        """The bins (n,) whose first column is not zero, in rising order, and their counts (columns, n)."""
        if self._occupied is None:
            pages = np.flatnonzero(self.page_of >= 0)
            bins = (pages[:, None] * PAGE + np.arange(PAGE)).ravel()
            slots = (self.page_of[pages, None] * PAGE + np.arange(PAGE)).ravel()
            kept = self.tables[0, slots] != 0
            self._occupied = bins[kept], self.tables[:, slots[kept]]
        return self._occupied
