"""What may be chosen about a training run: the network, the learner and the trainer. No torch here.

Frozen dataclasses of plain types, which serve as Hydra schemas too. Each checks itself, so that no run starts
with an impossible value. The defaults are the order book's; the game, where a step costs a thousandth, takes the
larger budgets of `conf/budget`.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from bitquote.errors import require, require_choice, require_integer, require_number
from bitquote.server.config import ServerConfig, check_machine

QUANTISERS = {
    "weight_scale": ("absmean", "absmedian"),
    "input_quantisation": ("per_feature", "per_row"),
    "head": ("fp", "learned_scale"),
}
"""What may be chosen of a ternary network's quantisers; the first words are those of the fp32 twin, which has none."""


@dataclass(frozen=True)
class NetworkConfig:
    """The quoting network.

    `action_scale` turns the two outputs into (half-spread, skew) in the market's units (price in the game, ticks in
    the order book); left empty it is the market's natural distance 1/k. `baseline`: `direct` learns quotes from
    scratch, `residual` learns what to add to GLFT's.

    Of a ternary network: `weight_scale` is what trits are measured by, the mean or the median of the latent weights'
    sizes. `input_quantisation` rounds each feature on its own fixed range, or stretches every observation to 8 bits
    first, which loses its size, and changes nothing where a constant feature stands at its range, as in our markets.
    `head` is in full precision, or ternary with a learned scale for each output.
    """

    architecture: str = "ternary"
    hidden: list[int] = field(default_factory=lambda: [64, 64])
    baseline: str = "direct"
    action_scale: list[float] | None = None
    weight_scale: str = "absmean"
    input_quantisation: str = "per_feature"
    head: str = "fp"

    def __post_init__(self) -> None:
        require_choice("policy.architecture", self.architecture, ("ternary", "fp32"))
        require_choice("policy.baseline", self.baseline, ("direct", "residual"))
        require(len(self.hidden) >= 1, "policy.hidden", self.hidden, "a list of at least one layer width")
        for width in self.hidden:
            require_integer("policy.hidden", width, 1, 4096)
        if self.action_scale is not None:
            require(len(self.action_scale) == 2, "policy.action_scale", self.action_scale, "two numbers")
            for scale in self.action_scale:
                require_number("policy.action_scale", scale, 0.0, above=True)
        for name, words in QUANTISERS.items():
            choices = words if self.architecture == "ternary" else words[:1]
            expected = f"one of {', '.join(choices)}" if choices == words else f"{choices[0]} with architecture fp32"
            require(getattr(self, name) in choices, f"policy.{name}", getattr(self, name), expected)


@dataclass(frozen=True)
class LearnerConfig:
    """What all learners share. An epoch is a block of iterations that ends with a validation and a checkpoint."""

    kind: str = ""
    epochs: int = 10
    iterations_per_epoch: int = 30
    learning_rate: float = 0.003
    weight_decay: float = 0.0
    averaging: float = 0.97
    """Decay of the moving average of the latent weights that is evaluated and saved, per update."""
    gradient_clip: float | None = 1.0
    """Largest norm of the gradient; None for no limit."""
    quantisation_warm_up: float = 0.0
    """Share of the updates over which a ternary network's quantisation rises from none to all of it: lambda from 0 to 1
    in value + lambda (quantised - value), for weights and activations. Rollouts meanwhile use the integers of the
    compiled policy. 0: it is all there from the start."""
    exploring_starts: int = 5
    """Paths begin with an inventory uniform on -n..n, for PPO in the game at a random step too; 0: all flat."""

    def __post_init__(self) -> None:
        own = tuple(kind for kind, schema in LEARNERS.items() if schema is type(self))
        require_choice("learner.kind", self.kind, own)
        require_integer("learner.epochs", self.epochs, 1)
        require_integer("learner.iterations_per_epoch", self.iterations_per_epoch, 1)
        require_number("learner.learning_rate", self.learning_rate, 0.0, 1.0, above=True)
        require_number("learner.weight_decay", self.weight_decay, 0.0, 1.0)
        require_number("learner.averaging", self.averaging, 0.0, 0.999999)
        if self.gradient_clip is not None:
            require_number("learner.gradient_clip", self.gradient_clip, 0.0, above=True)
        require_number("learner.quantisation_warm_up", self.quantisation_warm_up, 0.0, 1.0)
        require_integer("learner.exploring_starts", self.exploring_starts, 0)

    @property
    def iterations(self) -> int:
        """Rollouts in the whole run."""
        return self.epochs * self.iterations_per_epoch


