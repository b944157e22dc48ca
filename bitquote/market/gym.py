"""Gymnasium environments of both markets: `bitquote/Game-v0` and `bitquote/OrderBook-v0`, single and vector.

The action is (bid distance, ask distance) in price in the game, (half-spread, skew) in ticks in the order book. An
observation is what a policy sees, float32 in physical units. The reward is the change of wealth less phi q^2 dt, so
that the rewards of an episode add up to its part of the penalised objective. The horizon is part of the problem and
of the observation: an episode ends by termination, never by truncation, and there is nothing to bootstrap. Vector
environments reset a finished episode at the next step (NEXT_STEP autoreset), whose action is ignored.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import gymnasium
import numpy as np
from gymnasium import spaces
from gymnasium.vector import AutoresetMode, VectorEnv
from gymnasium.vector.utils import batch_space
from numba import njit

from bitquote.environments import register
from bitquote.errors import InputError, require, require_integer
from bitquote.flow.random import next_word, normal, seed_generator, uniform
from bitquote.market.accounts import liquidate, wealth, withdraw_all
from bitquote.market.action import distances, size_of
from bitquote.market.configuration import build, shipped_configuration
from bitquote.market.game import Game
from bitquote.market.game_paths import compile_rules
from bitquote.market.observation import SIZE, observe
from bitquote.market.order_book import OrderBookMarket
from bitquote.market.path import check_room, market_kernels, rekey, start_path, state_for
from bitquote.market.rollout import ask_one, quote
from bitquote.quoting.parameters import GameParameters

register()

_GAME_STREAM = 0


class GameEpisodes:
    """`count` episodes of the game side by side, advanced by one step at a time."""

    def __init__(self, market: Game, count: int):
        self.market = market
        self.count = count
        parameters = market.parameters
        reach = 1.0 / parameters.k
        # Six times 1/k is where one fill in four hundred is left of those at the mid.
        self.action_space = spaces.Box(np.float32(-2.0 * reach), np.float32(6.0 * reach), (2,), np.float32)
        self.horizon = parameters.steps
        self.observation_size = len(market.observation_names)
        self._cells = market.observations()
        self._rules = compile_rules(parameters)
        self._inventory = np.zeros(count, np.int64)
        self._generators = np.zeros((count, 2), np.uint64)

    def reset(self, index: int, seed: int) -> None:
        """Begin episode `index` anew on the random numbers of `seed`."""
        self._inventory[index] = 0
        seed_generator(self._generators[index], seed, 0, 0, _GAME_STREAM)

    def observe(self, index: int, step: int) -> np.ndarray:
        """The observation of episode `index` before `step`, or at the horizon."""
        cell = self._cells[min(step, self.horizon - 1), self._inventory[index] + self.market.parameters.max_inventory]
        if step < self.horizon:
            return cell
        final = cell.copy()
        final[1:3] = 0.0  # no time is left
        return final

    def step(self, index: int, step: int, action: np.ndarray) -> float:
        """Play `action` at `step`; the reward."""
        bound = self.market.parameters.max_inventory
        inventory, reward = _game_step(
            self._rules, self._generators[index], self._inventory[index], bound, action[0], action[1]
        )
        self._inventory[index] = inventory
        return reward


@njit(cache=True, nogil=True)
def _game_step(rules, generator, inventory, bound, bid, ask):
    """(inventory, reward) after one step of the game under the distances `bid` and `ask`."""
    reward = 0.0
    change = 0
    for side in (1, -1):
        distance = bid if side > 0 else ask
        intensity = np.exp(rules.log_rate - rules.k * distance)
        chance = -np.expm1(-intensity) if rules.exponential else min(1.0, intensity)
        if uniform(generator) < chance and abs(inventory + side) <= bound:
            change += side
            reward += distance
    inventory += change
    if rules.gaussian:
        move = rules.move * normal(generator)
    else:
        move = rules.move if next_word(generator) >> np.uint64(63) else -rules.move
    return inventory, reward + inventory * move - rules.step_penalty * inventory * inventory


class OrderBookEpisodes:
    """`count` episodes of the order-book market side by side, each with a book of its own.

    Where the market asks makers between decisions, the last action is applied again around the mid of that moment.
    Rivals quote as they are configured; those that are `self` do what the action says.
    """

    def __init__(self, market: OrderBookMarket, count: int, sizes: bool = False):
        self.market = market
        self.count = count
        far, most = np.float32(market.venue.no_quote), np.float32(market.game.max_inventory)
        low, high = [-far, -far, np.float32(0.0)], [far, far, most]
        entries = 3 if sizes else 2
        self.action_space = spaces.Box(np.array(low[:entries]), np.array(high[:entries]), dtype=np.float32)
        self.horizon = market.venue.decisions
        self.observation_size = market.observation_size
        self._features = market.baseline_features()
        self._quoters, self._mirrors = market.rival_quoters()
        memory = (market.window, market.capacity)
        self._states = [state_for(market.venue, market.flow, memory, len(self._quoters)) for _ in range(count)]
        self._kernels = market_kernels(market.venue, market.flow, self._states[0])
        self._seeds = np.zeros(count, np.int64)
        self._observations = np.zeros((count, self.observation_size))

    def reset(self, index: int, seed: int) -> None:
        """Begin episode `index` anew on the random numbers of `seed`, with a book that has settled."""
        self._seeds[index] = seed
        state = self._states[index]
        start_path(self._kernels, self.market.venue, self.market.flow, state, seed, 0, 0)
        observe(self.market.venue, state, 0, 0, self._features, self._observations[index])

    def observe(self, index: int, step: int) -> np.ndarray:
        """The observation of episode `index` before `step`, or at the horizon."""
        return self._observations[index]

    def step(self, index: int, step: int, action: np.ndarray) -> float:
        """Play `action` at `step`; the reward."""
        size = float(action[2]) if action.size > 2 else 1.0
        reward = _book_step(
            self._kernels, self.market.venue, self.market.flow, self._states[index], self._quoters, self._mirrors,
            self._features, self._seeds[index], step, (float(action[0]), float(action[1]), size),
            self._observations[index],
        )  # fmt: skip
        if step + 1 == self.horizon:
            check_room([self._states[index]], self.market.capacity)
        return reward


@njit(cache=True, nogil=True)
def _send(venue, flow, state, quoters, mirrors, features, step, action, rolls):
    """Send the quotes of the action, of the rivals that mirror it, and of the other rivals."""
    prices = np.empty(2, np.int64)
    observation = np.empty(SIZE, np.float64)
    no_shift = np.zeros(2)
    for n in range(len(quoters)):
        if mirrors[n]:
            bid, ask = distances(action[0], action[1], venue.no_quote)
            quote(venue, flow, state, n, bid, ask, size_of(action, venue.order_size), -1.0, prices)
        else:
            ask_one(venue, flow, state, n, quoters[n], features, step, no_shift, -1.0, rolls, observation, prices)
    state.public[0].asked = state.maker[0].clock
    state.public[0].wake = np.inf


@njit(cache=True, nogil=True)
def _book_step(kernels, venue, flow, state, quoters, mirrors, features, seed, step, action, observation):
    """Quote, run to the next decision (and liquidate at the horizon), observe; the reward."""
    maker = state.maker[0]
    before = wealth(venue, maker)
    squared = maker.squared
    rekey(state, seed, 0, step)
    state.public[0].turn = step % len(quoters)
    until = (step + 1) * venue.decision_interval
    decides = True
    while maker.clock < until:
        _send(venue, flow, state, quoters, mirrors, features, step, action, decides)
        kernels.advance(venue, flow, state, until)
        decides = False
    last = step + 1 == venue.decisions
    if last:
        withdraw_all(state)
        for k in range(len(quoters)):
            liquidate(venue, state, (state.public[0].turn + k) % len(quoters))
    observe(venue, state, 0, min(step + 1, venue.decisions - 1), features, observation)
    if last:
        observation[1] = 0.0  # time_left
        observation[2] = 0.0
    order = float(venue.order_size)
    return wealth(venue, maker) - before - venue.penalty * (maker.squared - squared) / (order * order)


def _checked(action: Any, shape: tuple[int, ...]) -> np.ndarray:
    """The action as float64 of `shape`; InputError when it is not finite."""
    array = np.asarray(action, np.float64)
    require(array.shape == shape, "the action's shape", array.shape, str(shape))
    if not np.isfinite(array).all():
        raise InputError(f"the action is {array.tolist()}: must be finite")
    return array


class _Environment(gymnasium.Env):
    """One episode at a time."""

    def __init__(self, episodes: GameEpisodes | OrderBookEpisodes):
        self.metadata = {"render_modes": []}
        self._episodes = episodes
        self._step = -1
        self.action_space = episodes.action_space
        self._shape = tuple(episodes.action_space.shape or ())
        self.observation_space = spaces.Box(-np.inf, np.inf, (episodes.observation_size,), np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin an episode; the same `seed` gives the same episodes from here on."""
        super().reset(seed=seed)
        self._episodes.reset(0, int(self.np_random.integers(2**62)))
        self._step = 0
        return self._episodes.observe(0, 0).astype(np.float32), {}

    def step(self, action: Any) -> tuple[np.ndarray, float, bool, bool, dict]:
        """Quote until the next decision."""
        if not 0 <= self._step < self._episodes.horizon:
            raise InputError("the episode has ended: call reset() before step()")
        reward = self._episodes.step(0, self._step, _checked(action, self._shape))
        self._step += 1
        observation = self._episodes.observe(0, self._step).astype(np.float32)
        return observation, float(reward), self._step == self._episodes.horizon, False, {}


