"""Where a Chinese address is, by the city's names alone: the grids that are certain, never a guess.

Names of districts, streets, communities and the gazetteer are looked for in the text, the longest first.
A street is certain when its name with its ending stands there (花园路街道, …办事处), when a community or
village stands there that is unique in the named district or the city, or when the gazetteer says so. A
road's bare name (花园路) is no street. A named district that contradicts everything else is repaired when
the rest is unique in the city. What follows directly on a certain name is looked up inside of it alone: a
community's short name with one of its compounds (碧沙岗锦绣家园) or with a villagers' group. One character
that is wrong in a name with its ending is mended when a single name of the named district is that near.
Two candidates stay candidates.
"""

import re
import unicodedata
from collections.abc import Iterable, Iterator
from typing import NamedTuple

from schemas.city import CityPack
from schemas.grids import LEVELS

#: Names are looked for in the beginning of a text only.
TEXT_LIMIT = 600
#: A name with fewer characters before its ending is too near to others to be mended. Streets are all in
#: the list; hamlets that are in none are called as villages elsewhere are (马庄, 刘庄).
MENDED_LEAST = {"street": 2, "community": 3}
#: With so few characters before its ending, the wrong one must sound like the right one.
MENDED_BY_SOUND = 2
#: Characters of one syllable stand so near to each other in GB 2312, whose common ones are in the order of
#: their sounds; the longest syllable (yi) has 53.
SAME_SOUND = 25
_DISTRICT, _STREET, _COMMUNITY = LEVELS["district"], LEVELS["street"], LEVELS["community"]

_STREET_ENDING = re.compile(r"(街道|回族乡|镇|乡)$")
_STREET_FORMS = ("街道办事处", "街道办", "街道", "办事处", "镇", "乡")
_COMMUNITY_ENDING = re.compile(
    r"(社区|村)?(居民委员会|居民管理委员会|居民居委会|村民委员会|管理委员会|委员会|居委会|村委会)?$"
)
#: What may stand before a name that begins there; before anything else it is the end of a longer name.
_BEFORE = frozenset("在到住位于的是和与及跟从往去至省市区县镇乡道办处号内里旁边我们")
#: What makes another name of the bare name of a street or district before it.
_GOES_ON = frozenset("路街大巷道苑园城府小广桥河湖塔站医机中新东西南北学万")
#: What may stand behind a bare name in the middle of a sentence that names no district: 白沙那边, not 白沙湾.
_BEHIND = re.compile(
    r"$|[^\u4e00-\u9fff]|附近|对面|旁|那|这|路口|门口|[往向以][东南西北]|[前后]面|一带|周边|境内|辖区|内|上|片区|地区"
)
_ROAD_END = ("路", "街", "道", "巷")
#: A city or county that an address begins with (浙江省温州市苍南县…), and what leads from it to the name. In
#: no city's name stands what sentences are made with (多次向市政府反映…).
_ELSEWHERE = re.compile(
    r"(?:^|[^\u4e00-\u9fff]|省|自治区)"
    r"((?:(?![向由请被是我们你他她的把给对跟让在住到来从去往])[\u4e00-\u9fff]){2,8}?(?:市|县|自治州))"
    r"(?:[\u4e00-\u9fff]{1,8}?(?:[区县市镇乡]|街道)){0,2}$"
)
_ELSEWHERE_REACH = 32
#: Words that end as a city's name does.
_NO_CITY = (
    "超市",
    "城市",
    "夜市",
    "门市",
    "菜市",
    "股市",
    "楼市",
    "集市",
    "花市",
    "闹市",
    "本市",
    "全市",
    "我市",
    "该市",
)
#: How far a phrase leads away from its anchor.
_FAR = re.compile(r"(?:(\d+(?:\.\d+)?)\s*(公里|千米|米|m|km)(?![a-z]))", re.IGNORECASE)
_NEAR = re.compile(r"附近|对面|旁边|交叉口|交汇处|以[东南西北]|[向往][东南西北]|周边")
#: Metres from an anchor within which its street is still taken to hold (compounds are some 300 m wide).
FAR_METRES = 300.0

#: What stands after a village's short name and after nothing else.
_GROUP = re.compile(r"第?[0-9一二三四五六七八九十]{1,3}(?:村民小?组|组|队)")

#: Endings of names that may be mended, and how many characters stand before them.
_MENDED_ENDING = re.compile(r"街道|办事处|镇|乡|社区|居委会|村委会|村")
_MENDED_LENGTHS = range(min(MENDED_LEAST.values()), 8)

