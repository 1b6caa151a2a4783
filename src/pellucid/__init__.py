"""Deep learning you can see through: train, evaluate, explain, and measure whether the explanation can be trusted."""

import lazy_loader as _lazy

_attribute, __dir__, __all__ = _lazy.attach_stub(__name__, __file__)


def __getattr__(name: str) -> object:
    """Public names are imported when they are first used; see ``__init__.pyi`` for what there is."""
    if name != "__version__":
        return _attribute(name)
    from importlib import metadata

    try:
        return metadata.version("pellucid")
    except metadata.PackageNotFoundError:  # a source tree that was never installed
        return "0+source"