class _Vector(VectorEnv):
    """`num_envs` episodes side by side."""

    def __init__(self, episodes: GameEpisodes | OrderBookEpisodes):
        self.metadata = {"autoreset_mode": AutoresetMode.NEXT_STEP, "render_modes": []}
        self._episodes = episodes
        self.num_envs = episodes.count
        self._steps = np.full(self.num_envs, -1)
        self.single_action_space = episodes.action_space
        self._shape = tuple(episodes.action_space.shape or ())
        self.single_observation_space = spaces.Box(-np.inf, np.inf, (episodes.observation_size,), np.float32)
        self.action_space = batch_space(self.single_action_space, self.num_envs)
        self.observation_space = batch_space(self.single_observation_space, self.num_envs)

    def _begin(self, index: int) -> None:
        self._episodes.reset(index, int(self.np_random.integers(2**62)))
        self._steps[index] = 0

    def _observed(self) -> np.ndarray:
        rows = [self._episodes.observe(i, int(step)) for i, step in enumerate(self._steps)]
        return np.stack(rows).astype(np.float32)

    def reset(self, *, seed: int | None = None, options: dict | None = None) -> tuple[np.ndarray, dict]:
        """Begin all episodes."""
        super().reset(seed=seed)
        for i in range(self.num_envs):
            self._begin(i)
        return self._observed(), {}

    def step(self, actions: Any) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray, dict]:
        """Quote in every episode; one that has ended begins anew instead, with reward 0."""
        actions = _checked(actions, (self.num_envs, *self._shape))
        if (self._steps < 0).any():
            raise InputError("no episode has begun: call reset() before step()")
        rewards = np.zeros(self.num_envs)
        for i in range(self.num_envs):
            if self._steps[i] == self._episodes.horizon:
                self._begin(i)
            else:
                rewards[i] = self._episodes.step(i, int(self._steps[i]), actions[i])
                self._steps[i] += 1
        terminated = self._steps == self._episodes.horizon
        return self._observed(), rewards, terminated, np.zeros(self.num_envs, np.bool_), {}


