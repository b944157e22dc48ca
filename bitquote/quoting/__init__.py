"""Quoters as tables: closed forms and the exact optimum of the Avellaneda-Stoikov game (numpy and scipy only)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from bitquote.quoting.avellaneda_stoikov import avellaneda_stoikov
from bitquote.quoting.cartea_jaimungal import cartea_jaimungal
from bitquote.quoting.dynamic_program import dynamic_program
from bitquote.quoting.glft import glft, glft_asymptotic, glft_shifted
from bitquote.quoting.parameters import GameParameters
from bitquote.quoting.symmetric import symmetric, symmetric_constant
from bitquote.quoting.table import QuoteTable, check, no_quote

QUOTERS: dict[str, Callable[[GameParameters], QuoteTable]] = {
    "no_quote": no_quote,
    "symmetric_constant": symmetric_constant,
    "symmetric": symmetric,
    "avellaneda_stoikov": avellaneda_stoikov,
    "glft_asymptotic": glft_asymptotic,
    "glft": glft,
    "cartea_jaimungal": cartea_jaimungal,
    "dynamic_program_penalty": partial(dynamic_program, objective="penalty"),
    "dynamic_program_cara": partial(dynamic_program, objective="cara"),
}
"""Every row of the benchmark that needs the game's parameters alone (`glft_tuned` needs simulation)."""

__all__ = [
    "QUOTERS",
    "GameParameters",
    "QuoteTable",
    "avellaneda_stoikov",
    "cartea_jaimungal",
    "check",
    "dynamic_program",
    "glft",
    "glft_asymptotic",
    "glft_shifted",
    "no_quote",
    "symmetric",
    "symmetric_constant",
]
