"""A bad line between a worker and its server: a socket that passes frames on late, not at all, or breaks."""

from __future__ import annotations

import os
import random
import socket
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from typing import Any, Self

from bitquote.server.shm import wire


class Proxy:
    """Listens at `path` and passes on to the socket at `target`; a context manager.

    Args:
        delay: seconds that every frame takes more.
        cut: probability with which a frame is lost and its connection with it.
    """

    def __init__(self, path: str, target: str, *, delay: float = 0.0, cut: float = 0.0, seed: int = 0) -> None:
        self.path = path
        self.target = target
        self.delay = delay
        self.cut = cut
        self.random = random.Random(seed)
        self.open = threading.Event()
        """Clear: nothing gets through, and nobody is told."""
        self.open.set()
        self.cuts = 0
        self.frames = 0
        self._sockets: list[socket.socket] = []
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(path)
        self._listener.listen(64)
        self._threads = [threading.Thread(target=self._accept)]
        self._threads[0].start()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.open.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._threads[0].join()
        for one in self._sockets:
            _hang_up(one)
        for thread in self._threads[1:]:
            thread.join()
        for one in [self._listener, *self._sockets]:
            one.close()
        os.unlink(self.path)

    def _accept(self) -> None:
        while True:
            try:
                near, _ = self._listener.accept()
            except OSError:
                return
            far = socket.socket(socket.AF_UNIX)
            self._sockets += [near, far]
            try:
                far.connect(self.target)
            except OSError:
                _hang_up(near)
                continue
            for source, sink, greeting, unpack in (
                (near, far, wire.HELLO, wire.unpack_message),
                (far, near, wire.WELCOME, wire.unpack_reply),
            ):
                thread = threading.Thread(target=self._pass_on, args=(source, sink, greeting, unpack))
                thread.start()
                self._threads.append(thread)

    def _pass_on(self, source: socket.socket, sink: socket.socket, greeting: int, unpack: Callable[..., Any]) -> None:
        """Frames of one direction, each whole, with the descriptors at the bytes that they came with."""
        try:
            sink.sendall(_exactly(source, greeting))
            while True:
                head = _exactly(source, wire.HEAD)
                announced = unpack(head)
                parts = [(head + _exactly(source, announced.body), [])]
                if announced.granted:
                    parts.append(_with_files(source, wire.GRANT))
                if announced.where == wire.FILE:
                    parts.append(_with_files(source, 1))
                time.sleep(self.delay)
                self.open.wait()
                self.frames += 1
                lost = self.random.random() < self.cut
                for data, files in parts:
                    if not lost:
                        socket.send_fds(sink, [data], files)
                    for file in files:
                        os.close(file)
                if lost:
                    self.cuts += 1
                    raise EOFError
        except (OSError, EOFError):
            _hang_up(source)
            _hang_up(sink)


def _exactly(source: socket.socket, length: int) -> bytes:
    data = b""
    while len(data) < length:
        more = source.recv(length - len(data))
        if not more:
            raise EOFError
        data += more
    return data


def _with_files(source: socket.socket, length: int) -> tuple[bytes, list[int]]:
    data, files, _, _ = socket.recv_fds(source, length, 4)
    if len(data) < length:
        raise EOFError
    return data, list(files)


def _hang_up(one: socket.socket) -> None:
    with suppress(OSError):
        one.shutdown(socket.SHUT_RDWR)
