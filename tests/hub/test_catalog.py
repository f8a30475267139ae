from __future__ import annotations

import pytest

from app.errors import InvalidReference
from app.hub.catalog import catalog, look_up
from app.hub.reference import CatalogReference, HubReference, parse_reference, repo_name
from app.store.names import check_name


def test_the_catalog_has_about_twenty_models_of_all_sizes() -> None:
    names = list(catalog())
    assert 18 <= len(names) <= 24
    assert len({entry.repo for entry in catalog().values()}) == len(names)


@pytest.mark.parametrize("name", catalog())
def test_every_name_is_one_and_leads_to_a_repository(name: str) -> None:
    entry = catalog()[name]
    assert parse_reference(name) == CatalogReference(name)
    assert check_name(name) == name
    assert repo_name(entry.repo, entry.repo) == entry.repo
    assert repo_name(entry.original, entry.original) == entry.original
    assert look_up(CatalogReference(name)) == HubReference(entry.repo, None, quant=entry.quant)
    assert look_up(CatalogReference(name, "Q2_K")).quant == "Q2_K"
    assert entry.license
    assert entry.good_for


def test_a_name_that_is_nearly_right_says_which() -> None:
    with pytest.raises(InvalidReference, match="qwen3-30b-a3b"):
        look_up(CatalogReference("qwen3-30b"))
    with pytest.raises(InvalidReference) as caught:
        look_up(CatalogReference("zzzzz"))
    assert caught.value.next_command == "localq search zzzzz"