_PARTS = re.compile(
    r"(?P<road>[\u4e00-\u9fff]{1,6}?(?:大道|快速路|路|街|巷|胡同))"
    r"|(?P<unit>[0-9A-Za-z一二三四五六七八九十]+(?:号楼|号院|栋|幢|单元|层|室))"
    r"|(?P<number>(?:附)?\d+号)"
    r"|(?P<poi>[\u4e00-\u9fff]{2,12}?(?:小区|花园|家园|公寓|大厦|广场|学校|医院|公园|商场|市场|酒店|华城))"
)


class Address(NamedTuple):
    """Where a text is.

    ``grid`` is the finest code that is certain (community, street or district; empty: none is),
    ``confidence`` between 0 and 1 orders the ways a place was found, ``method`` names the way,
    ``reason`` says why there is no street, ``candidates`` are the grids that it may be.
    """

    grid: str = ""
    confidence: float = 0.0
    method: str = ""
    reason: str = ""
    candidates: tuple[str, ...] = ()

    @property
    def district(self) -> str:
        """Code of the district, empty when it is not certain."""
        return self.grid[:_DISTRICT]

    @property
    def street(self) -> str:
        """Code of the street, empty when it is not certain."""
        return self.grid[:_STREET] if len(self.grid) >= _STREET else ""


class Part(NamedTuple):
    """A part of an address: its kind (province, city, district, street, community, road, …) and text."""

    kind: str
    text: str


class _Name(NamedTuple):
    kind: str
    codes: frozenset[str]


class _Found(NamedTuple):
    kind: str
    codes: frozenset[str]
    start: int
    end: int
    inner: bool


def normalise(text: str) -> str:
    """The beginning of a text in half width, without spaces and what cannot be seen."""
    plain = unicodedata.normalize("NFKC", text[:TEXT_LIMIT])
    if plain.isprintable():  # nothing that cannot be seen, and of spaces the plain one only
        return plain.replace(" ", "")
    return "".join(c for c in plain if not c.isspace() and unicodedata.category(c) != "Cf")


