"""Price-time-priority limit order book: compiled kernels and a face for Python."""

from bitquote.book.order_book import MESSAGE, TRADE, OrderBook

__all__ = ["MESSAGE", "TRADE", "OrderBook"]
