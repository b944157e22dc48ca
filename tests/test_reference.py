"""docs/reference.md is what the code makes of itself."""

from __future__ import annotations

import pytest
from scripts_as_modules import load_script


@pytest.mark.study
@pytest.mark.timeout(1800)
def test_the_committed_reference_is_what_the_code_makes_now():
    script = load_script("reference.py")
    assert script.PAGE.read_text(encoding="utf-8") == script.reference(), "run: python scripts/reference.py"
