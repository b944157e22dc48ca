"""What must hold inside a book whatever happened to it, and its comparison with the slow twin."""

import numpy as np
from naive import NaiveBook

from bitquote.book import OrderBook
from bitquote.book.matching import BookState
from bitquote.book.state import NONE


def check_structure(book: BookState) -> None:
    """The arrays agree with each other, and every overflow order is worse than the window of its side."""
    live = int(book.counters["live"][0])
    assert sorted(book.live) == list(range(len(book.live)))
    assert (book.orders["live"][book.live[:live]] == np.arange(live)).all()
    counted = 0
    for index, side in enumerate((1, -1)):
        state = book.sides[index]
        width = len(book.levels) // 2
        low, last = int(state["low"]), int(state["low"]) + width - 1
        heap = book.overflow[index * len(book.live) :][: state["overflow"]]
        keys = [(int(book.orders["rank"][slot]), int(book.orders["arrival"][slot])) for slot in heap]
        assert all(rank > last for rank, _ in keys)
        assert all(keys[(place - 1) // 2] < keys[place] for place in range(1, len(keys)))
        assert (book.orders["heap"][heap] == np.arange(len(heap))).all()
        words = book.occupied[index * len(book.occupied) // 2 :][: len(book.occupied) // 2]
        groups = book.summary[index * len(book.summary) // 2 :][: len(book.summary) // 2]
        levels = book.levels[index * width :][:width]
        occupied = np.unpackbits(words.view(np.uint8), bitorder="little")[:width].astype(bool)
        assert (occupied == (levels["head"] != NONE)).all()
        assert not levels["quantity"][~occupied].any()
        assert (levels["tail"][~occupied] == NONE).all()
        ranks = sorted(low + (position - low) % width for position in np.flatnonzero(occupied).tolist())
        for rank in ranks:
            level = levels[rank % width]
            slots = list(_queue(book, level))
            assert level["quantity"] == sum(book.orders["quantity"][slot] for slot in slots)
            assert all(book.orders["rank"][slot] == rank and book.orders["heap"][slot] == NONE for slot in slots)
            assert (np.diff(book.orders["arrival"][slots]) > 0).all()
            counted += len(slots)
        assert all((int(groups[i // 64]) >> (i % 64) & 1) == bool(words[i]) for i in range(len(words)))
        assert state["levels"] == len(ranks)
        assert ranks or len(heap) == 0, "a side has orders if and only if its window has"
        assert not ranks or state["best"] == ranks[0]
        counted += len(heap)
        members = [slot for slot in book.live[:live] if book.orders["side"][slot] == side]
        assert all(book.orders["quantity"][slot] > 0 for slot in members)
    assert counted == live


def _queue(book: BookState, level: np.void):
    """The slots of a level from front to back; checks the links."""
    previous, slot = NONE, level["head"]
    while slot != NONE:
        assert book.orders["previous"][slot] == previous
        yield slot
        previous, slot = slot, book.orders["next"][slot]
    assert level["tail"] == previous


def check_same(book: OrderBook, naive: NaiveBook) -> None:
    """Both books answer every question alike."""
    assert book.orders().tolist() == naive.orders()
    assert book.rejected == naive.rejected
    assert book.discarded == naive.discarded
    bids, asks = naive.depth(1), naive.depth(-1)
    assert [levels.tolist() for levels in book.depth(10**6)] == [bids, asks]
    assert [levels.tolist() for levels in book.depth(2)] == [bids[:2], asks[:2]]
    assert book.best_bid() == (bids[0][0] if bids else None)
    assert book.best_ask() == (asks[0][0] if asks else None)
    for order in naive.resting:
        assert book.queue_ahead(order.order_id) == naive.queue_ahead(order.order_id)
