"""`quanyu city build`: the grids that a pack ships no geometry for, generated below those that it ships.

Every grid of the finest shipped level is filled with points, denser towards its district's centre, and
these are split in two again and again until each grid of each level has its share (a k-d tree whose leaves
are the micro-grids). The micro-grids are the Voronoi cells of the leaves, cut at the shipped borders; a
coarser grid is the union of its parts. So nesting is exact, siblings share their vertices, and there is
neither gap nor overlap. All coordinates lie on a lattice of :data:`LATTICE` degrees (1 cm).

Deterministic: the same pack gives the same bytes (on one version of numpy, GEOS and arrow).
"""

import fcntl
import hashlib
import json
import os
import random
import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.parquet as pq
import shapely

from schemas.city import GENERATOR, MANIFEST, CityPack, Synthesis
from schemas.errors import QuanyuError
from schemas.grids import (
    LEVELS,
    SPECIAL,
    Grid,
    GridLayer,
    Polygons,
    read_table,
    write_layer,
    write_table,
)

#: Degrees; far finer than any survey, far coarser than the rounding of a double.
LATTICE = 1e-7
DECIMALS = 7
#: Points per micro-grid: enough that the middle of a leaf is near the middle of its cell.
POINTS = 6
#: The density of points falls to a half at this share of the base grid's radius, and never below this floor.
CORE_RADIUS, DENSITY_FLOOR = 0.25, 0.03
#: Share of a micro-grid's extent that a special grid in it takes.
SPECIAL_EXTENT = 0.8
STAFF = "staff.parquet"

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Say = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Built:
    """Where the layers are; ``seconds`` is 0 when they were there already."""

    folder: Path
    digest: str
    counts: dict[str, int]
    seconds: float


@dataclass(slots=True)
class _Node:
    """A grid to be and its children; ``size`` is how many micro-grids it holds."""

    code: str
    name: str
    synthetic: bool
    urban: bool
    children: list["_Node"]
    size: int = 0


