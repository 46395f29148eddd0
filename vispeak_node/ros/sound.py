"""audio_common_msgs sound, of either dialect, to arrays and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from vispeak_node.ros.standard import AudioData, AudioDataStamped, AudioInfo, AudioStamped, Header

FORMATS = ("S16LE", "S16", "s16le")
_ARRAYS = {1: "float32_data", 2: "int32_data", 8: "int16_data", 16: "int8_data", 32: "uint8_data"}
_SCALES = {1: (0.0, 1.0), 2: (0.0, 2.0**31), 8: (0.0, 2.0**15), 16: (0.0, 2.0**7), 32: (128.0, 2.0**7)}
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


def from_arrays(message: AudioStamped) -> tuple[NDArray[Any], int]:
    """The samples [n, channels] and rate of the other dialect's sound.

    Raises:
        ValueError: the format is unknown, or the array that it names is empty or holds no whole number of samples.
    """
    info, arrays = message.audio.info, message.audio.audio_data
    if info.format not in _ARRAYS:
        raise ValueError(f"sound in PortAudio format {info.format}: {', '.join(map(str, _ARRAYS))} can be read")
    if not MIN_RATE <= info.rate <= MAX_RATE:
        raise ValueError(f"sound at {info.rate} Hz: {MIN_RATE} to {MAX_RATE} can be read")
    if not 1 <= info.channels <= MAX_CHANNELS:
        raise ValueError(f"sound with {info.channels} channels: 1 to {MAX_CHANNELS} can be read")
    data = np.asarray(getattr(arrays, _ARRAYS[info.format]))
    if not data.size or data.size % info.channels:
        raise ValueError(f"sound of {data.size} values is no whole number of {info.channels}-channel samples")
    silence, full = _SCALES[info.format]
    samples = data if info.format in (1, 8) else ((data.astype(np.float64) - silence) / full).astype(np.float32)
    return samples.reshape(-1, info.channels), info.rate


def from_samples(header: Header, samples: NDArray[np.float32]) -> AudioDataStamped:
    """Mono float samples in [-1, 1] as a message."""
    pcm = np.clip(np.rint(samples * 32768.0), -32768, 32767).astype("<i2")
    return AudioDataStamped(header, AudioData(pcm.view(np.uint8)))


def info_of(sample_rate: int) -> AudioInfo:
    """What goes with `from_samples`."""
    return AudioInfo(1, sample_rate, "S16LE", sample_rate * 16, "wave")
