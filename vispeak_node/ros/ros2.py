"""The assistant as a managed ROS 2 node (rclpy): `ros2 run vispeak_node vispeak_node`.

Messages cross as serialized bytes, in and out, and the same codec as over plain DDS reads and writes them: rclpy would
turn every picture into Python objects. Only API that Humble and Jazzy share is used.
"""

from __future__ import annotations

import gc
import importlib
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import rclpy
from action_msgs.msg import GoalStatus
from rcl_interfaces.msg import FloatingPointRange, IntegerRange, ParameterDescriptor, SetParametersResult
from rclpy.action import ActionServer, CancelResponse, GoalResponse
from rclpy.executors import ExternalShutdownException, SingleThreadedExecutor
from rclpy.lifecycle import LifecycleNode, TransitionCallbackReturn
from rclpy.qos import HistoryPolicy, QoSProfile, ReliabilityPolicy
from rclpy.qos_overriding_options import QoSOverridingOptions
from rclpy.task import Future
from std_srvs.srv import SetBool, Trigger

from vispeak_node.ros.asking import Question
from vispeak_node.ros.assistant import Assistant
from vispeak_node.ros.bindings import output_qos, prefixed, ros_type, taker, task
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import Header, State, Time
from vispeak_node.ros.parameters import configs, parameters
from vispeak_node.ros.schema import encode
from vispeak_node.ros.topics import RELATIVE, Delivery, Topic, TopicNames, inputs, outputs
from vispeak_node.settings import default_model_dir

_LOOK = 5.0  # s between looks at whether anything comes in
_SUCCESS, _FAILURE = TransitionCallbackReturn.SUCCESS, TransitionCallbackReturn.FAILURE


