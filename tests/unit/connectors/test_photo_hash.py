"""A photo sent again in another form looks the same; nothing that is sent as a photo stops the connector."""

import io
import random
import struct
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageFilter

from connectors import photo_hash
from connectors.forms import read_form
from connectors.mapping import to_raw_report
from connectors.photo_hash import perceptual_hash
from schemas.channels import load_channel


def scene(seed: int, size: tuple[int, int] = (640, 480)) -> Image.Image:
    """Something with large lights and shadows, as a photo has."""
    rng = random.Random(seed)
    small = Image.new("L", (12, 9))
    small.putdata([rng.randrange(256) for _ in range(12 * 9)])
    return (
        small.resize(size, Image.Resampling.BICUBIC)
        .filter(ImageFilter.GaussianBlur(3))
        .convert("RGB")
    )


def encoded(image: Image.Image, form: str = "JPEG", **options: int) -> bytes:
    out = io.BytesIO()
    image.save(out, form, **options)
    return out.getvalue()


def distance(one: str, other: str) -> int:
    return (int(one, 16) ^ int(other, 16)).bit_count()


@pytest.mark.parametrize("seed", range(8))
def test_the_same_photo_smaller_or_compressed_again_is_near_and_another_far(seed: int) -> None:
    image = scene(seed)
    first = perceptual_hash(encoded(image, quality=92))
    assert len(first) == 16
    again = [
        encoded(image, quality=35),
        encoded(image.resize((320, 240)), quality=80),
        encoded(image, "PNG"),
        encoded(image, "WEBP", quality=60),
        encoded(image.point(lambda value: min(255, value + 12)), quality=80),
    ]
    assert [distance(first, perceptual_hash(data)) <= 4 for data in again] == [True] * 5
    assert distance(first, perceptual_hash(encoded(scene(seed + 100)))) > 4


def png_head(width: int, height: int) -> bytes:
    """A PNG that claims a size, and holds a little."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    body = chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(bytes(1000))) + chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + body


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"no image",
        b"\xff\xd8\xff\xe0 cut off",
        encoded(scene(1))[:2000],
        encoded(scene(1), "PNG")[:3000],
        png_head(100_000, 100_000),
        png_head(30_000, 30_000),
        png_head(0, 0),
        b"%PDF-1.7 not a photo",
        encoded(scene(1), "TIFF"),
        encoded(Image.new("RGB", (640, 480), "grey")),
        bytes(photo_hash.FILE_LIMIT + 1),
    ],
    ids=range(12),
)
def test_what_is_no_whole_photo_has_no_hash(data: bytes) -> None:
    assert perceptual_hash(data) == ""


@given(st.binary(max_size=300), st.integers(0, 1500))
def test_no_bytes_raise(noise: bytes, at: int) -> None:
    data = encoded(scene(2, (64, 48)))
    perceptual_hash(data[:at] + noise + data[at + len(noise) :])


def test_a_photo_of_a_form_says_what_it_looks_like_beside_its_bytes() -> None:
    spec, photo = load_channel("online_window"), encoded(scene(3))
    body = b"".join(
        b'--x\r\nContent-Disposition: form-data; name="' + head + b'"\r\n\r\n' + data + b"\r\n"
        for head, data in (
            (b"accept_no", b"1"),
            (b'attachments"; filename="a.jpg', photo),
            (b'attachments"; filename="b.mp4', b"video"),
        )
    )
    form = read_form(spec, body + b"--x--\r\n", "multipart/form-data; boundary=x")
    first, second = form.native["attachments"]
    assert "phash" not in second
    raw = to_raw_report(spec, form.native, received_at=0, connector="http")
    assert raw["media"] == [
        f"sha256:{first['sha256']} phash:{perceptual_hash(photo)}",
        f"sha256:{second['sha256']}",
    ]
