"""How good is a quoter: scores, intervals, the tuned baseline, and benchmark.json."""

from bitquote.evaluation.benchmark import baseline_tables, benchmark, check_seeds
from bitquote.evaluation.scoring import OBJECTIVES
from bitquote.evaluation.tuning import EdgeOptimum, Tuned, tune_glft

__all__ = ["OBJECTIVES", "EdgeOptimum", "Tuned", "baseline_tables", "benchmark", "check_seeds", "tune_glft"]
