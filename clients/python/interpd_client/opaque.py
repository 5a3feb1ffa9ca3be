"""What Python and numpy may not do with a value that does not exist yet, each with the way out."""

from collections.abc import Callable
from typing import Any, NoReturn


class Opaque:
    """Refuses, with advice, everything that would need the numbers of a symbolic value."""

    __slots__ = ()
    __array_ufunc__ = None
    """numpy leaves ``array * value`` to the value."""

    def __bool__(self) -> NoReturn:
        raise TypeError(
            "a symbolic value has no truth value before the model has run, so it cannot steer `if`, `while`, `and` "
            "or `not` (data-dependent control flow); compute both branches and choose with "
            "`interpd.torch.where(condition, a, b)`"
        )

    def __array__(self, *args: object, **kwargs: object) -> NoReturn:
        raise TypeError(
            "a symbolic value holds no numbers yet, so numpy cannot take it; use `interpd.torch.<name>` or the method "
            "of the same name, or save the value and use numpy on the result"
        )

    def __array_function__(self, function: Callable[..., Any], *args: object) -> NoReturn:
        name = getattr(function, "__name__", "")
        raise TypeError(
            f"numpy.{name} cannot take a symbolic value; use `interpd.torch.{name}` where torch has it, or save the "
            "value and use numpy on the result"
        )

    def __iter__(self) -> NoReturn:
        raise TypeError("a symbolic value cannot be iterated; index it, or iterate the result's array after the block")

    def __len__(self) -> NoReturn:
        raise TypeError("a symbolic value has no length before the model has run; `x.shape` says what is known")

    def __contains__(self, item: object) -> NoReturn:
        raise TypeError("`in` looks at numbers that do not exist yet; use `(x == item).any()`")

    def __index__(self) -> NoReturn:
        raise TypeError("a symbolic value is no plain integer: it may stand in `x[value]`, not in `range` or a slice")

    def __float__(self) -> NoReturn:
        raise TypeError("a symbolic value is no plain number before the model has run; save it and read the result")

    def __int__(self) -> NoReturn:
        raise TypeError("a symbolic value is no plain number before the model has run; save it and read the result")
