"""What can be watched: a video or sound file, or a ROS 2 bag, as the events that a session reads."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

from vispeak_node.stream.events import Event
from vispeak_node.stream.files import probe, read_file
from vispeak_node.stream.items import FrameItem, Item, SoundItem
from vispeak_node.stream.segmenter import Segmenter, SegmenterConfig

_AHEAD = 64  # messages of a bag among which the earliest stamp is its beginning


class Clip:
    """A recording.

    Args:
        path: a file that FFmpeg can read, or a bag: its folder, a .mcap or a .db3 file.

    Raises:
        ValueError: it is missing, damaged, or holds neither pictures nor sound.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._bag = path.is_dir() or path.suffix in (".mcap", ".db3")
        if self._bag:
            from vispeak_node.ros.bag import probe_bag  # noqa: PLC0415 - files need nothing of ROS

            self.duration, self.has_video, self.has_sound = probe_bag(path)  # s
        else:
            info = probe(path)
            self.duration, self.has_video, self.has_sound = info.duration, info.has_video, info.has_sound

    def events(self) -> Iterator[Event]:
        """The events, with stamps in ns from the clip's beginning.

        Raises:
            ValueError: it breaks off.
        """
        segmenter = Segmenter(SegmenterConfig(has_video=self.has_video, has_sound=self.has_sound))
        for item in self._items():
            yield from segmenter.push(item)
        yield from segmenter.flush()

    def _items(self) -> Iterator[Item]:
        if not self._bag:
            yield from read_file(self.path)
            return
        from vispeak_node.ros.bag import read_bag  # noqa: PLC0415 - as above

        items = read_bag(self.path)
        head = list(itertools.islice(items, _AHEAD))
        begin = min((item.stamp for item in head), default=0)
        for item in itertools.chain(head, items):
            if isinstance(item, FrameItem | SoundItem) and item.stamp >= begin:
                yield replace(item, stamp=item.stamp - begin)
