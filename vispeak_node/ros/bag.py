"""ROS 2 bags (MCAP or sqlite3) without ROS: read, written, and read as a camera and a microphone."""

from __future__ import annotations

import contextlib
import functools
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rosbags.interfaces import (
    Connection,
    MessageDefinitionFormat,
    Qos,
    QosDurability,
    QosHistory,
    QosLiveliness,
    QosReliability,
    QosTime,
)
from rosbags.rosbag2 import Reader, StoragePlugin, Writer
from rosbags.rosbag2.errors import WriterError

from vispeak_node.ros.images import decompress, to_rgb
from vispeak_node.ros.message import Message
from vispeak_node.ros.raw import definition_of, kind_of
from vispeak_node.ros.schema import decode
from vispeak_node.ros.sound import check_info, from_arrays, to_samples
from vispeak_node.ros.standard import AudioDataStamped, AudioInfo, AudioStamped, CompressedImage, Image
from vispeak_node.ros.topics import TopicNames
from vispeak_node.stream.items import FrameItem, Item, SoundItem

logger = logging.getLogger(__name__)

_PICTURES = (Image, CompressedImage)
_SOUNDS = (AudioDataStamped, AudioStamped)
_FOREVER = QosTime(2147483647, 4294967295)
_LATCHED = Qos(
    QosHistory.KEEP_LAST, 1, QosReliability.RELIABLE, QosDurability.TRANSIENT_LOCAL, _FOREVER, _FOREVER,
    QosLiveliness.AUTOMATIC, _FOREVER, False,
)  # fmt: skip


@dataclass(frozen=True)
class BagTopic:
    """One topic of a bag."""

    name: str
    type_name: str
    count: int
    latched: bool
    connection: Connection

    def kind(self) -> type[Message]:
        """Its message type.

        Raises:
            ValueError: neither the bag nor this package defines it.
        """
        definition = self.connection.msgdef
        text = "" if definition.format == MessageDefinitionFormat.NONE else definition.data
        try:
            return kind_of(self.type_name, text, definition.format == MessageDefinitionFormat.IDL)
        except ValueError as error:
            raise ValueError(f"topic {self.name}: {error}") from error


class BagReader:
    """A bag: its folder, or one .mcap or .db3 file. Close it, or use it as a context.

    Raises:
        ValueError: it is missing, no bag, or damaged.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = _bag_path(Path(path))
        try:
            self._reader = Reader(self.path)
            self._reader.open()
        except Exception as error:
            raise self._damaged(error) from error
        self.topics = [_topic(connection) for connection in self._reader.connections]
        self.duration = max(0, self._reader.duration)  # ns
        self.count = self._reader.message_count

    def select(self, names: Iterable[str] = ()) -> list[BagTopic]:
        """Topics by their names; all of them if there are none.

        Raises:
            ValueError: a name is no topic of the bag.
        """
        names = list(names)
        for name in names:
            if all(name != topic.name for topic in self.topics):
                have = ", ".join(sorted(topic.name for topic in self.topics)) or "none"
                raise ValueError(f"{self.path}: no topic {name}; it has {have}")
        return [topic for topic in self.topics if not names or topic.name in names]

    def messages(self, topics: Iterable[BagTopic]) -> Iterator[tuple[BagTopic, int, bytes]]:
        """Topic, time of recording in ns and CDR bytes, in the order of recording.

        Raises:
            ValueError: the bag breaks off.
        """
        chosen = {(topic.name, topic.type_name): topic for topic in topics}
        if not chosen:
            return
        found = self._reader.messages([topic.connection for topic in chosen.values()])
        while True:
            try:
                connection, stamp, data = next(found)
            except StopIteration:
                return
            except Exception as error:
                raise self._damaged(error) from error
            yield chosen[connection.topic, connection.msgtype], stamp, bytes(data)

    def close(self) -> None:
        """Closes the files."""
        self._reader.close()

    def __enter__(self) -> BagReader:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()

    def _damaged(self, error: Exception) -> ValueError:
        reason = str(error).splitlines()[0][:160] if str(error) else type(error).__name__
        return ValueError(f"{self.path}: not a ROS 2 bag that can be read ({reason})")


class BagWriter:
    """A new bag in MCAP. Close it, or use it as a context: a bag that is not closed has no index.

    Raises:
        ValueError: it exists already, or cannot be written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self.count = 0
        self._connections: dict[str, Connection] = {}
        try:
            self._writer = Writer(self.path, version=9, storage_plugin=StoragePlugin.MCAP)
            self._writer.open()
        except (WriterError, OSError) as error:
            raise ValueError(f"{self.path}: cannot be written ({error})") from error

    def add(self, topic: str, kind: type[Message], latched: bool = False) -> None:
        """Makes a topic known; once before it is written. A latched one is played as such."""
        text, digest = definition_of(kind)
        self._connections[topic] = self._writer.add_connection(
            topic, kind.NAME, msgdef=text, rihs01=digest, offered_qos_profiles=[_LATCHED] if latched else []
        )

    def write(self, topic: str, stamp: int, data: bytes) -> None:
        """Adds the CDR bytes of a message.

        Raises:
            ValueError: the disk refuses them.
        """
        try:
            self._writer.write(self._connections[topic], stamp, data)
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be written ({error})") from error
        self.count += 1

    def close(self) -> None:
        """Writes the index."""
        try:
            self._writer.close()
        except OSError as error:
            raise ValueError(f"{self.path}: cannot be written ({error})") from error

    def __enter__(self) -> BagWriter:
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        self.close()


