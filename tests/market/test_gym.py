"""The Gymnasium environments: the checker, seeds, autoreset, and returns that add up to the objective."""

from __future__ import annotations

import subprocess
import sys
import warnings

import gymnasium
import numpy as np
import pytest
from gymnasium.utils.env_checker import check_env

from bitquote.environments import ENVIRONMENTS, register
from bitquote.errors import InputError
from bitquote.market import Game, GameParameters, build
from bitquote.market.configuration import shipped_configuration
from bitquote.quoting import symmetric_constant

register()
ACTIONS = {"bitquote/Game-v0": (0.7, 0.7), "bitquote/OrderBook-v0": (3.0, 0.0)}


def short_order_book():
    config = shipped_configuration("order_book")
    config["venue"]["decisions"] = 20
    return build(config)


def settings_of(identifier):
    return {"steps": 20, "horizon": 0.1} if "Game" in identifier else {"market": short_order_book()}


@pytest.mark.parametrize("identifier", ENVIRONMENTS)
def test_the_checker_passes(identifier):
    with warnings.catch_warnings():
        # The checker recommends actions in [-1, 1] and bounded observations; ours are in physical units.
        warnings.simplefilter("ignore", UserWarning)
        environment = gymnasium.make(identifier, **settings_of(identifier))
        check_env(environment.unwrapped, skip_render_check=True)


@pytest.mark.parametrize("identifier", ENVIRONMENTS)
def test_the_same_seed_gives_the_same_episode(identifier):
    episodes = []
    for seed in (0, 0, 1):
        environment = gymnasium.make(identifier, **settings_of(identifier))
        observation, _ = environment.reset(seed=seed)
        rows = [observation]
        ended = False
        while not ended:
            observation, reward, ended, truncated, _ = environment.step(np.array(ACTIONS[identifier], np.float32))
            rows.append(np.append(observation, reward))
            assert not truncated
        episodes.append(np.concatenate(rows))
        assert len(rows) == 21 and observation[1] == 0.0
    assert np.array_equal(episodes[0], episodes[1]) and not np.array_equal(episodes[0], episodes[2])


@pytest.mark.parametrize("identifier", ENVIRONMENTS)
def test_vectors_reset_at_the_next_step(identifier):
    vector = gymnasium.make_vec(identifier, num_envs=3, **settings_of(identifier))
    assert vector.metadata["autoreset_mode"] is gymnasium.vector.AutoresetMode.NEXT_STEP
    first, _ = vector.reset(seed=4)
    actions = np.tile(np.array(ACTIONS[identifier], np.float32), (3, 1))
    for step in range(1, 21):
        observation, _, terminated, _, _ = vector.step(actions)
        assert terminated.all() == (step == 20) == terminated.any()
    observation, reward, terminated, _, _ = vector.step(actions)
    assert (reward == 0).all() and not terminated.any()
    assert (observation[:, 1] == 1.0).all() and observation.shape == first.shape
    assert vector.observation_space.contains(observation)


def test_returns_add_up_to_the_objective_of_the_game():
    parameters = GameParameters(steps=20, horizon=0.1)
    table = symmetric_constant(parameters)
    expected = Game(parameters).evaluate(table).objective
    vector = gymnasium.make_vec("bitquote/Game-v0", num_envs=400, steps=20, horizon=0.1)
    vector.reset(seed=1)
    returns = np.zeros(400)
    distance = np.float32(table.bid[0, parameters.max_inventory])
    for _ in range(20):
        _, reward, *_ = vector.step(np.full((400, 2), distance))
        returns += reward
    assert returns.mean() == pytest.approx(expected, abs=4 * returns.std() / 20)


def test_steps_out_of_turn_and_impossible_actions_are_refused():
    environment = gymnasium.make("bitquote/Game-v0", disable_env_checker=True).unwrapped
    with pytest.raises(InputError, match="reset"):
        environment.step(np.zeros(2))
    environment.reset(seed=0)
    with pytest.raises(InputError, match="finite"):
        environment.step(np.array([np.nan, 1.0]))
    with pytest.raises(InputError, match="shape"):
        environment.step(np.zeros(3))
    with pytest.raises(InputError, match="sigma"):
        gymnasium.make("bitquote/Game-v0", sigma=-1.0)
    with pytest.raises(InputError, match="num_envs"):
        gymnasium.make_vec("bitquote/Game-v0", num_envs=0)


def test_importing_bitquote_registers_the_environments():
    code = "import bitquote, gymnasium; print('bitquote/Game-v0' in gymnasium.registry)"
    shown = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout
    assert shown.strip() == "True"


def test_stable_baselines3_trains_on_both():
    sb3 = pytest.importorskip("stable_baselines3", reason="a development extra")
    for identifier in ENVIRONMENTS:
        environment = gymnasium.make(identifier, **settings_of(identifier))
        model = sb3.PPO("MlpPolicy", environment, n_steps=64, batch_size=64, n_epochs=1, seed=0, device="cpu")
        model.learn(128)
        action, _ = model.predict(environment.reset(seed=0)[0])
        assert np.isfinite(action).all()
