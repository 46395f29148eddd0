"""sensor_msgs pictures to RGB arrays, with cv_bridge's meaning of encodings and without it."""

from __future__ import annotations

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image as Pillow

from vispeak_node.ros.messages import CompressedImage, Header, Image

MAX_SIDE = 16_384  # pixels
JPEG_QUALITY = 90
CHANNELS = {"rgb8": 3, "bgr8": 3, "rgba8": 4, "bgra8": 4, "mono8": 1, "8UC1": 1, "8UC3": 3, "yuv422_yuy2": 2}
_TO_RGB = {
    "rgb8": [0, 1, 2], "8UC3": [2, 1, 0], "bgr8": [2, 1, 0], "rgba8": [0, 1, 2], "bgra8": [2, 1, 0],
    "mono8": [0, 0, 0], "8UC1": [0, 0, 0],
}  # fmt: skip


def check_image(message: Image) -> None:
    """Refuses a picture whose header makes no sense; looks at no pixel.

    Raises:
        ValueError: says what does not fit.
    """
    if message.encoding not in CHANNELS:
        raise ValueError(f"image encoding {message.encoding[:40]!r} is unknown; known are {', '.join(CHANNELS)}")
    if not 0 < message.width <= MAX_SIDE or not 0 < message.height <= MAX_SIDE:
        raise ValueError(f"an image of {message.width}x{message.height} pixels: 1 to {MAX_SIDE} a side can be read")
    if message.step < message.width * CHANNELS[message.encoding]:
        raise ValueError(f"image step {message.step} is too short for {message.width} pixels of {message.encoding}")
    if len(message.data) != message.height * message.step:
        raise ValueError(
            f"image data has {len(message.data)} bytes; height {message.height} x step {message.step} needs "
            f"{message.height * message.step}"
        )
    if message.encoding == "yuv422_yuy2" and message.width % 2:
        raise ValueError(f"a yuv422_yuy2 image must have an even width, not {message.width}")


def to_rgb(message: Image) -> NDArray[np.uint8]:
    """The picture as uint8 [height, width, 3]; bytes have no order, so `is_bigendian` changes nothing.

    Raises:
        ValueError: see `check_image`.
    """
    check_image(message)
    channels = CHANNELS[message.encoding]
    rows = np.asarray(message.data, np.uint8).reshape(message.height, message.step)
    pixels = rows[:, : message.width * channels].reshape(message.height, message.width, channels)
    if message.encoding == "yuv422_yuy2":
        return _yuyv_to_rgb(pixels)
    return np.ascontiguousarray(pixels[..., _TO_RGB[message.encoding]])


def decompress(message: CompressedImage) -> NDArray[np.uint8]:
    """A JPEG or PNG as uint8 [height, width, 3]; its size is looked at before anything is decoded.

    Raises:
        ValueError: not such a file, or too large.
    """
    try:
        with Pillow.open(io.BytesIO(message.data.tobytes()), formats=("JPEG", "PNG")) as picture:
            if max(picture.size) > MAX_SIDE or min(picture.size) < 1:
                raise ValueError(f"{picture.width}x{picture.height} pixels: 1 to {MAX_SIDE} a side can be read")
            return np.asarray(picture.convert("RGB"))
    except (OSError, SyntaxError, ValueError, Pillow.DecompressionBombError) as error:
        raise ValueError(f"a compressed image cannot be read: {str(error).splitlines()[0][:120]}") from error


def to_message(header: Header, picture: NDArray[np.uint8], jpeg: bool = False) -> Image | CompressedImage:
    """A picture, uint8 [height, width, 3], as a raw message or as a JPEG."""
    if jpeg:
        buffer = io.BytesIO()
        Pillow.fromarray(picture).save(buffer, "JPEG", quality=JPEG_QUALITY)
        return CompressedImage(header, "jpeg", np.frombuffer(buffer.getvalue(), np.uint8))
    height, width = picture.shape[:2]
    return Image(header, height, width, "rgb8", 0, 3 * width, np.ascontiguousarray(picture).reshape(-1))


def _yuyv_to_rgb(pixels: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """BT.601, video range, as OpenCV converts it: two neighbours share their colour."""
    luma = (pixels[..., 0].astype(np.float32) - 16.0) * 1.164
    blue, red = (np.repeat(pixels[:, start::2, 1].astype(np.float32) - 128.0, 2, axis=1) for start in (0, 1))
    rgb = np.stack([luma + 1.596 * red, luma - 0.813 * red - 0.391 * blue, luma + 2.018 * blue], axis=-1)
    return np.clip(np.rint(rgb), 0, 255).astype(np.uint8)
