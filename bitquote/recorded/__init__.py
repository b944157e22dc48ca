"""Readers of real market data: aggregated recordings give a `Tape` at once, recordings of orders by a replay."""

from bitquote.recorded.binance import read_binance
from bitquote.recorded.bitstamp import read_bitstamp
from bitquote.recorded.levels import LevelRecording, LevelReplay, read_binance_levels, replay_levels
from bitquote.recorded.lobster import read_lobster
from bitquote.recorded.opening import open_recording, open_updates, recording_format
from bitquote.recorded.orders import OrderRecording
from bitquote.recorded.quoting import Quoted, quote_into
from bitquote.recorded.recording import Recording, from_orders
from bitquote.recorded.replay import Replay, replay

__all__ = [
    "LevelRecording",
    "LevelReplay",
    "OrderRecording",
    "Quoted",
    "Recording",
    "Replay",
    "from_orders",
    "open_recording",
    "open_updates",
    "quote_into",
    "read_binance",
    "read_binance_levels",
    "read_bitstamp",
    "read_lobster",
    "recording_format",
    "replay",
    "replay_levels",
]
