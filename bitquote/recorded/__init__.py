"""Readers of real market data: aggregated recordings give a `Tape` at once, recordings of orders by a replay."""

from bitquote.recorded.binance import read_binance
from bitquote.recorded.bitstamp import read_bitstamp
from bitquote.recorded.lobster import read_lobster
from bitquote.recorded.orders import OrderRecording
from bitquote.recorded.recording import Recording
from bitquote.recorded.replay import Replay, replay

__all__ = ["OrderRecording", "Recording", "Replay", "read_binance", "read_bitstamp", "read_lobster", "replay"]