def _game(settings: Mapping[str, Any]) -> Game:
    try:
        return Game(GameParameters(**settings))
    except TypeError as error:
        raise InputError(f"bitquote/Game-v0: {error}") from None


class GameEnvironment(_Environment):
    """`bitquote/Game-v0`; keyword arguments are those of `GameParameters`."""

    def __init__(self, **parameters: Any):
        super().__init__(GameEpisodes(_game(parameters), 1))


class GameVector(_Vector):
    """`bitquote/Game-v0`, `num_envs` at a time; other keyword arguments are those of `GameParameters`."""

    def __init__(self, num_envs: int = 1, **parameters: Any):
        super().__init__(GameEpisodes(_game(parameters), require_integer("num_envs", num_envs, 1)))


class OrderBookEnvironment(_Environment):
    """`bitquote/OrderBook-v0`; `market` is an `OrderBookMarket` or its configuration, by default the shipped one.

    With `sizes` the action has a third entry, the size of every quote in order sizes.
    """

    def __init__(self, market: OrderBookMarket | Mapping[str, Any] | None = None, sizes: bool = False):
        super().__init__(OrderBookEpisodes(_order_book(market), 1, sizes))


class OrderBookVector(_Vector):
    """`bitquote/OrderBook-v0`, `num_envs` at a time."""

    def __init__(
        self, num_envs: int = 1, market: OrderBookMarket | Mapping[str, Any] | None = None, sizes: bool = False
    ):
        super().__init__(OrderBookEpisodes(_order_book(market), require_integer("num_envs", num_envs, 1), sizes))


def _order_book(market: OrderBookMarket | Mapping[str, Any] | None) -> OrderBookMarket:
    if isinstance(market, OrderBookMarket):
        return market
    built = build(shipped_configuration("order_book") if market is None else market)
    if not isinstance(built, OrderBookMarket):
        raise InputError("market.kind is 'game': must be order_book for bitquote/OrderBook-v0")
    return built
