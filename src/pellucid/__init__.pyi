from .core.errors import InputError as InputError
from .core.errors import PellucidError as PellucidError
from .explanation.method import explain as explain