@dataclass(frozen=True)
class DistillConfig(LearnerConfig):
    """Regression on a known table of quotes: the exact optimum in the game, the tuned GLFT in the order book."""

    kind: str = "distill"
    iterations_per_epoch: int = 60
    minibatch: int = 1024
    paths: int = 64
    """Paths of the rollout that gathers observations in the order book."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("learner.minibatch", self.minibatch, 1)
        require_integer("learner.paths", self.paths, 1)


@dataclass(frozen=True)
class PathwiseConfig(LearnerConfig):
    """Gradient through time: sampled fills forward, the derivative of the fill intensity backward."""

    kind: str = "pathwise"
    epochs: int = 15
    iterations_per_epoch: int = 8
    learning_rate: float = 0.01
    paths: int = 64
    exploration: float = 0.3
    """Order book: standard deviation of the noise that makes the fill model identifiable, in units of 1/k."""

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("learner.paths", self.paths, 1)
        require_number("learner.exploration", self.exploration, 0.0, 10.0, above=True)


@dataclass(frozen=True)
class PPOConfig(LearnerConfig):
    """Proximal policy optimisation (Schulman et al. 2017): knows no model of the market."""

    kind: str = "ppo"
    iterations_per_epoch: int = 12
    paths: int = 64
    passes: int = 1
    """Times that each rollout is learnt from. Where simulating costs less than learning, one is best."""
    minibatches: int = 2
    """Parts that each pass cuts the rollout into."""
    clip: float = 0.2
    discount: float = 1.0
    trace: float = 0.6
    """Lambda of generalised advantage estimation."""
    exploration: float = 0.3
    """Standard deviation of the Gaussian exploration at the start, in units of the action scale."""
    exploration_end: float = 0.1

    def __post_init__(self) -> None:
        super().__post_init__()
        require_integer("learner.paths", self.paths, 1)
        require_integer("learner.passes", self.passes, 1)
        require_integer("learner.minibatches", self.minibatches, 1)
        require_number("learner.clip", self.clip, 0.0, 1.0, above=True)
        require_number("learner.discount", self.discount, 0.0, 1.0)
        require_number("learner.trace", self.trace, 0.0, 1.0)
        require_number("learner.exploration", self.exploration, 0.0, 10.0, above=True)
        require_number("learner.exploration_end", self.exploration_end, 0.0, 10.0, above=True)


@dataclass(frozen=True)
class TrainerConfig:
    """How the run is carried out. None of it changes the result."""

    threads: int = 1
    """Threads of the compiled rollout; torch itself keeps to one, which is fastest at these sizes."""
    log_every_n_steps: int = 10
    """Updates between two entries in TensorBoard; 0 writes none at all, at evaluations neither."""
    progress: bool = True
    """Whether a training shows how far it has come, as `bitquote.progress` says."""

    def __post_init__(self) -> None:
        require_integer("trainer.threads", self.threads, 1, 1024)
        require_integer("trainer.log_every_n_steps", self.log_every_n_steps, 0)
        require(isinstance(self.progress, bool), "trainer.progress", self.progress, "true or false")


LEARNERS: dict[str, type[LearnerConfig]] = {"distill": DistillConfig, "pathwise": PathwiseConfig, "ppo": PPOConfig}


def check_server(server: ServerConfig) -> None:
    """Raise `InputError` where no learner can use `server`, or where this machine cannot run it."""
    if server.engine == "none":
        return
    require(server.aggregate == "each", "server.aggregate", server.aggregate, "each: Adam takes one gradient at a time")
    require(
        server.engine != "inproc" or server.workers == 1,
        "server.workers",
        server.workers,
        "1 with server.engine=inproc, which trains in this process; take server=shm for more",
    )
    check_machine(server)
