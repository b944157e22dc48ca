"""Ray clusters: start one on this machine or join one that runs, always with Ray's token authentication.

Ray carries functions and arguments by pickle, and its services listen on every interface: whoever may connect may run
code. Its token is therefore the boundary. It is off by default when nodes are started with `ray start`; here it is on,
unless the environment says RAY_AUTH_MODE=disabled.
"""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import sys
import tempfile
import time
from contextlib import suppress
from pathlib import Path

from bitquote.server.config import ServerConfig, core_count
from bitquote.server.errors import Rejected

ANSWER_WITHIN = 5.0
"""Seconds in which a cluster must say whether it takes our token."""
LOGGING_ENDS = 5.0
"""Seconds that Ray's processes may go on writing to their directory when the cluster has ended."""


class Cluster:
    """The Ray cluster that this process is connected to.

    Args:
        config: `address` None starts a cluster of this machine's own, on which `workers` and the cores decide how many
            CPUs Ray counts; "auto" takes the one that runs on this machine, "host:port" a certain one. A connection
            that this process has already is used as it is, and left open.

    Raises:
        Rejected: Ray is not installed, no cluster answers, or it refuses our token; one line each.
    """

    def __init__(self, config: ServerConfig) -> None:
        _switch_on_authentication(config.address is None)
        try:
            import ray
        except ImportError:
            raise Rejected("a Ray cluster needs Ray: pip install 'bitquote[ray]'") from None
        self._ours = not ray.is_initialized()
        self._directory: Path | None = None
        if self._ours and config.address is None:
            self._start(config)
        elif self._ours:
            join(str(config.address))

    def _start(self, config: ServerConfig) -> None:
        import ray

        # Ray makes sockets below its directory, and their paths must be short: a temporary directory may be too deep.
        deep = len(tempfile.gettempdir()) > 24 and Path("/tmp").is_dir()
        self._directory = Path(tempfile.mkdtemp(prefix="bitquote-", dir="/tmp" if deep else None))
        try:
            ray.init(
                address="local",
                num_cpus=max(config.workers + 1, core_count()),
                include_dashboard=False,
                log_to_driver=False,
                logging_level=logging.ERROR,
                _node_ip_address="127.0.0.1",
                _temp_dir=str(self._directory),
            )
        except Exception as error:
            self.close()
            raise Rejected(f"Ray does not start on this machine: {one_line(error)}") from None

    def close(self) -> None:
        """Leave the cluster; if it is our own, end it and remove its files."""
        import ray

        if self._ours and ray.is_initialized():
            ray.shutdown()
        directory, self._directory = self._directory, None
        until = time.monotonic() + LOGGING_ENDS
        while directory is not None and directory.exists() and time.monotonic() < until:
            shutil.rmtree(directory, ignore_errors=True)  # processes that are about to end may still make files
            time.sleep(0.02)


def join(address: str) -> None:
    """Connect this process to the cluster at `address`, "auto" or "host:port"; raises `Rejected`."""
    import ray

    _switch_on_authentication(False)
    if address == "auto":
        address = os.environ.get("RAY_ADDRESS") or _running_here()
    if address != "auto":
        _check(address)
    try:
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except Exception as error:
        raise Rejected(f"no connection to the Ray cluster at {address}: {one_line(error)}") from None


def one_line(error: BaseException) -> str:
    """What an error of Ray's says, without the traceback that it carries."""
    cause = getattr(error, "cause", None)
    lines = str(cause or error).strip().splitlines() or [type(error).__name__]
    return lines[0][:300]


def _switch_on_authentication(own: bool) -> None:
    """Set Ray's environment variables, for this process and those that it starts. `own`: the cluster will be ours.

    A cluster of our own gets a token of its own, which lives in the environment only, unless the user has one: Ray
    would write it to the user's home directory. Ray reads the variables and the token once, so they stay.
    """
    if "RAY_AUTH_MODE" not in os.environ:
        os.environ["RAY_AUTH_MODE"] = "token"
        if "ray" in sys.modules:  # it has read its environment already
            with suppress(ImportError, AttributeError):
                from ray._raylet import Config  # pyright: ignore[reportMissingImports]

                Config.initialize("")
    if own and os.environ["RAY_AUTH_MODE"] == "token" and _token() is None:
        os.environ["RAY_AUTH_TOKEN"] = secrets.token_hex(32)


def _running_here() -> str:
    """The cluster that `ray start` has noted down on this machine; "auto", and Ray searches, if there is no note."""
    note = Path(os.environ.get("RAY_TMPDIR", "/tmp"), "ray", "ray_current_cluster")
    return (note.read_text().strip() if note.is_file() else "") or "auto"


def _token() -> str | None:
    """The token that Ray will use, where it looks for it."""
    if token := os.environ.get("RAY_AUTH_TOKEN"):
        return token
    path = os.environ.get("RAY_AUTH_TOKEN_PATH")
    with suppress(OSError):
        return (Path(path) if path else Path.home() / ".ray" / "auth_token").read_text().strip() or None
    return None


def _check(address: str) -> None:
    """Ask the cluster whether it takes our token, and no other: Ray itself takes 20 s to say so, in many lines."""
    try:
        import grpc
    except ImportError:  # TensorBoard brings it; without it Ray's own answer has to do
        return
    guarded = os.environ["RAY_AUTH_MODE"] == "token"
    token = _token()
    if guarded and token is None:
        raise Rejected(
            f"there is no token here for the Ray cluster at {address}: bring ~/.ray/auth_token, or set RAY_AUTH_TOKEN"
        )

    def knock(*metadata: tuple[str, str]) -> grpc.StatusCode:
        with grpc.insecure_channel(address) as channel:
            ask = channel.unary_unary("/ray.rpc.NodeInfoGcsService/GetClusterId")
            try:
                ask(b"", timeout=ANSWER_WITHIN, metadata=metadata)
            except grpc.RpcError as error:
                return error.code()  # pyright: ignore[reportAttributeAccessIssue]
        return grpc.StatusCode.OK

    verdict = knock(("authorization", f"Bearer {token}")) if guarded else knock()
    if verdict == grpc.StatusCode.UNAUTHENTICATED:
        raise Rejected(f"the Ray cluster at {address} refuses our token: every node must have the same one")
    if verdict != grpc.StatusCode.OK:
        raise Rejected(f"no Ray cluster answers at {address}")
    if guarded and knock() == grpc.StatusCode.OK:
        raise Rejected(
            f"the Ray cluster at {address} lets everybody in: start its nodes with RAY_AUTH_MODE=token, "
            "or accept that with RAY_AUTH_MODE=disabled"
        )
