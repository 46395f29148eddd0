"""`vispeak node`: the assistant on a graph, over plain DDS."""

from __future__ import annotations

import argparse
import logging
import signal
import sys
import threading
from pathlib import Path

from vispeak_node.ros.assistant import Assistant, AssistantConfig
from vispeak_node.ros.dds import DdsNode, Delivery
from vispeak_node.ros.message import Message
from vispeak_node.ros.messages import (
    Attention,
    AudioDataStamped,
    AudioInfo,
    CompressedImage,
    Image,
    Response,
    String,
)
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
    add_config_flags(parser, AssistantConfig)
    add_config_flags(parser, SessionConfig)


def run(args: argparse.Namespace) -> int:
    """Serves until SIGINT or SIGTERM; then 0."""
    import torch  # noqa: PLC0415 - after the arguments are known to be good

    from vispeak_node.runtime.session import load_session  # noqa: PLC0415

    config, session_config = config_from_args(AssistantConfig, args), config_from_args(SessionConfig, args)
    stop = threading.Event()
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda _number, _frame: stop.set())
    dtype = getattr(torch, args.dtype) if args.dtype else None
    session = load_session(args.model or default_model_dir(), session_config, args.device, dtype)
    with DdsNode("vispeak") as node:
        assistant = Assistant(session, config, node.publish)
        connect(node, assistant)
        assistant.start()
        node.start()
        # whoever started this process waits for the line
        sys.stdout.write(f"ready: {config.image_topic} on domain {node.domain_id}\n")
        sys.stdout.flush()
        _serve(assistant, stop)
        assistant.stop()
    logger.info("replies: %d; refused: %s", assistant.report.replies, dict(assistant.report.refused))
    return 0


def connect(node: DdsNode, assistant: Assistant) -> None:
    """Topics in and out."""
    config = assistant.config
    outputs: list[tuple[str, type[Message]]] = [
        (config.response_topic, Response),
        (config.response_text_topic, String),
        (config.attention_topic, Attention),
    ]
    for topic, kind in outputs:
        node.advertise(topic, kind)
    node.subscribe(config.image_topic, Image, assistant.on_image, assistant.on_bad)
    node.subscribe(config.compressed_topic, CompressedImage, assistant.on_compressed, assistant.on_bad)
    node.subscribe(config.query_topic, String, assistant.on_query, assistant.on_bad, Delivery.RELIABLE)
    if config.audio:
        node.subscribe(config.audio_info_topic, AudioInfo, assistant.on_audio_info, assistant.on_bad)
        node.subscribe(config.audio_topic, AudioDataStamped, assistant.on_audio, assistant.on_bad)


def _serve(assistant: Assistant, stop: threading.Event) -> None:
    if stop.wait(_LOOK):
        return
    config = assistant.config
    received = assistant.report.received
    if not received[config.image_topic] and not received[config.compressed_topic]:
        logger.warning(
            "no frames after %g s on %s or %s: is the camera running, on this ROS_DOMAIN_ID, under this name?",
            _LOOK, config.image_topic, config.compressed_topic,
        )  # fmt: skip
    stop.wait()