def build(city: CityPack, out: Path | None = None, say: Say = lambda line: None) -> Built:
    """Generate the pack's layers into its cache folder, or into ``out``; once, whoever asks first.

    Raises :class:`QuanyuError` when the pack generates nothing or cannot be filled as it asks.
    """
    if city.synthesis is None:
        raise QuanyuError(
            f"{city.folder}/city.yaml: has no synthesis; the pack's own layers are all"
        )
    if out is not None:
        started = time.monotonic()
        out.mkdir(parents=True, exist_ok=True)
        return _built(out, _generate(city, city.synthesis, out, say), started)
    folder = city.generated
    folder.parent.mkdir(parents=True, exist_ok=True)
    with (folder.parent / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if (folder / MANIFEST).exists():
            return _built(folder, json.loads((folder / MANIFEST).read_text(encoding="utf-8")))
        started = time.monotonic()
        draft = folder.with_name(f"{folder.name}.new")
        for remains in (draft, folder):
            shutil.rmtree(remains, ignore_errors=True)
        draft.mkdir()
        manifest = _generate(city, city.synthesis, draft, say)
        draft.rename(folder)
    return _built(folder, manifest, started)


def export(city: CityPack, built: Built, out: Path) -> list[Path]:
    """Write the built layers as GeoJSON, one file a level."""
    out.mkdir(parents=True, exist_ok=True)
    written = []
    for level in built.counts:
        source = built.folder / f"{level}.parquet"
        if source.exists():
            layer = read_table(source)
            path = out / f"{level}.geojson"
            write_layer(path, layer.grids, layer.polygons)
            written.append(path)
    return written


def _built(folder: Path, manifest: dict[str, object], started: float | None = None) -> Built:
    found, files = manifest["counts"], manifest["files"]
    assert isinstance(found, dict), manifest
    counts = {level: int(found[level]) for level in (*LEVELS, SPECIAL) if level in found}
    digest = hashlib.sha256(json.dumps(files, sort_keys=True).encode()).hexdigest()
    return Built(folder, digest, counts, 0.0 if started is None else time.monotonic() - started)


def _generate(city: CityPack, synthesis: Synthesis, folder: Path, say: Say) -> dict[str, object]:
    """Write every layer from the base down, the roster, and last the manifest, which is returned."""
    base = city.own_layer(city.base)
    chance = random.Random(synthesis.seed)  # noqa: S311 # a plan of names and sizes, no secret
    say(f"{city.name}: planning {city.counts.get('micro', 0)} micro-grids")
    roots = _plan(city, synthesis, base, chance)
    say("placing them")
    seeds = [_place(city, synthesis, base, i, root) for i, root in enumerate(roots)]
    say("drawing borders")
    micro = _cells(base.polygons, seeds)
    say("joining them to coarser grids")
    layers = _layers(synthesis, city.base, roots, micro)
    layers[SPECIAL] = _special(city, synthesis, layers["micro"], chance)
    for level, layer in layers.items():
        write_table(folder / f"{level}.parquet", layer)
    if synthesis.staff:
        _write_staff(folder / STAFF, synthesis, layers)
    files = {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(folder.glob("*.parquet"))
    }
    counts = {level: len(layer) for level, layer in layers.items()}
    manifest = {"generator": GENERATOR, "city": city.code, "counts": counts, "files": files}
    draft = folder / f"{MANIFEST}.new"
    draft.write_text(json.dumps(manifest, indent=1, sort_keys=True) + "\n", encoding="utf-8")
    os.replace(draft, folder / MANIFEST)
    return manifest


# --- which grids there are -------------------------------------------------------------------


def _plan(
    city: CityPack, synthesis: Synthesis, base: GridLayer, chance: random.Random
) -> list[_Node]:
    """The tree of grids below each base grid, down to the number of micro-grids of each."""

    def urban(name: str) -> bool:
        return any(word in name for word in synthesis.urban)

    roots = [
        _Node(code, name, synthetic, urban(name), [])
        for code, name, synthetic in zip(
            base.codes.tolist(), base.names, base.synthetic.tolist(), strict=True
        )
    ]
    nodes = roots
    for level, places in (("street", city.streets), ("community", city.communities)):
        if LEVELS[level] <= LEVELS[city.base]:
            continue
        by_code = {node.code: node for node in nodes}
        cut = LEVELS[level] - 3
        for place in places:
            parent = by_code.get(place.code[:cut])
            if parent is not None:
                node = _Node(place.code, place.name, place.synthetic, urban(place.name), [])
                parent.children.append(node)
        nodes = _children(city, nodes, level)
    if LEVELS[city.base] < LEVELS["compound"]:
        # A compound has a like number of micro-grids in town and outside; so both share the contrast.
        weights = [_weight(node, synthesis) ** 0.5 * chance.uniform(0.6, 1.4) for node in nodes]
        shares = apportion(_count(city, "compound"), weights)
        for node, share in zip(nodes, shares, strict=True):
            node.children = _compounds(node, share, synthesis, chance)
        nodes = _children(city, nodes, "compound")
    weights = [_weight(node, synthesis) ** 0.5 * chance.uniform(0.6, 1.4) for node in nodes]
    for node, share in zip(nodes, apportion(_count(city, "micro"), weights), strict=True):
        node.size = share
    for root in roots:
        _sum(root)
    return roots


def _weight(node: _Node, synthesis: Synthesis) -> float:
    return synthesis.urban_weight if node.urban else 1.0


def _count(city: CityPack, level: str) -> int:
    if level not in city.counts:
        raise QuanyuError(f"{city.folder}/city.yaml: counts: says no number of the level {level}")
    return city.counts[level]


def _children(city: CityPack, nodes: Sequence[_Node], level: str) -> list[_Node]:
    empty = next((node for node in nodes if not node.children), None)
    if empty is not None:
        raise QuanyuError(
            f"{city.folder}: {empty.code} {empty.name} has no {level}; add one to the table of that level"
        )
    for node in nodes:
        node.children.sort(key=lambda child: child.code)
        if len(node.children) > 999:
            raise QuanyuError(
                f"{city.folder}: {node.code} would have {len(node.children)} children"
            )
    return [child for node in nodes for child in node.children]


def _compounds(
    node: _Node, number: int, synthesis: Synthesis, chance: random.Random
) -> list[_Node]:
    pool = synthesis.names.compound_urban if node.urban else synthesis.names.compound_rural
    start = int(chance.random() * len(pool)) if node.urban else 0
    made = []
    for i in range(number):
        name, round_ = pool[(start + i) % len(pool)], i // len(pool)
        if round_:
            name = synthesis.names.again.format(name=name, n=round_ + 1)
        made.append(_Node(f"{node.code}{i + 1:03d}", name, True, node.urban, []))
    return made


def _sum(node: _Node) -> int:
    if node.children:
        node.size = sum(_sum(child) for child in node.children)
    return node.size


def apportion(total: int, weights: Sequence[float], least: int = 1) -> list[int]:
    """Whole shares of ``total`` by weight (largest remainders), none below ``least``.

    Raises :class:`QuanyuError` when ``total`` does not suffice for that.
    """
    rest = total - least * len(weights)
    if rest < 0:
        raise QuanyuError(f"{total} grids cannot be shared out among {len(weights)}; raise counts")
    exact = np.array(weights) * (rest / sum(weights))
    shares = np.floor(exact).astype(int)
    order = np.lexsort((np.arange(len(exact)), shares - exact))
    shares[order[: rest - int(shares.sum())]] += 1
    return [least + int(share) for share in shares]


# --- where they are --------------------------------------------------------------------------


def _place(
    city: CityPack, synthesis: Synthesis, base: GridLayer, number: int, root: _Node
) -> Floats:
    """One point for each micro-grid of a base grid, in the order of codes (degrees)."""
    polygon = base.polygons[number]
    shapely.prepare(polygon)
    squeeze = _squeeze(polygon)
    middle = shapely.centroid(polygon)
    centre = synthesis.centres.get(root.code[: LEVELS["district"]], (middle.x, middle.y))
    points = _points(polygon, centre, squeeze, root.size * POINTS, (synthesis.seed, int(root.code)))
    plane = points * [squeeze, 1.0]
    leaves: list[Ints] = []
    _descend(plane, np.arange(len(plane)), root, np.array(centre) * [squeeze, 1.0], leaves)
    index = np.array(leaves)  # micro-grids x POINTS
    mean = plane[index].mean(axis=1)
    # The middle itself may lie outside a bent polygon; then the point next to it stands for it.
    nearest = np.argmin(((plane[index] - mean[:, None]) ** 2).sum(axis=2), axis=1)
    seeds: Floats = points[index[np.arange(len(index)), nearest]]
    mean /= [squeeze, 1.0]
    inside = shapely.contains_xy(polygon, mean[:, 0], mean[:, 1])
    seeds[inside] = mean[inside]
    return seeds


def _squeeze(polygon: shapely.Geometry) -> float:
    """How much shorter a degree of longitude is than one of latitude here."""
    return float(np.cos(np.radians(shapely.centroid(polygon).y)))


def _points(
    polygon: shapely.Geometry,
    centre: tuple[float, float],
    squeeze: float,
    number: int,
    seed: tuple[int, ...],
) -> Floats:
    """So many points in a polygon, the denser the nearer to the centre."""
    generator = np.random.default_rng(seed)
    west, south, east, north = shapely.bounds(polygon)
    reach = CORE_RADIUS * np.sqrt(shapely.area(polygon) * squeeze / np.pi)
    found: list[Floats] = []
    have = 0
    while have < number:
        draws = generator.random((4 * number, 3))
        x, y = west + draws[:, 0] * (east - west), south + draws[:, 1] * (north - south)
        away = ((x - centre[0]) * squeeze) ** 2 + (y - centre[1]) ** 2
        kept = draws[:, 2] < np.maximum(DENSITY_FLOOR, 1.0 / (1.0 + away / reach**2))
        x, y = x[kept], y[kept]
        kept = shapely.contains_xy(polygon, x, y)
        found.append(np.column_stack((x[kept], y[kept])))
        have += int(kept.sum())
    return np.concatenate(found)[:number]


def _descend(plane: Floats, index: Ints, node: _Node, centre: Floats, leaves: list[Ints]) -> None:
    """Share a node's points out among its children; appends those of each micro-grid in order."""
    if not node.children:
        _share(plane, index, [POINTS] * node.size, leaves)
        return
    groups = [node.children]
    parts = [index]
    if len(node.code) == LEVELS["district"]:
        # Built-up streets lie round the centre, towns round about them.
        inner = [child for child in node.children if _urban(child)]
        outer = [child for child in node.children if not _urban(child)]
        if inner and outer:
            groups = [inner, outer]
            away = ((plane[index] - centre) ** 2).sum(axis=1)
            cut = sum(child.size for child in inner) * POINTS
            order = np.argpartition(away, cut)
            parts = [index[order[:cut]], index[order[cut:]]]
    by_code: dict[str, Ints] = {}
    for group, part in zip(groups, parts, strict=True):
        shares: list[Ints] = []
        _share(plane, part, [child.size * POINTS for child in group], shares)
        by_code.update((child.code, share) for child, share in zip(group, shares, strict=True))
    for child in node.children:
        _descend(plane, by_code[child.code], child, centre, leaves)


def _urban(node: _Node) -> bool:
    """Whether most of a node's communities are built up."""
    if not node.children:
        return node.urban
    return 2 * sum(child.urban for child in node.children) > len(node.children)


def _share(plane: Floats, index: Ints, sizes: Sequence[int], shares: list[Ints]) -> None:
    """Split points in two along their longer extent until each size has its own, from the north-west."""
    if len(sizes) == 1:
        shares.append(index)
        return
    sums = np.cumsum(sizes)
    half = int(np.argmin(np.abs(sums[:-1] - sums[-1] / 2))) + 1
    cut = int(sums[half - 1])
    points = plane[index]
    width, height = np.ptp(points, axis=0)
    order = np.argpartition(points[:, 0] if width >= height else -points[:, 1], cut)
    _share(plane, index[order[:cut]], sizes[:half], shares)
    _share(plane, index[order[cut:]], sizes[half:], shares)


# --- their polygons --------------------------------------------------------------------------


def _cells(borders: Polygons, seeds: Sequence[Floats]) -> Polygons:
    """The cell of every seed, cut at the borders of its base grid; in order."""
    inner: list[Polygons] = []
    crossing: list[Polygons] = [shapely.boundary(borders)]
    for border, points in zip(borders, seeds, strict=True):
        edges = _edges(border, points)
        inside = shapely.contains_properly(border, edges)
        inner.append(edges[inside])
        cut = shapely.get_parts(shapely.intersection(edges[~inside], border))
        crossing.append(cut[shapely.get_dimensions(cut) == 1])
    # Both sides of a border need the ends of all edges that meet it: noded on the lattice, together.
    net = shapely.get_parts(shapely.union_all(np.concatenate(crossing), grid_size=LATTICE))
    faces = _faces(np.concatenate([net, *inner]))
    if not shapely.coverage_is_valid(faces):
        # Edges that meet only after rounding: rare, so the long way is for them alone.
        every = shapely.union_all(np.concatenate(crossing + inner), grid_size=LATTICE)
        faces = _faces(shapely.get_parts(every))
    return _owned(borders, seeds, faces)


def _edges(border: shapely.Geometry, points: Floats) -> Polygons:
    """Edges between the Voronoi cells of points, on the lattice; none for a single point."""
    if len(points) == 1:
        return np.empty(0, dtype=object)
    stretch = np.array([_squeeze(border), 1.0])
    west, south, east, north = shapely.bounds(border)
    frame = shapely.box(west * stretch[0], south, east * stretch[0], north)
    drawn = shapely.voronoi_polygons(
        shapely.multipoints(points * stretch), extend_to=frame, only_edges=True
    )
    # An edge of the frame's corner may have more than two points.
    lines = shapely.get_parts(drawn)
    ends, line = shapely.get_coordinates(lines, return_index=True)
    ends = np.round(ends / stretch, DECIMALS)
    follows = np.flatnonzero(line[1:] == line[:-1])
    pairs = np.stack((ends[follows], ends[follows + 1]), axis=1)
    edges: Polygons = shapely.linestrings(pairs[(pairs[:, 0] != pairs[:, 1]).any(axis=1)])
    return edges


def _faces(net: Polygons) -> Polygons:
    return shapely.get_parts(shapely.polygonize(net))


def _owned(borders: Polygons, seeds: Sequence[Floats], faces: Polygons) -> Polygons:
    """Faces joined to the cell of each seed; what lies in no base grid is dropped."""
    spots = shapely.point_on_surface(faces)
    which, base = shapely.STRtree(borders).query(spots, predicate="intersects")
    first = np.concatenate(([0], np.cumsum([len(points) for points in seeds])))
    owner = np.full(len(faces), -1)
    for number, points in enumerate(seeds):
        mine = which[base == number]
        stretch = np.array([_squeeze(borders[number]), 1.0])
        tree = shapely.STRtree(shapely.points(points * stretch))
        targets = shapely.points(shapely.get_coordinates(spots[mine]) * stretch)
        face, seed = tree.query_nearest(targets, all_matches=False)
        owner[mine[face]] = first[number] + seed
    kept = np.flatnonzero(owner >= 0)
    kept = kept[np.argsort(owner[kept], kind="stable")]
    return _unions(faces[kept], owner[kept], int(first[-1]))


def _unions(parts: Polygons, owner: Ints, number: int) -> Polygons:
    """Union of the parts of each owner 0 … number - 1; ``owner`` is sorted."""
    starts = np.searchsorted(owner, np.arange(number + 1))
    joined = np.empty(number, dtype=object)
    for i in range(number):
        group = parts[starts[i] : starts[i + 1]]
        joined[i] = group[0] if len(group) == 1 else shapely.coverage_union_all(group)
    # One order of rings and points, so that equal polygons are equal bytes.
    return shapely.normalize(joined)


def _layers(
    synthesis: Synthesis, base: str, roots: list[_Node], micro: Polygons
) -> dict[str, GridLayer]:
    """The layers from the base to the micro-grids; a coarser polygon is the union of its parts."""
    rows: dict[str, list[_Node]] = {}
    nodes = roots
    for level in (level for level in LEVELS if LEVELS[level] >= LEVELS[base] and level != "micro"):
        rows[level] = nodes
        nodes = [child for node in nodes for child in node.children]
    names = synthesis.names.micro
    finest = [
        Grid(f"{node.code}{n:03d}", f"{node.name}{names.format(n=n)}", "micro", day, None, True)
        for day in (synthesis.valid_from,)
        for node in rows["compound"]
        for n in range(1, node.size + 1)
    ]
    layers = {"micro": GridLayer(finest, micro)}
    parts = micro
    number = np.repeat(np.arange(len(rows["compound"])), [n.size for n in rows["compound"]])
    for level in reversed(rows):
        parts = _unions(parts, number, len(rows[level]))
        grids = [
            # Below the base no border is a real one, whatever the name is.
            Grid(n.code, n.name, level, synthesis.valid_from, None, n.synthetic or level != base)
            for n in rows[level]
        ]
        layers[level] = GridLayer(grids, parts)
        above = [n for n in rows if LEVELS[n] == LEVELS[level] - 3]
        if above:
            sizes = [len(node.children) for node in rows[above[0]]]
            number = np.repeat(np.arange(len(sizes)), sizes)
    return {level: layers[level] for level in LEVELS if level in layers}


def _special(
    city: CityPack, synthesis: Synthesis, micro: GridLayer, chance: random.Random
) -> GridLayer:
    """Special grids: each inside one micro-grid, smaller than it."""
    middle = shapely.get_coordinates(shapely.centroid(micro.polygons))
    corners, which = shapely.get_coordinates(micro.polygons, return_index=True)
    shrunk = np.round(middle[which] + (corners - middle[which]) * SPECIAL_EXTENT, DECIMALS)
    drawn = shapely.set_coordinates(micro.polygons.copy(), shrunk)
    roomy = shapely.is_valid(drawn) & shapely.covers(micro.polygons, drawn)
    places: dict[str, list[int]] = {}
    for i in np.flatnonzero(roomy).tolist():
        places.setdefault(str(micro.codes[i])[: LEVELS["community"]], []).append(i)
    names = {place.code: place.name for place in city.communities}
    codes = sorted(places)
    wanted = _count(city, SPECIAL)
    # Some have none and some have several; the most loaded are asked first.
    tickets = sorted(
        (chance.random() / (j + 1) / len(places[code]) ** 0.25, code)
        for code in codes
        for j in range(len(places[code]))
    )
    taken: dict[str, int] = {}
    for _, code in tickets[:wanted]:
        taken[code] = taken.get(code, 0) + 1
    if sum(taken.values()) < wanted:
        raise QuanyuError(f"{city.folder}: no room for {wanted} special grids; lower counts")
    grids, polygons = [], []
    kinds = synthesis.names.special
    for code in sorted(taken):
        chosen = sorted(chance.sample(places[code], taken[code]))
        short = _short(names.get(code, ""), synthesis.names.short)
        start = int(chance.random() * len(kinds))
        for n, i in enumerate(chosen):
            name, round_ = f"{short}{kinds[(start + n) % len(kinds)]}", n // len(kinds)
            if round_:
                name = synthesis.names.again.format(name=name, n=round_ + 1)
            day = synthesis.valid_from
            grids.append(Grid(f"{code}Z{n + 1:03d}", name, SPECIAL, day, None, True))
            polygons.append(drawn[i])
    array = np.empty(len(polygons), dtype=object)
    array[:] = polygons
    return GridLayer(grids, array)


def _short(name: str, endings: Sequence[str]) -> str:
    ending = next((ending for ending in endings if name.endswith(ending)), "")
    return name.removesuffix(ending) or name


def _write_staff(path: Path, synthesis: Synthesis, layers: dict[str, GridLayer]) -> None:
    """The demonstration roster: one person a grid of each role, the rest helps in the compounds."""
    staff = synthesis.staff
    assert staff is not None, "only asked for when there is one"
    roles: list[str] = []
    codes: list[str] = []
    for level, role in staff.roles.items():
        if level in layers:
            codes += layers[level].codes.tolist()
            roles += [role] * len(layers[level])
    rest = staff.total - len(codes)
    if rest < 0:
        raise QuanyuError(f"city.yaml: synthesis.staff.total: the roles alone are {len(codes)}")
    compounds = layers.get("compound", layers["micro"])
    cut = len(str(compounds.codes[0]))
    load = np.unique(
        [str(code)[:cut] for code in layers["micro"].codes.tolist()], return_counts=True
    )
    helpers = apportion(rest, load[1].tolist(), least=0)
    codes += np.repeat(load[0], helpers).tolist()
    roles += [staff.helper] * rest
    ids = [f"S{n:07d}" for n in range(1, staff.total + 1)]
    table = pa.table(
        {
            "staff_id": pa.array(ids),
            "name": pa.array([f"{staff.person}{i[1:]}" for i in ids]),
            "role": pa.array(roles),
            "grid_code": pa.array(codes),
        }
    )
    pq.write_table(table, path, compression="zstd")