class VispeakNode(LifecycleNode):
    """Configure loads the model, activate watches, deactivate frees the GPU, cleanup forgets the model."""

    def __init__(self, **options: Any) -> None:
        super().__init__("vispeak", **options)
        self._declare()
        self.add_on_set_parameters_callback(self._check_parameters)
        self._model: Any = None  # weights, shared by all cameras
        self._vocabulary: Any = None
        self._sessions: list[Any] = []
        self._assistants: list[Assistant] = []
        self._inputs: list[Any] = []  # subscriptions
        self._writers: dict[str, Any] = {}
        self._latched: dict[str, Any] = {}  # publishers that speak in every state
        self._look_timer: Any = None
        self._updater: Any = None  # of diagnostic_updater, where that is installed
        self._ros, self._assistant_config, self._session_config = configs(self._values())
        self.create_service(SetBool, "~/enable", self._on_enable)
        self.create_service(Trigger, "~/reset", self._on_reset)
        self._action = self._ask_server()

    def on_configure(self, state: Any) -> TransitionCallbackReturn:
        """Loads the model and makes the topics known."""
        try:
            self._ros, self._assistant_config, self._session_config = configs(self._values())
            self._advertise()
            self._tell_state("LOADING")
            self._load()
        except ValueError as error:
            self.get_logger().error(str(error))
            self._forget()
            return _FAILURE
        return super().on_configure(state)

    def on_activate(self, state: Any) -> TransitionCallbackReturn:
        """Moves the model to its device, and begins to watch."""
        from vispeak_node.runtime.loading import open_sessions  # noqa: PLC0415 - torch is slow to import

        try:
            self._model.to(self._ros.device)
            count, batched = len(self._ros.camera_names), self._assistant_config.batch_cameras
            self._sessions = open_sessions(
                self._model, self._vocabulary, self._folder(), self._session_config, count, batched
            )
        except (ValueError, RuntimeError) as error:
            self.get_logger().error(str(error).splitlines()[0])
            return _FAILURE
        result = super().on_activate(state)  # publishers speak from here on
        facts = {"model": self._folder().name, "device": self._ros.device, "transport": "rclpy"}
        for camera, session in zip(self._ros.camera_names, self._sessions, strict=True):
            own = facts | ({"camera": camera} if camera else {})
            assistant = Assistant(session, self._assistant_config, self._publish, prefixed(camera), own)
            assistant.start()
            self._assistants.append(assistant)
            self._subscribe(assistant)
        self._look_timer = self.create_timer(_LOOK, self._look)
        self._diagnose()
        return result

    def on_deactivate(self, state: Any) -> TransitionCallbackReturn:
        """Stops watching; the weights leave the GPU."""
        self._rest()
        self._tell_state("IDLE")
        return super().on_deactivate(state)

    def on_cleanup(self, state: Any) -> TransitionCallbackReturn:
        """Forgets the model."""
        self._forget()
        return super().on_cleanup(state)

    def on_shutdown(self, state: Any) -> TransitionCallbackReturn:
        """Ends from any state."""
        self._rest()
        self._forget()
        return super().on_shutdown(state)

    def on_error(self, state: Any) -> TransitionCallbackReturn:
        """After a failed transition: back to the beginning, from where the node can be configured again."""
        self.get_logger().error("a transition failed; the node is unconfigured now")
        self._rest()
        self._forget()
        return _SUCCESS

    def _declare(self) -> None:
        for parameter in parameters():
            descriptor = ParameterDescriptor(
                description=parameter.description, read_only=parameter.changeable == "never"
            )
            if parameter.least is not None and isinstance(parameter.default, float):
                descriptor.floating_point_range = [FloatingPointRange(from_value=parameter.least, to_value=1e6)]
            elif parameter.least is not None:
                descriptor.integer_range = [IntegerRange(from_value=int(parameter.least), to_value=2**31 - 1)]
            self.declare_parameter(parameter.name, parameter.default, descriptor)

    def _values(self) -> dict[str, Any]:
        return {parameter.name: self.get_parameter(parameter.name).value for parameter in parameters()}

    def _check_parameters(self, changes: list[Any]) -> SetParametersResult:
        known = {parameter.name: parameter for parameter in parameters()}
        wanted = {change.name: change.value for change in changes if change.name in known}
        fixed = [name for name in wanted if known[name].changeable != "always"] if self._model is not None else []
        if fixed:
            return SetParametersResult(successful=False, reason=f"{fixed[0]} can be changed while unconfigured only")
        try:
            configs(self._values() | wanted)
            for session in self._sessions:
                session.configure(**wanted)
        except ValueError as error:
            return SetParametersResult(successful=False, reason=str(error))
        if self._model is not None:
            self._session_config = replace(self._session_config, **wanted)
        return SetParametersResult(successful=True)

    def _folder(self) -> Path:
        return Path(self._ros.model) if self._ros.model else default_model_dir()

    def _load(self) -> None:
        import torch  # noqa: PLC0415

        from vispeak_node.runtime.loading import load_session  # noqa: PLC0415

        dtype = getattr(torch, self._ros.dtype) if self._ros.dtype else None
        session = load_session(self._folder(), self._session_config, self._ros.device, dtype, self._ros.weights)
        self._model, self._vocabulary = session.model, session.vocabulary
        self.get_logger().info(f"loaded {self._folder()} on {self._ros.device}")

    def _advertise(self) -> None:
        for camera in self._ros.camera_names:
            for topic in outputs(prefixed(camera), self._assistant_config.bridge_names):
                kind, qos = ros_type(topic.kind), output_qos(topic)
                # the state is told in every state, the rest only by an active node
                if topic.delivery is Delivery.LATCHED or topic.name == RELATIVE.diagnostics:
                    self._latched[topic.name] = self.create_publisher(kind, topic.name, qos)
                else:
                    self._writers[topic.name] = self.create_lifecycle_publisher(kind, topic.name, qos)

    def _subscribe(self, assistant: Assistant) -> None:
        config, handlers = assistant.config, assistant.handlers()
        switches = (assistant.names.enable, assistant.names.reset)  # services here
        for topic in inputs(assistant.names, config.audio_dialect, config.audio):
            if topic.name not in switches:
                take = taker(topic, handlers[topic.name], assistant)
                options = QoSOverridingOptions.with_default_policies()
                self._inputs.append(
                    self.create_subscription(
                        ros_type(topic.kind), topic.name, take, self._input_qos(assistant.names, topic),
                        qos_overriding_options=options, raw=True,
                    )
                )  # fmt: skip

    def _input_qos(self, names: TopicNames, topic: Topic) -> QoSProfile:
        if topic.delivery is not Delivery.SENSOR:
            return QoSProfile(depth=10)
        sound = topic.name in (names.audio, names.audio_info)
        name = self._ros.audio_qos if sound else self._ros.image_qos
        depth = self._ros.audio_depth if sound else self._ros.image_depth
        best = ReliabilityPolicy.BEST_EFFORT if name == "SENSOR_DATA" else ReliabilityPolicy.RELIABLE
        return QoSProfile(depth=depth, reliability=best, history=HistoryPolicy.KEEP_LAST)

    def _publish(self, topic: str, message: Message) -> None:
        if self._updater is not None and topic == RELATIVE.diagnostics:
            return
        writer = self._writers.get(topic) or self._latched.get(topic)
        if writer is not None and rclpy.ok():
            writer.publish(encode(message))

    def _diagnose(self) -> None:
        """Hands the assistants' health to diagnostic_updater; where it is not installed they tell it themselves."""
        try:
            from diagnostic_updater import Updater  # noqa: PLC0415 - an optional package
        except ImportError:
            return
        if self._updater is None:
            self._updater = Updater(self)
            self._updater.setHardwareID(self._ros.device)
        for camera, assistant in zip(self._ros.camera_names, self._assistants, strict=True):
            name = f"assistant {camera}".strip()
            self._updater.removeByName(name)
            self._updater.add(name, task(assistant))

    def _tell_state(self, state: str) -> None:
        message = State(Header(Time(), ""), State.CONSTANTS[state][1], 0.0, 0.0, 0)
        for camera in self._ros.camera_names:
            self._publish(prefixed(camera).state, message)

    def _look(self) -> None:
        """Says loudly what is missing: no frames is the commonest trouble."""
        for assistant in self._assistants:
            names, received = assistant.names, assistant.report.received
            if received[names.image] or received[names.compressed]:
                continue
            image, compressed = (self.resolve_topic_name(name) for name in (names.image, names.compressed))
            count = self.count_publishers(image) + self.count_publishers(compressed)
            why = (
                "nobody publishes there" if not count else "there are publishers: is their QoS compatible (image_qos)?"
            )
            self.get_logger().warning(f"no frames on {image} or {compressed}: {why}")

    def _on_enable(self, request: Any, response: Any) -> Any:
        for assistant in self._assistants:
            assistant.enabled = request.data
        response.success = bool(self._assistants)
        response.message = ("on" if request.data else "off") if self._assistants else "the node is not active"
        return response

    def _on_reset(self, _request: Any, response: Any) -> Any:
        for assistant in self._assistants:
            assistant.reset()
        response.success = bool(self._assistants)
        response.message = "forgotten" if self._assistants else "the node is not active"
        return response

    def _ask_server(self) -> ActionServer:
        kind = importlib.import_module("vispeak_msgs.action").Ask
        accept = lambda _goal: GoalResponse.ACCEPT if self._assistants else GoalResponse.REJECT  # noqa: E731
        return ActionServer(
            self, kind, "~/ask", self._answer, goal_callback=accept, cancel_callback=lambda _: CancelResponse.ACCEPT
        )

    async def _answer(self, goal: Any) -> Any:
        """One goal of the action: the question goes to the first camera's assistant."""
        kind = importlib.import_module("vispeak_msgs.action").Ask
        done = Future()
        feedback = lambda text: goal.publish_feedback(kind.Feedback(delta=text))  # noqa: E731
        question = Question(goal.request.text, feedback, lambda reply: done.done() or done.set_result(reply))
        assistant = self._assistants[0]
        timeout = self.create_timer(self._session_config.answer_timeout, lambda: done.done() or done.set_result(None))
        watch = self.create_timer(0.1, lambda: goal.is_cancel_requested and not done.done() and done.set_result(None))
        try:
            assistant.ask(question)
            reply = await done
        except ValueError as error:
            goal.abort()
            return kind.Result(text=str(error))
        finally:
            assistant.withdraw(question)
            for timer in (timeout, watch):
                self.destroy_timer(timer)
        if reply is None:
            goal.canceled() if goal.is_cancel_requested else goal.abort()
            return kind.Result(text="" if goal.status == GoalStatus.STATUS_CANCELED else "no answer came")
        goal.succeed()
        return kind.Result(text=reply.text, interrupted=reply.interrupted, reply_id=str(reply.reply_id))

    def _rest(self) -> None:
        for subscription in self._inputs:
            self.destroy_subscription(subscription)
        self._inputs.clear()
        if self._look_timer is not None:
            self.destroy_timer(self._look_timer)
            self._look_timer = None
        for camera in self._ros.camera_names if self._updater is not None else []:
            self._updater.removeByName(f"assistant {camera}".strip())
        for assistant in self._assistants:
            assistant.stop()
        self._assistants.clear()
        self._sessions.clear()
        if self._model is not None:
            self._model.to("cpu")
            _free()

    def _forget(self) -> None:
        self._model = self._vocabulary = None
        for writer in [*self._writers.values(), *self._latched.values()]:
            self.destroy_publisher(writer)
        self._writers.clear()
        self._latched.clear()
        _free()


def _free() -> None:
    gc.collect()
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        torch.cuda.empty_cache()


def main(args: list[str] | None = None) -> int:
    """Serves until it is interrupted."""
    rclpy.init(args=args)
    node = VispeakNode()
    executor = SingleThreadedExecutor()
    executor.add_node(node)
    try:
        if node.get_parameter("autostart").value:
            ready = node.trigger_configure() == _SUCCESS and node.trigger_activate() == _SUCCESS
            if not ready:
                return 1
        executor.spin()
    except (KeyboardInterrupt, ExternalShutdownException):
        pass
    finally:
        node._rest()
        node.destroy_node()
        rclpy.try_shutdown()
    return 0


if __name__ == "__main__":
    sys.exit(main())
