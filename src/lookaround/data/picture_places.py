"""Tells which part and class a picture is of, by the folders that it stands in."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from pathlib import Path

from lookaround.data.pictures import PART_NAMES, UNKNOWN, part_of
from lookaround.support.errors import UserError
from lookaround.support.text import listed, one_line

Place = tuple[str, ...]  # the folders of a picture, from the outermost


def read_places(
    folder: Path, paths: Sequence[Path]
) -> tuple[list[int], list[str] | None, list[str]]:
    """(part, class of each picture in a folder, notes): FOLDER/{train,test}/CLASS, FOLDER/CLASS ..

    Folders that all others stand in are passed through, within a part as well. Classes are None
    where no picture stands in a folder of one.

    Raises UserError where something stands beside parts, or only some pictures have a class.
    """
    places: list[Place] = [path.relative_to(folder).parts[:-1] for path in paths]
    notes: list[str] = []
    places = _within(places, "", notes)
    named = _parts(places, folder)
    parts = [UNKNOWN] * len(places)
    if named:
        parts = [named[place[0]] for place in places]
        of_top: defaultdict[str, list[int]] = defaultdict(list)
        for index, place in enumerate(places):
            of_top[place[0]].append(index)
        for top, members in of_top.items():
            inner = _within([places[index][1:] for index in members], f"{top}/", notes)
            for index, place in zip(members, inner, strict=True):
                places[index] = place
    elif all(place[1:] and place[1].lower() in PART_NAMES for place in places):
        parts = [PART_NAMES[place[1].lower()] for place in places]
        places = [(place[0], *place[2:]) for place in places]
    if not any(places):
        notes.append("no folders of classes, so there are none to tell apart")
        return parts, None, notes
    if not all(places):
        lone = paths[next(index for index, place in enumerate(places) if not place)]
        raise UserError(
            f"{lone}: stands in no folder of a class, and other pictures of {folder} do; give each "
            "a class, or none"
        )
    below: defaultdict[str, set[str]] = defaultdict(set)
    for label, *deeper in places:
        below[label] |= {*deeper[:1]}
    several = next((label for label, inner in below.items() if len(inner) > 1), None)
    if several is not None:
        notes.append(
            f"folders within those of classes are not told apart ({one_line(several, 40)!r} has "
            f"{listed(sorted(below[several]), 3)})"
        )
    return parts, [place[0] for place in places], notes


def _within(places: Sequence[Place], begin: str, notes: list[str]) -> list[Place]:
    """Places within the folders that all stand in, as unpacking an archive often makes them.

    begin: of these places, for the note that is added.
    """
    common: Place = ()
    while all(len(place) > len(common) + 1 for place in places):
        inner = {place[len(common)] for place in places}
        if len(inner) > 1 or {name.lower() for name in inner} & PART_NAMES.keys():
            break
        common += (*inner,)
    if common:
        name = one_line(begin + "/".join(common), 80)
        notes.append(f"the pictures of its folder {name} are read, as if it were given")
    return [place[len(common) :] for place in places]


def _parts(places: Iterable[Place], folder: Path) -> dict[str, int]:
    """{folder: part} of the outermost folders; empty where they are classes.

    Names that only speak of a part, such as training_set, count where training and another part are
    named. Raises UserError where others stand beside parts.
    """
    places = list(places)
    tops = dict.fromkeys(place[0] if place else "" for place in places)
    exact = {top: PART_NAMES[top.lower()] for top in tops if top.lower() in PART_NAMES}
    loose = {top: part_of(top) for top in tops if part_of(top) != UNKNOWN}
    several = {0} < {*loose.values()}
    parts = loose if several else exact
    if len(parts) == len(tops):
        return parts
    # a folder "train" of pictures alone may be one of the class "train"
    deep = any(place[1:] for place in places if place and place[0] in parts)
    if several or deep:
        other = next(top for top in tops if top not in parts)
        beside = repr(one_line(other, 40)) if other else "pictures"
        raise UserError(
            f"{folder}: has a folder {one_line(next(iter(parts)), 40)!r} of a part, and {beside} "
            "beside it, of none; move that elsewhere"
        )
    return {}
