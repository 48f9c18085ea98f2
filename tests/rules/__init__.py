import pytest

pytest.register_assert_rewrite("tests.rules.twins")  # so that a failure there shows its values
