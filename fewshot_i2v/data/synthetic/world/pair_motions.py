"""Motions of two bodies: they meet, part, follow, orbit, push, hide behind each other."""

from __future__ import annotations

from functools import partial

import numpy as np

from fewshot_i2v.data.synthetic.shapes import KeyedRandom
from fewshot_i2v.data.synthetic.world.body_track import (
    TURN,
    Series,
    Tracks,
    place_together,
    ramp,
    rotate,
    sway,
    there_and_back,
    with_changes,
)

_SMALLER = 0.75  # two bodies need more room than one
_HIDER = 1.35  # size of what hides a body, which itself is _HIDDEN
_HIDDEN = 0.7


def _on_a_line(
    rng: KeyedRandom,
    p: Series,
    size: float,
    first: Series | float,
    second: Series | float,
    aside: float = 0.0,
) -> Tracks:
    """Place two bodies at distances (T,) along a line of random direction.

    The second one is `aside` of it, in sizes. Each of the two is smaller than one body alone.
    """
    angle, size = rng.uniform(0, TURN), _SMALLER * size
    paths = [rotate(first, 0.0, angle), rotate(second, aside * size, angle)]
    return tuple(place_together(rng, p, size, paths))


def _touching(size: float) -> float:
    """Return the distance of two bodies' centres where they about touch."""
    return 1.7 * _SMALLER * size