class AddressBook:
    """The names of one city, ready to be looked for in texts.

    ``compounds``: code, name and whether the name was generated; a generated name is looked for only where
    its community is certain or stands before it.
    """

    def __init__(self, city: CityPack, compounds: Iterable[tuple[str, str, bool]] = ()) -> None:
        self._names: dict[str, dict[str, set[str]]] = {}
        self._inner: dict[str, list[tuple[str, str]]] = {}
        self._own = (city.name, *(name for name in city.districts.names if len(name) > 2))
        self._city_name = city.name
        self._add_districts(city)
        self._add_streets(city)
        self._add_communities(city)
        self._add_gazetteer(city)
        self._add_compounds(city, compounds)
        self._add_masked()
        self._index: dict[str, list[tuple[str, tuple[_Name, ...]]]] = {}
        for name in sorted(self._names, key=lambda n: (-len(n), n)):
            kinds = self._names[name].items()
            entry = tuple(_Name(kind, frozenset(codes)) for kind, codes in kinds)
            self._index.setdefault(name[:2], []).append((name, entry))

    def _add(self, name: str, kind: str, codes: Iterable[str]) -> None:
        name = normalise(name)
        if len(name) >= 2:
            self._names.setdefault(name, {}).setdefault(kind, set()).update(codes)

    def _add_districts(self, city: CityPack) -> None:
        named = [(code, (area.name, *area.aliases)) for code, area in city.areas.items()]
        named += [(grid.code, (grid.name,)) for grid in city.districts.grids]
        for code, names in named:
            for name in names:
                self._add(name, "district", [code])
        for unit in city.units.values():
            whole = {m for m in unit.members if len(m) == _DISTRICT}
            for name in (unit.name, *unit.aliases):
                ended = name.endswith(("区", "县", "市"))
                self._add(name, "district" if ended else "hint", whole or unit.members)
        for grid in city.districts.grids:
            if len(grid.name) == 3 and grid.name[-1] in "区县市":
                self._add(grid.name[:-1], "hint", [grid.code])

    def _add_streets(self, city: CityPack) -> None:
        for street in city.streets:
            name = street.name
            self._add(name, "street", [street.code])
            for area in city.areas.values():
                name = name.removeprefix(area.name)
            base = _STREET_ENDING.sub("", name)
            if base == name:
                continue
            for form in _STREET_FORMS:
                self._add(base + form, "street", [street.code])
            if base.endswith(_ROAD_END):
                if len(base) >= 3:
                    for form in _STREET_FORMS[:4]:
                        self._add(base[:-1] + form, "old", [street.code])
            else:
                self._add(base, "bare", [street.code])
        # A name as it is written is no other's with another ending: 龙湖街道 is not 龙湖镇.
        own: dict[str, set[str]] = {}
        for street in city.streets:
            name = normalise(street.name)
            forms = {name}
            if name.endswith("街道"):
                forms |= {name[:-2] + form for form in _STREET_FORMS[:4]}
            for form in forms:
                own.setdefault(form, set()).add(street.code)
        for written, codes in own.items():
            self._names.setdefault(written, {})["street"] = codes

    def _add_communities(self, city: CityPack) -> None:
        for place in city.communities:
            self._add(place.name, "community", [place.code])
            found = _COMMUNITY_ENDING.search(place.name)
            stem = place.name[: found.start()] if found else place.name
            if not stem or stem == place.name:
                continue
            village = "村" in place.name[len(stem) :]
            forms = ("村", "村委会") if village else ("社区", "居委会", "社区居委会")
            for form in forms:
                self._add(stem + form, "community", [place.code])
            self._add(stem + ("社区" if village else "村"), "turned", [place.code])
            if len(stem) >= 4 and not stem.endswith(_ROAD_END):
                self._add(stem, "stem", [place.code])

    def _add_gazetteer(self, city: CityPack) -> None:
        for entry in city.gazetteer:
            # Where a street is named after a road, there is a road of that name, in the list or not.
            named_after = self._names.get(normalise(entry.name) + "街道", {}).get("street", set())
            codes = {entry.code, *(code[:_DISTRICT] for code in named_after)}
            self._add(entry.name, "road" if named_after else "place", codes)
        for alias, name in city.aliases.items():
            for kind, codes in self._names.get(normalise(name), {}).items():
                # 石佛 is also the beginning of other names, as a bare name is.
                self._add(alias, "bare" if kind == "street" else kind, codes)

    def _add_masked(self) -> None:
        """Long names with each of their characters left out once."""
        self._masked: dict[str, list[tuple[str, set[str]]]] = {}
        for name, kinds in self._names.items():
            ending = next((e[0] for e in _MENDED_ENDING.finditer(name) if e.end() == len(name)), "")
            stem = len(name) - len(ending)
            for kind, least in MENDED_LEAST.items():
                if ending and kind in kinds and least <= stem < _MENDED_LENGTHS.stop:
                    for masked, character in _masks(name, stem):
                        self._masked.setdefault(masked, []).append((character, kinds[kind]))

    def _mend(self, text: str, found: dict[str, list[_Found]]) -> Address | None:
        """The street of a name with one wrong character, when the named district has just one such name."""
        within: frozenset[str] = frozenset().union(*(f.codes for f in found.get("district", ())))
        if not within:
            return None
        ends = {f.end for names in found.values() for f in names}
        near: frozenset[str] = frozenset()
        for ending in _MENDED_ENDING.finditer(text):
            for stem in _MENDED_LENGTHS:
                start = ending.start() - stem
                if start < 0:
                    break
                before = text[start - 1] if start else ""
                if start in ends or before in _BEFORE or not "\u4e00" <= before <= "\u9fff":
                    for masked, heard in _masks(text[start : ending.end()], stem):
                        for meant, codes in self._masked.get(masked, ()):
                            if stem > MENDED_BY_SOUND or _sound_alike(heard, meant):
                                near |= _inside(codes, within)
        if len({code[:_STREET] for code in near}) != 1:
            return None
        return Address(min(near)[:_STREET], 0.6, "mended")

    def _add_compounds(self, city: CityPack, compounds: Iterable[tuple[str, str, bool]]) -> None:
        stems: dict[str, dict[str, set[str]]] = {}
        #: Community → its name without what it is.
        self.stems = stem_of = dict[str, str]()
        for place in city.communities:
            stem = normalise(_COMMUNITY_ENDING.sub("", place.name))
            if len(stem) >= 2:
                stem_of[place.code] = stem
                stems.setdefault(place.street, {}).setdefault(stem, set()).add(place.code)
        for code, raw, synthetic in compounds:
            name = normalise(raw)
            community = code[:_COMMUNITY]
            if len(name) < 2 or not code:
                continue
            self._inner.setdefault(community, []).append((name, code))
            # Some compounds bear their community's name: nothing else stands before it.
            if name.startswith(stem_of.get(community, "\0")):
                self._inner.setdefault(code[:_STREET], []).append((name, code))
            if not synthetic and len(name) >= 3:
                self._add(name, "community", [code])
        for street, by_stem in stems.items():
            self._inner.setdefault(street, []).extend(
                (stem, min(codes)) for stem, codes in by_stem.items() if len(codes) == 1
            )
        for names in self._inner.values():
            names.sort(key=lambda entry: (-len(entry[0]), entry))

    def _find(self, text: str) -> Iterator[_Found]:
        position, free_from, last = 0, 0, len(text) - 1
        while position < last:
            for name, entry in self._index.get(text[position : position + 2], ()):
                if not text.startswith(name, position):
                    continue
                end = position + len(name)
                goes_on = end < len(text) and text[end] in _GOES_ON
                kinds = [n for n in entry if not (goes_on and n.kind in ("bare", "hint", "stem"))]
                if not kinds:
                    continue
                before = text[position - 1] if position > free_from else ""
                inner = "\u4e00" <= before <= "\u9fff" and before not in _BEFORE
                for kind, codes in kinds:
                    yield _Found(kind, codes, position, end, inner)
                position = free_from = end
                break
            else:
                position += 1

    def parse(self, *texts: str) -> Address:
        """Where the texts, read as one, are; the same texts always give the same. Raises nothing."""
        text = "，".join(map(normalise, texts))
        found: dict[str, list[_Found]] = {}
        loose: list[_Found] = []
        for name in self._find(text):
            if self._is_elsewhere(text[max(0, name.start - _ELSEWHERE_REACH) : name.start]):
                continue
            if name.kind in ("bare", "stem") and not _BEHIND.match(text, name.end):
                loose.append(name)
                continue
            # The end of a longer, unknown name is none: 大刘庄村 is not 刘庄村.
            whole = name.kind in ("street", "district") or name.end - name.start >= 5
            if not name.inner or (whole and name.kind != "old"):
                found.setdefault(name.kind, []).append(name)
        if loose:
            named = [*found.get("district", ()), *found.get("hint", ())]
            within: frozenset[str] = frozenset().union(*(f.codes for f in named))
            for name in loose:
                # Beside its district even a word of the language is likely the place.
                if not name.inner and _inside(name.codes, within):
                    found.setdefault(name.kind, []).append(name)
        result = self._decide(found)
        if not result.street:
            result = self._mend(text, found) or result
        elif result.method == "repaired" and not found.keys() & {"community", "turned", "stem"}:
            # Either the district is wrong or a character: nothing else tells which.
            mended = self._mend(text, found)
            if mended:
                return _undecided((), (mended.grid, result.grid), "ambiguous_place")
        if result.street:
            result = result._replace(grid=self._finer(text, found, result.grid))
        return _away(result, text) if result.grid else result

    def inside(self, found: Address, street: str, text: str) -> Address:
        """What :meth:`parse` would find of a text that has the name of a certain street in it once, with the
        community or compound right behind; else ``found``. Much faster."""
        text, name = normalise(text), normalise(street)
        before, _, behind = text.partition(name) if name else ("", "", "")
        if not behind or name in behind or len(found.grid) != _STREET or _NEAR.search(text):
            return found
        return found._replace(grid=self._follow(found.grid, text, len(before) + len(name)))

    def _is_elsewhere(self, before: str) -> bool:
        """Whether what stands before a name says that it is one of another city."""
        if "市" not in before and "县" not in before and "州" not in before:
            return False
        found = _ELSEWHERE.search(before)
        return found is not None and not found[1].endswith((*_NO_CITY, *self._own))

    def _finer(self, text: str, found: dict[str, list[_Found]], grid: str) -> str:
        """The one grid inside of a certain one whose name follows directly on a name of that."""
        followed = [grid]
        for kind in ("community", "turned", "stem", "street", "old", "bare"):
            for name in found.get(kind, ()):
                followed += [
                    self._follow(code, text, name.end)
                    for code in name.codes
                    if grid.startswith(code)
                ]
        finest = max(followed, key=len)
        return finest if all(finest.startswith(code) for code in followed) else grid

    def _follow(self, code: str, text: str, position: int) -> str:
        """The grid inside of a street or community whose name stands at a position; else its own."""
        for name, inner in self._inner.get(code, ()):
            if not text.startswith(name, position):
                continue
            if len(inner) > _COMMUNITY:
                return inner
            end = position + len(name)
            found = self._follow(inner, text, end)
            if found != inner or _GROUP.match(text, end):
                return found
        return code

    def _decide(self, found: dict[str, list[_Found]]) -> Address:
        named = [f.codes for f in found.get("district", ())]
        scope = named or [f.codes for f in found.get("hint", ())]
        within: frozenset[str] = frozenset().union(*scope)
        near = [f.codes for f in found.get("place", ())]
        # 高村 is the village, and the township around it without its ending: either.
        bare = {f.start: f.codes for f in found.get("bare", ())}
        communities = [
            f.codes | bare.get(f.start, frozenset())
            for f in found.get("community", ()) or found.get("turned", ()) or found.get("stem", ())
        ]
        for kind, confidence in (("street", 0.95), ("old", 0.8)):
            streets = [f.codes for f in found.get(kind, ())]
            if streets:
                return _street(streets, communities, within, near, confidence)
        short = all(f.end - f.start <= 3 for f in found.get("community", ()))
        for method, sets, confidence in (
            ("community", communities, 0.85),
            ("bare_name", [f.codes for f in found.get("bare", ())], 0.7),
            ("gazetteer", near + [f.codes for f in found.get("road", ())], 0.75),
        ):
            if not sets:
                continue
            chosen, repaired = _choose(sets, within, near if method != "gazetteer" else [])
            weak = method != "community" or short
            if repaired and weak:
                # A short name may stand in the named district too, in no list.
                return _undecided(within, chosen, "district_contradicts")
            if len(chosen) == 1:
                (code,) = chosen
                if len(code) == _DISTRICT:
                    return Address(code, confidence, method, "street_unknown")
                return Address(
                    code, 0.6 if repaired else confidence, "repaired" if repaired else method
                )
            if len({code[:_STREET] for code in chosen}) == 1 and len(min(chosen, key=len)) > 6:
                return Address(min(chosen)[:_STREET], confidence, method)
            if chosen and method != "gazetteer":
                return _undecided(within, chosen, "ambiguous_street")
            if chosen:
                return _undecided(within or chosen, chosen, "ambiguous_place")
        if within:
            whole = _undecided(within, within, "street_unknown")
            # 新郑 alone may be dates, a dish or a firm.
            return whole if named or not whole.grid else whole._replace(confidence=0.6)
        return Address(reason="no_location")

    def district_codes(self, name: str) -> frozenset[str]:
        """Codes that a district's name or alias stands for; a zone may be a set of streets."""
        kinds = self._names.get(normalise(name), {})
        return frozenset(kinds.get("district", ()) or kinds.get("hint", ()))

    def street_codes(self, name: str) -> frozenset[str]:
        """Codes of the streets of a name, with any ending or without."""
        name = normalise(name)
        kinds = self._names.get(name, {}) or self._names.get(name + "街道", {})
        return frozenset(c for kind in ("street", "old", "bare") for c in kinds.get(kind, ()))

    def parts(self, text: str) -> list[Part]:
        """The text cut into parts, in order; what is of no known kind is ``other``."""
        text = normalise(text)
        cuts = [
            (f.start, f.end, _KINDS[f.kind])
            for f in self._find(text)
            if not f.inner or f.kind in ("street", "district")
        ]
        result: list[Part] = []
        position = 0
        for start, end, kind in [*cuts, (len(text), len(text), "")]:
            if start < position:
                continue
            result += self._rest(text[position:start])
            if kind:
                result.append(Part(kind, text[start:end]))
            position = end
        return result

    def _rest(self, text: str) -> Iterator[Part]:
        found = re.match(r"[\u4e00-\u9fff]{2,3}省", text)
        if found:
            yield Part("province", found[0])
            text = text[found.end() :]
        if text.startswith(self._city_name):
            yield Part("city", self._city_name)
            text = text[len(self._city_name) :]
        position = 0
        for part in _PARTS.finditer(text):
            if part.start() > position:
                yield Part("other", text[position : part.start()])
            yield Part(part.lastgroup or "other", part[0])
            position = part.end()
        if position < len(text):
            yield Part("other", text[position:])


