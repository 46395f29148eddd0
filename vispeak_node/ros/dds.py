"""Topics over Eclipse Cyclone DDS in ROS 2's own mapping: a plain virtual environment takes part in a ROS graph.

Messages cross as raw CDR. Everything is KEEP_LAST: a reliable KEEP_ALL writer would stop every Python thread while it
waits.
"""

from __future__ import annotations

import functools
import logging
import os
import threading
import time
from collections.abc import Callable, Mapping
from types import TracebackType
from typing import Any, TypeVar

from vispeak_node.ros.discovery import TOPIC, entities
from vispeak_node.ros.idl import raw_type
from vispeak_node.ros.message import Message
from vispeak_node.ros.schema import decode, encode, type_hash
from vispeak_node.ros.standard import ParticipantEntitiesInfo
from vispeak_node.ros.topics import Delivery

logger = logging.getLogger(__name__)

Kind = TypeVar("Kind", bound=Message)
MAX_DOMAIN = 232
_TICK = 0.1  # s between looks at whether to stop
_BATCH = 16  # samples taken at once
_POLICIES = {2: "durability", 4: "deadline", 8: "liveliness", 11: "reliability"}  # by DDS's own numbers


class DdsNode:
    """A participant with topics; close it, or use it as a context.

    Args:
        name: of the node in the graph.
        environment: where ROS_DOMAIN_ID and its like are read; the process's by default.

    Raises:
        ValueError: cyclonedds is missing, a variable makes no sense, or DDS cannot start.
    """

    def __init__(self, name: str, environment: Mapping[str, str] | None = None) -> None:
        environment = os.environ if environment is None else environment
        self.name = name
        self.domain_id = domain_id(environment)
        try:
            from cyclonedds.core import DDSException, Policy, Qos, WaitSet  # noqa: PLC0415 - absent on some machines
            from cyclonedds.domain import DomainParticipant  # noqa: PLC0415
        except ImportError as error:
            raise ValueError(f"the DDS transport needs cyclonedds ({error}): pip install 'cyclonedds>=11'") from error
        _configure(self.domain_id, configuration(environment))
        try:
            self._participant = DomainParticipant(self.domain_id, qos=Qos(Policy.Userdata(b"enclave=/;")))
            self._waitset = WaitSet(self._participant)
        except DDSException as error:
            raise ValueError(f"DDS cannot start on domain {self.domain_id}: {error}") from error
        self._writers: dict[str, Any] = {}
        self._readers: list[tuple[str, Any, Callable[[bytes], None]]] = []
        self._conditions: list[Any] = []
        self._announcer: Any = None
        self._closing = threading.Event()
        self._thread: threading.Thread | None = None

    def advertise(self, topic: str, kind: type[Message], delivery: Delivery = Delivery.RELIABLE) -> None:
        """Makes a topic known before anything is published on it; once is enough."""
        if topic in self._writers:
            return
        from cyclonedds.pub import DataWriter  # noqa: PLC0415

        qos = _quality(kind, delivery)
        self._writers[topic] = DataWriter(self._participant, self._topic(topic, kind, qos), qos=qos)

    def publish(self, topic: str, message: Message) -> None:
        """Sends a message on an advertised topic."""
        self.publish_raw(topic, type(message), encode(message))

    def publish_raw(self, topic: str, kind: type[Message], data: bytes) -> None:
        """Sends the CDR bytes of a message on an advertised topic."""
        self._writers[topic].write(self._struct(kind)(bytes(data)))

    def subscribe(
        self,
        topic: str,
        kind: type[Kind],
        callback: Callable[[Kind], None],
        on_bad: Callable[[str, ValueError], None],
        delivery: Delivery = Delivery.SENSOR,
        partition: str = "",
    ) -> None:
        """Calls back in the reader's thread, for every message; call before `start`.

        Args:
            topic: absolute name.
            kind: its type.
            callback: quick: it holds up the other topics.
            on_bad: told the topic and the reason when bytes are no such message, or when the callback refuses it.
            delivery: what is asked of publishers.
            partition: only publishers in this DDS partition are heard; none is the one in which everybody is.
        """

        def deliver(data: bytes) -> None:
            try:
                callback(decode(kind, data))
            except ValueError as error:
                on_bad(topic, error)

        self.subscribe_raw(topic, kind, deliver, delivery, partition)

    def subscribe_raw(
        self,
        topic: str,
        kind: type[Message],
        callback: Callable[[bytes], None],
        delivery: Delivery,
        partition: str = "",
    ) -> None:
        """Calls back in the reader's thread with every message's bytes; call before `start`."""
        from cyclonedds.core import InstanceState, Policy, Qos, ReadCondition, SampleState, ViewState  # noqa: PLC0415
        from cyclonedds.sub import DataReader, Subscriber  # noqa: PLC0415

        qos = _quality(kind, delivery)
        place = Subscriber(self._participant, Qos(Policy.Partition([partition]))) if partition else self._participant
        reader = DataReader(place, self._topic(topic, kind, qos), qos=qos)
        condition = ReadCondition(reader, SampleState.Any | ViewState.Any | InstanceState.Any)
        self._waitset.attach(condition)
        self._conditions.append(condition)
        self._readers.append((topic, reader, callback))

    def start(self) -> None:
        """Begins to deliver messages, in a thread of its own, and shows the node to the graph."""
        self.announce()
        self._thread = threading.Thread(target=self._read, name=f"{self.name}-dds", daemon=True)
        self._thread.start()

    def announce(self) -> None:
        """Tells the graph which endpoints this node has, so that `ros2 node list` and `info` know it."""
        from cyclonedds.pub import DataWriter  # noqa: PLC0415
        from cyclonedds.topic import Topic  # noqa: PLC0415

        kind = ParticipantEntitiesInfo
        if self._announcer is None:
            qos = _quality(kind, Delivery.LATCHED)
            topic = Topic(self._participant, TOPIC, raw_type(kind), qos=qos)
            self._announcer = DataWriter(self._participant, topic, qos=qos)
        readers = [reader for _, reader, _ in self._readers]
        info = entities(self.name, "/", self._participant, readers, self._writers.values())
        self._announcer.write(raw_type(kind)(encode(info)))

    def num_subscribers(self, topic: str) -> int:
        """Readers that an advertised topic has now."""
        return len(self._writers[topic].get_matched_subscriptions())

    def mismatches(self) -> dict[str, str]:
        """Topics that have met a peer whose quality of service does not fit, and the policy in question."""
        found = {}
        for topic, reader, _ in self._readers:
            found[topic] = reader.get_requested_incompatible_qos_status()
        for topic, writer in self._writers.items():
            found[topic] = writer.get_offered_incompatible_qos_status()
        return {
            topic: _POLICIES.get(status.last_policy_id, f"policy {status.last_policy_id}")
            for topic, status in found.items()
            if status.total_count
        }

    def wait_for_subscribers(self, topic: str, timeout: float) -> bool:
        """Waits, s, until somebody reads an advertised topic."""
        deadline = time.monotonic() + timeout
        while not self.num_subscribers(topic):
            if time.monotonic() > deadline or self._closing.wait(0.02):
                return False
        return True

    def wait_for_acknowledgement(self, topic: str, timeout: float) -> bool:
        """Waits, s, until reliable readers have everything that was published."""
        from cyclonedds.core import DDSException  # noqa: PLC0415
        from cyclonedds.util import duration  # noqa: PLC0415

        try:
            return bool(self._writers[topic].wait_for_acks(duration(seconds=timeout)))
        except DDSException:
            return False  # out of time

    def close(self) -> None:
        """Stops delivering and leaves the graph."""
        self._closing.set()
        if self._thread is not None:
            self._thread.join()
            self._thread = None
        self._readers.clear()
        self._conditions.clear()
        self._writers.clear()

    def __enter__(self) -> DdsNode:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _topic(self, name: str, kind: type[Message], qos: Any) -> Any:
        from cyclonedds.topic import Topic  # noqa: PLC0415

        return Topic(self._participant, mangled(name), self._struct(kind), qos=qos)

    def _struct(self, kind: type[Message]) -> Any:
        """The DDS type of a message."""
        return raw_type(kind)

    def _read(self) -> None:
        while not self._closing.is_set():
            self._waitset.wait(int(_TICK * 1e9))  # does not hold the interpreter's lock
            for _, reader, deliver in self._readers:
                for sample in reader.take(_BATCH):
                    # samples that only announce a writer's end carry no bytes
                    if sample.sample_info.valid_data:
                        deliver(sample.cdr)


