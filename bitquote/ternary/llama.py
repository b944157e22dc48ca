"""The paper's table of language models by arithmetic: memory and energy of LLaMA's shapes. A model, no measurement.

Source: Ma et al. 2024, "The Era of 1-bit LLMs", arXiv 2402.17764. Its table 1 and the 71.4 of its text were checked in
a copy of the HTML version; what else is known of it is marked as remembered.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

from bitquote.errors import require
from bitquote.ternary.energy import PAPER


class LanguageModel(NamedTuple):
    """Weights of a model of LLaMA's kind; norms, a ten-thousandth of them, are left out."""

    name: str
    projections: int
    """Of attention and feed-forward layers: ternary in BitNet b1.58."""
    embedding: int
    """Of the embedding, and again of the head unless they are one; FP16 in both."""
    attention: int
    """Multiply-adds of a token with one earlier token, in all layers."""
    source: str

    def bytes(self, bits: float, tied: bool = False) -> float:
        """Memory of the weights with projections of this many bits."""
        return self.projections * bits / 8 + 2 * self.embedding * (1 if tied else 2)


def llama(
    name: str, width: int, feed_forward: int, layers: int, source: str, *, key_value_width: int | None = None
) -> LanguageModel:
    """A model by its shape: four attention and three feed-forward matrices a layer, a vocabulary of 32 000."""
    attention = 2 * width * width + 2 * width * (key_value_width or width)
    projections = layers * (attention + 3 * width * feed_forward)
    return LanguageModel(name, projections, 32_000 * width, 2 * layers * width, source)


_REPRODUCTION = "configuration of the public reproduction, huggingface.co/1bitLLM"
_LLAMA = "LLaMA 2, Touvron et al. 2023, as published"
_B3 = llama("3B", 3200, 8640, 26, _REPRODUCTION)
LANGUAGE_MODELS = (
    llama("700M", 1536, 4096, 24, _REPRODUCTION),
    llama("1.3B", 2048, 5460, 24, _REPRODUCTION),
    _B3,
    _B3._replace(
        name="3.9B",
        projections=3_900_000_000 - 2 * _B3.embedding,
        source="shape not found: 3.9e9 weights, embedding and attention as those of 3B",
    ),
    llama("7B", 4096, 11008, 32, _LLAMA),
    llama("13B", 5120, 13824, 40, _LLAMA),
    llama("70B", 8192, 28672, 80, _LLAMA, key_value_width=1024),
)

PAPER_MEMORY = {"700M": (2.08, 0.80), "1.3B": (3.34, 1.14), "3B": (7.89, 2.22), "3.9B": (7.89, 2.38)}
"""GB of LLaMA in FP16 and of BitNet b1.58: table 1 of the paper, measured there on a GPU; 3.9B is against LLaMA 3B."""
PAPER_RATIO = {"70B": 7.16}
"""From the paper's figure 2, as remembered: the text that could be checked does not print it."""


@dataclass(frozen=True)
class LanguageModelRow:
    """A language model in FP16 and as BitNet b1.58 with two bits a projection's weight; memory in GB of 1e9 bytes.

    Attributes:
        model: the weights.
        fp16: weights in FP16; for 3.9B those of 3B, with which the paper compares.
        ternary: weights of BitNet b1.58.
        common: what the paper's figure for LLaMA has beyond `fp16`, such as keys, values and buffers; None without one.
        ratio: (fp16 + common) / (ternary + common), where `common` is the same for both; of the weights without one.
        paper_ratio: the paper's, None where it has none.
        products_ratio: energy of the projections' products by the paper's convention.
        arithmetic_ratio: of all products of 512 tokens, where head and attention stay FP16 in both; against a model of
            the same size, that of 3.9B too.
    """

    model: LanguageModel
    fp16: float
    ternary: float
    common: float | None
    ratio: float
    paper_ratio: float | None
    products_ratio: float
    arithmetic_ratio: float

    @property
    def weights_ratio(self) -> float:
        """Of the weights alone."""
        return self.fp16 / self.ternary

    @property
    def difference(self) -> float | None:
        """How far `ratio` is from the paper's, as a share of it."""
        return None if self.paper_ratio is None else self.ratio / self.paper_ratio - 1.0


def language_model_table(*, bits: float = 2.0, tied: bool = False, tokens: int = 512) -> list[LanguageModelRow]:
    """The paper's memory and energy by arithmetic alone, beside what it reports.

    The weights alone save more than the paper measured, since a runtime holds more than weights. Taking what it holds
    beyond them from the paper's LLaMA, and the same for b1.58, predicts the paper's b1.58 with nothing to tune.

    Args:
        bits: of a projection's weight; the paper measured with a kernel of two.
        tied: whether head and embedding are one; a ratio with `common` does not depend on it.
        tokens: length of the text, for attention.
    """
    require(0 < bits <= 16, "bits", bits, "above 0 and at most 16")
    require(tokens >= 1, "tokens", tokens, "at least 1")
    return [_row(model, bits, tied, tokens) for model in LANGUAGE_MODELS]


def _row(model: LanguageModel, bits: float, tied: bool, tokens: int) -> LanguageModelRow:
    compared = _B3 if model.name == "3.9B" else model
    fp16, ternary = compared.bytes(16, tied) / 1e9, model.bytes(bits, tied) / 1e9
    measured = PAPER_MEMORY.get(model.name)
    common = None if measured is None else measured[0] - fp16
    paper_ratio = PAPER_RATIO.get(model.name) if measured is None else measured[0] / measured[1]
    product = PAPER.fp16_product
    others = (model.embedding + model.attention * (tokens + 1) / 2) * product
    return LanguageModelRow(
        model=model,
        fp16=fp16,
        ternary=ternary,
        common=common,
        ratio=(fp16 + (common or 0.0)) / (ternary + (common or 0.0)),
        paper_ratio=paper_ratio,
        products_ratio=product / PAPER.int8_add,
        arithmetic_ratio=(model.projections * product + others) / (model.projections * PAPER.int8_add + others),
    )
