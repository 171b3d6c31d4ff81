"""Makes the assertions of this folder's helpers as clear as those of its tests."""

import pytest

pytest.register_assert_rewrite("tests.interleavings")