@functools.cache
def _configure(domain: int, xml: str) -> Any:
    """A domain is configured once in a process and must outlive every node on it, so it is kept."""
    from cyclonedds.core import DDSException  # noqa: PLC0415
    from cyclonedds.domain import Domain  # noqa: PLC0415

    try:
        return Domain(domain, xml)
    except DDSException as error:
        logger.warning("domain %d keeps the discovery settings that this process entered it with (%s)", domain, error)
        return None


def mangled(topic: str) -> str:
    """A ROS topic's name in DDS.

    Raises:
        ValueError: not an absolute topic name.
    """
    parts = topic.split("/")
    if (
        len(parts) < 2
        or parts[0]
        or not all(p.replace("_", "a").isalnum() and not p[0].isdigit() for p in parts[1:] if p)
    ):
        raise ValueError(f"{topic!r} is not an absolute topic name such as /camera/image_raw")
    if not all(parts[1:]):
        raise ValueError(f"{topic!r} has an empty part")
    return f"rt{topic}"


def domain_id(environment: Mapping[str, str]) -> int:
    """ROS_DOMAIN_ID, 0 if it is not set.

    Raises:
        ValueError: not a domain.
    """
    text = environment.get("ROS_DOMAIN_ID", "") or "0"
    if not text.isdigit() or int(text) > MAX_DOMAIN:
        raise ValueError(f"ROS_DOMAIN_ID must be a number from 0 to {MAX_DOMAIN}, not {text!r}")
    return int(text)


