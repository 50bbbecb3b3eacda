"""A histogram of scores in [0, 1] with up to a billion bins; only those in use take memory."""

import numpy as np

# Floats in [0, 1] are ordered as their bits are, read as whole numbers. All but the last few bits number the bins: as
# few are dropped as the scores leave room for, and never more than 5, which rounds a score down by less than 2**-18 of
# itself.
MOST_DROPPED_BITS = 5
PAGE_BITS = 12
PAGE = 1 << PAGE_BITS
# pages that are filled before another bit is dropped: 42 MB with five columns
ROOM = 256
HIGHEST = int(np.float32(1).view(np.int32))


def bits_of(scores: np.ndarray) -> np.ndarray:
    """The bits of each score, float32 in [0, 1], as a whole number."""
    # adding 0 turns minus zero into zero
    return (scores + np.float32(0)).view(np.int32)


class ScoreHistogram:
    """Several columns of counts for each bin; counts are whole numbers, so their sums do not depend on the order.

    How wide the bins are depends on the scores alone and not on their order either: it is the first width of which all
    scores together leave no more than `ROOM` pages in use.
    """

    def __init__(self, columns: int):
        self.columns = columns
        self._clear(dropped_bits=0)

    def _clear(self, dropped_bits: int):
        self.dropped_bits = dropped_bits
        self.page_of = np.full((HIGHEST >> dropped_bits >> PAGE_BITS) + 1, -1, np.int32)
        self.pages = 0
        self.tables = np.zeros((self.columns, 0), np.int64)
        self._occupied: tuple[np.ndarray, np.ndarray] | None = None

    def slots(self, bits: np.ndarray) -> np.ndarray:
        """The positions of scores in the tables, as long as no more are asked for; adds the pages that are missing.

        Args:
            bits: of [`bits_of`].
        """
        new = self._new_pages(bits)
        if self.pages + len(new) > ROOM and self.dropped_bits < MOST_DROPPED_BITS:
            self._make_room(new)
            new = self._new_pages(bits)
        if len(new):
            self._add_pages(new)
        bins = bits >> self.dropped_bits
        return (self.page_of[bins >> PAGE_BITS] << PAGE_BITS) | (bins & (PAGE - 1))

    def _new_pages(self, bits: np.ndarray) -> np.ndarray:
        used = np.zeros(len(self.page_of), bool)
        used[bits >> self.dropped_bits >> PAGE_BITS] = True
        return np.flatnonzero(used & (self.page_of < 0))

    def _make_room(self, new: np.ndarray):
        """Makes the bins so wide that the pages in use and the new ones find room."""
        pages, dropped = np.r_[np.flatnonzero(self.page_of >= 0), new], self.dropped_bits
        while len(pages) > ROOM and dropped < MOST_DROPPED_BITS:
            pages, dropped = np.unique(pages >> 1), dropped + 1
        self.drop_bits(dropped)

    def drop_bits(self, dropped_bits: int):
        """Makes the bins so wide; they never become narrower."""
        if dropped_bits <= self.dropped_bits:
            return
        bins, counts = self.occupied()
        bins = bins >> (dropped_bits - self.dropped_bits)
        self._clear(dropped_bits)
        if len(bins):
            first = np.flatnonzero(np.r_[True, np.diff(bins) > 0])
            slots = self.slots(bins[first] << dropped_bits)
            self.tables[:, slots] = np.add.reduceat(counts, first, axis=1)

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

    def lower_edges(self) -> np.ndarray:
        """The lowest score of each bin that is occupied."""
        return (self.occupied()[0] << self.dropped_bits).astype(np.int32).view(np.float32)
