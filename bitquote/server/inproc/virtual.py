"""A virtual clock and threads of which exactly one runs at a time: concurrency as a function of a seed."""

from __future__ import annotations

import heapq
import itertools
import random
import threading
from collections.abc import Callable
from typing import Any


class Killed(BaseException):
    """Ends the thread of a task that was killed. No `Exception`, so that the task's own code does not catch it."""


class Task:
    """One thread of a virtual machine, or the one that drives it."""

    def __init__(self, function: Callable[[], Any] | None = None) -> None:
        self.function = function
        self.value: Any = None
        self.error: BaseException | None = None
        self.killed = False
        self.stopped = False
        self.done = False
        self.sleeping = False
        """Between `sleep` and its end: it waits for nobody but time."""
        self.waiting = False
        self.until = 0.0
        """When it wants to be woken at the latest."""
        self.timer: float | None = None
        """When an event will look at that; one at a time, so that waits which end early leave nothing behind."""
        self.baton = threading.Semaphore(0)


class VirtualMachine:
    """Events in virtual time, and tasks that run between them.

    The clock stands still while code runs and jumps from event to event. Events of one moment come in the order that a
    seeded generator draws. A task runs until it waits; then the driver, the thread that made this object, goes on.

    Args:
        seed: of `random`, from which the order of simultaneous events and all else that varies is drawn.
    """

    def __init__(self, seed: int | str = 0) -> None:
        self.now = 0.0
        """Seconds."""
        self.random = random.Random(seed)
        self.driver = Task()
        self.current = self.driver
        self._events: list[tuple[float, float, int, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._driver_baton = threading.Semaphore(0)

    def at(self, time: float, action: Callable[[], object]) -> None:
        """Let `action` happen at virtual `time` (seconds; now, if that is past)."""
        heapq.heappush(self._events, (max(time, self.now), self.random.random(), next(self._numbers), action))

    def after(self, seconds: float, action: Callable[[], object]) -> None:
        """Let `action` happen in so many virtual seconds."""
        self.at(self.now + seconds, action)

    def step(self) -> None:
        """Let the next event happen; IndexError when there is none, as waiting would have no end."""
        self.now, _, _, action = heapq.heappop(self._events)
        action()

    def start(self, name: str, function: Callable[[], Any]) -> Task:
        """A task that begins to run at the present moment of virtual time, when the driver waits or steps."""
        task = Task(function)
        threading.Thread(target=self._body, args=(task,), name=name, daemon=True).start()
        task.waiting = True
        self.after(0.0, lambda: self.wake(task))
        return task

    def wait(self, until: float) -> None:
        """Let others run, to the moment `until` or to when somebody wakes the caller; it may also be sooner."""
        task = self.current
        self.check()
        task.waiting, task.until = True, until
        if task.timer is None or task.timer > until:
            self._set_timer(task)
        if task is self.driver:
            while task.waiting:
                self.step()
            return
        self._driver_baton.release()
        task.baton.acquire()
        self.check()

    def sleep(self, seconds: float) -> None:
        """Let virtual time pass."""
        until = self.now + seconds
        task = self.current
        task.sleeping = True
        try:
            while self.now < until:
                self.wait(until)
        finally:
            task.sleeping = False

    def wake(self, task: Task) -> None:
        """Let a task that waits run on, at once. Driver only."""
        if not task.waiting or task.done:
            return
        if task.stopped and not task.killed:
            return
        task.waiting = False
        if task is not self.driver:
            self._run(task)

    def kill(self, task: Task) -> None:
        """End a task: it raises `Killed` where it waits, and in whatever it calls here from then on. Driver only."""
        task.killed = True
        self.wake(task)

    def stop(self, task: Task) -> None:
        """Freeze a task where it waits."""
        task.stopped = True

    def resume(self, task: Task) -> None:
        """Let a frozen task go on. Driver only."""
        task.stopped = False
        self.wake(task)

    def check(self) -> None:
        """Raise `Killed` in a task that was killed."""
        if self.current.killed:
            raise Killed

    def _set_timer(self, task: Task) -> None:
        task.timer = time = max(task.until, self.now)
        self.at(time, lambda: self._look(task, time))

    def _look(self, task: Task, time: float) -> None:
        """A timer goes off: wake the task if its time has come, else look again when it has."""
        if task.timer != time:
            return  # a shorter wait has set another
        task.timer = None
        if task.waiting and self.now >= task.until:
            self.wake(task)
        elif task.waiting:
            self._set_timer(task)

    def _run(self, task: Task) -> None:
        self.current = task
        task.baton.release()
        self._driver_baton.acquire()
        self.current = self.driver

    def _body(self, task: Task) -> None:
        task.baton.acquire()
        try:
            self.check()
            assert task.function is not None
            task.value = task.function()
        except BaseException as error:
            task.error = error
        finally:
            task.done = True
            self._driver_baton.release()