def configuration(environment: Mapping[str, str]) -> str:
    """Cyclone DDS's configuration for what the ROS variables ask; given in code, so that no other process inherits it.

    Raises:
        ValueError: ROS_AUTOMATIC_DISCOVERY_RANGE is unknown.
    """
    reach = environment.get("ROS_AUTOMATIC_DISCOVERY_RANGE", "").upper()
    if environment.get("ROS_LOCALHOST_ONLY") == "1" and not reach:
        reach = "LOCALHOST"
    if reach not in ("", "SUBNET", "LOCALHOST", "OFF", "SYSTEM_DEFAULT"):
        raise ValueError(
            f"ROS_AUTOMATIC_DISCOVERY_RANGE {reach!r} is unknown; use SUBNET, LOCALHOST, OFF or SYSTEM_DEFAULT"
        )
    peers = [peer for peer in environment.get("ROS_STATIC_PEERS", "").split(";") if peer]
    interfaces = ""
    if reach == "LOCALHOST":
        # by itself Cyclone DDS 11 would choose a network card, and then not hear what ROS's nodes send to localhost
        cards = '<NetworkInterface autodetermine="true"/>' if peers else ""
        interfaces = f'<Interfaces>{cards}<NetworkInterface address="127.0.0.1"/></Interfaces>'
        peers.append("localhost")
    multicast = "<AllowMulticast>false</AllowMulticast>" if reach in ("LOCALHOST", "OFF") else ""
    listed = "".join(f'<Peer address="{_attribute(peer)}"/>' for peer in peers)
    index = "<ParticipantIndex>auto</ParticipantIndex><MaxAutoParticipantIndex>32</MaxAutoParticipantIndex>"
    discovery = f"{index if multicast else ''}{f'<Peers>{listed}</Peers>' if listed else ''}"
    return (
        "<CycloneDDS><Domain>"
        f"<General>{interfaces}{multicast}"
        "<MaxMessageSize>65500B</MaxMessageSize><FragmentSize>64000B</FragmentSize></General>"
        f"<Discovery>{discovery}</Discovery>"
        # `max`: the system may grant less; `min` would refuse to start then
        '<Internal><SocketReceiveBufferSize max="16MB"/></Internal>'
        # peers on Fast DDS 3 announce types that this library would reject
        "<Compatibility><IgnoreTypeInformation>1.15</IgnoreTypeInformation></Compatibility>"
        "</Domain></CycloneDDS>"
    )


def _attribute(text: str) -> str:
    if not all(character.isalnum() or character in ".:-_[]%" for character in text):
        raise ValueError(f"ROS_STATIC_PEERS: {text!r} is not an address")
    return text


def _quality(kind: type[Message], delivery: Delivery) -> Any:
    from cyclonedds.core import Policy, Qos  # noqa: PLC0415
    from cyclonedds.util import duration  # noqa: PLC0415

    # nodes warn about endpoints that do not announce their type's hash
    userdata = Policy.Userdata(f"typehash={type_hash(kind)};".encode())
    if delivery is Delivery.SENSOR:
        return Qos(Policy.Reliability.BestEffort, Policy.History.KeepLast(5), Policy.Durability.Volatile, userdata)
    reliable = Policy.Reliability.Reliable(duration(milliseconds=100))
    if delivery is Delivery.LATCHED:
        kept = Policy.DurabilityService(0, Policy.History.KeepLast(1), -1, -1, -1)
        last = Policy.WriterDataLifecycle(autodispose=False)
        return Qos(reliable, Policy.History.KeepLast(1), Policy.Durability.TransientLocal, kept, userdata, last)
    lasting = Policy.WriterDataLifecycle(autodispose=False)
    return Qos(reliable, Policy.History.KeepLast(10), Policy.Durability.Volatile, userdata, lasting)
