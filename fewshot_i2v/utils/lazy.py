"""Names that a package offers, imported when they are first used."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from importlib import import_module


def lazy_exports(
    package: str, modules: Mapping[str, Sequence[str]]
) -> tuple[Callable[[str], object], Callable[[], list[str]]]:
    """Makes `__getattr__` and `__dir__` of a package that offers names of its modules.

    Args:
        package: `__name__` of the package.
        modules: the names that it offers, by module below it; a name may be a module itself.
    """
    homes = {name: f"{package}.{module}" for module, names in modules.items() for name in names}

    def _getattr(name: str) -> object:
        if name not in homes:
            raise AttributeError(f"module {package!r} has no attribute {name!r}")
        module = import_module(homes[name])
        if not hasattr(module, name):
            return import_module(f"{homes[name]}.{name}")
        return getattr(module, name)

    return _getattr, lambda: sorted(homes)
