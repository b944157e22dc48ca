"""Cartea, Jaimungal & Penalva, "Algorithmic and High-Frequency Trading", Cambridge 2015, chapter 10."""

from __future__ import annotations

import math

import numpy as np

from bitquote.errors import require_number
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.table import QuoteTable, bounded, inventories
from bitquote.quoting.tridiagonal import log_solution


def cartea_jaimungal(parameters: GameParameters, terminal_penalty: float = 0.0) -> QuoteTable:
    """The continuous-time optimum of E[X_T + Q_T (S_T - alpha Q_T) - phi int Q^2 dt], phi = gamma sigma^2 / 2.

    Args:
        parameters: The game.
        terminal_penalty: alpha >= 0, the cost of liquidating one lot per lot held, in price per lot.
    """
    alpha = require_number("terminal_penalty", terminal_penalty, 0.0)
    k, squares = parameters.k, inventories(parameters) ** 2
    omega = log_solution(
        diagonal=k * parameters.penalty * squares,
        coupling=parameters.A * math.exp(-1.0),
        terminal=-alpha * k * squares,
        dt=parameters.dt,
        steps=parameters.steps,
    )
    gain = np.diff(omega.shape, axis=1) / k  # of one more lot, from each inventory but the last
    bid = np.pad(1.0 / k - gain, ((0, 0), (0, 1)), constant_values=np.inf)
    ask = np.pad(1.0 / k + gain, ((0, 0), (1, 0)), constant_values=np.inf)
    return bounded(bid, ask, parameters)
