"""Before any peer is imported: torchvision's schemas. Warnings that peers raise about themselves are not ours to fail on."""

from __future__ import annotations

from pathlib import Path

import pytest
from torchvision_schemas import declare

declare()

HERE = Path(__file__).parent


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if HERE in item.path.parents:
            item.add_marker(pytest.mark.filterwarnings("ignore"))