_KINDS = {
    "district": "district",
    "hint": "district",
    "street": "street",
    "old": "street",
    "bare": "street",
    "community": "community",
    "turned": "community",
    "stem": "community",
    "place": "poi",
    "road": "road",
}


def _masks(name: str, stem: int) -> Iterator[tuple[str, str]]:
    """A name with each of its first characters left out, and the character."""
    for i in range(stem):
        yield f"{name[:i]}?{name[i + 1 :]}", name[i]


def _sound_alike(one: str, other: str) -> bool:
    """Whether two common characters are probably of one syllable: an input method takes one for another."""
    ranks = []
    for character in (one, other):
        code = character.encode("gb2312", "ignore")
        if len(code) != 2 or not 0xB0 <= code[0] <= 0xD7:
            return False
        ranks.append((code[0] - 0xB0) * 94 + code[1] - 0xA1)
    return abs(ranks[0] - ranks[1]) <= SAME_SOUND


def _inside(codes: Iterable[str], scope: Iterable[str]) -> frozenset[str]:
    """Those codes that lie in one of the grids of the scope."""
    borders = tuple(scope)
    return frozenset(code for code in codes if code.startswith(borders))


def _choose(
    sets: list[frozenset[str]], within: frozenset[str], near: list[frozenset[str]]
) -> tuple[frozenset[str], bool]:
    """Candidates that the named district allows, else all of them: then the district was repaired.

    Names of several places that do not lie in each other stay candidates together.
    """
    everything: frozenset[str] = frozenset().union(*sets)
    kept = _inside(everything, within) if within else everything
    repaired = bool(within) and not kept
    kept = kept or everything
    # A road in two districts beside a place in one of them: what all names share.
    shared = kept
    for codes in sets:
        shared = frozenset(c for c in shared if c.startswith(tuple(codes)) or c in codes)
    kept = shared or kept
    for codes in near:
        if len(kept) > 1:
            kept = _inside(kept, codes) or kept
    return kept, repaired


