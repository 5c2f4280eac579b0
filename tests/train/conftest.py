import sys
from pathlib import Path

import pytest
import torch

sys.path.insert(0, str(Path(__file__).parent))

from toy import teacher_store


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """12 labelled toy frames."""
    torch.manual_seed(0)
    return teacher_store(tmp_path_factory.mktemp("toy"))
