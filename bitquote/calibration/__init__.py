"""Parameters of a market from a tape, recorded or simulated, with intervals and goodness of fit."""

from bitquote.calibration.hawkes import HawkesFit, fit_hawkes, flow_excitation, spread_ties
from bitquote.calibration.informed import PinFit, fit_pin, fit_pin_to_tape, vpin
from bitquote.calibration.intensity import Intensities, Intensity, fit_intensities, taker_orders
from bitquote.calibration.intervals import Estimate, Estimates
from bitquote.calibration.market import calibrate, calibrated_market, read_recording, write_market
from bitquote.calibration.order_flow import BestQuoteFlow, OrderEvents, best_quote_flow, order_events
from bitquote.calibration.order_level import order_level_events
from bitquote.calibration.queue_reactive import QueueReactive, Spells, fit_queue_reactive, queue_spells
from bitquote.calibration.record import fit_best_quotes, fit_reaching_takers, fit_takers
from bitquote.calibration.resemblance import clustered_flow
from bitquote.calibration.stylised_facts import StylisedFacts, ks_distances, stylised_facts
from bitquote.calibration.volatility import fit_volatility
from bitquote.calibration.zero_intelligence import ZeroIntelligence, fit_zero_intelligence

__all__ = [
    "BestQuoteFlow",
    "Estimate",
    "Estimates",
    "HawkesFit",
    "Intensities",
    "Intensity",
    "OrderEvents",
    "PinFit",
    "QueueReactive",
    "Spells",
    "StylisedFacts",
    "ZeroIntelligence",
    "best_quote_flow",
    "calibrate",
    "calibrated_market",
    "clustered_flow",
    "fit_best_quotes",
    "fit_hawkes",
    "fit_intensities",
    "fit_pin",
    "fit_pin_to_tape",
    "fit_queue_reactive",
    "fit_reaching_takers",
    "fit_takers",
    "fit_volatility",
    "fit_zero_intelligence",
    "flow_excitation",
    "ks_distances",
    "order_events",
    "order_level_events",
    "queue_spells",
    "read_recording",
    "spread_ties",
    "stylised_facts",
    "taker_orders",
    "vpin",
    "write_market",
]
