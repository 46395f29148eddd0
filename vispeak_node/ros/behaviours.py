"""A behaviour tree that needs the node's topics and nothing else: stop, warn, greet, idle.

    robot (selector: the first branch that applies)
      stop    while an anomaly is active the base holds still; warnings are spoken all the same
      warn    a raised anomaly is announced once
      greet   a wave is greeted once
      idle

The transport's thread puts messages into an `Inbox`; a tick moves them onto the blackboard, where the branches read.
"""

from __future__ import annotations

import logging
from collections import deque
from typing import Protocol

import py_trees
from py_trees.common import Access, Status

from vispeak_node.ros.messages import Anomaly, Bool, Gesture

logger = logging.getLogger(__name__)

NAMESPACE = "vispeak"
WAVING = Gesture.CONSTANTS["WAVING"][1]
_MOST_WARNINGS = 50  # that wait for a tick, or to be spoken
_REMEMBERED = 200  # anomalies that are known to have been announced


class Tell(Protocol):
    """Takes what the robot does: a branch's name, and words."""

    def __call__(self, branch: str, text: str) -> None:
        """Called in the tick that enters the branch."""
        ...


class Inbox:
    """Messages between the transport's thread and the tick; bounded, the newest stay."""

    def __init__(self) -> None:
        self._active: deque[bool] = deque(maxlen=1)
        self._warnings: deque[Anomaly] = deque(maxlen=_MOST_WARNINGS)
        self._greetings: deque[Gesture] = deque(maxlen=1)
        self._board = py_trees.blackboard.Client(name="inbox", namespace=NAMESPACE)
        for key, value in (("active", False), ("warnings", ()), ("greeting", None)):
            self._board.register_key(key, access=Access.WRITE)
            self._board.set(key, value)
        self._known: deque[str] = deque(maxlen=_REMEMBERED)

    def on_active(self, message: Bool) -> None:
        """Whether an anomaly is raised now."""
        self._active.append(message.data)

    def on_anomaly(self, message: Anomaly) -> None:
        """An anomaly is raised or cleared."""
        if message.active:
            if len(self._warnings) == _MOST_WARNINGS:
                logger.warning("an anomaly is dropped: %d wait already", _MOST_WARNINGS)
            self._warnings.append(message)

    def on_gesture(self, message: Gesture) -> None:
        """Somebody made a gesture."""
        if message.gesture == WAVING:
            self._greetings.append(message)

    def to_blackboard(self) -> None:
        """Moves what came since the last tick; call it in the thread that ticks."""
        while self._active:
            self._board.set("active", self._active.popleft())
        while self._warnings:
            self._warn(self._warnings.popleft())
        while self._greetings:
            self._board.set("greeting", self._greetings.popleft())

    def _warn(self, anomaly: Anomaly) -> None:
        """An anomaly is the same as long as its id is; one without an id is new every time."""
        if anomaly.id and anomaly.id in self._known:
            return
        self._known.append(anomaly.id)
        waiting = (*self._board.get("warnings"), anomaly.description or anomaly.category)
        self._board.set("warnings", waiting[-_MOST_WARNINGS:])


class _Behaviour(py_trees.behaviour.Behaviour):
    """A leaf that may read and write the robot's keys."""

    def __init__(self, name: str, tell: Tell) -> None:
        super().__init__(name)
        self.tell = tell
        self.board = self.attach_blackboard_client(name, NAMESPACE)
        for key in ("active", "warnings", "greeting"):
            self.board.register_key(key, access=Access.WRITE)


class AnomalyActive(_Behaviour):
    """Succeeds while an anomaly is raised."""

    def update(self) -> Status:
        """Looks at the blackboard."""
        return Status.SUCCESS if self.board.get("active") else Status.FAILURE


class HoldStill(_Behaviour):
    """Stops the base for as long as it is ticked; whoever waves meanwhile is not greeted afterwards."""

    def initialise(self) -> None:
        """Stops the base."""
        self.tell("stop", "the base holds still")

    def update(self) -> Status:
        """Keeps it stopped."""
        self.board.set("greeting", None)
        return Status.RUNNING


class Warn(_Behaviour):
    """Announces the oldest anomaly that was not announced yet; fails if there is none."""

    def update(self) -> Status:
        """Speaks."""
        warnings = self.board.get("warnings")
        if not warnings:
            return Status.FAILURE
        self.board.set("warnings", warnings[1:])
        self.tell("warn", warnings[0])
        return Status.SUCCESS


class Greet(_Behaviour):
    """Greets whoever waved; fails if nobody did."""

    def update(self) -> Status:
        """Speaks."""
        gesture = self.board.get("greeting")
        if gesture is None:
            return Status.FAILURE
        self.board.set("greeting", None)
        self.tell("greet", gesture.label or "wave")
        return Status.SUCCESS


class Idle(_Behaviour):
    """Does nothing, and can be interrupted by everything."""

    def initialise(self) -> None:
        """Says so."""
        self.tell("idle", "")

    def update(self) -> Status:
        """Waits."""
        return Status.RUNNING


class Robot:
    """The tree and its inbox.

    Args:
        tell: takes what the robot does.
    """

    def __init__(self, tell: Tell) -> None:
        self.inbox = Inbox()
        spoken = py_trees.decorators.FailureIsRunning("warn meanwhile", Warn("warn of it", tell))
        policy = py_trees.common.ParallelPolicy.SuccessOnAll(synchronise=False)
        hold = py_trees.composites.Parallel("hold", policy, [HoldStill("hold still", tell), spoken])
        stop = py_trees.composites.Sequence("stop", False, [AnomalyActive("anomaly active?", tell), hold])
        branches = [stop, Warn("warn", tell), Greet("greet", tell), Idle("idle", tell)]
        self.root = py_trees.composites.Selector("robot", False, branches)
        self._tree = py_trees.trees.BehaviourTree(self.root)

    def tick(self) -> str:
        """Takes what came and acts once; returns the name of the branch that was chosen."""
        self.inbox.to_blackboard()
        self._tree.tick()
        chosen = self.root.current_child
        return chosen.name if chosen is not None else ""
