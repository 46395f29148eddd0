"""Stop, warn and greet with py_trees_ros: the tree of `vispeak tree`, in a ROS 2 installation with vispeak_msgs."""

import operator
import sys

import py_trees
import py_trees_ros
import rclpy
from py_trees.common import Access, Status
from rclpy.qos import DurabilityPolicy, QoSProfile
from std_msgs.msg import Bool
from vispeak_msgs.msg import Anomaly, Gesture

LATCHED = QoSProfile(depth=1, durability=DurabilityPolicy.TRANSIENT_LOCAL)
RELIABLE = QoSProfile(depth=10)


class Say(py_trees.behaviour.Behaviour):
    """Speaks the field of a new message, if the message passes a test; a robot would call its voice here."""

    def __init__(self, name, key, field, passes):
        super().__init__(name)
        self.key, self.field, self.passes, self.last = key, field, passes, None
        self.board = self.attach_blackboard_client(name)
        self.board.register_key(key, access=Access.READ)

    def update(self):
        message = self.board.get(self.key) if self.board.exists(self.key) else None
        if message is None or message == self.last:
            return Status.FAILURE
        self.last = message
        if not self.passes(message):
            return Status.FAILURE
        self.logger.info(f"{self.name}: {getattr(message, self.field)}")
        return Status.SUCCESS


def to_blackboard(topic, kind, key, qos):
    """A topic's newest message as a blackboard key."""
    return py_trees_ros.subscribers.ToBlackboard(
        name=f"{key} to blackboard",
        topic_name=topic,
        topic_type=kind,
        qos_profile=qos,
        blackboard_variables={key: None},
        clearing_policy=py_trees.common.ClearingPolicy.NEVER,
    )


def create_root():
    """Topics to the blackboard beside the branches: only what is ticked all the time misses no message."""
    root = py_trees.composites.Parallel("vispeak", py_trees.common.ParallelPolicy.SuccessOnAll(synchronise=False))
    topics = py_trees.composites.Parallel("topics", py_trees.common.ParallelPolicy.SuccessOnAll(synchronise=False))
    topics.add_children(
        [
            to_blackboard("/vispeak/anomaly_active", Bool, "anomaly_active", LATCHED),
            to_blackboard("/vispeak/anomaly", Anomaly, "anomaly", RELIABLE),
            to_blackboard("/vispeak/gesture", Gesture, "gesture", RELIABLE),
        ]
    )
    active = py_trees.behaviours.CheckBlackboardVariableValue(
        "anomaly active?", py_trees.common.ComparisonExpression("anomaly_active.data", True, operator.eq)
    )
    stop = py_trees.composites.Sequence("stop", memory=False)
    stop.add_children([active, py_trees.behaviours.Running("hold still")])
    branches = py_trees.composites.Selector("robot", memory=False)
    branches.add_children(
        [
            stop,
            Say("greet", "gesture", "label", lambda message: message.gesture == Gesture.WAVING),
            py_trees.behaviours.Running("idle"),
        ]
    )
    # spoken beside the branches: a base that holds still does not keep the robot from saying why
    warn = py_trees.decorators.FailureIsSuccess(
        "warn meanwhile", Say("warn", "anomaly", "description", lambda message: message.active)
    )
    root.add_children([py_trees.decorators.FailureIsRunning("read", topics), warn, branches])
    return root


def main():
    """Ticks ten times a second until Ctrl-C."""
    rclpy.init()
    tree = py_trees_ros.trees.BehaviourTree(create_root())
    tree.setup(node_name="vispeak_tree", timeout=15.0)
    tree.tick_tock(period_ms=100.0)
    try:
        rclpy.spin(tree.node)
    except KeyboardInterrupt:
        pass
    finally:
        tree.shutdown()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
