"""Pictures to normalised pixels, bit for bit as CLIP's image processor does it for the published tower."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

IMAGE_MEAN = (0.485, 0.456, 0.406)
IMAGE_STD = (0.229, 0.224, 0.225)
MAX_SIDE = 16_384  # pixels; a larger picture is refused before anything is allocated for it
MAX_TILES = 12


def preprocess_image(image: NDArray[np.uint8], image_size: int, mode: str = "square") -> Tensor:
    """One picture as the tower reads it.

    Args:
        image: uint8 [height, width, 3] RGB.
        image_size: side of the result in pixels.
        mode: "square" crops the centre, "pad" letterboxes with the mean colour first.

    Returns:
        float32 [3, image_size, image_size].

    Raises:
        ValueError: not such a picture, or too large.
    """
    return normalise(resize(image, image_size, mode))


def resize(image: NDArray[np.uint8], image_size: int, mode: str = "square") -> NDArray[np.uint8]:
    """The 8-bit picture after resizing and cropping, [image_size, image_size, 3]; arguments as `preprocess_image`."""
    check_image(image)
    picture = Image.fromarray(np.ascontiguousarray(image))
    if mode == "pad":
        picture = _letterbox(picture)
    width, height = picture.size
    # the longer side is cut to a whole number as the published processor cuts it
    scaled = (
        (image_size, int(image_size * height / width))
        if width <= height
        else (int(image_size * width / height), image_size)
    )
    if max(scaled) > MAX_SIDE:
        raise ValueError(f"a picture of {width}x{height} is too narrow to be shown to the model")
    picture = picture.resize(scaled, Image.Resampling.BICUBIC)
    left, top = (picture.width - image_size) // 2, (picture.height - image_size) // 2
    return np.asarray(picture.crop((left, top, left + image_size, top + image_size)))


def normalise(image: NDArray[np.uint8]) -> Tensor:
    """uint8 [H, W, 3] to float32 [3, H, W] with ImageNet's mean and deviation."""
    scaled = image.astype(np.float32) * np.float32(1 / 255)
    scaled = (scaled - np.array(IMAGE_MEAN, np.float32)) / np.array(IMAGE_STD, np.float32)
    return torch.from_numpy(np.ascontiguousarray(scaled.transpose(2, 0, 1)))


def tile_image(image: NDArray[np.uint8], tile_size: int) -> list[NDArray[np.uint8]]:
    """A still picture as up to 12 tiles in the nearest grid, and a thumbnail if there is more than one.

    Raises:
        ValueError: not a picture, or too large.
    """
    check_image(image)
    height, width = image.shape[:2]
    columns, rows = _nearest_grid(width, height, tile_size)
    picture = Image.fromarray(np.ascontiguousarray(image))
    whole = np.asarray(picture.resize((columns * tile_size, rows * tile_size)))
    tiles = [
        whole[row * tile_size : (row + 1) * tile_size, column * tile_size : (column + 1) * tile_size]
        for row in range(rows)
        for column in range(columns)
    ]
    if len(tiles) > 1:
        tiles.append(np.asarray(picture.resize((tile_size, tile_size))))
    return tiles


def check_image(image: NDArray[np.uint8]) -> None:
    """Refuses what is not a picture.

    Raises:
        ValueError: says what it is instead.
    """
    if not isinstance(image, np.ndarray) or image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8:
        kind = f"{image.dtype} {image.shape}" if isinstance(image, np.ndarray) else type(image).__name__
        raise ValueError(f"a picture must be uint8 [height, width, 3], not {kind}")
    if not image.size:
        raise ValueError(f"a picture of {image.shape[1]}x{image.shape[0]} pixels is empty")
    if max(image.shape) > MAX_SIDE:
        raise ValueError(f"a picture of {image.shape[1]}x{image.shape[0]} is larger than {MAX_SIDE} pixels a side")


def _letterbox(picture: Image.Image) -> Image.Image:
    side = max(picture.size)
    canvas = Image.new("RGB", (side, side), tuple(int(value * 255) for value in IMAGE_MEAN))
    canvas.paste(picture, ((side - picture.width) // 2, (side - picture.height) // 2))
    return canvas


def _nearest_grid(width: int, height: int, tile_size: int) -> tuple[int, int]:
    grids = {(i, j) for i in range(1, MAX_TILES + 1) for j in range(1, MAX_TILES + 1) if i * j <= MAX_TILES}
    best, least = (1, 1), float("inf")
    for columns, rows in sorted(grids, key=lambda grid: grid[0] * grid[1]):
        difference = abs(width / height - columns / rows)
        larger = width * height > 0.5 * tile_size**2 * columns * rows
        if difference < least or (difference == least and larger):
            best, least = (columns, rows), difference
    return best