def read_bag(
    path: str | Path,
    image_topic: str = TopicNames.image,
    audio_topic: str | None = TopicNames.audio,
    audio_info_topic: str = TopicNames.audio_info,
) -> Iterator[Item]:
    """A bag's pictures and sound as items; stamps are those of the headers, or of the recording where they are zero.

    Args:
        path: a bag's folder or file.
        image_topic: its pictures; if the bag has only its `/compressed` topic, these.
        audio_topic: its sound; None, or a topic that the bag does not have, is silence.
        audio_info_topic: what the bytes of sound mean.

    Raises:
        ValueError: it is no bag, it breaks off, or it has neither pictures nor sound under these names.
    """
    with BagReader(path) as bag:
        chosen = _chosen(bag, image_topic, audio_topic)
        info = _sound_info(bag, next((topic for topic in bag.topics if topic.name == audio_info_topic), None))
        refused = 0
        for topic, stamp, data in bag.messages(chosen):
            try:
                yield _item(decode(topic.kind(), data), stamp, info)
            except ValueError as error:
                refused += 1
                logger.debug("%s: %s", topic.name, error)
        if refused:
            logger.warning("%s: %d messages cannot be used and were left out", bag.path, refused)


def probe_bag(
    path: str | Path, image_topic: str = TopicNames.image, audio_topic: str | None = TopicNames.audio
) -> tuple[float, bool, bool]:
    """A bag's duration in s, and whether it has pictures and sound under these names.

    Raises:
        ValueError: as `read_bag`.
    """
    with BagReader(path) as bag:
        kinds = [topic.kind() for topic in _chosen(bag, image_topic, audio_topic) if topic.count]
        return bag.duration * 1e-9, any(k in _PICTURES for k in kinds), any(k in _SOUNDS for k in kinds)


def _chosen(bag: BagReader, image_topic: str, audio_topic: str | None) -> list[BagTopic]:
    topics = {topic.name: topic for topic in bag.topics}
    compressed = f"{image_topic}/compressed"
    names = [image_topic if image_topic in topics or compressed not in topics else compressed, audio_topic]
    chosen = [topics[name] for name in names if name in topics]
    if not chosen:
        raise ValueError(f"{bag.path}: neither {image_topic} nor {audio_topic}; it has {', '.join(sorted(topics))}")
    for topic in chosen:
        if topic.kind() not in (*_PICTURES, *_SOUNDS):
            raise ValueError(f"{bag.path}: {topic.name} is {topic.type_name}, neither pictures nor sound")
    return chosen


def _item(message: Any, recorded: int, info: AudioInfo | None) -> Item:
    stamp = message.header.stamp.ns or recorded
    if isinstance(message, Image):
        return FrameItem(stamp, functools.partial(to_rgb, message))
    if isinstance(message, CompressedImage):
        return FrameItem(stamp, functools.partial(decompress, message))
    if isinstance(message, AudioStamped):
        samples, rate = from_arrays(message)
        return SoundItem(stamp, samples, rate)
    if info is None:
        raise ValueError("nothing in the bag says what the bytes of sound mean")
    return SoundItem(stamp, to_samples(message, info), info.sample_rate)


def _sound_info(bag: BagReader, topic: BagTopic | None) -> AudioInfo | None:
    """The first usable one, wherever it is: a recording may begin between two of them."""
    if topic is None or topic.kind() is not AudioInfo:
        return None
    for _, _, data in bag.messages([topic]):
        with contextlib.suppress(ValueError):
            info = decode(AudioInfo, data)
            check_info(info)
            return info
    return None


def _topic(connection: Connection) -> BagTopic:
    profiles = getattr(connection.ext, "offered_qos_profiles", ())
    latched = any(profile.durability == QosDurability.TRANSIENT_LOCAL for profile in profiles)
    return BagTopic(connection.topic, connection.msgtype, connection.msgcount, latched, connection)


def _bag_path(path: Path) -> Path:
    if not path.exists():
        raise ValueError(f"{path}: no such file or folder")
    if path.is_dir() and not (path / "metadata.yaml").is_file():
        # a recorder that was killed leaves its data without the description
        files = sorted(file for ending in ("*.mcap", "*.db3") for file in path.glob(ending))
        if len(files) != 1:
            raise ValueError(f"{path}: not a bag (no metadata.yaml in it)")
        return files[0]
    if path.is_file() and path.suffix not in (".mcap", ".db3"):
        raise ValueError(f"{path}: not a bag; a bag is a folder, a .mcap or a .db3 file")
    if path.is_file() and not path.stat().st_size:
        raise ValueError(f"{path}: the file is empty")
    return path
