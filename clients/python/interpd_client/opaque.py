"""What Python and numpy may not do with a value that does not exist yet, each with the way out."""

from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any, NoReturn

OPERATORS: Mapping[str, tuple[str, str]] = MappingProxyType(
    {
        "add": ("__add__", "__radd__"),
        "subtract": ("__sub__", "__rsub__"),
        "multiply": ("__mul__", "__rmul__"),
        "divide": ("__truediv__", "__rtruediv__"),
        "true_divide": ("__truediv__", "__rtruediv__"),
        "floor_divide": ("__floordiv__", "__rfloordiv__"),
        "remainder": ("__mod__", "__rmod__"),
        "power": ("__pow__", "__rpow__"),
        "matmul": ("__matmul__", "__rmatmul__"),
        "bitwise_and": ("__and__", "__and__"),
        "bitwise_or": ("__or__", "__or__"),
        "bitwise_xor": ("__xor__", "__xor__"),
        "less": ("__lt__", "__gt__"),
        "less_equal": ("__le__", "__ge__"),
        "greater": ("__gt__", "__lt__"),
        "greater_equal": ("__ge__", "__le__"),
        "equal": ("__eq__", "__eq__"),
        "not_equal": ("__ne__", "__ne__"),
    }
)
"""numpy's names of Python's operators, and the methods for a value on the left and on the right."""


class Opaque:
    """Refuses, with advice, everything that would need the numbers of a symbolic value."""

    __slots__ = ()

    def __array_ufunc__(self, function: Any, method: str, *inputs: object, **options: Any) -> Any:
        """The operators of an array on the left, as the value's own. Raises ``TypeError`` for other functions."""
        names = OPERATORS.get(function.__name__)
        # `array += value` names the array as the place for the sum, and becomes `array = array + value`
        in_place = options.keys() == {"out"} and options["out"][0] is inputs[0]
        if names is None or method != "__call__" or (options and not in_place):
            return self.__array_function__(function)
        left, right = inputs
        if isinstance(left, Opaque):
            return getattr(left, names[0])(right)
        return getattr(right, names[1])(left)

    @classmethod
    def __torch_function__(
        cls, function: Callable[..., Any], types: object, args: object = (), kwargs: object = None
    ) -> Any:
        """Nothing for operators of a tensor on the left, which are then the value's own.

        Raises ``TypeError`` for other functions of torch.
        """
        name = getattr(function, "__name__", "")
        if name in ("__getitem__", "__setitem__"):
            raise TypeError(
                "a tensor that is here cannot take a symbolic value, nor be indexed by one; `value * 0 + tensor` is "
                "the tensor as a symbolic value"
            )
        if getattr(function, "__module__", None) in (None, "torch._tensor"):
            return NotImplemented
        raise TypeError(
            f"torch's own {name} cannot take a symbolic value, which has no numbers yet; use the value's method or "
            f"`interpd.torch.{name}` (`interpd.torch.nn.functional` is there, too)"
        )

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
