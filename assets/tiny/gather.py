"""Collect the text that the tiny Llama is trained on, out of Debian packages unpacked into one folder.

    python assets/tiny/gather.py --packages UNPACKED --bible kjv.txt --conversations FILE.jsonl --out DATA

``UNPACKED`` is the root that every package of ``SOURCES`` was unpacked into: binary packages with
``dpkg-deb -x``, the source archives below ``sources/``. ``DATA`` receives one JSONL file a source
({"text": ...} a line) and ``data.json``: what was taken, its licence and the hash of what came out. The
evaluation texts in ``quant/texts/evaluation`` come from other works, so none of them is learned here.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import random
from dataclasses import dataclass
from pathlib import Path

SKIP = {"_darcs", "_osc", "_zypper"}  # completions of zsh under another licence than zsh's own
CUT = 24_000  # characters of one file that count: no single long file dominates


@dataclass(frozen=True)
class Source:
    """Files of one package: ``globs`` under ``root``, shuffled, until ``limit`` bytes are taken."""

    name: str
    origin: str
    licence: str
    root: str
    globs: tuple[str, ...]
    limit: int
    whole: bool = False


LANGUAGES = (
    *("ar", "cs", "da", "de", "el", "en", "es", "fi", "fr", "hi", "hu"),
    *("id", "it", "ja", "nl", "pt", "ro", "ru", "sv", "uk", "vi", "zh-Hans"),
)
RUST_DOC = "usr/src/rustc-1.63.0/src/doc"
SOURCES = (
    Source(
        "alice",
        "snappy 1.1.9 (alice29.txt, Lewis Carroll)",
        "public domain",
        "sources/snappy-1.1.9/testdata",
        ("alice29.txt",),
        160_000,
        True,
    ),
    Source(
        "as-you-like-it",
        "snappy 1.1.9 (asyoulik.txt, William Shakespeare)",
        "public domain",
        "sources/snappy-1.1.9/testdata",
        ("asyoulik.txt",),
        130_000,
        True,
    ),
    Source(
        "electronic-texts",
        "snappy 1.1.9 (lcet10.txt, Library of Congress, 1992)",
        "public domain",
        "sources/snappy-1.1.9/testdata",
        ("lcet10.txt",),
        430_000,
        True,
    ),
    Source(
        "human-rights",
        "libexttextcat 3.4.5 (declaration of human rights in 22 languages)",
        "BSD-3-Clause",
        "sources/libexttextcat-3.4.5/langclass/ShortTexts",
        tuple(f"{code}.txt" for code in LANGUAGES),
        400_000,
        True,
    ),
    Source(
        "rust-docs",
        "rust-src 1.63.0 (book, reference, nomicon, by example, edition and compiler guides)",
        "MIT OR Apache-2.0",
        RUST_DOC,
        (
            "book/src/*.md",
            "reference/src/**/*.md",
            "nomicon/src/*.md",
            "rust-by-example/src/**/*.md",
            "edition-guide/src/**/*.md",
            "rustc-dev-guide/src/**/*.md",
        ),
        3_000_000,
    ),
    Source(
        "python-docs",
        "python3.11-doc 3.11.2 (reStructuredText sources)",
        "PSF-2.0",
        "usr/share/doc/python3.11/html/_sources",
        ("tutorial/*.txt", "howto/*.txt", "faq/*.txt", "library/*.txt", "reference/*.txt", "whatsnew/*.txt"),
        4_500_000,
    ),
    Source("python", "libpython3.11-stdlib 3.11.2", "PSF-2.0", "usr/lib/python3.11", ("**/*.py",), 3_500_000),
    Source(
        "rust",
        "rust-src 1.63.0 (library)",
        "MIT OR Apache-2.0",
        "usr/src/rustc-1.63.0/library",
        ("alloc/**/*.rs", "core/**/*.rs", "std/**/*.rs"),
        1_500_000,
    ),
    Source(
        "go",
        "golang-1.19-src 1.19.8 (standard library)",
        "BSD-3-Clause",
        "usr/share/go-1.19/src",
        ("[a-p]*/**/*.go", "strings/*.go", "sort/*.go", "text/**/*.go", "time/*.go"),
        1_200_000,
    ),
    Source("c", "lua5.4 5.4.4", "MIT", "sources/lua-5.4.4/src", ("*.c", "*.h"), 900_000),
    Source("javascript", "acorn 8.8.1", "MIT", "sources/acorn-8.8.1", ("**/*.js", "**/*.json"), 500_000),
    Source(
        "shell",
        "zsh-common 5.9 (functions)",
        "Zsh",
        "usr/share/zsh/functions",
        ("Completion/*/_*", "Misc/*", "Zle/*", "Calendar/*", "VCS_Info/**/*"),
        500_000,
    ),
    Source("sql", "postgresql-15 15.20", "PostgreSQL", "usr/share/postgresql/15", ("*.sql",), 250_000),
    Source(
        "html",
        "python3.11-doc 3.11.2 (pages as HTML)",
        "PSF-2.0",
        "usr/share/doc/python3.11/html",
        ("distributing/*.html", "installing/*.html", "extending/*.html"),
        200_000,
    ),
)


def take(source: Source, packages: Path) -> list[str]:
    """The documents of a source, in an order that depends on its name only."""
    root = packages / source.root
    paths = sorted({path for glob in source.globs for path in root.glob(glob)})
    random.Random(source.name).shuffle(paths)
    documents: list[str] = []
    left = source.limit
    for path in paths:
        if left <= 0:
            break
        if (
            not path.is_file()
            or "/test" in str(path.relative_to(root))
            or path.suffix == ".zwc"
            or path.name in SKIP
        ):
            continue
        try:
            text = path.read_bytes().decode("utf-8").replace("\r\n", "\n").replace("\x1a", "").strip()
        except UnicodeDecodeError:
            continue
        text = text if source.whole else text[:CUT]
        if len(text) > 200:
            documents.append(text)
            left -= len(text.encode())
    if not documents:
        raise SystemExit(f"{source.name}: no files under {root}: unpack {source.origin} there")
    return documents


def bible(path: Path, limit: int) -> list[str]:
    """Chapters without the numbers of their verses, spread over the whole book."""
    chapters: dict[str, list[str]] = {}
    for line in path.read_text(encoding="utf-8").splitlines():
        verse, _, words = line.partition(" ")
        chapters.setdefault(verse.partition(":")[0], []).append(words)
    names = sorted(chapters)
    random.Random("bible").shuffle(names)
    documents: list[str] = []
    for name in names:
        documents.append("\n".join(chapters[name]))
        limit -= len(documents[-1])
        if limit <= 0:
            break
    return documents


def write(out: Path, name: str, lines: list[str]) -> dict[str, object]:
    content = "".join(line + "\n" for line in lines).encode()
    (out / f"{name}.jsonl").write_bytes(content)
    return {
        "file": f"{name}.jsonl",
        "documents": len(lines),
        "bytes": len(content),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--packages", type=Path, required=True)
    parser.add_argument("--bible", type=Path, required=True, help="output of: bible -f gen1:1-rev22:21")
    parser.add_argument(
        "--conversations", type=Path, required=True, help="the calibration conversations (JSONL)"
    )
    parser.add_argument("--out", type=Path, required=True)
    given = parser.parse_args()
    given.out.mkdir(parents=True, exist_ok=True)
    manifest = []
    for source in SOURCES:
        lines = [json.dumps({"text": text}, ensure_ascii=False) for text in take(source, given.packages)]
        manifest.append(
            {"name": source.name, "origin": source.origin, "licence": source.licence}
            | write(given.out, source.name, lines)
        )
    lines = [json.dumps({"text": text}, ensure_ascii=False) for text in bible(given.bible, 2_500_000)]
    manifest.append(
        {"name": "bible", "origin": "bible-kjv 4.38 (King James version)", "licence": "public domain"}
        | write(given.out, "bible", lines)
    )
    lines = given.conversations.read_text(encoding="utf-8").splitlines()
    manifest.append(
        {"name": "conversations", "origin": "this project", "licence": "Apache-2.0"}
        | write(given.out, "conversations", lines)
    )
    (given.out / "data.json").write_text(json.dumps(manifest, indent=1, ensure_ascii=False) + "\n")
    for entry in manifest:
        print(f"{entry['name']:18} {entry['documents']:5} documents {entry['bytes']:9} bytes")


if __name__ == "__main__":
    main()
