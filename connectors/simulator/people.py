"""Who tells of which matter, through which channel of people, and with which defects."""

import random
from dataclasses import replace
from itertools import count
from typing import Any, get_args

from connectors.simulator.natives import Natives, Telling
from connectors.simulator.report import Report
from connectors.simulator.scenarios import (
    PEOPLE,
    Numbers,
    Person,
    Repeat,
    Scenario,
    Words,
    load_words,
)
from connectors.simulator.world import Matter, Place, Point, Weighted, World, pick
from schemas.city import CityPack
from schemas.grids import METRES_PER_DEGREE

#: Earlier reports of a channel and matters of a class that a later report may come back to.
REMEMBERED = 256
#: Reporters of a channel; each is one telephone or one account.
REPORTERS = 2_000_000
#: How often another reporter uses the same of a class's words.
SAME_WORD = 0.6
#: Classes that are tried for one of which something is known.
DRAWS = 4
DAY_MS = 24 * 3600 * 1000
#: Defects of how a report came, which the next report of the matter does not share.
COMING = frozenset({"late_batch", *get_args(Repeat)})
#: Defects of a point, which no report has that says none.
OF_POINTS = frozenset({"at_home", "wrong_crs", "null_point", "rounded", "outside"})
#: The system in which each channel sends points; a letter has none.
SYSTEM = {
    "hotline12345": "GCJ02",
    "photo_app": "GCJ02",
    "grid_patrol": "WGS84",
    "city_management": "CITY",
    "online_window": "GCJ02",
    "mailbox": "",
    "police110": "CGCS2000",
}


class _Ring(list[Any]):
    """The last :data:`REMEMBERED` things, in no order."""

    def __init__(self) -> None:
        super().__init__()
        self._next = 0

    def remember(self, thing: Any) -> None:
        if len(self) < REMEMBERED:
            self.append(thing)
        else:
            self[self._next] = thing
            self._next = (self._next + 1) % REMEMBERED


