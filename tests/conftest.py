"""What several test modules share: lesson 06, solved once; the same examples in every run."""

from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

ROOT = Path(__file__).resolve().parent.parent
# A busy machine is no failure, and neither is chance.
settings.register_profile("course", derandomize=True, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("course")


@pytest.fixture(scope="session")
def solved_06(tmp_path_factory):
    """Run ``course solve 06`` once a session: its result, and the executed lesson's folder."""
    from course_utils.grading.solve import solve

    keep = tmp_path_factory.mktemp("solved")
    (result,) = solve(["06"], keep=keep, root=ROOT)
    return result, keep / "06_unet_from_scratch"