def approach(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Both come together."""
    near, far = 0.5 * _touching(size), rng.uniform(0.3, 0.38)
    half = far + (near - far) * p
    return _on_a_line(rng, p, size, -half, half)


def part_and_meet(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Both move apart and come back."""
    near, far = 0.5 * _touching(size), rng.uniform(0.28, 0.36)
    half = near + (far - near) * there_and_back(p)
    return _on_a_line(rng, p, size, -half, half)


def collide(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Both come together, bounce off and move apart."""
    near, far = 0.5 * _touching(size), rng.uniform(0.3, 0.38)
    half = near + (far - near) * np.abs(2 * p - 1)
    return _on_a_line(rng, p, size, -half, half)


def swap(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Each moves to where the other was."""
    half = rng.uniform(0.24, 0.32) * (2 * p - 1)
    return _on_a_line(rng, p, size, -half, half, aside=rng.uniform(-0.6, 0.6))


def catch_up(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Both move the same way, and the one behind catches up."""
    gap, way = rng.uniform(0.3, 0.38), rng.uniform(0.14, 0.2)
    ahead = gap + way * p
    return _on_a_line(rng, p, size, (way + gap - _touching(size)) * p, ahead)


def follow_along(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One follows the other at the same speed."""
    way = rng.uniform(0.36, 0.46) * p
    return _on_a_line(rng, p, size, way, way + _touching(size) + rng.uniform(0, 0.05))


def side_by_side(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Both move the same way beside each other."""
    way = rng.uniform(0.4, 0.5) * p
    return _on_a_line(rng, p, size, way, way, aside=rng.choice((-1.0, 1.0)) * rng.uniform(2, 2.6))


def one_after_the_other(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """First one moves, then the other the same way beside it."""
    way = rng.uniform(0.4, 0.5)
    first, second = way * ramp(p, 0.02, 0.48), way * ramp(p, 0.52, 0.98)
    aside = rng.choice((-1.0, 1.0)) * rng.uniform(2, 2.6)
    return _on_a_line(rng, p, size, first, second, aside)


def push(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One comes to the other, which rests, and pushes it along."""
    way, start = rng.uniform(0.5, 0.6), rng.uniform(0.24, 0.3)
    first = way * p
    return _on_a_line(rng, p, size, first, np.maximum(start, first) + _touching(size))


def knock(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One comes to the other and stops; the other moves on."""
    way = rng.uniform(0.27, 0.33)
    first, second = way * ramp(p, 0.0, 0.5), way * ramp(p, 0.5, 1.0)
    return _on_a_line(rng, p, size, first, way + second + _touching(size))


def seesaw(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One goes up while the other goes down, again and again."""
    lift = rng.uniform(0.16, 0.22) * sway(p, rng.uniform(1.1, 1.6), rng.uniform(0, 1))
    half = rng.uniform(0.16, 0.24)
    return tuple(place_together(rng, p, _SMALLER * size, [(-half, lift), (half, -lift)]))


def orbit(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One circles clockwise around the other, which rests."""
    angle = TURN * (rng.uniform(0.92, 1.15) * p + rng.uniform(0, 1))
    radius = rng.uniform(0.25, 0.3)
    return tuple(
        place_together(
            rng, p, _SMALLER * size, [(radius * np.cos(angle), radius * np.sin(angle)), (0.0, 0.0)]
        )
    )


def circle_each_other(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Both circle clockwise around their middle."""
    angle = TURN * (rng.uniform(0.8, 1.1) * p + rng.uniform(0, 1))
    dx, dy = (rng.uniform(0.2, 0.26) * wave for wave in (np.cos(angle), np.sin(angle)))
    return tuple(place_together(rng, p, _SMALLER * size, [(dx, dy), (-dx, -dy)]))


def appear_in_turn(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """First one appears, then the other."""
    half = rng.uniform(0.18, 0.3)
    first, second = _on_a_line(rng, p, size, -half, half)
    times = rng.uniform(0.2, 0.32), rng.uniform(0.6, 0.75)
    return (
        with_changes(first, opacity=ramp(p, times[0] - 0.04, times[0] + 0.04)),
        with_changes(second, opacity=ramp(p, times[1] - 0.04, times[1] + 0.04)),
    )


def show_in_turns(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One is shown while the other is hidden, again and again."""
    half, wave = rng.uniform(0.18, 0.3), sway(p, rng.uniform(1.2, 1.7), rng.uniform(0, 1))
    first, second = _on_a_line(rng, p, size, -half, half)
    return (
        with_changes(first, opacity=np.clip(0.5 + 3 * wave, 0, 1)),
        with_changes(second, opacity=np.clip(0.5 - 3 * wave, 0, 1)),
    )


def grow_in_turns(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """One grows while the other shrinks, again and again."""
    half, wave = rng.uniform(0.2, 0.28), sway(p, rng.uniform(1.1, 1.6), rng.uniform(0, 1))
    first, second = _on_a_line(rng, p, size, -half, half)
    return (
        with_changes(first, size=first.size * (1 + 0.5 * wave)),
        with_changes(second, size=second.size * (1 - 0.5 * wave)),
    )


def _with_hider(
    rng: KeyedRandom, p: Series, size: float, dx: Series, dy: Series | float, *, behind: bool
) -> Tracks:
    """Place a body on a path relative to a larger one, behind it or in front of it."""
    mover, hider = place_together(rng, p, _HIDER * size, [(dx, dy), (0.0, 0.0)])
    return (
        with_changes(mover, size=_HIDDEN * size),
        with_changes(hider, body="solid", depth=2 if behind else 0),
    )


def pass_across(rng: KeyedRandom, p: Series, size: float, *, behind: bool) -> Tracks:
    """Pass behind or in front of a larger body, to the right."""
    reach = _HIDER * size + rng.uniform(0.14, 0.2)
    return _with_hider(rng, p, size, reach * (2 * p - 1), 0.0, behind=behind)


def hide(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Move behind a larger body and stay there."""
    reach = _HIDER * size + rng.uniform(0.16, 0.24)
    dx, dy = rotate(reach * (1 - ramp(p, 0.0, 0.75)), 0.0, rng.uniform(0, TURN))
    return _with_hider(rng, p, size, dx, dy, behind=True)


def peek(rng: KeyedRandom, p: Series, size: float) -> Tracks:
    """Come out from behind a larger body and hide again."""
    reach = _HIDER * size + rng.uniform(0.12, 0.2)
    dx, dy = rotate(reach * there_and_back(p), 0.0, rng.uniform(0, TURN))
    return _with_hider(rng, p, size, dx, dy, behind=True)


REVERSIBLE = {
    ("come-together", "move-apart"): approach,
    ("one-catches-up", "one-falls-behind"): catch_up,
    ("one-pushes-the-next-along", "one-drags-the-next-and-leaves"): push,
    ("one-orbits-clockwise", "one-orbits-counterclockwise"): orbit,
    ("circle-each-other-clockwise", "circle-each-other-counterclockwise"): circle_each_other,
    ("appear-in-turn", "vanish-in-turn"): appear_in_turn,
    ("passes-behind-to-the-right", "passes-behind-to-the-left"): partial(pass_across, behind=True),
    ("passes-in-front-to-the-right", "passes-in-front-to-the-left"): partial(
        pass_across, behind=False
    ),
    ("hides-behind", "comes-out-from-behind"): hide,
}
"""By the names of a motion and of its reverse: the motion."""

SYMMETRIC = {
    "part-and-meet-again": part_and_meet,
    "collide-and-bounce-back": collide,
    "swap-places": swap,
    "one-follows-the-next": follow_along,
    "move-side-by-side": side_by_side,
    "move-one-after-the-next": one_after_the_other,
    "one-knocks-the-next-away": knock,
    "seesaw": seesaw,
    "show-in-turns": show_in_turns,
    "grow-in-turns": grow_in_turns,
    "peeks-out-and-hides": peek,
}
"""By name: motions that are the same kind in reverse."""