class People:
    """Those who tell of what they see."""

    def __init__(
        self,
        world: World,
        numbers: Numbers,
        scenario: Scenario,
        seed: int,
        tag: str,
        standing: list[Matter],
        city: CityPack,
    ) -> None:
        self._world, self._numbers, self._scenario, self._tag = world, numbers, scenario, tag
        self._words: Words = load_words()
        self._rng = random.Random(f"{seed}/people")  # noqa: S311 - a simulation, not a secret
        self._number = count(1)
        self._native = Natives(city.time_zone, self._words, self._rng)
        self._channels = Weighted({name: scenario.rates[name] for name in PEOPLE})
        self._classes: dict[str, Weighted[str]] = {}
        self._repeats: dict[str, Weighted[Any]] = {}
        self._seen: dict[str, set[str]] = {}
        for name in PEOPLE:
            own = numbers.people[name].classes
            if not own or name in scenario.only:
                own = scenario.classes
            self._classes[name] = world.classes(own)
            self._seen[name] = set(self._classes[name].items)
            self._repeats[name] = Weighted(numbers.people[name].repeats)
        self._all_codes = sorted(set().union(*self._seen.values()))
        # Where every repetition is of a standing matter, nothing else is remembered.
        self._standing = {
            name: [m for m in standing if m.code in self._seen[name]] for name in PEOPLE
        }
        self._only_standing = scenario.standing.share >= 1.0
        self._standing_ids = {matter.id for matter in standing}
        self._matters: dict[str, _Ring] = {code: _Ring() for code in self._all_codes}
        self._defects = {name: tuple(numbers.people[name].defects.items()) for name in PEOPLE}
        self._told: dict[str, _Ring] = {name: _Ring() for name in PEOPLE}
        self._owed = dict.fromkeys(PEOPLE, 0)
        self._offline = {name: _start_share(numbers.people[name]) for name in PEOPLE}

    def slot(self, due_s: float, now_ms: int) -> list[Report]:
        """What is told now: mostly one report; none where a batch came before its time."""
        rng = self._rng
        channel = self._channels.draw(rng)
        if self._owed[channel]:
            self._owed[channel] -= 1
            return []
        share = self._offline[channel]
        if share and rng.random() < share:
            return self._batch(channel, due_s, now_ms)
        telling = self._telling(channel, now_ms)
        return [self._report(telling, due_s)]

    def _batch(self, channel: str, due_s: float, now_ms: int) -> list[Report]:
        """A worker's reports of hours, uploaded together."""
        rng = self._rng
        offline = self._numbers.people[channel].offline
        assert offline is not None, "only asked for where there are such batches"
        worker = self._reporter()
        begun = rng.uniform(1.0, 6.0) * 3_600_000
        group = f"{channel}-{next(self._number)}"
        reports = []
        for place in range(offline.size):
            seen_ms = now_ms - int(begun * (1.0 - place / offline.size))
            telling = self._telling(channel, now_ms, fresh=True)
            telling.reporter, telling.seen_ms = worker, seen_ms
            telling.defects.append("late_batch")
            reports.append(self._report(telling, due_s, group))
        self._owed[channel] += offline.size - 1
        return reports

    def _report(self, telling: Telling, due_s: float, group: str = "") -> Report:
        return Report(
            due_s,
            telling.channel,
            telling.native_id,
            telling.revision,
            self._native.of(telling),
            telling.matters,
            telling.point is not None or telling.exif is not None,
            tuple(telling.defects),
            group,
            # The window takes attachments as files.
            tuple(map(bytes.fromhex, telling.media)) if telling.channel == "online_window" else (),
        )

    def _telling(self, channel: str, now_ms: int, *, fresh: bool = False) -> Telling:
        rng = self._rng
        if not fresh and rng.random() < self._scenario.near_duplicates:
            kind = self._repeats[channel].draw(rng)
            found = self._again(channel, kind, now_ms)
            if found is not None:
                return found
        matter = self._world.matter(self._classes[channel].draw(rng))
        if not self._only_standing:
            self._matters[matter.code].remember(matter)
        return self._remembered(self._tell(channel, matter, now_ms))

    def _remembered(self, telling: Telling) -> Telling:
        if not self._only_standing or telling.matters[0].id in self._standing_ids:
            self._told[telling.channel].remember(telling)
        return telling

    def _again(self, channel: str, kind: str, now_ms: int) -> Telling | None:
        """A known matter in one of the ways in which it comes again; None when none is known."""
        rng = self._rng
        if kind not in ("co_report", "forwarded"):
            told = self._told[channel]
            if told:
                return self._varied(pick(rng, told), kind, now_ms)
        if kind == "forwarded":
            partner = "police110" if channel == "hotline12345" else "hotline12345"
            if self._told[partner]:
                return self._forwarded(channel, pick(rng, self._told[partner]), now_ms)
        matter = self._known(channel)
        if matter is None:
            return None
        return self._remembered(self._tell(channel, matter, now_ms))

    def _known(self, channel: str) -> Matter | None:
        """A matter that was told of, of a class that the channel tells of."""
        rng = self._rng
        standing = self._standing[channel]
        if standing and rng.random() < self._scenario.standing.share:
            # Some places are told of far more than others.
            return standing[int(rng.random() ** 2 * len(standing))]
        for _ in range(DRAWS):
            known = self._matters[self._classes[channel].draw(rng)]
            if known:
                found: Matter = pick(rng, known)
                return found
        return None

    def _varied(self, told: Telling, kind: str, now_ms: int) -> Telling:
        """An earlier report of the channel, come again."""
        if kind == "resent":
            return replace(told, defects=[*told.defects, "resent"])
        kept = [d for d in told.defects if d not in COMING]
        if kind == "revised":
            # What is sent or revised again from now on is the newest revision.
            told.revision += 1
            told.text, told.told_ms, told.native = f"{told.text}({told.revision})", now_ms, None
            return replace(told, defects=[*kept, kind])
        again = replace(told, told_ms=now_ms, defects=[*kept, kind], native=None)
        again.native_id, again.revision = self._id(), 0
        if kind == "urge":
            again.text = pick(self._rng, self._words.urge).format(text=told.text)
            again.seen_ms = self._seen_ms(now_ms)
        elif kind == "resent_photo":
            again.reporter = self._reporter()
        elif kind == "pasted":
            again.reporter = self._reporter()
            again.media = []
        elif kind == "burst":
            fresh = self._tell(told.channel, told.matters[0], now_ms)
            fresh.reporter = told.reporter
            fresh.defects.append("burst")
            return fresh
        elif kind == "shift_double":
            again.reporter, again.media = self._reporter(), self._media(told.channel)
            again.seen_ms = told.seen_ms + self._rng.randrange(60_000, 1_800_000)
            again.seen_ms = min(again.seen_ms, now_ms)
        return again

    def _forwarded(self, channel: str, told: Telling, now_ms: int) -> Telling:
        """What the partner had, handed over with its number there."""
        if channel == told.channel:
            return told
        kept = [d for d in told.defects if d in ("two_matters", "colloquial", "speech_error")]
        again = self._tell(channel, told.matters[0], now_ms)
        again.matters, again.defects = told.matters, [*again.defects, *kept, "forwarded"]
        again.reporter, again.text, again.seen_ms = told.reporter, told.text, told.seen_ms
        again.forwarded = f"{told.channel}/{told.native_id}"
        return self._remembered(again)

    def _tell(self, channel: str, matter: Matter, now_ms: int) -> Telling:
        """A person tells of a matter for the first time."""
        rng = self._rng
        person = self._numbers.people[channel]
        hits: set[str] = {name for name, share in self._defects[channel] if rng.random() < share}
        place = matter.place
        where = place.called if "colloquial" in hits else place.spot
        handled = bool(person.self_handled) and rng.random() < person.self_handled
        word = matter.word if rng.random() < SAME_WORD else self._world.word(matter.code)
        text = self._text(channel, where, word, handled)
        matters: tuple[Matter, ...] = (matter,)
        if "two_matters" in hits:
            other = self._world.matter(self._classes[channel].draw(rng))
            second = pick(rng, self._words.second)
            text = second.format(text=text, place=other.place.spot, what=other.word)
            matters = (matter, other)
        title = f"{place.street}{word}"
        if "typing_error" in hits:
            text, title = self._spoilt(text, self._words.homophones), word
        if "speech_error" in hits:
            text = self._spoilt(text, self._words.speech | self._words.homophones)
        category, wrong = self._category(person, matter)
        if wrong:
            hits.add("wrong_class")
        seen_ms = self._seen_ms(now_ms)
        if "months_old" in hits:
            seen_ms -= rng.randrange(30, 200) * DAY_MS
        if "clock_drift" in hits:
            drift = rng.uniform(*self._numbers.clock_drift_s) * 1000
            seen_ms += int(drift if rng.random() < 0.5 else -drift)
        point, crs = self._point(channel, place, person, hits)
        # Sorted, because a set of texts has another order in each process.
        defects: list[str] = sorted(hits)
        return Telling(
            channel=channel,
            native_id=self._id(),
            matters=matters,
            defects=defects,
            seen_ms=seen_ms,
            told_ms=now_ms,
            reporter=self._reporter(),
            title=title,
            text=text,
            address=where if "colloquial" in hits else place.address,
            district="" if "colloquial" in hits and rng.random() < 0.5 else place.district,
            street="" if "colloquial" in hits else place.street,
            point=point,
            crs=crs,
            exif=self._exif(place, person),
            category=category,
            media=self._media(channel),
            handled=handled,
        )

    def _text(self, channel: str, where: str, what: str, handled: bool) -> str:
        words = self._words
        kinds = {
            "hotline12345": words.call,
            "photo_app": words.post,
            "grid_patrol": words.handled if handled else words.patrol,
            "city_management": words.case,
            "online_window": words.form,
            "mailbox": words.letter,
            "police110": words.police,
        }
        return pick(self._rng, kinds[channel]).format(place=where, what=what)

    def _spoilt(self, text: str, wrong: dict[str, str]) -> str:
        """The text with one or two of its characters wrong."""
        places = [i for i, character in enumerate(text) if character in wrong]
        if not places:
            return text
        chosen = set(self._rng.sample(places, min(len(places), self._rng.randrange(1, 3))))
        return "".join(wrong[c] if i in chosen else c for i, c in enumerate(text))

    def _category(self, person: Person, matter: Matter) -> tuple[str, bool]:
        """The class that the reporter names, and whether it is another than the matter's."""
        rng = self._rng
        if rng.random() >= person.category.given:
            return "", False
        if rng.random() >= person.category.wrong or len(self._all_codes) < 2:
            return matter.code, False
        code = pick(rng, self._all_codes)
        return code, code != matter.code

    def _point(
        self, channel: str, place: Place, person: Person, hits: set[str]
    ) -> tuple[Point | None, str]:
        """The point as sent and its system; what is wrong with it is in ``hits``."""
        rng = self._rng
        crs = SYSTEM[channel]
        if not crs or "no_point" in hits:
            hits -= OF_POINTS
            return None, ""
        if "at_home" in hits:
            place = next(self._world.places)
        if person.bd09 and rng.random() < person.bd09:
            crs = "BD09"
        east, north = rng.gauss(0.0, person.scatter_m), rng.gauss(0.0, person.scatter_m)
        if crs == "CITY":
            if place.plane is None:
                return None, ""
            return (round(place.plane[0] + east, 3), round(place.plane[1] + north, 3)), crs
        if "wrong_crs" in hits:
            lon, lat = place.cgcs2000 if crs in ("GCJ02", "BD09") else place.gcj02
        else:
            lon, lat = {"GCJ02": place.gcj02, "BD09": place.bd09}.get(crs, place.cgcs2000)
        if "null_point" in hits:
            return (0.0, 0.0), crs
        if "outside" in hits:
            lon += self._numbers.outside_degrees
        lon, lat = lon + east / METRES_PER_DEGREE, lat + north / METRES_PER_DEGREE
        digits = 2 if "rounded" in hits else 6
        return (round(lon, digits), round(lat, digits)), crs

    def _exif(self, place: Place, person: Person) -> Point | None:
        """The camera's own point, which is at the scene whatever the map says."""
        rng = self._rng
        if not person.exif or rng.random() >= person.exif:
            return None
        east, north = rng.gauss(0.0, person.scatter_m), rng.gauss(0.0, person.scatter_m)
        lon, lat = place.cgcs2000
        return round(lon + east / METRES_PER_DEGREE, 6), round(lat + north / METRES_PER_DEGREE, 6)

    def _media(self, channel: str) -> list[str]:
        """SHA-256 of each photo, as if there were one."""
        most = {"photo_app": 3, "grid_patrol": 3, "online_window": 2}.get(channel, 0)
        if not most:
            return []
        rng = self._rng
        return [f"{rng.getrandbits(256):064x}" for _ in range(1 + int(rng.random() * most))]

    def _seen_ms(self, now_ms: int) -> int:
        return now_ms - int(self._rng.expovariate(1.0 / self._numbers.delay_s) * 1000)

    def _reporter(self) -> int:
        return int(self._rng.random() * REPORTERS)

    def _id(self) -> str:
        return f"{self._tag}{next(self._number):07d}"


def _start_share(person: Person) -> float:
    """How often a report begins a batch, so that the share of reports in batches is as said."""
    if person.offline is None:
        return 0.0
    share, size = person.offline.share, person.offline.size
    return share / (size - share * (size - 1))
