"""The rules of the Citation File Format 1.2.0 that a file of ours can break: its schema's required keys, types and patterns, written out."""

from __future__ import annotations

import re

ENTITY = {"name", "website", "email"}
PERSON = {"family-names", "given-names", "email", "orcid"}
TOP = {"cff-version", "message", "type", "title", "version", "authors", "abstract", "keywords", "identifiers", "references", "date-released", "url", "license"}
REFERENCE = {"type", "title", "authors", "year", "identifiers", "url", "notes", "version", "abstract", "doi"}
TYPES = {"article", "software", "software-code", "generic", "conference-paper", "book", "thesis", "report", "website", "unpublished"}


def faults(record) -> list[str]:
    """What breaks the rules; nothing of a valid file."""
    found = [f"lacks {key}" for key in ("cff-version", "message", "title", "authors") if not record.get(key)]
    found += [f"has the unknown key {key}" for key in record.keys() - TOP]
    if record.get("cff-version") != "1.2.0" or not isinstance(record.get("version"), str):
        found.append("versions are text, that of the format 1.2.0")
    if record.get("type") not in ("software", "dataset"):
        found.append("is software or a dataset")
    found += _authors(record) + _identifiers(record)
    words = record.get("keywords", [])
    if not all(isinstance(word, str) and word for word in words) or len(set(words)) != len(words):
        found.append("keywords are different texts")
    for reference in record.get("references", []):
        found += [f"a reference lacks {key}" for key in ("authors", "title", "type") if not reference.get(key)]
        found += [f"a reference has the unknown key {key}" for key in reference.keys() - REFERENCE]
        if reference.get("type") not in TYPES:
            found.append(f"a reference is a {reference.get('type')}")
        if not isinstance(reference.get("year", 0), int):
            found.append("a year is a number")
        found += _authors(reference) + _identifiers(reference)
    return found


def _authors(record) -> list[str]:
    found = []
    for author in record.get("authors", []):
        fits = (author.keys() <= ENTITY and author.get("name")) or (author.keys() <= PERSON and author.get("family-names"))
        if not fits or not all(isinstance(value, str) and value.strip() for value in author.values()):
            found.append(f"{dict(author)} is no person and no entity")
    return found


def _identifiers(record) -> list[str]:
    found = []
    for one in record.get("identifiers", []):
        if one.get("type") not in ("doi", "url", "swh", "other") or not one.get("value") or one.keys() - {"type", "value", "description"}:
            found.append(f"{dict(one)} is no identifier")
        if one.get("type") == "doi" and not re.fullmatch(r"10\.\d{4,9}(\.\d+)?/[A-Za-z0-9:/_;\-.()\[\]\\]+", one["value"]):
            found.append(f"{one['value']} is no DOI")
    if "url" in record and not re.fullmatch(r"https?://\S+", record["url"]):
        found.append(f"{record['url']} is no address")
    return found
