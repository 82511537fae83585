"""How alike two reports are: distance, words, addresses, bodies. Pure."""

import hashlib
import math
import operator
import re
import unicodedata
from functools import lru_cache

from schemas.grids import LEVELS, METRES_PER_DEGREE

STREET = LEVELS["street"]
#: 「门口」 alone is no place.
NAME_CHARACTERS = 4


def metres(lon: float, lat: float, other_lon: float, other_lat: float) -> float:
    """Distance of two near points in metres (equirectangular; error below 0.1 % under 10 km)."""
    east = (lon - other_lon) * math.cos(math.radians((lat + other_lat) / 2.0))
    return math.hypot(east, lat - other_lat) * METRES_PER_DEGREE


@lru_cache(maxsize=50_000)
def character_pairs(text: str) -> frozenset[str]:
    """The pairs of neighbouring characters of a text."""
    return frozenset(map(operator.add, text, text[1:]))


def jaccard(one: frozenset[str], other: frozenset[str]) -> float:
    """Share of common members, 0 for two empty sets."""
    common = len(one & other)
    union = len(one) + len(other) - common
    return common / union if union else 0.0


#: What names a dwelling inside a building; the building is what tenants have in common.
UNIT = re.compile(
    r"(?:\s*(?:\b(?:APT|APARTMENT|UNIT|ROOM|RM|SUITE|STE|FLOOR|FL)\b\.?\s*#?\s*[\w-]+|#\s*[\w-]+))+\s*$"
    r"|\d+\s*单元.*$|(?<=[号栋幢座楼])\s*\d+\s*(?:楼|层|室).*$"
)
#: What no unit does without; so most addresses are not looked through for one.
UNIT_WORD = re.compile(r"[#元楼层室]|APT|APARTMENT|UNIT|ROOM|RM|SUITE|STE|FL")
DIGIT, MARKS, NOT_ALNUM = re.compile(r"\d"), re.compile(r"[.,;，。；、]+"), re.compile(r"[\W_]+")
#: How street words and directions are shortened.
SHORT = {
    "STREET": "ST", "AVENUE": "AVE", "AV": "AVE", "BOULEVARD": "BLVD", "ROAD": "RD", "DRIVE": "DR",
    "PLACE": "PL", "COURT": "CT", "LANE": "LN", "PARKWAY": "PKWY", "PKY": "PKWY", "TERRACE": "TER",
    "HIGHWAY": "HWY", "SQUARE": "SQ", "EXPRESSWAY": "EXPY", "CONCOURSE": "CONC", "SAINT": "ST",
    "NORTH": "N", "SOUTH": "S", "EAST": "E", "WEST": "W",
}  # fmt: skip
ORDINAL = re.compile(r"\A(\d+)(?:ST|ND|RD|TH)\Z")


@lru_cache(maxsize=100_000)
def address_key(address: str) -> str:
    """The building of an address, written one way; empty when it names no number, so no building.

    Case, width, punctuation, street words, directions and ordinals are levelled, the dwelling is left out.
    """
    text = unicodedata.normalize("NFKC", address).upper()
    if not DIGIT.search(text):
        return ""
    text = MARKS.sub(" ", text).strip()
    if UNIT_WORD.search(text):
        text = UNIT.sub("", text)
    words = [SHORT.get(word, word) for word in text.split()]
    key = " ".join(ORDINAL.sub(r"\1", word) if word.isascii() else word for word in words)
    return key if DIGIT.search(key) else ""


@lru_cache(maxsize=100_000)
def name_key(address: str, grid: str) -> str:
    """What people call a place, within its street (the grid's first nine digits).

    Empty for a building, for what is told of no street, and for words too short to name anything.
    """
    name = NOT_ALNUM.sub("", unicodedata.normalize("NFKC", address).upper())
    if len(name) < NAME_CHARACTERS or len(grid) < STREET or DIGIT.search(name):
        return ""
    return f"{grid[:STREET]}{name}"


def body_key(text: str, characters: int) -> str:
    """Digest of a text without spaces and punctuation; empty when fewer than ``characters`` are left."""
    if len(text) < characters:
        return ""
    bare = NOT_ALNUM.sub("", text)
    if len(bare) < characters:
        return ""
    return hashlib.blake2b(bare.encode("utf-8", "surrogatepass"), digest_size=9).hexdigest()
