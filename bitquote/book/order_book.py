"""The order book for Python: streams of messages in, trades out."""

import numpy as np

from bitquote.book.identifiers import UNKNOWN, allocate_identifiers, find, forget, remember
from bitquote.book.matching import (
    BOOK_FULL,
    IMMEDIATE,
    NOTHING_RESTS,
    POST_ONLY,
    REJECTED,
    BookState,
    ahead_of,
    allocate,
    best_price,
    cancel_order,
    clear_trades,
    crosses,
    level_quantity,
    limit_order,
    live_count,
    reduce_order,
    replace_order,
    trade_count,
    worse_rank,
)
from bitquote.book.state import HIGHEST, LOWEST, at, rank_of, side_index
from bitquote.compilation import inlined, kernel
from bitquote.errors import InputError, require, require_integer

MESSAGE = np.dtype(
    [
        ("time", "<i8"),  # ns
        ("kind", "i1"),  # 0 limit, 1 market, 2 cancel, 3 reduce, 4 replace
        ("side", "i1"),  # +1 bid, -1 ask
        ("order_id", "<i8"),
        ("price", "<i8"),  # ticks
        ("quantity", "<i8"),
        ("flags", "i1"),  # 1 post-only, 2 immediate-or-cancel, 4 fill-or-kill
    ]
)
TRADE = np.dtype(
    [
        ("time", "<i8"),  # of the taker's message
        ("maker_id", "<i8"),
        ("taker_id", "<i8"),
        ("price", "<i8"),  # the maker's
        ("quantity", "<i8"),
        ("aggressor", "i1"),  # the taker's side
    ]
)
RESTING = np.dtype(
    [
        ("order_id", "<i8"),
        ("side", "i1"),
        ("price", "<i8"),
        ("quantity", "<i8"),  # what is left
        ("time", "<i8"),  # of the message that gave the order its place
    ]
)

LIMIT, MARKET, CANCEL, REDUCE, REPLACE = range(5)

# What becomes of a message; the names are the keys of `rejected` and `discarded`.
_REJECTIONS = ("unknown_kind", "unknown_side", "quantity", "duplicate_id", "unknown_id", "post_only", "fill_or_kill")
_DISCARDS = ("market", "immediate_or_cancel")
_UNKNOWN_KIND, _UNKNOWN_SIDE, _QUANTITY, _DUPLICATE_ID, _UNKNOWN_ID, _POST_ONLY, _FILL_OR_KILL = range(7)
_MARKET_DISCARD, _IMMEDIATE_DISCARD = range(7, 9)
_DONE = 9
_FULL = 10

_BATCH = 1 << 22  # messages of one entry into the kernel: bounds the address space set aside for trades


class CapacityError(InputError):
    """The book holds `capacity` orders and a message would add one.

    That message, number `index` of the stream, has changed nothing, and those after it were not looked at. Those
    before it stay applied; `trades` (TRADE) are theirs.
    """

    def __init__(self, capacity: int, index: int, order_id: int, trades: np.ndarray) -> None:
        super().__init__(f"capacity is {capacity}: must be larger for message {index} (order_id {order_id}) to rest")
        self.index = index
        self.trades = trades


def resting_orders(book: BookState) -> np.ndarray:
    """Every live order (RESTING) in order of priority, the bids before the asks."""
    records = book.orders[book.live[: live_count(book)]]
    records = records[np.lexsort((records["arrival"], records["rank"], -records["side"]))]
    resting = np.empty(len(records), RESTING)
    for name in ("order_id", "side", "quantity", "time"):
        resting[name] = records[name]
    resting["price"] = np.where(records["side"] > 0, ~records["rank"], records["rank"])
    return resting


