"""Readers of real market data: each gives a `Recording`, whose `Tape` the calibration reads."""

from bitquote.recorded.binance import read_binance
from bitquote.recorded.recording import Recording

__all__ = ["Recording", "read_binance"]
