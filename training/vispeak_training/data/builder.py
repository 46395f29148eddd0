"""From a record to a sample: media are read, streams built, and both checked against each other."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vispeak_node.model.config import ModelConfig
from vispeak_node.model.fbank import SAMPLE_RATE
from vispeak_node.model.preprocess import resize, tile_image
from vispeak_node.model.tokens import Vocabulary
from vispeak_training.data.layout import Layout, Streams
from vispeak_training.data.media import VideoFile, read_image, read_sound
from vispeak_training.data.offline import MediaCounts, build_offline
from vispeak_training.data.options import BuildOptions
from vispeak_training.data.record import AUDIO_PROACTIVE, OFFLINE, STREAMING, Record
from vispeak_training.data.sample import AUDIO, IMAGE, LABELS, MEDIA, OVERLONG, VIDEO_AUDIO, Sample, SampleError
from vispeak_training.data.sampling import clip_range, frame_numbers, frame_times, sample_at, sounds_per_frame
from vispeak_training.data.timed import build_audio_proactive, build_streaming

Pictures = list[NDArray[np.uint8]]  # each [S, S, 3]
Seconds = list[NDArray[np.float32]]  # each [16000]


@dataclass(frozen=True)
class Clip:
    """What is taken of a video."""

    times: list[float] = field(default_factory=list)  # s, of every frame
    pictures: Pictures = field(default_factory=list)  # of every frame
    counts: list[int] = field(default_factory=list)  # seconds of sound that each frame brings
    sounds: Seconds = field(default_factory=list)


class SampleBuilder:
    """Builds samples for one model.

    Args:
        vocabulary: of the model.
        config: of the model.
        options: how.
    """

    def __init__(self, vocabulary: Vocabulary, config: ModelConfig, options: BuildOptions) -> None:
        self._config, self._options = config, options
        self.layout = Layout(
            vocabulary, config.tokens_per_image, config.tokens_per_second, config.event_labels, options.quirks
        )

    def build(self, record: Record) -> Sample:
        """One sample.

        Raises:
            SampleError: a file is missing or cannot be decoded, labels are malformed, or it is too long.
        """
        if record.kind == OFFLINE:
            return self._offline(record)
        clip = self._clip(record, voices=record.kind == STREAMING or record.use_audio)
        build = {STREAMING: build_streaming, AUDIO_PROACTIVE: build_audio_proactive}[record.kind]
        return self._join(build(record, clip.times, clip.counts, self.layout), clip.pictures, clip.sounds, record)

    def _offline(self, record: Record) -> Sample:
        stills = [self._tiles(read_image(path)) for path in record.images]
        recordings = [self._whole_seconds(record, index) for index in range(len(record.sounds))]
        clip = self._clip(record, voices=True) if record.video is not None else Clip()
        counts = MediaCounts([len(tiles) for tiles in stills], [len(part) for part in recordings], clip.counts)
        streams = build_offline(record, counts, self.layout)
        pictures: Pictures = []
        sounds: Seconds = []
        for kind, index in streams.order:
            pictures += stills[index] if kind == "image" else clip.pictures if kind == "video" else []
            sounds += recordings[index] if kind == "audio" else clip.sounds if kind == "video" else []
        return self._join(streams, pictures, sounds, record)

    def _tiles(self, image: NDArray[np.uint8]) -> Pictures:
        if self._options.tiles:
            return tile_image(image, self._config.vision.image_size)
        return [self._shrink(image)]

    def _shrink(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        try:
            return resize(image, self._config.vision.image_size, self._config.image_aspect_ratio)
        except ValueError as error:
            raise SampleError(MEDIA, str(error)) from error

    def _whole_seconds(self, record: Record, index: int) -> Seconds:
        """A sound file, padded with silence to whole seconds."""
        path = record.sounds[index]
        samples = read_sound(path, self._options.quirks.first_channel)
        count = -(-len(samples) // SAMPLE_RATE)
        if not 1 <= count <= self._options.max_sound_file:
            raise SampleError(MEDIA, f"{path}: {count} s of sound; 1 to {self._options.max_sound_file} can be read")
        padded = np.pad(samples, (0, count * SAMPLE_RATE - len(samples)))
        return list(padded.reshape(count, SAMPLE_RATE))

    def _clip(self, record: Record, voices: bool) -> Clip:
        """The frames of a record's video, and the seconds of sound that go with them."""
        assert record.video is not None
        options = self._options
        video = VideoFile(record.video)
        start, end = clip_range(record.start, record.end, options.quirks.whole_seconds)
        numbers = frame_numbers(video.times, video.rate, start, end, options)
        times = frame_times(video.times, video.rate, numbers, options.quirks.constant_rate)
        pictures = {number: self._shrink(picture) for number, picture in video.frames(numbers.tolist())}
        track = self._track(record) if voices else np.zeros(0, np.float32)
        counts = sounds_per_frame(times, len(track), options)
        sounds = []
        for time, count in zip(times, counts, strict=True):
            first = sample_at(time)
            sounds += list(track[first : first + count * SAMPLE_RATE].reshape(count, SAMPLE_RATE))
        return Clip(times, [pictures[int(number)] for number in numbers], counts, sounds)

    def _track(self, record: Record) -> NDArray[np.float32]:
        assert record.video is not None
        try:
            return read_sound(record.video)
        except SampleError:
            if self._options.quirks.silent_damage:
                return np.zeros(0, np.float32)
            raise

    def _join(self, streams: Streams, pictures: Pictures, sounds: Seconds, record: Record) -> Sample:
        length, most = len(streams.user), self._options.max_length
        if length > most:
            raise SampleError(OVERLONG, f"{length} positions, more than {most}", length)
        self._check_runs(streams, len(pictures), len(sounds))
        side = self._config.vision.image_size
        return Sample(
            streams.user,
            streams.agent,
            streams.targets,
            streams.informative,
            streams.events,
            np.stack(pictures) if pictures else np.zeros((0, side, side, 3), np.uint8),
            np.stack(sounds) if len(sounds) else np.zeros((0, SAMPLE_RATE), np.float32),
            record.name,
        )

    def _check_runs(self, streams: Streams, pictures: int, sounds: int) -> None:
        """Every picture and every second must have its positions; only markers in a text can upset that."""
        looked = int((streams.user == IMAGE).sum())
        heard = int(np.isin(streams.user, (AUDIO, VIDEO_AUDIO)).sum())
        if looked != pictures * self.layout.tokens_per_image or heard != sounds * self.layout.tokens_per_second:
            raise SampleError(LABELS, "a text holds markers that stand for media which are not there")
