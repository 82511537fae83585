"""What a photo looks like, as 64 bits: the same scene smaller, brighter or compressed again differs in few."""

import io
import warnings

from PIL import Image

#: Decoders that telephones and browsers need; each one more is one more to attack.
FORMATS = ("JPEG", "PNG", "WEBP", "GIF", "BMP")
#: Bytes of a file, and pixels of a photo: a small file may unfold to any size.
FILE_LIMIT = 10 * 1024 * 1024
PIXEL_LIMIT = 50_000_000
#: A photo that is all of one colour is like any other such.
CONTRAST = 16
_SIDE = 8


def perceptual_hash(data: bytes) -> str:
    """The difference hash (dHash) of an image as 16 hexadecimal digits.

    Whether each of 8 × 8 fields is darker than its right neighbour, row by row. Empty for what is no image of a
    known format, broken, too large, or of one colour; never raises.
    """
    if len(data) > FILE_LIMIT:
        return ""
    try:
        with warnings.catch_warnings():
            # Of the library's own limit only the error counts; ours is below it.
            warnings.simplefilter("ignore")
            with Image.open(io.BytesIO(data), formats=FORMATS) as image:
                if image.width * image.height > PIXEL_LIMIT:
                    return ""
                # A JPEG is decoded no larger than it is needed.
                image.draft("L", (_SIDE * 16, _SIDE * 16))
                grey = image.convert("L").resize((_SIDE + 1, _SIDE), Image.Resampling.BOX)
                fields = grey.tobytes()
    except Exception:  # A decoder raises what it likes on bytes that somebody made up.
        return ""
    if max(fields) - min(fields) < CONTRAST:
        return ""
    bits = 0
    for row in range(0, len(fields), _SIDE + 1):
        for left, right in zip(
            fields[row : row + _SIDE], fields[row + 1 : row + _SIDE + 1], strict=True
        ):
            bits = bits << 1 | (left < right)
    return f"{bits:016x}"
