"""One set of store tests over every kind of server: S3 (SeaweedFS, and moto), Azure (Azurite), Google Cloud Storage."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar

import pytest

from refloat.contracts import Store
from refloat.testing.store_contract import SharedStoreContract, StoreContract
from refloat.vault.stores import open_store

pytestmark = pytest.mark.slow


class TestSeaweedFS(SharedStoreContract):
    @pytest.fixture(autouse=True)
    def _place(self, seaweedfs: Any, use: Any) -> None:
        use(seaweedfs.environment())
        self.place = seaweedfs.place()

    def make(self, tmp_path: Path) -> Store:
        return open_store(self.place)


class TestMoto(SharedStoreContract):
    objects_listed: ClassVar[int] = 20

    @pytest.fixture(autouse=True)
    def _place(self, moto: Any, use: Any) -> None:
        use({**moto.environment(), "MOTO_S3_DEFAULT_MAX_KEYS": "7"})  # a page
        self.place = moto.place()

    def make(self, tmp_path: Path) -> Store:
        return open_store(self.place)


class TestAzurite(SharedStoreContract):
    objects_listed: ClassVar[int] = 20

    @pytest.fixture(autouse=True)
    def _place(self, azurite: Any, use: Any) -> None:
        use(azurite.environment())
        self.place = azurite.place()

    def make(self, tmp_path: Path) -> Store:
        return open_store(self.place)


class TestGoogleCloudStorage(StoreContract):
    """What is behind this address is not Google's: see ``gcs.py``."""

    objects_listed: ClassVar[int] = 25  # more than two pages

    @pytest.fixture(autouse=True)
    def _place(self, gcs: Any, use: Any) -> None:
        use(gcs.environment())
        self.place = gcs.place()

    def make(self, tmp_path: Path) -> Store:
        return open_store(self.place)
