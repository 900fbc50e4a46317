"""What can be asked for beside an engine's own stems, as arithmetic of names.

`instrumental`, `karaoke` (the instrumental with quiet vocals), `no_drums` (everything but the drums) and `bass+drums`
(the sum of a subset). A formula gives each part's factor; no sample is touched here.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Literal

from ironclad.errors import BadRequest

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    Method = Literal["mixture-minus-vocals", "sum-of-stems"]
    Formula = dict[str, float]

INSTRUMENTAL: Final = "instrumental"
KARAOKE: Final = "karaoke"
VOCALS: Final = "vocals"
MIXTURE: Final = "mixture"
"""Stands for the source in a formula."""
_WITHOUT: Final = "no_"
_OWN: Final = (INSTRUMENTAL, "accompaniment", "no_vocals")
"""What engines call everything but the vocals."""


def formula(
    product: str, made: Sequence[str], *, method: Method = "mixture-minus-vocals", vocals: float = 0.0
) -> Formula:
    """Which of an engine's stems, and the mixture, with which factors, sum to a product.

    Args:
        product: what is wanted.
        made: the stems that the engine makes.
        method: how the instrumental is made (ADR 15): of the mixture and the vocals, or of everything else, which is
            the engine's own accompaniment where it makes one.
        vocals: linear factor of the vocals in the karaoke mix.

    Raises `BadRequest` for what cannot be made of these stems.
    """
    if product == INSTRUMENTAL or (product == f"{_WITHOUT}{VOCALS}" and product not in made):
        return _instrumental(made, method)
    if product in made:
        return {product: 1.0}
    if product == KARAOKE and VOCALS in made:
        parts = _instrumental(made, method)
        return {**parts, VOCALS: parts.get(VOCALS, 0.0) + vocals}
    names = product.split("+")
    if len(set(names)) == len(names) and set(names) <= set(made):
        return dict.fromkeys(names, 1.0)
    without = product.removeprefix(_WITHOUT)
    if without != product and without in made:
        rest = {stem: 1.0 for stem in made if stem != without}
        return rest if rest and method == "sum-of-stems" else {MIXTURE: 1.0, without: -1.0}
    raise BadRequest(f"There is no stem {product}; there is {', '.join(dict.fromkeys([INSTRUMENTAL, *made]))}.")


def _instrumental(made: Sequence[str], method: Method) -> Formula:
    rest = {stem: 1.0 for stem in made if stem != VOCALS}
    if VOCALS in made and (method == "mixture-minus-vocals" or not rest):
        return {MIXTURE: 1.0, VOCALS: -1.0}
    own = next((name for name in _OWN if name in made), None)
    return rest if own is None else {own: 1.0}


def stems_for(products: Iterable[str], made: Sequence[str]) -> tuple[str, ...]:
    """The engine's stems that products ask for by name, in the engine's order. Raises `BadRequest` as `formula`.

    The instrumental asks for none: whatever an engine makes, there is one.
    """
    asked = {
        stem for product in products if product != INSTRUMENTAL for stem in formula(product, made) if stem != MIXTURE
    }
    return tuple(stem for stem in made if stem in asked)


def makes(products: Iterable[str], made: Sequence[str]) -> bool:
    """Whether all products can be made of these stems."""
    try:
        stems_for(products, made)
    except BadRequest:
        return False
    return True


def words(parts: Formula) -> str:
    """A formula for people: `mixture - 0.749 vocals`."""
    text = ""
    for name, factor in parts.items():
        sign = "-" if factor < 0 else "+"
        size = "" if abs(factor) == 1 else f"{abs(factor):.3f} "
        text += f" {sign} {size}{name}" if text else f"{'-' if factor < 0 else ''}{size}{name}"
    return text
