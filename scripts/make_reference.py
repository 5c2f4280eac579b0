"""Write docs/reference from the settings models (`make docs`)."""

from pathlib import Path

from rutile.cli.reference import pages

FOLDER = Path(__file__).parent.parent / "docs" / "reference"

FOLDER.mkdir(parents=True, exist_ok=True)
fresh = pages()
for old in FOLDER.glob("*.md"):
    if old.name not in fresh:
        old.unlink()
for name, text in fresh.items():
    (FOLDER / name).write_text(text, encoding="utf-8")
print(f"{len(fresh)} pages in {FOLDER}")