def _street(
    streets: list[frozenset[str]],
    communities: list[frozenset[str]],
    within: frozenset[str],
    near: list[frozenset[str]],
    confidence: float,
) -> Address:
    """The street that is named, with the community when it lies there."""
    chosen, repaired = _choose(streets, within, near)
    told: frozenset[str] = frozenset().union(*communities)
    if not _inside(told, chosen):
        # 城关镇 of the named district has no such village, that of another has.
        others = frozenset(c for c in frozenset().union(*streets) if _inside(told, [c]))
        if len(others) == 1 and not _inside(told, within):
            chosen, repaired = others, True
    inside = _inside(told, chosen)
    if len(chosen) > 1 and len({code[:_STREET] for code in inside}) == 1:
        chosen = frozenset({min(inside)[:_STREET]})
    if len(chosen) > 1:
        return _undecided(within, chosen, "ambiguous_street")
    (code,) = chosen
    method = "street"
    if repaired:
        elsewhere = _inside(told, within)
        if elsewhere and not inside:
            return _undecided(frozenset(), chosen | elsewhere, "ambiguous_place")
        method, confidence = "repaired", min(confidence, 0.75)
    elif communities and not inside:
        confidence = min(confidence, 0.75)
    inside = _inside(inside, chosen)
    return Address(min(inside) if len(inside) == 1 else code, confidence, method)


