"""Parameters of a market from a tape, recorded or simulated, with intervals and goodness of fit."""

from bitquote.calibration.intensity import Intensities, Intensity, fit_intensities, taker_orders
from bitquote.calibration.intervals import Estimate
from bitquote.calibration.market import calibrate, calibrated_market, write_market
from bitquote.calibration.volatility import fit_volatility

__all__ = [
    "Estimate",
    "Intensities",
    "Intensity",
    "calibrate",
    "calibrated_market",
    "fit_intensities",
    "fit_volatility",
    "taker_orders",
    "write_market",
]
