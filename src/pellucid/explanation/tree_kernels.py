"""The loops of ``tree_shap``: compiled where numba is installed, the same functions as plain Python where not.

They know neither torch nor any library of trees. All run on one thread without Python's lock, so that ``tree_shap`` can hand
rows and trees to several threads; what a row gets never depends on the rows beside it.
"""

from __future__ import annotations

import functools
import importlib.util
import inspect
import threading
from typing import Any

from . import tree_games, tree_nodes, tree_walks

MODULES = (tree_nodes, tree_walks, tree_games)
_PLAIN = {
    name: function
    for module in MODULES
    for name, function in vars(module).items()
    if inspect.isfunction(function) and function.__module__ == module.__name__
}


@functools.cache
def compiled() -> bool:
    """Whether numba is installed; the first call has it compile, each at its first use, the functions of these modules.

    numba is imported here and not above: its import takes as long as that of all of ``pellucid.explanation``. Machine code is
    kept beside the source, where that can be written to.
    """
    if importlib.util.find_spec("numba") is None:
        return False
    import numba

    for name, plain in _PLAIN.items():
        options: dict[str, Any] = {"nogil": True, "error_model": "numpy"}
        try:
            function = numba.njit(cache=True, **options)(plain)
        except RuntimeError:
            function = numba.njit(**options)(plain)
        for module in MODULES:
            if name in vars(module):
                setattr(module, name, function)
    return True


_COMPILING = threading.Lock()


def run(kernel: str, *arguments: Any) -> Any:
    """Call a function of these modules, compiled where that is possible.

    The first call, which compiles, lets LLVM join neighbouring operations to vectors; numba leaves that off by default.
    """
    ready = compiled()
    function = next(vars(module)[kernel] for module in MODULES if kernel in vars(module))
    if not ready or function.signatures:
        return function(*arguments)
    from numba import config

    with _COMPILING:
        before = config.SLP_VECTORIZE
        try:
            config.SLP_VECTORIZE = 1
            return function(*arguments)
        finally:
            config.SLP_VECTORIZE = before
