"""`vispeak node`: the assistant on a graph, over plain DDS."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import signal
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import Header, State, Time
from vispeak_node.ros.parameters import RosConfig, read_parameters
from vispeak_node.ros.topics import TopicNames, inputs, outputs
from vispeak_node.runtime.config import SessionConfig
from vispeak_node.settings import add_config_flags, config_from_args, default_model_dir

logger = logging.getLogger(__name__)

_LOOK = 5.0  # s until the node says loudly that it receives no frames


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's arguments: the model, then every field of the node's and the session's configuration."""
    parser.add_argument("--model", metavar="DIR", type=Path, help="checkpoint folder (default: the shipped small one)")
    parser.add_argument("--device", default="cpu", help="cpu, cuda, cuda:1, ... (default: cpu)")
    parser.add_argument(
        "--dtype", choices=("float32", "bfloat16", "float16"), help="of the weights (default: float32 on the CPU)"
    )
    parser.add_argument("--weights", choices=("int8", "int4", "fp8"), help="packed on loading (docs/quantisation.md)")
    parser.add_argument(
        "--cameras", metavar="NAMES", default="", help="several cameras, by comma; every topic then begins with /NAME"
    )
    parser.add_argument(
        "--query-partition", metavar="NAME", default="", help="read questions from writers in this DDS partition only"
    )
    parser.add_argument("--params-file", metavar="YAML", type=Path, help="ROS parameter file; flags come before it")
    add_config_flags(parser, TopicNames, suffix="-topic")
    add_config_flags(parser, AssistantConfig)
    add_config_flags(parser, SessionConfig)


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM; then 0."""
    if args.params_file is not None:
        apply_parameters(args, read_parameters(args.params_file))
    config, session_config = config_from_args(AssistantConfig, args), config_from_args(SessionConfig, args)
    names = config_from_args(TopicNames, args, suffix="_topic")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    cameras = RosConfig(cameras=args.cameras).camera_names
    graphs = {camera: under(names, camera) for camera in cameras}
    with DdsNode("vispeak") as node:
        for own in graphs.values():
            for topic in outputs(own, config.bridge_names):
                node.advertise(topic.name, topic.kind, topic.delivery)
            node.publish(own.state, loading())
        assistants = _assistants(args, graphs, config, session_config, node.publish)
        for assistant in assistants:
            connect(node, assistant, args.query_partition)
            assistant.start()
        node.start()
        # whoever started this process waits for the line
        sys.stdout.write(f"ready: {', '.join(own.image for own in graphs.values())} on domain {node.domain_id}\n")
        sys.stdout.flush()
        _serve(node, assistants, stop)
        for assistant in assistants:
            assistant.stop()
            logger.info("replies: %d; refused: %s", assistant.report.replies, dict(assistant.report.refused))
    return 0


def _assistants(
    args: argparse.Namespace,
    graphs: dict[str, TopicNames],
    config: AssistantConfig,
    session_config: SessionConfig,
    publish: Callable[[str, Message], None],
) -> list[Assistant]:
    """One for each camera, by its name and topics; they share the weights."""
    import torch  # noqa: PLC0415 - slow

    from vispeak_node.runtime.loading import load_sessions  # noqa: PLC0415

    folder = args.model or default_model_dir()
    dtype = getattr(torch, args.dtype) if args.dtype else None
    weights, batched = args.weights or "", config.batch_cameras
    sessions = load_sessions(folder, session_config, args.device, dtype, weights, len(graphs), batched)
    facts = {"model": folder.name, "device": args.device, "transport": "dds"}
    return [
        Assistant(session, config, publish, own, facts | ({"camera": camera} if camera else {}))
        for session, (camera, own) in zip(sessions, graphs.items(), strict=True)
    ]


def under(names: TopicNames, camera: str) -> TopicNames:
    """The topics of one of several cameras: all but the diagnostics, which everybody shares, under its name."""
    if not camera:
        return names
    own = {field: f"/{camera}{name}" for field, name in vars(names).items() if field != "diagnostics"}
    return replace(names, **own)


def apply_parameters(args: argparse.Namespace, values: dict[str, Any]) -> None:
    """Takes a parameter file's values for all settings that no flag changed."""
    for part in (AssistantConfig, SessionConfig):
        for field in dataclasses.fields(part):
            if field.name in values and getattr(args, field.name) == field.default:
                setattr(args, field.name, values[field.name])
    args.model = args.model or (Path(values["model"]) if values.get("model") else None)
    args.device = values.get("device", args.device) if args.device == "cpu" else args.device
    args.cameras = args.cameras or values.get("cameras", "")
    args.dtype = args.dtype or values.get("dtype") or None
    args.weights = args.weights or values.get("weights") or None


def loading() -> State:
    """What a node says of itself before it can say anything else."""
    return State(Header(Time(), ""), State.CONSTANTS["LOADING"][1], 0.0, 0.0, 0)


def connect(node: DdsNode, assistant: Assistant, query_partition: str = "") -> None:
    """Subscribes to the node's inputs, to questions in a DDS partition of their own if one is named."""
    config, handlers = assistant.config, assistant.handlers()
    for topic in inputs(assistant.names, config.audio_dialect, config.audio):
        partition = query_partition if topic.name == assistant.names.query else ""
        node.subscribe(topic.name, topic.kind, handlers[topic.name], assistant.on_bad, topic.delivery, partition)


def _serve(node: DdsNode, assistants: list[Assistant], stop: threading.Event) -> None:
    """Waits for the end; says loudly what is missing, and each thing that does not fit once."""
    told: set[str] = set()
    first = True
    while not stop.wait(_LOOK):
        for assistant in assistants if first else []:
            _look(assistant)
        first = False
        for topic, policy in node.mismatches().items():
            if topic not in told:
                logger.warning("%s: somebody there asks for another %s than this node has (QoS)", topic, policy)
                told.add(topic)


def _look(assistant: Assistant) -> None:
    names, received = assistant.names, assistant.report.received
    if not received[names.image] and not received[names.compressed]:
        logger.warning(
            "no frames after %g s on %s or %s: is the camera running, on this ROS_DOMAIN_ID, under this name?",
            _LOOK, names.image, names.compressed,
        )  # fmt: skip