class OrderBook:
    """A limit order book with price-time priority.

    Args:
        ticks: width of the dense window of prices that follows each side's best, rounded up to a power of two. Orders
            outside it rest in a heap and are never dropped. As wide as the market's busy part is best for speed.
        capacity: number of live orders the book can hold.

    Any int64 is a price and an id. The sums that `depth` and `queue_ahead` give wrap beyond int64, trades never do. One
    thread at a time.
    """

    def __init__(self, ticks: int, capacity: int) -> None:
        self.ticks = require_integer("ticks", ticks, 1, 2**26)
        self.capacity = require_integer("capacity", capacity, 1, 2**28)
        self._book = allocate(self.ticks, self.capacity)
        self._identifiers = allocate_identifiers(self.capacity)
        self._outcomes = np.zeros(_FULL + 1, np.int64)

    def apply(self, messages: np.ndarray) -> np.ndarray:
        """Apply `messages` (MESSAGE, one-dimensional) in turn; the trades (TRADE) in the order in which they happened.

        A rejected message changes nothing but the count in `rejected`. Raises CapacityError, an InputError, at a
        message that would rest one order too many.
        """
        require(isinstance(messages, np.ndarray), "messages", type(messages).__name__, "a numpy array of MESSAGE")
        require(messages.dtype == MESSAGE, "messages.dtype", messages.dtype, "bitquote.book.MESSAGE, unaligned")
        require(messages.ndim == 1, "messages.ndim", messages.ndim, "1")
        messages = np.ascontiguousarray(messages)
        pieces = []
        for start in range(0, len(messages), _BATCH):
            batch = messages[start : start + _BATCH]
            # A trade ends its maker, which lived before or came in the batch, or its taker.
            room = np.empty(live_count(self._book) + 2 * len(batch), TRADE)
            done, traded = _apply(self._book, self._identifiers, batch, room, self._outcomes)
            room.resize(traded, refcheck=False)  # in place: what was never written was never in memory
            pieces.append(room)
            if done < len(batch):
                order_id = int(batch["order_id"][done])
                raise CapacityError(self.capacity, start + done, order_id, np.concatenate(pieces))
        return pieces[0] if len(pieces) == 1 else np.concatenate([np.empty(0, TRADE), *pieces])

    def best_bid(self) -> int | None:
        """Highest price bid, None without bids."""
        return self._best(1)

    def best_ask(self) -> int | None:
        """Lowest price asked, None without asks."""
        return self._best(-1)

    def depth(self, n: int) -> tuple[np.ndarray, np.ndarray]:
        """The best `n` prices of the bids and of the asks with their quantity: int64 (up to n, 2) each, best first."""
        n = require_integer("n", n, 0)
        sides = []
        for side in (1, -1):
            levels = np.empty((min(n, live_count(self._book)), 2), np.int64)
            sides.append(levels[: _depth(self._book, side, levels)])
        return sides[0], sides[1]

    def queue_ahead(self, order_id: int) -> int:
        """Quantity that trades before this order at its own price; KeyError for an id that is not live."""
        slot = find(self._identifiers, self._book.orders, order_id) if LOWEST <= order_id <= HIGHEST else UNKNOWN
        if slot == UNKNOWN:
            raise KeyError(order_id)
        return ahead_of(self._book, slot)

    def orders(self) -> np.ndarray:
        """Every live order (RESTING) in order of priority, the bids before the asks."""
        return resting_orders(self._book)

    @property
    def rejected(self) -> dict[str, int]:
        """Messages rejected so far by reason, those that occurred."""
        return self._counts(_REJECTIONS, _UNKNOWN_KIND)

    @property
    def discarded(self) -> dict[str, int]:
        """Orders whose rest found no counterpart and did not rest so far, `market` or `immediate_or_cancel`."""
        return self._counts(_DISCARDS, _MARKET_DISCARD)

    @property
    def nbytes(self) -> int:
        """Memory of the book in bytes; it does not grow."""
        return self._identifiers.nbytes + sum(array.nbytes for array in self._book)

    def _best(self, side: int) -> int | None:
        return best_price(self._book, side) if self._book.sides["levels"][(1 - side) // 2] else None

    def _counts(self, names: tuple[str, ...], first: int) -> dict[str, int]:
        counts = self._outcomes[first : first + len(names)].tolist()
        return {name: count for name, count in zip(names, counts, strict=True) if count}


@kernel
def _apply(book, identifiers, messages, trades, outcomes):
    """Apply messages until one does not fit; how many were applied and how many trades were written."""
    written = 0
    for i in range(messages.size):
        message = messages[i]
        kind = np.int64(message.kind)
        if kind in (LIMIT, MARKET):
            outcome = _enter(book, identifiers, message, kind)
            if outcome == _FULL:
                return i, written
        elif kind in (CANCEL, REDUCE, REPLACE):
            outcome = _change(book, identifiers, message, kind)
        else:
            outcome = _UNKNOWN_KIND
        outcomes[outcome] += 1
        written = _write_trades(book, message, trades, written)
    return messages.size, written


@inlined
def _enter(book, identifiers, message, kind):
    """Apply a limit or a market order; its outcome."""
    side = np.int64(message.side)
    quantity = message.quantity
    order_id = message.order_id
    flags = np.int64(message.flags)
    price = message.price
    if side != 1 and side != -1:
        return _UNKNOWN_SIDE
    if quantity <= 0:
        return _QUANTITY
    if find(identifiers, book.orders, order_id) != UNKNOWN:
        return _DUPLICATE_ID
    if kind == MARKET:
        price = rank_of(-side, HIGHEST)
        flags |= IMMEDIATE
    slot = limit_order(book, message.time, side, price, quantity, order_id, 0, flags)
    if slot == BOOK_FULL:
        return _FULL
    if slot == REJECTED:
        return _refusal(book, side, price, flags)
    filled = _forget_filled(book, identifiers)
    if slot != NOTHING_RESTS:
        remember(identifiers, order_id, slot)
    elif filled < quantity:
        return _MARKET_DISCARD if kind == MARKET else _IMMEDIATE_DISCARD
    return _DONE


@inlined
def _change(book, identifiers, message, kind):
    """Apply a cancel, reduce or replace; its outcome."""
    order_id = message.order_id
    quantity = message.quantity
    slot = find(identifiers, book.orders, order_id)
    if kind != CANCEL and quantity <= 0:
        return _QUANTITY
    if slot == UNKNOWN:
        return _UNKNOWN_ID
    order = book.orders[at(slot)]
    if kind == REPLACE:
        side = np.int64(order.side)
        flags = np.int64(message.flags)
        outcome = replace_order(book, message.time, slot, message.price, quantity, flags)
        if outcome == REJECTED:
            return _refusal(book, side, message.price, flags)
        filled = _forget_filled(book, identifiers)
        if outcome == NOTHING_RESTS:
            forget(identifiers, book.orders, order_id, slot)
            if filled < quantity:
                return _IMMEDIATE_DISCARD
    elif kind == CANCEL or quantity >= order.quantity:
        forget(identifiers, book.orders, order_id, slot)
        cancel_order(book, slot)
    else:
        reduce_order(book, slot, quantity)
    return _DONE


@kernel
def _refusal(book, side, price, flags):
    """Why the flags forbade an order."""
    return _POST_ONLY if flags & POST_ONLY and crosses(book, side, price) else _FILL_OR_KILL


@inlined
def _forget_filled(book, identifiers):
    """Forget the ids of the makers that the latest message filled; the quantity it traded.

    Backwards: the slot freed last is the one that the taker's rest may have taken, with its own id.
    """
    filled = 0
    for i in range(trade_count(book) - 1, -1, -1):
        fill = book.trades[at(i)]
        filled += fill.quantity
        if fill.remaining == 0:
            forget(identifiers, book.orders, fill.maker_id, fill.maker_slot)
    return filled


@inlined
def _write_trades(book, message, trades, written):
    """Move the trades of `message`, the latest, to `trades`; how many it then holds."""
    for i in range(trade_count(book)):
        fill = book.trades[at(i)]
        trade = trades[written]
        trade.time = message.time
        trade.maker_id = fill.maker_id
        trade.taker_id = message.order_id
        trade.price = fill.price
        trade.quantity = fill.quantity
        trade.aggressor = fill.aggressor
        written += 1
    clear_trades(book)
    return written


@kernel
def _depth(book, side, levels):
    """Fill `levels` (int64 (n, 2)) with the best prices of a side and their quantity; the number of rows filled."""
    index = side_index(side)
    if book.sides[at(index)].levels == 0:
        return 0
    rank = book.sides[at(index)].best
    for row in range(len(levels)):
        price = rank_of(side, rank)
        levels[row, 0] = price
        levels[row, 1] = level_quantity(book, side, price)
        following = worse_rank(book, index, rank)
        if following == rank:
            return row + 1
        rank = following
    return len(levels)
