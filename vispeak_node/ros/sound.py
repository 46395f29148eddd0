"""audio_common_msgs sound (ros-drivers' dialect) to float arrays and back."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from vispeak_node.ros.messages import AudioData, AudioDataStamped, AudioInfo, Header

FORMATS = ("S16LE", "S16", "s16le")
MIN_RATE, MAX_RATE, MAX_CHANNELS = 8_000, 192_000, 8


def check_info(info: AudioInfo) -> None:
    """Refuses sound that this node cannot read.

    Raises:
        ValueError: names the field.
    """
    if info.sample_format not in FORMATS:
        raise ValueError(f"sound in sample_format {info.sample_format[:20]!r}: only S16LE (16-bit PCM) can be read")
    if info.coding_format and info.coding_format.lower() not in ("wave", "wav", "pcm", "raw"):
        raise ValueError(f"sound in coding_format {info.coding_format[:20]!r}: only plain PCM (wave) can be read")
    if not MIN_RATE <= info.sample_rate <= MAX_RATE:
        raise ValueError(f"sound at {info.sample_rate} Hz: {MIN_RATE} to {MAX_RATE} can be read")
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise ValueError(f"sound with {info.channels} channels: 1 to {MAX_CHANNELS} can be read")


def to_samples(message: AudioDataStamped, info: AudioInfo) -> NDArray[np.int16]:
    """The samples, int16 [n, channels].

    Raises:
        ValueError: the bytes are no whole number of samples.
    """
    data = np.asarray(message.audio.data, np.uint8)
    width = 2 * info.channels
    if not data.size or data.size % width:
        raise ValueError(f"sound of {data.size} bytes is no whole number of {info.channels}-channel 16-bit samples")
    return data.view("<i2").astype(np.int16).reshape(-1, info.channels)


def from_samples(header: Header, samples: NDArray[np.float32]) -> AudioDataStamped:
    """Mono float samples in [-1, 1] as a message."""
    pcm = np.clip(np.rint(samples * 32767.0), -32768, 32767).astype("<i2")
    return AudioDataStamped(header, AudioData(pcm.view(np.uint8)))


def info_of(sample_rate: int) -> AudioInfo:
    """What goes with `from_samples`."""
    return AudioInfo(1, sample_rate, "S16LE", sample_rate * 16, "wave")
