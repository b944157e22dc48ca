"""Speed and memory of the Avellaneda-Stoikov game: steps a second through the public calls that training makes.

    python scripts/benchmarks/game.py --paths 200000 --repeats 5

The best of the repeats is reported: other work on the machine only ever slows a run. The peer is the game in NumPy,
one vectorised step at a time, as Python environments of it are written. Memory is what a call allocates in Python;
the adjoint's kernel adds 6 bytes a step for the paths of the blocks in flight.
"""

from __future__ import annotations

import argparse
import os
import platform
import time
import tracemalloc
from collections.abc import Callable
from functools import partial

import numpy as np
from numba import njit

from bitquote.market import Game, GameParameters
from bitquote.quoting import dynamic_program, glft
from bitquote.quoting.recursion import edges, fill_probabilities


@njit(cache=True)
def njit_quoter(observation):
    """Half-spread and skew that a user might write."""
    return 0.7, 0.05 * observation[0]


def best_time(call: Callable[[], object], repeats: int) -> float:
    """Seconds of the fastest of `repeats` calls, after one that compiles."""
    call()
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        call()
        times.append(time.perf_counter() - begin)
    return min(times)


def measure_speed(paths: int, repeats: int) -> None:
    """Steps a second of every call, one core and all."""
    game = Game(GameParameters())
    steps, few = game.parameters.steps, paths // 4
    table = glft(game.parameters)
    gaussian = Game(GameParameters(mid_convention="gaussian"))
    calls: dict[str, tuple[int, Callable[[int], object]]] = {
        "simulate, two-point mid": (paths, lambda threads: game.simulate(table, paths, 0, threads=threads)),
        "simulate, gaussian mid": (few, lambda threads: gaussian.simulate(table, few, 0, threads=threads)),
        "adjoint, penalty": (few, lambda threads: game.adjoint(table, few, 0, threads=threads)),
        "adjoint, cara": (few, lambda threads: game.adjoint(table, few, 0, "cara", threads=threads)),
        "rollout for PPO": (2048, lambda threads: game.rollout(table, 2048, 0, (0.1, 0.1), 10, threads=threads)),
    }
    cores = os.cpu_count() or 1
    print(f"{'million steps/s':26}{'1 core':>10}{f'{cores} cores':>10}")
    for name, (count, call) in calls.items():
        rates = [count * steps / best_time(partial(call, threads), repeats) / 1e6 for threads in (1, cores)]
        print(f"{name:26}{rates[0]:10.1f}{rates[1]:10.1f}")
    for name, call in {
        "evaluate": lambda: game.evaluate(table),
        "tabulate an njit quoter": lambda: game.tabulate(njit_quoter),
        "glft": lambda: glft(game.parameters),
        "dynamic_program, penalty": lambda: dynamic_program(game.parameters),
        "dynamic_program, cara": lambda: dynamic_program(game.parameters, "cara"),
    }.items():
        print(f"{name:26}{1e3 * best_time(call, repeats):10.2f} ms")


def measure_memory(paths: int) -> None:
    """Bytes a path that a call allocates at its peak, results included."""
    game = Game(GameParameters())
    table = glft(game.parameters)
    for name, count, call in (
        ("simulate", paths, lambda count: game.simulate(table, count, 0)),
        ("adjoint", paths, lambda count: game.adjoint(table, count, 0)),
        ("rollout", 2048, lambda count: game.rollout(table, count, 0)),
    ):
        peaks = []
        for size in (count // 2, count):
            tracemalloc.start()
            call(size)
            peaks.append(tracemalloc.get_traced_memory()[1])
            tracemalloc.stop()
        print(f"{name:26}{(peaks[1] - peaks[0]) / (count - count // 2):10.0f} bytes a path")


def measure_numpy(repeats: int, paths: int = 10_000) -> None:
    """Steps a second of the same game written in NumPy, vectorised over paths, one core."""
    parameters = GameParameters()
    table = glft(parameters)
    chances = fill_probabilities(table.bid, parameters), fill_probabilities(table.ask, parameters)
    bid_edges, ask_edges = edges(table)
    move = parameters.sigma * parameters.dt**0.5
    random = np.random.default_rng(0)

    def play() -> np.ndarray:
        inventory, wealth = np.zeros(paths, np.int64), np.zeros(paths)
        for step in range(parameters.steps):
            column = inventory + parameters.max_inventory
            bid = random.random(paths) < chances[0][step, column]
            ask = random.random(paths) < chances[1][step, column]
            wealth += bid * bid_edges[step, column] + ask * ask_edges[step, column]
            inventory += bid.astype(np.int64) - ask
            wealth += inventory * np.where(random.random(paths) < 0.5, move, -move)
        return wealth

    print(f"{'the game in NumPy':26}{paths * parameters.steps / best_time(play, repeats) / 1e6:10.1f}")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--paths", type=int, default=200_000)
    parser.add_argument("--repeats", type=int, default=5)
    arguments = parser.parse_args()
    print(f"{platform.processor() or platform.machine()}, Python {platform.python_version()}, {os.cpu_count()} cores")
    measure_speed(arguments.paths, arguments.repeats)
    measure_numpy(arguments.repeats)
    measure_memory(arguments.paths)


if __name__ == "__main__":
    main()
