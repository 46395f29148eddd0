"""`vispeak node`: the assistant on a graph, over plain DDS."""

from __future__ import annotations

import argparse
import dataclasses
import logging
import signal
import sys
import threading
from pathlib import Path
from typing import Any

from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.dds import DdsNode
from vispeak_node.ros.messages import Header, State, Time
from vispeak_node.ros.parameters import read_parameters
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
    parser.add_argument("--params-file", metavar="YAML", type=Path, help="ROS parameter file; flags come before it")
    add_config_flags(parser, TopicNames, suffix="-topic")
    add_config_flags(parser, AssistantConfig)
    add_config_flags(parser, SessionConfig)


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM; then 0."""
    import torch  # noqa: PLC0415 - after the arguments are known to be good

    from vispeak_node.runtime.session import load_session  # noqa: PLC0415

    if args.params_file is not None:
        apply_parameters(args, read_parameters(args.params_file))
    config, session_config = config_from_args(AssistantConfig, args), config_from_args(SessionConfig, args)
    names = config_from_args(TopicNames, args, suffix="_topic")
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    dtype = getattr(torch, args.dtype) if args.dtype else None
    folder = args.model or default_model_dir()
    with DdsNode("vispeak") as node:
        for topic in outputs(names, config.bridge_names):
            node.advertise(topic.name, topic.kind, topic.delivery)
        node.publish(names.state, loading())
        session = load_session(folder, session_config, args.device, dtype)
        facts = {"model": folder.name, "device": args.device, "transport": "dds"}
        assistant = Assistant(session, config, node.publish, names, facts)
        connect(node, assistant)
        assistant.start()
        node.start()
        # whoever started this process waits for the line
        sys.stdout.write(f"ready: {names.image} on domain {node.domain_id}\n")
        sys.stdout.flush()
        _serve(assistant, stop)
        assistant.stop()
    logger.info("replies: %d; refused: %s", assistant.report.replies, dict(assistant.report.refused))
    return 0


def apply_parameters(args: argparse.Namespace, values: dict[str, Any]) -> None:
    """Takes a parameter file's values for all settings that no flag changed."""
    for part in (AssistantConfig, SessionConfig):
        for field in dataclasses.fields(part):
            if field.name in values and getattr(args, field.name) == field.default:
                setattr(args, field.name, values[field.name])
    args.model = args.model or (Path(values["model"]) if values.get("model") else None)
    args.device = values.get("device", args.device) if args.device == "cpu" else args.device
    args.dtype = args.dtype or values.get("dtype") or None


def loading() -> State:
    """What a node says of itself before it can say anything else."""
    return State(Header(Time(), ""), State.CONSTANTS["LOADING"][1], 0.0, 0.0, 0)


def connect(node: DdsNode, assistant: Assistant) -> None:
    """Subscribes to the node's inputs."""
    config, handlers = assistant.config, assistant.handlers()
    for topic in inputs(assistant.names, config.audio_dialect, config.audio):
        node.subscribe(topic.name, topic.kind, handlers[topic.name], assistant.on_bad, topic.delivery)


def _serve(assistant: Assistant, stop: threading.Event) -> None:
    if stop.wait(_LOOK):
        return
    names, received = assistant.names, assistant.report.received
    if not received[names.image] and not received[names.compressed]:
        logger.warning(
            "no frames after %g s on %s or %s: is the camera running, on this ROS_DOMAIN_ID, under this name?",
            _LOOK, names.image, names.compressed,
        )  # fmt: skip
    stop.wait()