def _undecided(within: Iterable[str], candidates: Iterable[str], reason: str) -> Address:
    """No street; the district when all candidates and the named one agree in it."""
    found, named = tuple(sorted(candidates)), set(within)
    # A zone of streets out of several districts stands for the one that the pack counts it to.
    whole = {code for code in named if len(code) == _DISTRICT} or {c[:_DISTRICT] for c in named}
    districts = whole if named == set(found) else whole | {c[:_DISTRICT] for c in found}
    if len(districts) == 1:
        return Address(districts.pop(), 0.7, "district", reason, found)
    if reason == "street_unknown":
        reason = "ambiguous_place"
    return Address(reason=reason, candidates=found)


def _away(result: Address, text: str) -> Address:
    """Less certain by a phrase that leads away from the named place."""
    far = _FAR.search(text)
    near = _NEAR.search(text)
    if not near:
        return result
    metres = 0.0
    if far:
        metres = float(far[1]) * (1000 if far[2].lower() in ("公里", "千米", "km") else 1)
    confidence = round(result.confidence * 0.9, 3)
    if metres > FAR_METRES:
        return Address(
            result.district, confidence, result.method, "far_from_anchor", (result.grid,)
        )
    grid = result.street or result.grid
    return Address(grid, confidence, result.method, result.reason, result.candidates)
