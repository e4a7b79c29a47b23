"""What `exported` makes, once for all tests.

It is imported when a fixture is asked for: whatever is imported before the tests escapes the check of shapes.
"""

import importlib

import pytest


@pytest.fixture(scope="session")
def exported():
    return importlib.import_module("exported")


@pytest.fixture(scope="session")
def corrector(exported):
    return exported.corrector()


@pytest.fixture(scope="session")
def policy(exported):
    return exported.clone()


@pytest.fixture(scope="session")
def alone(exported, corrector):
    return exported.alone(corrector)


@pytest.fixture(scope="session")
def fused(exported, corrector, policy):
    return exported.fused(corrector, policy)


@pytest.fixture(scope="session")
def files(exported, tmp_path_factory, corrector, alone, fused):
    return exported.files(tmp_path_factory.mktemp("exported"), corrector, alone, fused)
